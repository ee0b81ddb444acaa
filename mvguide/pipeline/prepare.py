"""What is known before the first step: the views warped along the path, and everything that the model is given."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mvguide.backbones.base import Backbone, Conditioning, ConditioningOptions
from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.windows import LongOptions, Window, WindowDenoiser, spread_frames
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.guidance.targets import MaskOptions, Targets
from mvguide.memory import enough_memory
from mvguide.pipeline.encoding import cell_weights, encode_warps
from mvguide.tables.rules import RuleName
from mvguide.tables.search import search_hypers
from mvguide.tables.table import LambdaTable
from mvguide.views.moments import Moments
from mvguide.views.view import View, fit_camera
from mvguide.views.warps import Warps, warp_views

LESS = "fewer or smaller frames (--num_frames, --width, --height)"
"""What helps wherever memory runs out."""


@dataclass(frozen=True, kw_only=True, repr=False)
class WarpedPath:
    """Views warped along a camera trajectory: all that can be known without a model.

    Args:
        views: V input images with depth and cameras, as given.
        trajectory: F cameras at the video's size.
        moments: which views show which frames; None: every view shows every frame.
        warps: the views as each of the F cameras sees them.
    """

    views: Sequence[View]
    trajectory: Camera
    moments: Moments | None
    warps: Warps

    def __repr__(self) -> str:
        """One line: how many views, frames and pixels."""
        size = f"{self.trajectory.width} x {self.trajectory.height}"
        return f"{type(self).__name__}({len(self.views)} views, {len(self.trajectory)} frames of {size})"

    @cached_property
    def first_view(self) -> View:
        """The view that shows most of frame 0, at the video's size. The model is conditioned on it."""
        return self.view_at(0)

    def view_at(self, frame: int) -> View:
        """The view that shows most of a frame, at the video's size; the first view where none shows anything."""
        width, height = self.trajectory.width, self.trajectory.height
        return self.views[int(self.warps.shares[:, frame].argmax())].fit(width, height)


def warp_path(
    views: Sequence[View],
    trajectory: Camera,
    size: tuple[int, int],
    *,
    moments: Moments | None = None,
    hole_radius: int = 0,
    device: torch.device | None = None,
) -> WarpedPath:
    """Warp views along a trajectory at the video's size.

    Args:
        views: V input images with depth and cameras.
        trajectory: F cameras of the first image's size.
        size: (width, height) of the video, pixels. Cameras and depth are resized to cover it and cropped.
        moments: which views show which frames; by default every view shows every frame.
        hole_radius: grow holes by this many pixels.
        device: where to warp; the CPU by default.

    Raises:
        InputError: no views, a view without depth, or a trajectory of another size than the first image.
    """
    check_trajectory(views, trajectory)
    path = fit_camera(trajectory, *size)
    warps = warp_views(views, path, moments=moments, hole_radius=hole_radius, device=device)
    return WarpedPath(views=views, trajectory=path, moments=moments, warps=warps)


def check_trajectory(views: Sequence[View], trajectory: Camera) -> None:
    """Raise InputError unless there are views, all with depth, and the trajectory is a batch of cameras that fits."""
    if not views:
        raise InputError("no view was given; at least one image with depth is needed")
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
    for view in views:
        view.require_depth()


