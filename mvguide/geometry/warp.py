"""Forward warp of one image with depth into other cameras."""

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.geometry.masks import depth_edges, dilate_holes

# A point votes for the front of a pixel when its bilinear weight there is at least this: less, and a sliver of a near
# surface would push out the far surface that fills the pixel; more, and an enlarged near surface would let the far one
# through.
_VOTE = 1 / 64
# A pixel is seen when the weights that reach it sum to this: points s >= 1 apart give at least (2 - s)^2, so that both
# thresholds hold up to s = 1.75.
_SEEN = 4 * _VOTE
# Pixels that a frame enlarges more than this are cut into k x k points, k up to 3.
_SPACING, _MOST_CUTS = 1.6, 3
# Points handled at a time on a CPU, whose arrays should fit the cache. The order of sums follows from it: no setting.
_BLOCK = 2**16
# Depths relative to the source below this are taken as behind the target camera.
_NEAREST = 1e-6
# Motion over depth, in pixels, above this would leave the range of float32: such pixels are not moved.
_FARTHEST = 1e36


@dataclass(frozen=True, eq=False)
class Warp:
    """One view splatted into F cameras."""

    image: Tensor  # [F, C, H, W] float32, 0 at holes
    visible: Tensor  # [F, 1, H, W] float32: 1 = seen, 0 = hole
    depth: Tensor  # [F, 1, H, W] float32: z of the front surface in the target camera, 0 at holes


