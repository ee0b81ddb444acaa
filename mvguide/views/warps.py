"""From views and a trajectory to what each frame's camera sees of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.distance import frame_distances
from mvguide.geometry.hole_filling import close_pinholes, fill_pinholes, push_pull_fill
from mvguide.geometry.masks import dilate_holes, smeared_depth
from mvguide.geometry.merge import Merged, Quality, merge, view_quality
from mvguide.geometry.warp import Warp, splat
from mvguide.memory import check_memory
from mvguide.views.moments import Moments
from mvguide.views.view import View, fit_camera

SUPERSAMPLING = 2
"""Views are warped at up to this many times the video's resolution: fewer cracks, and less aliasing."""
_MOTION = 0.08
"""Mean absolute difference of colour between moments above which a pixel has moved."""
_PIXELS = 2**18
"""Frames are merged so many at a time, and at least two, that V views of them have about this many pixels."""
_GUESSED = 0.1
"""Confidence of pixels whose depth is guessed."""
_KEPT, _AT_WORK = 6, 30
"""Floats of a pixel that a warp keeps, and that are needed besides in each of two frames of each view."""
_FOLLOWED = 32
"""Frames that points are followed into at a time."""


@dataclass(frozen=True)
class Warps:
    """The input views as each frame's camera sees them.

    Args:
        image: ``[F, 3, H, W]`` in [0, 1], 0 in holes.
        visible: ``[F, 1, H, W]``: 1 = seen, 0 = hole.
        pinned: ``[F]`` bool: frames whose camera is that of a view of their moment; they hold the image itself.
        distances: ``[F]`` float64: camera motion from the nearest view, relative to the scene's depth.
        depth: ``[F, 1, H, W]``: z of what is seen, scene units, 0 in holes.
        confidence: ``[F, 1, H, W]`` in [0, 1]: how well the views know what they show; 0 in holes, 1 in pinned frames.
        shares: ``[V, F]``: share of each frame taken mostly from each view.
        guessed: ``[F, 1, H, W]`` bool: of what is seen, pixels whose depth is guessed.
    """

    image: Tensor
    visible: Tensor
    pinned: Tensor
    distances: Tensor
    depth: Tensor
    confidence: Tensor
    shares: Tensor
    guessed: Tensor

    def __getitem__(self, frames: slice | Sequence[int]) -> "Warps":
        """Some of the frames; those of a slice share their memory with these."""
        some = frames if isinstance(frames, slice) else list(frames)
        parts = {part.name: getattr(self, part.name)[some] for part in fields(self) if part.name != "shares"}
        return Warps(shares=self.shares[:, some], **parts)

    @property
    def seen(self) -> Tensor:
        """Share of each frame that is seen, and whose depth is not guessed, ``[F]``."""
        return torch.stack(
            [(one & ~two).float().mean() for one, two in zip(self.visible > 0, self.guessed, strict=True)]
        )


def warp_views(
    views: Sequence[View],
    trajectory: Camera,
    *,
    moments: Moments | None = None,
    hole_radius: int = 0,
    guess_depth: bool = True,
    device: torch.device | None = None,
) -> Warps:
    """Warp views into every camera of a trajectory and merge them (:func:`mvguide.geometry.merge.merge`).

    Pixels whose depth is a mix of near and far are not moved: they would land in mid-air. Pixels without depth are
    moved by a guess, that of what lies behind their surroundings. They fill only what nothing else shows, and their
    confidence is a tenth.

    Args:
        views: images with depth; each at any resolution.
        trajectory: F cameras; their size is the size of the result.
        moments: which views show each frame's moment; by default all do: nothing moves but the camera.
        hole_radius: grow holes by this many pixels, where depth is not to be trusted at edges.
        guess_depth: whether pixels without depth are moved; they are holes otherwise.
        device: where to compute; the CPU by default.

    Raises:
        InputError: a view without depth, moments of other views or frames, a radius beyond the image, an argument
            that ``splat`` refuses, or more pixels than fit into memory.
    """
    (warps,) = warp_stretches(
        views,
        trajectory,
        len(trajectory),
        moments=moments,
        hole_radius=hole_radius,
        guess_depth=guess_depth,
        device=device,
    )
    return warps


