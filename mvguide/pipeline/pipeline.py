"""MultiViewPipeline: prepare, search or calibrate a table, sample. Views and a trajectory in, a guided video out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.backbones import Backbone, load_backbone
from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.backbones.base import ConditioningOptions
from mvguide.backbones.chunks import decode_latents
from mvguide.diffusion.sampler import LoopState, Progress, sample
from mvguide.diffusion.schedule import SigmaSchedule, check_levels
from mvguide.diffusion.solvers import SOLVERS, Solver, make_solver
from mvguide.diffusion.windows import LongOptions
from mvguide.errors import ConfigError, DecodeError, InputError, NumericalError, OutOfMemoryError
from mvguide.geometry.camera import Camera
from mvguide.guidance import guides
from mvguide.guidance.gradient import PosteriorGradient
from mvguide.guidance.guides import Guide, NoGuidance
from mvguide.guidance.targets import MaskOptions
from mvguide.memory import check_memory, enough_memory, peak_memory
from mvguide.pipeline.anchors import make_anchors
from mvguide.pipeline.calibration import calibrate
from mvguide.pipeline.checkpoint import Checkpoint
from mvguide.pipeline.conditioning import condition, some_frames, with_anchors
from mvguide.pipeline.latents import DenoisedRun
from mvguide.pipeline.magnitudes import step_cache
from mvguide.pipeline.prepare import LESS, Context, WarpedPath, check_trajectory, timed, warp_path
from mvguide.pipeline.result import Result
from mvguide.pipeline.resuming import keep_state, run_settings
from mvguide.tables.table import LambdaTable
from mvguide.views.moments import Moments
from mvguide.views.view import View

DEFAULT_STEPS = 25
_PIXEL_BYTES, _LATENT_BYTES = 4 * 30, 4 * 8
"""Of a video: its warps, their filling and the result; x, noise, target and estimates. The network's are not in it."""


