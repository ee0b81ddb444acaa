"""A render that is ready to run: everything read and checked, the model loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mvguide.backbones.base import ConditioningOptions
from mvguide.backbones.native_size import read_native_size
from mvguide.backbones.offload import check_offload
from mvguide.backbones.pretrained import choose_device, find_model
from mvguide.commands.planning import fit_memory
from mvguide.commands.speaking import Say, at_least_one, size_of
from mvguide.config.input_options import InputConfig
from mvguide.config.render_options import GuidanceConfig, RenderConfig
from mvguide.decoding import is_file, packaged_folder
from mvguide.depth.model import DEFAULT_MODEL, model_is_here
from mvguide.diffusion.resampling import Resampling
from mvguide.diffusion.sampler import Watch
from mvguide.diffusion.schedule import SigmaSchedule, load_sigmas
from mvguide.diffusion.solvers import FirstOrder, Solver, make_solver
from mvguide.diffusion.windows import LongOptions
from mvguide.errors import ConfigError
from mvguide.geometry.camera import Camera
from mvguide.guidance.gradient import PosteriorGradient
from mvguide.guidance.guides import Guide
from mvguide.inputs.loading import Inputs, load_inputs
from mvguide.memory import free_gpu_memory
from mvguide.pipeline.calibration import CALIBRATION, calibrate
from mvguide.pipeline.checkpoint import CHECKPOINT, Checkpoint
from mvguide.pipeline.magnitudes import load_magnitudes
from mvguide.pipeline.pipeline import DEFAULT_STEPS, MultiViewPipeline
from mvguide.pipeline.prepare import Context, timed
from mvguide.pipeline.result import Result
from mvguide.pipeline.resuming import CACHED
from mvguide.tables.table import LambdaTable, check_weight

Load = Callable[[InputConfig, Say], Inputs]
Available = Callable[[torch.device], int | None]


@dataclass(frozen=True)
class Job:
    """Images read, path checked, model loaded.

    Args:
        config: the settings.
        inputs: images, depths and cameras.
        trajectory: the F cameras of the video.
        pipe: the model.
        schedule: noise levels of a file, or a number of steps of the model's own.
        guide: with its options.
        given: the table of a file, if one was given.
        checkpoint: where the run is kept, if that was asked for.
    """

    config: RenderConfig
    inputs: Inputs
    trajectory: Camera
    pipe: MultiViewPipeline
    schedule: SigmaSchedule | int
    guide: Guide
    given: LambdaTable | None
    checkpoint: Checkpoint | None = None

    def context(self, like: Context | None = None) -> Context:
        """Warp the views and encode what the model is conditioned on; what ``like`` has of it is used again."""
        config, num_frames = self.config, len(self.trajectory)
        return self.pipe.prepare(
            self.inputs.views,
            self.trajectory,
            moments=self.inputs.moments(num_frames),
            schedule=self.schedule,
            size=size_of(config),
            conditioning=ConditioningOptions(
                num_frames,
                motion_bucket_id=config.motion_bucket_id,
                fps=config.fps,
                noise_aug_strength=config.noise_aug_strength,
                cfg_min=config.cfg_min,
                cfg_max=config.cfg_max,
                cfg_chunked=config.cfg_chunked,
                prompt=config.prompt,
                negative_prompt=config.negative_prompt,
                embedded_guidance=config.embedded_guidance,
                warp_condition=config.warp_condition,
            ),
            long=LongOptions(config.long, config.window, config.window_overlap),
            depth_model=_depth_model(config),
            hole_radius=config.hole_radius or 0,
            chunk=config.chunk,
            generator=torch.Generator().manual_seed(config.seed),
            like=like,
        )

    def table(self, context: Context) -> LambdaTable | None:
        """Read, make, measure or search the table, as the settings ask; None without guidance."""
        options = self.config.guidance
        if options.kind == "none":
            return None
        if self.given is not None:
            return self.given
        if options.table == "constant":
            return LambdaTable.constant(options.weight, context.schedule, context.latent_frames)
        measured, kind = None, options.table
        if kind == "model":
            kind = "search" if options.objective == "calibrated" else context.backbone.default_table
        if "calibrated" in (kind, options.objective):
            # Processes that share a step must all measure, or none: a file may be there for some of them.
            cache = Path(self.config.out) / CALIBRATION if self.config.context_parallel == 1 else None
            with timed(context.seconds, "table"):
                measured = calibrate(context, mask=options, depth_error=options.depth_error, cache=cache)
        if measured is not None and kind == "calibrated":
            return measured
        return context.search_table(rule=options.rule, by_frame=options.distances == "frame", measured=measured)

    def sample(self, context: Context, table: LambdaTable | None, watch: Watch | None = None) -> Result:
        """Denoise and decode."""
        solver: str | Solver = self.config.solver
        options = self.config.guidance
        if options.resample:
            inner = self.pipe.backbone.solver(context.schedule) if solver == "model" else make_solver(solver)
            solver = Resampling(inner, options.resample, options.resample_until)
        return self.pipe.sample(
            context,
            table,
            guidance=self.guide,
            mask=options,
            solver=solver,
            watch=watch,
            checkpoint=self.checkpoint,
        )


@dataclass(frozen=True)
class Plan:
    """Everything read and checked that can be without the model. The arguments are those of :class:`Job`."""

    config: RenderConfig
    inputs: Inputs
    trajectory: Camera
    schedule: SigmaSchedule | int
    guide: Guide
    given: LambdaTable | None
    checkpoint: Checkpoint | None = None

    def load(self, pipe: MultiViewPipeline) -> Job:
        """The job with ``pipe``, the model of the settings."""
        return Job(
            self.config, self.inputs, self.trajectory, pipe, self.schedule, self.guide, self.given, self.checkpoint
        )


def load_model(config: RenderConfig) -> MultiViewPipeline:
    """Load the model of settings."""
    return MultiViewPipeline.from_pretrained(
        config.model,
        device=config.device,
        dtype=config.dtype,
        variant=config.variant,
        offload=config.offload,
        acceleration=config,
    )


def read_job(
    config: RenderConfig,
    path: Camera | None,
    say: Say,
    load: Load = load_inputs,
    available: Available = free_gpu_memory,
) -> Plan:
    """Read the inputs and check the settings.

    Args:
        config: the settings.
        path: F cameras in place of those of the settings.
        say: prints what was made or assumed.
        load: reads the inputs.
        available: bytes of a device's memory that the render can take; None where nothing is planned.

    Raises:
        MvguideError: whatever cannot be used.
    """
    guide = config.guidance.guide()  # bad options are refused before anything is read
    given = _given_table(config.guidance)
    checkpoint = None
    if config.checkpoint_every is not None or config.resume:
        if config.cache != "none":
            raise ConfigError(CACHED)
        checkpoint = Checkpoint(Path(config.out) / CHECKPOINT, config.checkpoint_every, config.resume)
    solver = Resampling(
        FirstOrder() if config.solver == "model" else make_solver(config.solver),
        config.guidance.resample,
        config.guidance.resample_until,
    )
    for name, value in (("steps", config.steps), ("fps", config.fps), ("chunk", config.chunk)):
        at_least_one(name, 1 if value is None else value)
    size_of(config)
    device = choose_device(config.device)
    check_offload(config.offload, device)
    config.check(device)
    config.check_run(solver.evaluations, isinstance(guide, PosteriorGradient), kept=checkpoint is not None)
    if config.cache_file is not None and is_file(Path(config.cache_file)):
        load_magnitudes(config.cache_file)
    steps = DEFAULT_STEPS if config.steps is None else config.steps
    schedule = load_sigmas(config.sigmas) if config.sigmas else steps
    inputs = load(config, say)
    for view in inputs.views:
        view.require_depth()
    trajectory = path
    if trajectory is None:
        frames = config.num_frames
        frames = read_native_size(find_model(config.model)).frames if frames is None else frames
        trajectory = inputs.trajectory(config.trajectory, frames)
    config = fit_memory(config, trajectory, available(device), say)
    return Plan(config, inputs, trajectory, schedule, config.guidance.guide(), given, checkpoint)


def _depth_model(config: RenderConfig) -> str | None:
    """The model for depth that has to be made; None where that is a plane sweep."""
    if config.depth_source in ("file", "sweep"):
        return None
    return config.depth_model or (DEFAULT_MODEL if model_is_here(DEFAULT_MODEL) else None)


def _given_table(options: GuidanceConfig) -> LambdaTable | None:
    """The table of a file. Refuses settings of the table that do not go together."""
    if options.objective == "calibrated" and options.table not in ("model", "search"):
        raise ConfigError(f"objective is for table search, but table is {options.table!r}; drop one of the two")
    if options.objective == "calibrated" and options.rule == "released":
        raise ConfigError("rule 'released' and objective 'calibrated' were given; only objective 'coverage' takes it")
    if options.kind == "none" and options.table == "calibrated":
        raise ConfigError("a calibrated table was asked for, but guidance is 'none'; drop one of the two")
    if options.table == "constant":
        check_weight(options.weight)
    if options.table in ("model", "search", "calibrated", "constant"):
        return None
    packaged = packaged_folder("configs") / f"{options.table}.npz"
    return LambdaTable.load(packaged if is_file(packaged) else options.table)