def warp_stretches(
    views: Sequence[View],
    trajectory: Camera,
    length: int,
    *,
    moments: Moments | None = None,
    hole_radius: int = 0,
    guess_depth: bool = True,
    device: torch.device | None = None,
) -> Iterator[Warps]:
    """Warp views into some frames at a time: the same warps as :func:`warp_views`, in memory for those alone.

    Args:
        views: as for ``warp_views``.
        trajectory: as for ``warp_views``.
        length: frames at a time; the last are the rest.
        moments: as for ``warp_views``.
        hole_radius: as for ``warp_views``.
        guess_depth: as for ``warp_views``.
        device: as for ``warp_views``.

    Yields:
        Warps of frames 0 to ``length`` - 1, and so on.

    Raises:
        InputError: as ``warp_views``.
    """
    length = max(1, length)
    _check_size(len(views), trajectory, min(length, len(trajectory)), hole_radius)
    moments = moments or Moments.all_alike(len(views), len(trajectory))
    moments.check(len(views), len(trajectory))
    width, height = trajectory.width, trajectory.height
    sources = [_prepare(view, width, height, device or torch.device("cpu")) for view in views]
    guesses = [_guess(source, view) for source, view in zip(sources, views, strict=True)] if guess_depth else []
    still = [_only_still(source, k, sources) for k, source in enumerate(sources)] if moments.fills.any() else []
    for frames in torch.arange(len(trajectory)).split(length):
        some = Moments(moments.shows[:, frames], moments.fills[:, frames])
        yield _warp(views, trajectory[frames], some, hole_radius, sources, guesses, still)


def _warp(
    views: Sequence[View],
    trajectory: Camera,
    moments: Moments,
    hole_radius: int,
    sources: Sequence[View],
    guesses: Sequence[View | None],
    still: Sequence[View],
) -> Warps:
    """The warps of some frames, from views that are prepared."""
    width, height = trajectory.width, trajectory.height
    shape = (len(trajectory), 1, height, width)
    image, visible = torch.zeros(shape[0], 3, *shape[2:]), torch.zeros(shape)
    depth, confidence, shares = torch.zeros(shape), torch.zeros(shape), torch.zeros(len(views), len(trajectory))
    guessed = torch.zeros(shape, dtype=torch.bool)
    for frames, shown, filling in _blocks(moments, width * height):
        merged = _merge(sources, shown, trajectory[frames])
        shares[torch.tensor(shown)[:, None], frames] = merged.shares
        if filling:
            merged = _fill_holes(merged, _merge(still, filling, trajectory[frames]))
        if unsure := [guess for index in shown if guesses and (guess := guesses[index])]:
            known = close_pinholes(merged.visible)
            merged = _fill_holes(merged, _merge(unsure, range(len(unsure)), trajectory[frames]))
        closed = close_pinholes(merged.visible)
        visible[frames] = dilate_holes(closed, hole_radius).cpu()
        if unsure:
            guessed[frames] = (visible[frames] > 0) & (known <= 0).cpu()
        # Closed pinholes have the colour, depth and confidence of what surrounds them.
        parts = torch.cat([merged.image, merged.depth, merged.confidence], dim=1)
        filled = fill_pinholes(parts, merged.visible, closed).cpu() * visible[frames]
        image[frames], depth[frames], confidence[frames] = filled.split([3, 1, 1], dim=1)
    pinned = torch.zeros(len(trajectory), dtype=torch.bool)
    distances = torch.full((len(views), len(trajectory)), torch.inf, dtype=torch.float64)
    for index, (view, source) in enumerate(zip(views, sources, strict=True)):
        mine = moments.shows[index]
        same = _same_camera(fit_camera(view.camera, width, height), trajectory) & mine
        if same.any():
            image[same], visible[same], confidence[same] = view.fit(width, height).image, 1.0, 1.0
            pinned, guessed[same] = pinned | same, False
        if mine.any():
            measured = source.require_depth()
            distances[index, mine] = frame_distances(source.camera, trajectory[mine], measured.values, measured.valid)
    return Warps(image, visible, pinned, distances.amin(0), depth, confidence, shares, guessed)


