"""A render that is ready to run. Heavy libraries are imported inside, when a command runs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from mvguide.commands.speaking import at_least_one, size_of
from mvguide.config import GuidanceConfig, RenderConfig
from mvguide.errors import ConfigError

if TYPE_CHECKING:
    from mvguide.diffusion.sampler import Progress
    from mvguide.diffusion.schedule import SigmaSchedule
    from mvguide.geometry.camera import Camera
    from mvguide.guidance.guides import GuidanceSettings
    from mvguide.inputs import Inputs
    from mvguide.pipeline.encoding import Context
    from mvguide.pipeline.pipeline import MultiViewPipeline
    from mvguide.pipeline.result import Result
    from mvguide.tables.table import LambdaTable

    MakeTable = Callable[[Context], LambdaTable]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Pictures read, path checked, model loaded.

    Args:
        config: the settings, those of scene and preset among them.
        inputs: pictures, depths and cameras.
        trajectory: the F cameras of the video.
        pipe: the model.
        schedule: noise levels.
        guidance: everything but the table.
        table: what makes the table.
        say: told of warnings.
    """

    config: RenderConfig
    inputs: "Inputs"
    trajectory: "Camera"
    pipe: "MultiViewPipeline"
    schedule: "SigmaSchedule"
    guidance: "GuidanceSettings"
    table: "MakeTable"
    say: Say

    def run(self, table: "MakeTable | None" = None, watch: "Callable[[Progress], None] | None" = None) -> "Result":
        """Render; ``table`` makes a table in place of that of the settings."""
        import torch

        from mvguide.backbones.base import ConditioningOptions
        from mvguide.views.diagnosis import diagnose

        config, num_frames = self.config, len(self.trajectory)

        def make_table(known: "Context") -> "LambdaTable":
            """Say what is wrong with the path as soon as it is known, before the long part."""
            for warning in diagnose(self.inputs.views, known.trajectory, known.warps):
                self.say(f"warning: {warning}")
            return (table or self.table)(known)

        result = self.pipe(
            self.inputs.views,
            self.trajectory,
            moments=self.inputs.moments(num_frames),
            schedule=self.schedule,
            table=make_table,
            guidance=self.guidance,
            solver=config.solver,
            size=size_of(config),
            conditioning=ConditioningOptions(
                num_frames,
                motion_bucket_id=config.motion_bucket_id,
                fps=at_least_one("fps", config.fps),
                noise_aug_strength=config.noise_aug_strength,
                cfg_min=config.cfg_min,
                cfg_max=config.cfg_max,
                cfg_chunked=config.cfg_chunked,
            ),
            hole_radius=config.hole_radius or 0,
            chunk=at_least_one("chunk", config.chunk),
            generator=torch.Generator().manual_seed(config.seed),
            watch=watch,
        )
        result.settings["command"] = asdict(config)
        return result


def prepare(config: RenderConfig, path: "Camera | None", say: Say, pipe: "MultiViewPipeline | None" = None) -> Job:
    """Read and check everything, then load the model.

    Args:
        config: the settings.
        path: cameras in place of those of the settings.
        say: told what goes on, and warnings.
        pipe: a model that is loaded already, that of the settings.
    """
    say("reading the pictures")
    from mvguide.backbones.loading import find_model
    from mvguide.backbones.native_size import read_native_size
    from mvguide.config.presets import with_preset
    from mvguide.diffusion.schedule import load_sigmas
    from mvguide.inputs import load_inputs, with_scene
    from mvguide.pipeline.pipeline import DEFAULT_STEPS, MultiViewPipeline

    config = with_preset(with_scene(config))
    guidance = guidance_settings(config.guidance)
    inputs = load_inputs(config, say)
    for view in inputs.views:
        view.require_depth()
    schedule = load_sigmas(config.sigmas) if config.sigmas else None
    given = _given_table(config.guidance)
    trajectory = path
    if trajectory is None:
        frames = read_native_size(find_model(config.model)).frames if config.num_frames is None else config.num_frames
        trajectory = inputs.trajectory(config.trajectory, frames)
    # A bad path is refused before the model is loaded.
    if pipe is None:
        say(f"loading model {config.model}")
        pipe = MultiViewPipeline.from_pretrained(
            config.model, device=config.device, dtype=config.dtype, variant=config.variant, offload=config.offload
        )
    steps = DEFAULT_STEPS if config.steps is None else config.steps
    schedule = schedule or pipe.backbone.schedule(at_least_one("steps", steps))
    table = given or _table_maker(config, pipe, say)
    return Job(config, inputs, trajectory, pipe, schedule, guidance, table, say)


def guidance_settings(config: GuidanceConfig) -> "GuidanceSettings":
    """Settings of the guide, refused now if they cannot be used."""
    from mvguide.guidance.guides import GuidanceSettings
    from mvguide.tables.table import LambdaTable

    if config.hole_table is not None and config.hole_weight:
        raise ConfigError("both hole_weight and hole_table were given; drop one")
    names = {field.name for field in fields(GuidanceSettings)}
    given = {name: value for name, value in vars(config).items() if name in names and value is not None}
    if config.hole_table is not None:
        given["hole_weight"] = LambdaTable.load(config.hole_table)
    return GuidanceSettings(**given)


def _given_table(config: GuidanceConfig) -> "MakeTable | None":
    """The table of a file or a constant, refused now if it cannot be used; None = the model has a say in it."""
    from mvguide.tables.table import LambdaTable, check_weight

    if config.objective == "calibrated" and config.table not in (None, "search"):
        raise ConfigError(f"objective is for table search, but table is {config.table!r}; drop one of the two")
    if config.objective == "calibrated" and config.rule == "released":
        raise ConfigError("rule 'released' and objective 'calibrated' were given; only objective 'coverage' knows it")
    if config.table in (None, "search", "calibrated"):
        return None
    if config.table == "constant":
        check_weight(config.weight)
        return lambda known: LambdaTable.constant(config.weight, known.schedule, len(known.warps.image))
    found = LambdaTable.load(config.table)
    return lambda known: found


def _table_maker(config: RenderConfig, pipe: "MultiViewPipeline", say: Say) -> "MakeTable":
    """Measures or searches."""
    from mvguide.pipeline.calibration import CALIBRATION, calibrate

    told = config.guidance

    def make(known: "Context") -> "LambdaTable":
        measured = None
        if told.table == "calibrated" or told.objective == "calibrated":
            cache = Path(config.out) / CALIBRATION
            measured = calibrate(known, depth_error=told.depth_error, cache=cache, say=say)
        if measured is not None and told.table == "calibrated":
            return measured
        rule, by_frame = told.rule or "exact", told.distances == "frame"
        return pipe.search_table(known.schedule, known.warps, rule=rule, by_frame=by_frame, measured=measured)

    return make