def splat(
    image: Tensor,
    depth: Tensor,
    source: Camera,
    targets: Camera,
    *,
    chunk: int = 2,
    front_tolerance: float = 0.02,
    valid: Tensor | None = None,
) -> Warp:
    """Move every pixel of a view to where each target camera sees it, the nearest surface in front.

    Pass 1 keeps per target pixel the least depth, front, of the points whose bilinear weight there is at least 1/64.
    Pass 2 is sum(w * colour) / sum(w) over the points with z <= front * (1 + front_tolerance), w the bilinear weights
    of the four pixels around the point. A pixel is visible when sum(w) >= 1/16. In frames that enlarge the view more
    than 1.6 times, pixels are first cut into 2x2 or 3x3 points, colour and 1/z bilinear but for pixels at a jump in
    depth; surfaces enlarged more than 5 times show cracks, which are holes.

    Args:
        image: [C, H, W] of any range.
        depth: [H, W] along the optical axis, scene units; pixels whose depth is not finite and positive are not moved,
            nor those of which it is under 1e-36 of the motion in pixels.
        source: one camera of the image's size.
        targets: F cameras, whose own size the result has.
        chunk: frames in memory at a time; it sets the speed, never the result (CUDA adds in any order, so there equal
            to rounding).
        front_tolerance: share of the depth within which surfaces are one, >= 0.
        valid: [H, W] bool; pixels marked False are not moved.

    Returns:
        the warp, on the device of the image, computed in float32 from matrices in float64.

    Raises:
        InputError: unlike shapes, cameras that cannot be used, or a depth without one usable pixel.
    """
    _check(image, depth, source, targets, chunk, front_tolerance, valid)
    image, depth = image.detach().float(), depth.to(image.device, torch.float32)
    count, channels, width, height = len(targets), image.shape[0], targets.width, targets.height
    rows = _homographies(source, targets)
    usable = torch.isfinite(depth) & (depth > float(rows.abs().max()) / _FARTHEST)
    if valid is not None:
        usable &= valid.to(image.device)
    if not usable.any():
        raise InputError(
            "depth has no usable pixel (finite, above 0, not vanishingly small against the cameras' motion, and marked "
            "valid); at least 1 is needed to warp"
        )
    cuts = _cuts(rows, depth, usable, width, height)
    rows = rows.to(image.device, torch.float32)
    out = Warp(
        image=torch.empty(count, channels, height, width, device=image.device),
        visible=torch.empty(count, 1, height, width, device=image.device),
        depth=torch.empty(count, 1, height, width, device=image.device),
    )
    scratch = None
    for frames, cut in _runs(cuts, chunk):
        if scratch is None or scratch.cut != cut:
            points = _points(image, depth, usable, cut)
            scratch = _Scratch(min(max(1, chunk // cut**2), count), points, width, height, cut)
        work = scratch.first(frames.stop - frames.start)
        blocks = work.blocks()
        work.front.fill_(torch.inf)
        for block in blocks:
            _land(rows[frames], block)
            _vote(block)
        torch.mul(work.front, 1 + front_tolerance, out=work.scale)
        work.totals.zero_()
        for block in blocks:
            _keep_front(block)
            _add(block)
        _find_visible(work)
        torch.mul(work.inside(work.front), work.inside(work.scale), out=out.depth[frames, 0])
        out.visible[frames, 0] = work.inside(work.scale)
        work.scale.div_(work.totals[-1].clamp_(min=_SEEN))
        for channel in range(channels):
            torch.mul(work.inside(work.totals[channel]), work.inside(work.scale), out=out.image[frames, channel])
    return out


def source_to_target(source: Camera, targets: Camera) -> Tensor:
    """Motion that takes a point from the source camera into each target camera, [..., 4, 4]."""
    return targets.world_to_camera @ source.camera_to_world


def _homographies(source: Camera, targets: Camera) -> Tensor:
    """Rows P [F, 3, 4] with (x z', y z', z') / z = P (u, v, 1, 1/z), float64.

    In this form, divided by the source depth, the identity motion gives (u, v, 1) exactly, also in float32.
    """
    source, targets = source.to("cpu", torch.float64), targets.to("cpu", torch.float64)
    motion = source_to_target(source, targets)
    turned = targets.intrinsics @ motion[..., :3, :3] @ torch.linalg.inv(source.intrinsics)
    return torch.cat([turned, targets.intrinsics @ motion[..., :3, 3:]], dim=-1)


@dataclass(frozen=True, eq=False)
class _Points:
    """Usable pixels of the view."""

    colour: Tensor  # [C, N]
    u: Tensor  # [N]
    v: Tensor  # [N]
    disparity: Tensor  # [N], 1 / depth


class _Scratch:
    """Memory of one chunk, taken once: allocating for every step would cost more than the arithmetic.

    The grids have one pixel before and two after each side of the image: a margin for points that land outside.
    """

    def __init__(self, frames: int, points: _Points, width: int, height: int, cut: int) -> None:
        self.width, self.height, self.cut, self.points = width, height, cut, points
        self.corners = (0, 1, width + 3, width + 4)  # steps from the upper left pixel of a point to its four
        size, (channels, count), device = (width + 3) * (height + 3), points.colour.shape, points.u.device
        self.step = min(count, _BLOCK) if device.type == "cpu" else count
        self.index = torch.empty(frames, count, dtype=torch.int64, device=device)
        self.weights = torch.empty(4, frames, count, device=device)
        self.z = torch.empty(frames, count, device=device)
        self.spare = torch.empty(3, frames, self.step, device=device)
        self.front, self.scale = torch.empty(2, frames, size, device=device)
        self.totals = torch.empty(channels + 1, frames, size, device=device)  # sums of weight * colour, and of weight

    def first(self, frames: int) -> "_Scratch":
        """Same memory, cut to the first frames of the chunk."""
        part = copy(self)
        part.index, part.z, part.front, part.scale = (t[:frames] for t in (self.index, self.z, self.front, self.scale))
        part.weights, part.spare, part.totals = (t[:, :frames] for t in (self.weights, self.spare, self.totals))
        return part

    def blocks(self) -> list["_Scratch"]:
        """Same memory, a share of the points at a time: few enough, on a CPU, to stay in the cache."""
        parts = []
        for start in range(0, self.z.shape[1], self.step):
            part, span, points = copy(self), slice(start, start + self.step), self.points
            part.points = _Points(points.colour[:, span], points.u[span], points.v[span], points.disparity[span])
            part.index, part.z, part.weights = self.index[:, span], self.z[:, span], self.weights[..., span]
            part.spare = self.spare[..., : part.z.shape[1]]
            parts.append(part)
        return parts

    def inside(self, grid: Tensor) -> Tensor:
        """Image part [B, height, width] of a grid [B, size]."""
        return grid.view(len(grid), self.height + 3, self.width + 3)[:, 1 : self.height + 1, 1 : self.width + 1]


def _cuts(rows: Tensor, depth: Tensor, usable: Tensor, width: int, height: int) -> list[int]:
    """For each frame, into how many points a side its pixels must be cut to leave no cracks.

    A pixel at disparity w is enlarged det [h0 h1 h2+bw] / (z'/z)^3 times in area, P = [h0 h1 h2 b]. A coarse grid
    of pixels is asked, and the 99th percentile of those that land in the image decides.
    """
    step = max(1, min(depth.shape) // 64)
    v, u = torch.nonzero(usable[::step, ::step], as_tuple=True)
    disparity = 1 / depth[::step, ::step][v, u].double().cpu()
    pixels = torch.stack([step * u.cpu() + 0.5, step * v.cpu() + 0.5, torch.ones(len(u)), disparity]).double()
    cuts = []
    for row in rows:
        x, y, ratio = row @ pixels
        inside = (ratio > _NEAREST) & (x > 0) & (x < width * ratio) & (y > 0) & (y < height * ratio)
        flat, slope = torch.linalg.det(row[:, :3]), torch.linalg.det(row[:, [0, 1, 3]])
        areas = ((flat + slope * disparity) / ratio**3)[inside].abs()
        area = float(areas.kthvalue(max(1, round(0.99 * len(areas)))).values) if len(areas) else 1.0
        # A hair of slack keeps rounding from cutting an enlargement that needs none.
        cuts.append(min(_MOST_CUTS, max(1, math.ceil(math.sqrt(area) / _SPACING - 1e-6))))
    return cuts


def _runs(cuts: list[int], chunk: int) -> Iterator[tuple[slice, int]]:
    """Consecutive frames with the same cut, at most chunk / cut^2 (and at least 1) at a time."""
    start = 0
    while start < len(cuts):
        stop = start + 1
        while stop < len(cuts) and cuts[stop] == cuts[start] and (stop + 1 - start) * cuts[start] ** 2 <= chunk:
            stop += 1
        yield slice(start, stop), cuts[start]
        start = stop


def _points(image: Tensor, depth: Tensor, usable: Tensor, cut: int) -> _Points:
    """Pick the usable pixels, each cut into cut x cut points."""
    disparity = torch.where(usable, 1 / depth, 0.0)
    if cut > 1:
        # Next to a jump or to missing depth, blending would make points that belong to neither side.
        rough = depth_edges(disparity) | (dilate_holes(usable.float(), 1) == 0)
        rough = _repeat(rough, cut)
        both = torch.cat([image, disparity[None]])
        finer = functional.interpolate(both[None], scale_factor=cut, mode="bilinear", align_corners=False)[0]
        both = torch.where(rough, _repeat(both, cut), finer)
        image, disparity, usable = both[:-1], both[-1], _repeat(usable, cut)
    v, u = torch.nonzero(usable, as_tuple=True)
    return _Points(image[:, v, u].contiguous(), (u + 0.5) / cut, (v + 0.5) / cut, disparity[v, u])


def _repeat(grid: Tensor, times: int) -> Tensor:
    """Each pixel of [..., H, W] repeated times x times."""
    return grid.repeat_interleave(times, dim=-2).repeat_interleave(times, dim=-1)


def _land(rows: Tensor, work: _Scratch) -> None:
    """Set where the points land: index of the upper left pixel, weights of the four pixels, depth z.

    Separate products and sums, never fused ones, make each value independent of its place in the chunk.
    """
    points, (x, y, spare), ratio = work.points, work.spare, work.z
    for i, result in enumerate((x, y, ratio)):
        h = rows[:, i, :, None]
        torch.mul(h[:, 0], points.u, out=result)
        result.add_(torch.mul(h[:, 1], points.v, out=spare))
        result.add_(torch.mul(h[:, 3], points.disparity, out=spare).add_(h[:, 2]))
    x.div_(ratio)
    y.div_(ratio)
    if ratio.min() <= _NEAREST:
        behind = ratio <= _NEAREST
        x.masked_fill_(behind, -10.0)
        ratio.masked_fill_(behind, 1.0)
    x.sub_(0.5).clamp_(-1, work.width)
    y.sub_(0.5).clamp_(-1, work.height)
    upper_left, upper_right, lower_left, lower_right = work.weights
    left, top = upper_left.copy_(x).floor_(), upper_right.copy_(y).floor_()
    x.sub_(left)
    y.sub_(top)
    work.index.copy_(top.add_(1).mul_(work.width + 3).add_(left).add_(1))
    torch.mul(x, y, out=lower_right)
    torch.sub(y, lower_right, out=lower_left)
    torch.sub(x, lower_right, out=upper_right)
    torch.sub(1, x, out=upper_left).sub_(lower_left)
    ratio.div_(points.disparity)


def _vote(work: _Scratch) -> None:
    """Pass 1: lower the front of each pixel to the depths that vote for it."""
    for step, weight in zip(work.corners, work.weights, strict=True):
        votes = work.spare[0].copy_(weight).ge_(_VOTE)  # 1 or 0, so that z / votes is z or infinite
        work.front[:, step:].scatter_reduce_(1, work.index, torch.div(work.z, votes, out=votes), "amin")


def _keep_front(work: _Scratch) -> None:
    """Set to 0 the weights of the points that lie behind the limit in scale, the front with its tolerance."""
    for step, weight in zip(work.corners, work.weights, strict=True):
        limit = torch.gather(work.scale[:, step:], 1, work.index, out=work.spare[0])
        weight.mul_(limit.ge_(work.z))


def _add(work: _Scratch) -> None:
    """Pass 2: add weight * colour, and weight, to each pixel."""
    for step, weight in zip(work.corners, work.weights, strict=True):
        for colour, total in zip(work.points.colour, work.totals[:-1], strict=True):
            total[:, step:].scatter_add_(1, work.index, torch.mul(weight, colour, out=work.spare[0]))
        work.totals[-1][:, step:].scatter_add_(1, work.index, weight)


def _find_visible(work: _Scratch) -> None:
    """Set scale to 1 where a pixel is seen, else 0, and make front finite."""
    voted = work.scale.copy_(work.front).lt_(torch.inf)
    work.front.clamp_(max=torch.finfo(torch.float32).max)
    voted.mul_(work.totals[-1] >= _SEEN)


def _check(
    image: Tensor,
    depth: Tensor,
    source: Camera,
    targets: Camera,
    chunk: int,
    front_tolerance: float,
    valid: Tensor | None,
) -> None:
    """Raise InputError with the first fault of the arguments of `splat`."""
    size = (source.height, source.width)
    if image.ndim != 3 or image.shape[0] < 1 or tuple(image.shape[1:]) != size:
        raise InputError(f"image has shape {tuple(image.shape)}; the source camera needs (C, {size[0]}, {size[1]})")
    if tuple(depth.shape) != size:
        raise InputError(f"depth has shape {tuple(depth.shape)}; it must be {size} like the image, so resize it first")
    if valid is not None and (tuple(valid.shape) != size or valid.dtype != torch.bool):
        raise InputError(
            f"valid is {valid.dtype} of shape {tuple(valid.shape)}; it must be a bool mask of shape {size}"
        )
    if source.batch_shape or len(targets.batch_shape) != 1 or len(targets) < 1:
        given = f"{list(source.batch_shape)} and {list(targets.batch_shape)}"
        raise InputError(
            f"source and targets have batch shapes {given}; give one source camera and a batch of F targets"
        )
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise InputError(f"chunk is {chunk!r}; it must be a whole number of frames, at least 1")
    if not 0 <= front_tolerance < torch.inf:
        raise InputError(f"front_tolerance is {front_tolerance}; it must be a share of the depth, 0 or more")
    source.check()
    targets.check()