def _check_size(num_views: int, trajectory: Camera, frames: int, hole_radius: int) -> None:
    """Refuse warps that would not fit into memory, and a radius that makes everything a hole."""
    width, height = trajectory.width, trajectory.height
    if hole_radius > max(width, height):
        raise InputError(f"hole_radius is {hole_radius} pixels, but a frame has only {width} x {height}; give a few")
    floats = _KEPT * frames + _AT_WORK * min(frames, 2) * num_views
    check_memory(
        4.0 * floats * width * height,
        f"{frames} frames of {width} x {height}",
        "ask for fewer with num_frames, or for smaller ones with width and height",
    )


def _prepare(view: View, width: int, height: int, device: torch.device) -> View:
    """The view at the resolution that it is warped at, without pixels whose depth belongs to no surface."""
    scale = max(1, min(SUPERSAMPLING, view.camera.width // width, view.camera.height // height))
    # Not cropped: what the video's shape cuts off on the sides may come into view.
    source = view.cover(width * scale, height * scale).to(device)
    depth = source.require_depth()
    usable = depth.valid & ~smeared_depth(depth.values)
    if not bool(usable.any()):
        usable = depth.valid
    return replace(source, depth=replace(depth, valid=usable))


def _guess(source: View, view: View) -> View | None:
    """The view's pixels without depth alone, at the depth of what lies behind their surroundings; None: all have one.

    Looked at from elsewhere, what a sensor or a matcher lost is mostly far, or the shadow beside something near.
    """
    depth = source.require_depth()
    # Not those that are a mix of near and far: they stay where they are.
    unknown = ~view.require_depth().resize(depth.width, depth.height).valid.to(depth.valid.device)
    if not bool(unknown.any()):
        return None
    known = depth.valid[None, None].float()
    values = push_pull_fill(depth.values[None, None], known, depth.values[None, None])[0, 0]
    guessed = replace(depth, values=torch.where(unknown, values, depth.values), valid=unknown)
    return replace(source, depth=guessed, confidence=torch.full_like(values, _GUESSED))


def _blocks(moments: Moments, pixels: int) -> Iterator[tuple[Tensor, list[int], list[int]]]:
    """Frames that are merged at a time, the views that show them, and those that fill their holes."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for frame in range(moments.shows.shape[1]):
        shown, filling = (tuple(which[:, frame].nonzero()[:, 0].tolist()) for which in (moments.shows, moments.fills))
        groups.setdefault((shown, filling), []).append(frame)
    for (shown, filling), frames in groups.items():
        most = max(2, _PIXELS // (pixels * max(len(shown), len(filling))))
        for some in torch.tensor(frames).split(most):
            yield some, list(shown), list(filling)


def _merge(sources: Sequence[View], members: Sequence[int], cameras: Camera) -> Merged:
    """Some of the views, merged into each camera."""
    shown = [_show(sources[index], cameras) for index in members]
    return merge([warp for warp, _ in shown], [quality for _, quality in shown])


def _show(source: View, cameras: Camera) -> tuple[Warp, Quality]:
    """The view in each camera, and what it is worth there: the angle and resolution, times its own confidence."""
    if source.confidence is None:
        warp = _splat(source, cameras)
        return warp, view_quality(warp, source.camera, cameras)
    depth = source.require_depth()
    both = splat(
        torch.cat([source.image, source.confidence[None]]), depth.values, source.camera, cameras, valid=depth.valid
    )
    warp, own = replace(both, image=both.image[:, :3]), both.image[:, 3:]
    quality = view_quality(warp, source.camera, cameras)
    return warp, Quality(quality.confidence * own, quality.weight * own)


def _splat(source: View, cameras: Camera) -> Warp:
    depth = source.require_depth()
    return splat(source.image, depth.values, source.camera, cameras, valid=depth.valid)


def _fill_holes(front: Merged, other: Merged) -> Merged:
    """The first, and in its holes the second."""
    hole = front.visible == 0
    return Merged(
        torch.where(hole, other.image, front.image),
        torch.maximum(front.visible, other.visible),
        torch.where(hole, other.depth, front.depth),
        torch.where(hole, other.confidence, front.confidence),
        front.shares,
    )


def _only_still(source: View, index: int, sources: Sequence[View]) -> View:
    """The view without pixels that move between its moment and the ones before and after."""
    depth = source.require_depth()
    still = torch.zeros_like(depth.valid)
    moved = torch.zeros_like(depth.valid)
    for neighbour in (index - 1, index + 1):
        if 0 <= neighbour < len(sources):
            warp = _splat(sources[neighbour], stack([source.camera]))
            seen = warp.visible[0, 0] > 0
            differs = (warp.image[0] - source.image).abs().mean(0) > _MOTION
            # Half a pixel of misplacement differs along every edge, and is no motion: ask for a neighbourhood.
            differs = avg_pool2d(differs[None].float(), 5, stride=1, padding=2)[0] > 0.5
            still |= seen & ~differs
            moved |= seen & differs
    grown = dilate_holes(1 - moved[None].float(), 2)[0] > 0
    return replace(source, depth=replace(depth, valid=depth.valid & still & grown))


def _same_camera(camera: Camera, trajectory: Camera) -> Tensor:
    """Which cameras of the trajectory are the view's own, ``[F]`` bool."""
    alike = torch.isclose(trajectory.world_to_camera, camera.world_to_camera, rtol=0, atol=1e-9).flatten(1).all(1)
    return alike & torch.isclose(trajectory.intrinsics, camera.intrinsics, rtol=0, atol=1e-6).flatten(1).all(1)


def mean_flow(view: View, trajectory: Camera) -> float:
    """Mean optical flow of the view's points along the trajectory, in image widths per frame.

    ``mean of |p_{k+1} - p_k| / W`` over frames and over points that are inside the image in both frames.
    """
    flows = []
    for landed, inside in _follow(view, trajectory, before=1):
        both = inside[1:] & inside[:-1]
        flows.append((landed[1:] - landed[:-1]).norm(dim=-1)[both] / trajectory.width)
    flow = torch.cat(flows)
    return float(flow.mean()) if flow.numel() else 0.0


def parallax(view: View, trajectory: Camera) -> Tensor:
    """How far the view's points have moved since frame 0: the median over those inside both, pixels, ``[F]``."""
    medians = []
    start: tuple[Tensor, Tensor] | None = None
    for landed, inside in _follow(view, trajectory):
        start = start or (landed[:1], inside[:1])
        moved, both = (landed - start[0]).norm(dim=-1), inside & start[1]
        medians += [float(m[b].median()) if b.any() else float("nan") for m, b in zip(moved, both, strict=True)]
    return torch.tensor(medians, dtype=torch.float64)


def _follow(view: View, trajectory: Camera, before: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Some thousand of the view's points in some frames at a time, each time with so many frames from before.

    Yields pixels ``[f, N, 2]`` and whether they are inside ``[f, N]``.
    """
    depth = view.scene_depth
    pixels = view.camera.pixel_grid()[depth.valid]
    stride = max(1, len(pixels) // 4096)
    points = view.camera.unproject(pixels[::stride], depth.values[depth.valid][::stride].double())
    for first in range(0, len(trajectory), _FOLLOWED):
        some = trajectory[max(0, first - before) : first + _FOLLOWED]
        landed, z = some.project(points.expand(len(some), -1, -1))
        limit = landed.new_tensor([trajectory.width, trajectory.height])
        yield landed, (landed >= 0).all(-1) & (landed < limit).all(-1) & (z > 0)
