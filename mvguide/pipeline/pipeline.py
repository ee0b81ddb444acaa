"""MultiViewPipeline: the one object that knows all rooms. Views and a trajectory in, a guided video out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mvguide.backbones import Backbone, load_backbone
from mvguide.backbones.base import ConditioningOptions
from mvguide.diffusion.sampler import Progress, initial_noise, iterate
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import Solver, make_solver
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.guidance.guides import GuidanceSettings, MakeGuide, as_settings, make_guidance
from mvguide.guidance.targets import Targets
from mvguide.pipeline.encoding import CELL_COVERAGE, Context, encode_targets
from mvguide.pipeline.result import Result
from mvguide.tables.rules import RuleName
from mvguide.tables.search import search_hypers
from mvguide.tables.table import LambdaTable
from mvguide.views.moments import Moments
from mvguide.views.view import View, fit_camera
from mvguide.views.warps import Warps, mean_flow, warp_views

DEFAULT_STEPS = 25


class MultiViewPipeline:
    """Renders what a moving camera should see, with a pretrained video diffusion model and no training.

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
        offload: bool = False,
    ) -> "MultiViewPipeline":
        """Pipeline on a model by name: ``tiny`` (embedded), a folder in diffusers layout, or a hub id.

        See :func:`mvguide.backbones.load_backbone` for the arguments and errors.
        """
        return cls(load_backbone(name, device=device, dtype=dtype, variant=variant, offload=offload))

    @torch.no_grad()
    def __call__(
        self,
        views: Sequence[View],
        trajectory: Camera,
        *,
        moments: Moments | None = None,
        schedule: SigmaSchedule | None = None,
        table: LambdaTable | Callable[[Context], LambdaTable] | None = None,
        guidance: str | GuidanceSettings | MakeGuide = "blend",
        solver: str | Solver = "euler",
        size: tuple[int, int] | None = None,
        conditioning: ConditioningOptions | None = None,
        hole_radius: int = 0,
        chunk: int = 8,
        generator: torch.Generator | None = None,
        watch: Callable[[Progress], bool | None] | None = None,
    ) -> Result:
        """Render a trajectory.

        Args:
            views: input pictures with depth and cameras: one or more of a still scene, or those of a video.
            trajectory: F cameras of the first picture's size. A camera equal to a view's own is pinned to its picture.
            moments: which views show which frames: ``Moments.footage(len(views), F)`` for a video; by default all
                views show every frame, as in a still scene.
            schedule: noise levels; the model's own with 25 steps by default.
            table: weights for this schedule and F frames, or a function that makes them from what is known before the
                first step, such as :func:`mvguide.pipeline.calibration.calibrate`; by default :meth:`search_table`.
            guidance: ``blend``, ``top_share``, ``posterior_gradient`` or ``none``; or
                :class:`~mvguide.guidance.guides.GuidanceSettings`, which say more: masks, holes, resampling; or a
                function of targets and table that makes a guide.
            solver: ``euler``, ``ancestral``, ``heun``, ``dpmpp_2m``, or a solver object.
            size: (width, height) of the video; by default the picture's shape at the model's trained area. The
                picture is resized to cover it and cropped, cameras and depth with it.
            conditioning: what the model is told besides the picture. Its motion bucket, if None, follows the real
                optical flow where the model's scale is known.
            hole_radius: grow holes by this many pixels.
            chunk: frames encoded or decoded at a time.
            generator: CPU generator; the same seed gives the same video. By default a new one with torch's fixed seed.
            watch: sees every step; returning True stops early, and the video is decoded from what is there.

        Returns:
            Result with frames ``[F, 3, H, W]`` in [0, 1] and everything that made them.

        Raises:
            InputError, ConfigError: for arguments that cannot be used; the sentence says which and the way out.
        """
        trajectory, size = self._fit_inputs(views, trajectory, size)
        frames = len(trajectory)
        shape = self.backbone.latent_shape(frames, size[1], size[0])
        schedule = schedule or self.backbone.schedule(DEFAULT_STEPS)
        chosen_solver, settings = make_solver(solver), as_settings(guidance)
        settings.check(schedule, frames)
        generator = generator or torch.Generator()
        for view in views:
            view.require_depth()
        if isinstance(table, LambdaTable):
            table.check(schedule, frames)
        stages = _Stages()

        with stages("warp"):
            warps = warp_views(views, trajectory, moments=moments, hole_radius=hole_radius, device=self.backbone.device)
        # The model takes one picture, and expects its first frame in it.
        picture = views[int(warps.shares[:, 0].argmax())].fit(*size)
        told = conditioning or ConditioningOptions(frames)
        if told.num_frames != frames:
            raise InputError(f"conditioning is for {told.num_frames} frames but the trajectory has {frames}")
        told = self.backbone.with_defaults(told, mean_flow(picture, trajectory))
        with stages("encode"):
            condition = self.backbone.prepare(picture.image, told, generator)
            targets = None if settings.kind == "none" else self._encode_targets(warps, settings, chunk)
        if table is None:
            table = self.search_table(schedule, warps)
        elif not isinstance(table, LambdaTable):
            with stages("table"):
                known = Context(self.backbone, views, trajectory, moments, schedule, warps, condition, targets, chunk)
                table = table(known)
            table.check(schedule, frames)
        guide = make_guidance(settings, targets, table, generator)

        with stages("denoise"):
            x = initial_noise(shape, self.backbone.path, schedule, generator).to(self.backbone.device)
            denoiser = self.backbone.denoiser(condition)
            for progress in iterate(denoiser, x, schedule, chosen_solver, guide, generator):
                x = progress.x
                if watch is not None and watch(progress):
                    break
        with stages("decode"):
            decoded = self.backbone.decode(x, chunk)

        report = {
            "model": self.backbone.name,
            "views": [view.name for view in views],
            **settings.report(),
            "solver": solver if isinstance(solver, str) else repr(solver),
            "schedule": schedule.name,
            "steps": len(schedule),
            "num_frames": frames,
            "size": list(size),
            "hole_radius": hole_radius,
            "seed": generator.initial_seed(),
            "conditioning": asdict(told),
        }
        return Result(decoded, warps, picture, views, trajectory, schedule, table, x.cpu(), report, stages.seconds)

    def search_table(
        self,
        schedule: SigmaSchedule,
        warps: Warps,
        *,
        rule: RuleName = "exact",
        by_frame: bool = False,
        measured: LambdaTable | None = None,
    ) -> LambdaTable:
        """Table from ``search_hypers`` for warps: by their real distances, or by the frame number.

        The exact rule takes the model's own (v1, v2, v3) where they were measured, and searches the published grids
        otherwise; the released rule always searches, as the published script does. With ``measured`` weights the exact
        rule is fitted to them instead.
        """
        frames = len(warps.image)
        told: dict[str, Any] = {"num_frames": frames} if by_frame else {"distances": warps.distances}
        if measured is not None:
            return search_hypers(schedule, **told, rule=rule, objective="calibrated", measured=measured).table
        hypers = self.backbone.notes.hypers if rule == "exact" else None
        v1, v2, v3 = (None, None, None) if hypers is None else ((value,) for value in hypers)
        return search_hypers(schedule, **told, rule=rule, v1=v1, v2=v2, v3=v3).table

    def _encode_targets(self, warps: Warps, settings: GuidanceSettings, chunk: int) -> Targets:
        """Targets with the mask that the settings ask for."""
        return encode_targets(
            self.backbone,
            warps,
            chunk,
            settings.cell_coverage or CELL_COVERAGE,
            mask=settings.mask or "soft",
            ramp=settings.ramp,
            confidence=settings.confidence,
        )

    def _fit_inputs(
        self, views: Sequence[View], trajectory: Camera, size: tuple[int, int] | None
    ) -> tuple[Camera, tuple[int, int]]:
        """The trajectory at the video's size, and that size."""
        if not views:
            raise InputError("no view was given; at least one picture with depth is needed")
        for view in views:
            view.camera.check()
        camera = views[0].camera
        if len(trajectory.batch_shape) != 1 or (trajectory.width, trajectory.height) != (camera.width, camera.height):
            raise InputError(
                f"trajectory of shape {tuple(trajectory.batch_shape)} has cameras of {trajectory.width} x "
                f"{trajectory.height}, but the view is {camera.width} x {camera.height}; "
                "make a batch of cameras of the view's size, for example with mvguide.orbit(view.camera, ...)"
            )
        trajectory.check()
        size = size or self.backbone.native_size.default_size(camera.width, camera.height)
        self.backbone.latent_shape(len(trajectory), size[1], size[0])
        return fit_camera(trajectory, *size), size


class _Stages:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block under a name."""
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] = round(time.perf_counter() - start, 4)
