"""``mvguide render`` and ``mvguide demo``. Heavy libraries are imported inside, when the command runs."""

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from mvguide.commands.common import at_least_one, progress_bar, size_of, speaker
from mvguide.config import DemoConfig, GuidanceConfig, RenderConfig, TrajectoryConfig
from mvguide.errors import ConfigError
from mvguide.files.atomic import check_writable

if TYPE_CHECKING:
    from mvguide.geometry.camera import Camera
    from mvguide.guidance.guides import GuidanceSettings
    from mvguide.guidance.table import LambdaTable
    from mvguide.pipeline import MultiViewPipeline
    from mvguide.result import Result
    from mvguide.targets import Prepared

    MakeTable = Callable[[Prepared], LambdaTable]


def render(config: RenderConfig, path: "Camera | None" = None) -> "Result":
    """Render a camera move and write the result folder; ``path`` are cameras in place of those of the settings."""
    check_writable(config.out, folder=True)
    say = speaker(config.quiet)
    say("reading the pictures")
    import torch

    from mvguide.backbones.base import Conditioning
    from mvguide.backbones.format import read_format
    from mvguide.backbones.loading import find_model
    from mvguide.diagnosis import diagnose
    from mvguide.diffusion.schedule import load_sigmas
    from mvguide.inputs import load_inputs, with_scene
    from mvguide.pipeline import DEFAULT_STEPS, MultiViewPipeline
    from mvguide.presets import with_preset

    config = with_preset(with_scene(config))
    guidance = _guidance_settings(config.guidance)
    inputs = load_inputs(config, say)
    for view in inputs.views:
        view.require_depth()
    schedule = load_sigmas(config.sigmas) if config.sigmas else None
    table = _given_table(config.guidance)
    num_frames = read_format(find_model(config.model)).frames if config.num_frames is None else config.num_frames
    if path is not None:
        num_frames = len(path)
    trajectory = inputs.trajectory(config.trajectory, num_frames) if path is None else path
    # A bad path is refused before the model is loaded.
    say(f"loading model {config.model}")
    pipe = MultiViewPipeline.from_pretrained(
        config.model, device=config.device, dtype=config.dtype, variant=config.variant, offload=config.offload
    )
    steps = DEFAULT_STEPS if config.steps is None else config.steps
    schedule = schedule or pipe.backbone.schedule(at_least_one("steps", steps))

    def make_table(known: "Prepared") -> "LambdaTable":
        """Say what is wrong with the path as soon as it is known, before the long part."""
        for warning in diagnose(inputs.views, known.trajectory, known.warps):
            say(f"warning: {warning}")
        return _make_table(config, pipe, table, known, say)

    result = pipe(
        inputs.views,
        trajectory,
        moments=inputs.moments(num_frames),
        schedule=schedule,
        table=make_table,
        guidance=guidance,
        solver=config.solver,
        size=size_of(config),
        conditioning=Conditioning(
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
        watch=None if config.quiet else progress_bar(len(schedule)),
    )
    result.settings["command"] = asdict(config)
    result.save(config.out, fps=config.fps)
    seen = result.warps.seen
    say(f"seen by the warp: {seen[1:].mean():.0%} of the frames on average, {seen[-1]:.0%} of the last")
    say(f"wrote {config.out}/: video.mp4, and sheet.png, which shows it at one look")
    return result


def demo(config: DemoConfig) -> "Result":
    """Render a packaged scene along its own camera path."""
    from mvguide.scenes import packaged_scene

    scene = packaged_scene(config.scene)
    return render(
        RenderConfig(
            image=str(scene.image),
            depth=str(scene.depth),
            depth_unit=scene.depth_unit,
            depth_kind="depth",
            intrinsics=scene.intrinsics,
            trajectory=TrajectoryConfig(kind="file", file=str(scene.cameras)),
            model="tiny",
            steps=config.steps,
            seed=config.seed,
            out=config.out,
            quiet=config.quiet,
        )
    )


def _given_table(config: GuidanceConfig) -> "LambdaTable | MakeTable | None":
    """The table of a file or a constant, refused now if it cannot be used; None = made once there is a model."""
    from mvguide.guidance.table import LambdaTable, check_weight

    if config.table in (None, "search", "calibrated"):
        return None
    if config.table == "constant":
        check_weight(config.weight)
        return lambda known: LambdaTable.constant(config.weight, known.schedule, len(known.warps.image))
    return LambdaTable.load(config.table)


def _make_table(
    config: RenderConfig,
    pipe: "MultiViewPipeline",
    given: "LambdaTable | MakeTable | None",
    known: "Prepared",
    say: Callable[[str], None],
) -> "LambdaTable":
    """The table that was given, measured, or searched."""
    from mvguide.calibration import CALIBRATION, calibrate

    told = config.guidance
    if told.table == "calibrated":
        return calibrate(known, depth_error=told.depth_error, cache=Path(config.out) / CALIBRATION, say=say)
    if given is None:
        rule, by_frame = told.rule or "exact", told.distances == "frame"
        return pipe.search_table(known.schedule, known.warps, rule=rule, by_frame=by_frame)
    return given(known) if callable(given) else given


def _guidance_settings(config: GuidanceConfig) -> "GuidanceSettings":
    """Settings of the guide, refused now if they cannot be used."""
    from mvguide.guidance.guides import GuidanceSettings
    from mvguide.guidance.table import LambdaTable

    if config.hole_table is not None and config.hole_weight:
        raise ConfigError("both hole_weight and hole_table were given; drop one")
    names = {field.name for field in fields(GuidanceSettings)}
    given = {name: value for name, value in vars(config).items() if name in names and value is not None}
    if config.hole_table is not None:
        given["hole_weight"] = LambdaTable.load(config.hole_table)
    return GuidanceSettings(**given)