@dataclass(frozen=True, kw_only=True, repr=False)
class Context(WarpedPath):
    """Everything before step 0: the warped path, and what the model is given. Made by ``MultiViewPipeline.prepare``.

    Args:
        backbone: the model.
        schedule: N noise levels of the run.
        options: what the model is conditioned on besides the image, nothing left unset.
        asked: the same, as it was asked for.
        long: how a video is made that is longer than the model's own.
        windows: of latent frames, that the model denoises at a time; one for a video that it denoises as a whole.
        conditioning: the options and what is known of each window's frames, encoded.
        hole_radius: pixels by which holes were grown.
        chunk: frames encoded or decoded at a time; None = as memory allows.
        random_state: state of the CPU generator after the conditioning drew from it; a run without a generator of its
            own starts from it, so that one context always gives the same video.
        seed: seed of that generator, for reports.
        depth_model: for what anchors invent; a plane sweep between them if None.
        anchored: the warps, and what anchors show in their holes; None without anchors.
        seconds: time of each stage so far.
        encoded: target latents by chunk; contexts of the same warps have it in common.
    """

    backbone: Backbone
    schedule: SigmaSchedule
    options: ConditioningOptions
    asked: ConditioningOptions
    long: LongOptions
    windows: Sequence[Window]
    conditioning: Sequence[Conditioning]
    hole_radius: int
    chunk: int | None
    random_state: Tensor
    seed: int
    depth_model: str | None = None
    anchored: Warps | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    encoded: dict[int | None, Tensor] = field(default_factory=dict)

    def has_warps_of(
        self,
        views: Sequence[View],
        trajectory: Camera,
        size: tuple[int, int],
        moments: Moments | None,
        hole_radius: int,
    ) -> bool:
        """Whether its warps are those of other arguments of ``MultiViewPipeline.prepare``: the same views, as objects.

        The cameras, and which views show which frames, are compared by value.
        """
        if len(views) != len(self.views) or any(one is not other for one, other in zip(views, self.views, strict=True)):
            return False
        if size != (self.trajectory.width, self.trajectory.height) or hole_radius != self.hole_radius:
            return False
        path = fit_camera(trajectory, *size)
        pairs = [(path.intrinsics, self.trajectory.intrinsics), (path.world_to_camera, self.trajectory.world_to_camera)]
        if moments is not None and self.moments is not None:
            pairs += [(moments.shows, self.moments.shows), (moments.fills, self.moments.fills)]
        return (moments is None) == (self.moments is None) and all(torch.equal(*pair) for pair in pairs)

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.trajectory)

    def enough_memory(self, work: str, *ways: str) -> AbstractContextManager[None]:
        """Context in which running out of memory is one sentence.

        Args:
            work: what is done with the frames: "denoising".
            ways: to need less, besides those of every network: options, the most effective first.
        """
        size = f"{self.trajectory.width} x {self.trajectory.height}"
        if self.backbone.device.type != "cpu":
            ways = (*ways, "--offload model or group")
        if (self.options.cfg_max or 1) > 1 and not self.options.cfg_chunked:
            ways = (*ways, "--cfg_chunked")
        way_out = f"use {', '.join((*ways, 'or ' * bool(ways) + LESS))}"
        return enough_memory(f"{work} {self.num_frames} frames of {size}", way_out)

    @property
    def latent_frames(self) -> int:
        """L: columns of the lambda table, and frames of x."""
        return self.backbone.grid.latent_frames(self.num_frames)

    @property
    def anchor_frames(self) -> list[int]:
        """Frames that are to be rendered first, as anchors; empty where there are none, or they are there already."""
        if self.long.long != "anchors" or len(self.windows) == 1 or self.anchored is not None:
            return []
        return spread_frames(self.num_frames, self.window_frames)

    @property
    def window_frames(self) -> int:
        """Frames that the model denoises at a time."""
        return self.backbone.grid.num_frames(self.windows[0].latent_frames.stop)

    def about_length(self) -> dict[str, Any]:
        """For the report: how a video that is longer than the model's own was made; empty for any other."""
        if len(self.windows) == 1:
            return {}
        made = {"long": self.long.long, "windows": len(self.windows), "window": self.window_frames}
        return made | {"window_overlap": self.long.window_overlap}

    @property
    def target_warps(self) -> Warps:
        """What the targets are encoded from."""
        return self.warps if self.anchored is None else self.anchored

    @property
    def pinned(self) -> Tensor:
        """Latent frames all of whose frames are an input view itself; bool ``[L]``."""
        return self.backbone.grid.all(self.warps.pinned)

    @property
    def distances(self) -> Tensor:
        """Camera distance of each latent frame, the mean of its frames; ``[L]``, see ``Warps``."""
        return self.backbone.grid.mean(self.warps.distances)

    def denoiser(self) -> Denoiser:
        """The network with its conditioning, for x of all latent frames."""
        parts = [self.backbone.denoiser(conditioning) for conditioning in self.conditioning]
        return parts[0] if len(parts) == 1 else WindowDenoiser(self.windows, parts)

    def first_x(self, generator: torch.Generator) -> Tensor:
        """The first x, ``[1, L, C, h, w]`` float32 on the CPU."""
        shape = self.backbone.latent_shape(self.num_frames, self.trajectory.height, self.trajectory.width)
        return self.backbone.first_x(self.conditioning[0], shape, self.schedule, generator)

    @property
    def target_latents(self) -> Tensor:
        """Encoded warps ``[L, C, h, w]`` on the model's device; encoded when first asked for."""
        if self.chunk not in self.encoded:
            with timed(self.seconds, "encode"):
                latents = encode_warps(self.backbone, self.target_warps, self.chunk)
            self.encoded[self.chunk] = latents.to(self.backbone.device)
        return self.encoded[self.chunk]

    def targets(self, mask: MaskOptions | None = None) -> Targets:
        """The encoded warps with a mask; soft by default."""
        device = self.backbone.device
        visible = cell_weights(self.target_warps, self.backbone.vae_scale_factor, mask, self.backbone.grid)
        return Targets(self.target_latents, visible.to(device), self.pinned.to(device))

    def search_table(
        self, *, rule: RuleName = "exact", by_frame: bool = False, measured: LambdaTable | None = None
    ) -> LambdaTable:
        """Table from ``search_hypers`` for these warps.

        The exact rule takes the model's own (v1, v2, v3) where they were measured, and searches the published grids
        otherwise; the released rule always searches, as the published script does.

        Args:
            rule: ``exact`` or ``released``.
            by_frame: distances grow with the frame number instead of following the cameras and the scene's depth.
            measured: weights ``[N, F]`` that the exact rule is fitted to instead.
        """
        distances = {"num_frames": self.latent_frames} if by_frame else {"distances": self.distances}
        if measured is not None:
            fitted = search_hypers(self.schedule, rule=rule, objective="calibrated", measured=measured, **distances)
            return fitted.table
        hypers = self.backbone.notes.hypers if rule == "exact" else None
        v1, v2, v3 = (None, None, None) if hypers is None else ((value,) for value in hypers)
        return search_hypers(self.schedule, rule=rule, v1=v1, v2=v2, v3=v3, **distances).table


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time that a block takes to a stage."""
    start = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[stage] = round(seconds.get(stage, 0.0) + time.perf_counter() - start, 4)