class MultiViewPipeline:
    """Renders what a moving camera should see, with a pretrained video diffusion model and no training.

    The short form is one call, ``pipe(views, trajectory)``. The long form shows what happens, and leaves room for a
    table of your own::

        context = pipe.prepare(views, trajectory)
        table = context.search_table()  # or calibrate(context), or LambdaTable.load(...)
        result = pipe.sample(context, table)

    Args:
        backbone: the model; see :meth:`from_pretrained`.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        variant: str | None = None,
        offload: str = "none",
        acceleration: AccelerationOptions | None = None,
    ) -> "MultiViewPipeline":
        """Pipeline on a model by name: ``tiny`` (embedded), a folder in diffusers layout, or a hub id.

        See :func:`mvguide.backbones.load_backbone` for the arguments and errors.
        """
        return cls(
            load_backbone(name, device=device, dtype=dtype, variant=variant, offload=offload, acceleration=acceleration)
        )

    @torch.no_grad()
    def prepare(
        self,
        views: Sequence[View],
        trajectory: Camera,
        *,
        moments: Moments | None = None,
        schedule: SigmaSchedule | int = DEFAULT_STEPS,
        size: tuple[int, int] | None = None,
        conditioning: ConditioningOptions | None = None,
        long: LongOptions | None = None,
        depth_model: str | None = None,
        hole_radius: int = 0,
        chunk: int | None = None,
        generator: torch.Generator | None = None,
        like: Context | None = None,
    ) -> Context:
        """Warp the views along the trajectory and encode what the model is conditioned on.

        Args:
            views: V input images with depth and cameras: one or more of a still scene, or those of a video.
            trajectory: F cameras of the first image's size. A camera equal to a view's own is pinned to its image.
            moments: which views show which frames: ``Moments.footage(len(views), F)`` for a video; by default every
                view shows every frame, as in a still scene.
            schedule: N noise levels, or a number of steps of the model's own.
            size: (width, height) of the video; by default the image's shape at the model's trained area. The
                image is resized to cover it and cropped, cameras and depth with it.
            conditioning: what the model is conditioned on besides the image. Its motion bucket, if None, follows the
                real optical flow where the model's scale of motion is known.
            long: how a video is made that is longer than the model's own.
            depth_model: of anchors; a folder or hub id. A plane sweep between them by default.
            hole_radius: grow holes by this many pixels.
            chunk: frames encoded or decoded at a time; None = as many as fit into the memory of the GPU, up to 8; half
                as many wherever memory runs out. The report has the chunk that was decoded.
            generator: CPU generator of all noise; by default a new one with torch's fixed seed.
            like: an earlier context. Its warps and encoded targets are used again where they are the same.

        Raises:
            InputError, ConfigError: for arguments that cannot be used; the sentence says which and the way out.
        """
        backbone, num_frames = self.backbone, len(trajectory) if trajectory.batch_shape else 1
        check_trajectory(views, trajectory)
        size = size or backbone.native_size.default_size(trajectory.width, trajectory.height)
        shape = backbone.latent_shape(num_frames, size[1], size[0])
        check_memory(
            _PIXEL_BYTES * num_frames * size[0] * size[1] + _LATENT_BYTES * math.prod(shape),
            f"a video of {num_frames} frames of {size[0]} x {size[1]}",
            "ask for fewer with num_frames, or for smaller ones with width and height",
        )
        options = conditioning or ConditioningOptions(num_frames)
        if options.num_frames != num_frames:
            raise InputError(
                f"conditioning is for {options.num_frames} frames but the trajectory has {num_frames}; "
                "make both for the same number"
            )
        long = long or LongOptions()
        windows = long.windows(backbone.grid, num_frames, backbone.native_size.frames)
        if isinstance(schedule, int):  # for what the network sees at a time: some models shift it by that
            schedule = backbone.schedule(schedule, (1, windows[0].latent_frames.stop, *shape[2:]))
        check_levels(schedule, backbone.path)
        if long.long == "anchors" and len(windows) > 1 and moments is not None and not moments.is_still:
            raise InputError(
                "anchors fill in what stands still, but the frames show different moments; use --long windows, or stop "
                "the video with --moment"
            )
        generator = generator or torch.Generator()
        seconds: dict[str, float] = {}
        if like is not None and not (
            like.backbone is backbone and like.has_warps_of(views, trajectory, size, moments, hole_radius)
        ):
            like = None
        path: WarpedPath
        work = f"frames of {size[0]} x {size[1]}"
        with timed(seconds, "warp"), enough_memory(f"warping {num_frames} {work}", f"use {LESS}"):
            path = like or warp_path(
                views, trajectory, size, moments=moments, hole_radius=hole_radius, device=backbone.device
            )
        with timed(seconds, "encode"):
            with enough_memory(f"conditioning the model on {work}", f"use --offload model, or {LESS}"):
                full, encoded = condition(backbone, path, path.warps, windows, options, generator)
            backbone.free()
        return Context(
            views=views,
            trajectory=path.trajectory,
            moments=moments,
            warps=path.warps,
            backbone=backbone,
            schedule=schedule,
            options=full,
            asked=options,
            long=long,
            windows=windows,
            conditioning=encoded,
            hole_radius=hole_radius,
            chunk=chunk,
            random_state=generator.get_state(),
            seed=generator.initial_seed(),
            depth_model=depth_model,
            seconds=seconds,
            encoded={} if like is None else like.encoded,
        )

    @torch.no_grad()
    def sample(
        self,
        context: Context,
        table: LambdaTable | None,
        *,
        guidance: str | Guide = "blend",
        mask: MaskOptions | None = None,
        solver: str | Solver = "model",
        generator: torch.Generator | None = None,
        watch: Callable[[Progress], bool | None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Result:
        """Denoise and decode a prepared context.

        Args:
            context: from :meth:`prepare`.
            table: weights for the context's schedule and frames; not needed without guidance.
            guidance: ``blend``, ``top_share``, ``posterior_gradient`` or ``none``; or a guide with options, such as
                ``TopShare(floor=0.2)``; or a guide of your own (:class:`mvguide.guidance.guides.Guide`).
            mask: how much partly seen latent cells count; soft by default.
            solver: ``model`` (that of the model's own scheduler), ``euler``, ``ancestral``, ``heun``, ``dpmpp_2m``, or
                a solver object such as ``Resampling(Heun(), repeats=1)``.
            generator: CPU generator of the noise; by default one in the state that preparing left, so that the same
                context gives the same video again.
            watch: sees every step; returning True stops early, and the video is the estimate that this step made. The
                report says how many steps were done.
            checkpoint: file that keeps where the run stands, and from which it goes on after it was stopped.

        Returns:
            Result with frames ``[F, 3, H, W]`` in [0, 1] and everything that made them.

        Raises:
            InputError, ConfigError: a table of other frames or noise levels, none where one is needed, options out of
                range, or a checkpoint of another run.
            FileError, OutputError: a checkpoint that cannot be read or written.
            OutOfMemoryError: denoising needs more memory than there is.
            DecodeError: decoding does, or gives values that are not finite; the error keeps the run.
        """
        backbone, seconds = self.backbone, dict(context.seconds)
        guide, mask = guides.make_guide(guidance), mask or MaskOptions()
        stepper = backbone.solver(context.schedule) if solver == "model" else make_solver(solver)
        backbone.acceleration.check_run(
            stepper.evaluations, isinstance(guide, PosteriorGradient), kept=checkpoint is not None
        )
        if generator is None:
            generator = torch.Generator()
            generator.set_state(context.random_state)
        bound = None
        if isinstance(guide, NoGuidance):
            table = None
        elif table is None:
            raise ConfigError("guidance needs a lambda table; make one with context.search_table()")
        else:
            table.check(context.schedule, context.latent_frames)
            hole_weight = getattr(guide, "hole_weight", None)
            if isinstance(hole_weight, LambdaTable):
                hole_weight.check(context.schedule, context.latent_frames)
        if context.anchor_frames:
            with timed(seconds, "anchors"):
                common = {"mask": mask, "solver": solver, "generator": generator, "watch": watch}
                context = self._anchored(context, table, guide, checkpoint=checkpoint, **common)
            checkpoint = checkpoint and replace(checkpoint, segment=checkpoint.segment + 1)
        if table is not None:
            with timed(seconds, "encode"):
                bound = guides.bind(guide, context.targets(mask), table)
        size = context.trajectory.height, context.trajectory.width
        stopped: list[Progress] = []

        def look(progress: Progress) -> bool:
            if watch is not None and watch(progress) and progress.step.index + 1 < progress.step.num_steps:
                stopped.append(progress)
            return bool(stopped)

        settings = {
            "model": backbone.name,
            "views": [view.name for view in context.views],
            **guides.report(guide),
            **{field.name: getattr(mask, field.name) for field in fields(MaskOptions)},
            "mask": "hard" if mask.is_hard else "soft",
            "solver": next((name for name, make in SOLVERS.items() if make() == stepper), repr(stepper)),
            "schedule": context.schedule.name,
            "steps": len(context.schedule),
            "num_frames": context.num_frames,
            "size": list(reversed(size)),
            "hole_radius": context.hole_radius,
            "seed": generator.initial_seed(),
            "device": str(backbone.device),
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "acceleration": backbone.acceleration.given(),
            "conditioning": asdict(context.options),
            **context.about_length(),
        }
        with timed(seconds, "denoise"):
            denoiser = context.denoiser()
            about = {} if checkpoint is None else run_settings(context, settings, guide, table, generator.get_state())
            ways = ("--guidance.tiles 4",) if getattr(guide, "tiles", None) == 1 else ()
            with (
                context.enough_memory("denoising", *ways),
                step_cache(backbone, context.schedule),
                keep_state(checkpoint, about, denoiser, stepper, backbone.device, look) as (reached, see),
            ):
                start: Tensor | LoopState
                if reached is not None:
                    settings["resumed_after"], start = reached.index, reached
                else:
                    start = context.first_x(generator).to(backbone.device)
                x = sample(denoiser, start, context.schedule, stepper, bound, generator, see)
            if stopped:
                settings["steps_done"] = stopped[0].step.index + 1
                x = stopped[0].denoised  # x itself still has the noise of the steps that are left
        run = DenoisedRun(
            warps=context.warps,
            views=context.views,
            trajectory=context.trajectory,
            schedule=context.schedule,
            table=table,
            latents=x.cpu(),
            settings=settings,
            seconds=seconds,
        )
        stopped.clear()
        del start, reached, see, denoiser, bound, x  # decoding may have their memory
        return self.decode(run, context.chunk)

    def _anchored(self, context: Context, table: LambdaTable | None, guide: Guide, **settings: Any) -> Context:
        """The context with anchors: a video of the model's own length along the whole path is rendered first."""
        grid, numbers, generator = self.backbone.grid, context.anchor_frames, settings["generator"]
        short = some_frames(context, numbers, generator)
        columns = (grid.lead + -(-grid.group(torch.tensor(numbers))[:, -1] // grid.ratio)).tolist()
        hole_weight = getattr(guide, "hole_weight", None)
        if isinstance(hole_weight, LambdaTable):
            guide = replace(guide, hole_weight=hole_weight.columns(columns))  # type: ignore[type-var]
        own = None if table is None else table.columns(columns)
        found = self.sample(short, own, guidance=guide, **settings)
        # One for each latent frame: what lies between them is alike.
        kept = slice(0, None, grid.ratio)
        path = replace(short, trajectory=short.trajectory[kept], warps=short.warps[kept])
        anchors = make_anchors(
            found.frames[kept], path, numbers[kept], depth_model=context.depth_model, device=self.backbone.device
        )
        return with_anchors(context, anchors.fill(context.warps, context.trajectory, self.backbone.device), generator)

    @torch.no_grad()
    def decode(self, run: DenoisedRun, chunk: int | None = None) -> Result:
        """Decode the latents of a run; :meth:`sample` ends with it.

        Args:
            run: from a :class:`mvguide.errors.DecodeError`, or from a file
                (:func:`mvguide.pipeline.latents.load_latents`).
            chunk: see :meth:`prepare`.

        Raises:
            InputError: latents of another model.
            DecodeError: a single frame does not fit into memory, or frames are not finite.
        """
        backbone, path = self.backbone, run.trajectory
        shape = backbone.latent_shape(len(path), path.height, path.width)
        if tuple(run.latents.shape) != shape:
            raise InputError(
                f"latents of shape {tuple(run.latents.shape)} were given, but those of model {backbone.name} for "
                f"{len(path)} frames of {path.width} x {path.height} are {shape}; load the model that made them"
            )
        kept, seconds = (
            "its latents are kept",
            {stage: time for stage, time in run.seconds.items() if stage != "decode"},
        )
        try:
            with timed(seconds, "decode"):
                frames, chunk = decode_latents(backbone, run.latents.to(backbone.device), chunk, kept)
        except OutOfMemoryError as error:
            raise DecodeError(str(error), run) from None
        except NumericalError as error:
            raise DecodeError(f"{error}; {kept}", run) from None
        decoded = {"chunk": chunk, "device": str(backbone.device), "dtype": str(backbone.dtype).removeprefix("torch.")}
        parts = {part.name: getattr(run, part.name) for part in fields(DenoisedRun)}
        settings = {**run.settings, "decoded": decoded, "peak_memory_mib": peak_memory()}
        return Result(**{**parts, "settings": settings, "seconds": seconds}, frames=frames)

    def __call__(
        self,
        views: Sequence[View],
        trajectory: Camera,
        *,
        moments: Moments | None = None,
        schedule: SigmaSchedule | int = DEFAULT_STEPS,
        table: LambdaTable | None = None,
        guidance: str | Guide = "blend",
        mask: MaskOptions | None = None,
        solver: str | Solver = "euler",
        size: tuple[int, int] | None = None,
        conditioning: ConditioningOptions | None = None,
        long: LongOptions | None = None,
        hole_radius: int = 0,
        chunk: int | None = None,
        generator: torch.Generator | None = None,
        watch: Callable[[Progress], bool | None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Result:
        """Render a trajectory: :meth:`prepare`, the model's default table unless one is given, :meth:`sample`.

        The default table is ``context.search_table()`` or ``calibrate(context)``, see ``Backbone.default_table``. The
        arguments are those of the two methods. The same seed gives the same video.

        Returns:
            Result with frames ``[F, 3, H, W]`` in [0, 1] and everything that made them.

        Raises:
            InputError, ConfigError: for arguments that cannot be used; the sentence says which and the way out.
        """
        guide, generator = guides.make_guide(guidance), generator or torch.Generator()
        if solver != "model":
            make_solver(solver)  # bad names are refused before the long part
        if table is not None and isinstance(schedule, SigmaSchedule):
            table.check(schedule, self.backbone.grid.latent_frames(len(trajectory)))
        context = self.prepare(
            views,
            trajectory,
            moments=moments,
            schedule=schedule,
            size=size,
            conditioning=conditioning,
            long=long,
            hole_radius=hole_radius,
            chunk=chunk,
            generator=generator,
        )
        if table is None and not isinstance(guide, NoGuidance):
            searched = self.backbone.default_table == "search"
            table = context.search_table() if searched else calibrate(context, mask=mask)
        return self.sample(
            context,
            table,
            guidance=guide,
            mask=mask,
            solver=solver,
            generator=generator,
            watch=watch,
            checkpoint=checkpoint,
        )
