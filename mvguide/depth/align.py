"""Bring a depth map of unknown scale and shift to the scene's unit: by points, bounds, another view, or one distance.

All fits are deterministic. A relative map is a `Depth` or the raw numbers of one; `kind` is the quantity that the true
one is linear in: "disparity" for maps that come from relative inverse depth (a `Depth` made of it too: the true 1/z is
linear in its 1/z, but for what was cut off at `FAR`), "depth" for maps of distances.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mvguide.depth.kind import FAR
from mvguide.depth.maps import Depth, DepthKind
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.warp import splat

# Pairs of points that are tried: with half of the points wrong, one pair in 4 is right.
_PAIRS = 1000


@dataclass(frozen=True)
class Alignment:
    """An aligned map and what was found: `1/z = scale * d + shift`, or `z = scale * d + shift` for kind "depth"."""

    depth: Depth
    scale: float
    shift: float
    inliers: float
    """Share in [0, 1] of the points or pixels compared that agree with the fit."""


def align_to_points(
    relative: Depth | Tensor,
    camera: Camera,
    points: Tensor,
    *,
    kind: DepthKind = "disparity",
    valid: Tensor | None = None,
) -> Alignment:
    """Scale and shift from sparse world points, of which up to almost half may be wrong or hidden.

    Each point is projected into the view and compared with the map at its pixel. Of up to 1000 pairs of points the one
    is taken whose line leaves the least median of relative errors (Rousseeuw, JASA 1984); least squares on the points
    within 2.5 robust standard deviations then polish it.

    Args:
        relative: the map; raw numbers [H, W] may be of any sign.
        camera: of the map's size, in the points' world.
        points: [N, 3] in scene units, N >= 3 of them in view.
        kind: fit `1/z = scale * d + shift` ("disparity") or `z = scale * d + shift` ("depth").
        valid: bool [H, W] for raw numbers; where they are finite if None.

    Returns:
        An `Alignment` in the points' unit. Disparity that ends below 1/100 of the median is put there (`FAR`); depth
        that ends below 0 is not valid.

    Raises:
        InputError: unlike sizes, too few points in view, or points that fix no scale above 0.
    """
    values, known = _numbers(relative, kind, valid)
    _check_size(values, camera)
    points = torch.as_tensor(points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points have the shape {tuple(points.shape)}; give [N, 3] in the world's unit")
    pixels, z = camera.project(points[torch.isfinite(points).all(-1)])
    inside = (z > 0) & (pixels >= 0).all(-1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
    column, row = pixels[inside].long().unbind(-1)
    seen = known[row, column].cpu()
    x = values[row, column].cpu()[seen]
    wanted = z[inside].double().cpu()[seen]
    if len(x) < 3:
        raise InputError(f"{len(x)} of {len(points)} points fall on known depth in view; at least 3 are needed")
    scale, shift, inliers = _fit_line(x, 1 / wanted if kind == "disparity" else wanted)
    return Alignment(_apply(values, known, scale, shift, kind), scale, shift, inliers)


def align_to_bounds(
    relative: Depth | Tensor,
    near: float,
    far: float,
    *,
    kind: DepthKind = "disparity",
    valid: Tensor | None = None,
    tail: float = 0.02,
) -> Alignment:
    """Scale and shift that put the nearest and farthest few percent of the map on two bounds, as LLFF gives them.

    Args:
        relative: the map; raw numbers [H, W] may be of any sign.
        near: depth of the quantile `tail` of the depths, scene units.
        far: depth of the quantile `1 - tail`, scene units.
        kind: which quantity is linear, as in `align_to_points`.
        valid: bool [H, W] for raw numbers; where they are finite if None.
        tail: share of pixels beyond each bound, in [0, 1/2).

    Returns:
        An `Alignment` in the unit of the bounds; its inliers are the pixels within them.

    Raises:
        InputError: bounds out of order, or a map that is the same everywhere.
    """
    if not 0 < near < far < math.inf:
        raise InputError(f"bounds are {near:g} and {far:g}; they must satisfy 0 < near < far, in scene units")
    if not 0 <= tail < 0.5:
        raise InputError(f"tail is {tail:g}; it is the share of pixels beyond each bound, from 0 to below 0.5")
    values, known = _numbers(relative, kind, valid)
    ordered = values[known].flatten().sort().values
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in (tail, 1 - tail))
    if not high > low:
        raise InputError(f"the map is {low:g} almost everywhere, so its bounds fix no scale; use align_center")
    bottom, top = (1 / far, 1 / near) if kind == "disparity" else (near, far)
    scale = (top - bottom) / (high - low)
    shift = bottom - scale * low
    inliers = float(((ordered >= low) & (ordered <= high)).double().mean())
    return Alignment(_apply(values, known, scale, shift, kind), scale, shift, inliers)


def align_to_view(depth: Depth, camera: Camera, other_depth: Depth, other_camera: Camera) -> Alignment:
    """Scale that makes a view's depth agree with another view's, moved over by reprojection.

    The other view is splatted into this camera, nearest surface in front; the scale is the median of the ratios of its
    z to this map's, polished by the mean of the ratios within 2.5 robust standard deviations of it (in logarithms).

    Args:
        depth: the map to scale.
        camera: of its size.
        other_depth: the map to agree with, in the cameras' unit.
        other_camera: of its size.

    Returns:
        An `Alignment` of kind "depth" with shift 0; metric where the other map is.

    Raises:
        InputError: unlike sizes, or views that share under 16 pixels.
    """
    _check_size(depth.values, camera)
    _check_size(other_depth.values, other_camera)
    warp = splat(other_depth.values[None], other_depth.values, other_camera, stack([camera]), valid=other_depth.valid)
    both = (warp.visible[0, 0] > 0) & depth.valid
    if int(both.sum()) < 16:
        raise InputError(f"the two views share {int(both.sum())} pixels of known depth; at least 16 are needed")
    ratios = (warp.depth[0, 0][both].double() / depth.values[both].double()).log()
    middle = ratios.median()
    near = (ratios - middle).abs() <= max(2.5 * 1.4826 * float((ratios - middle).abs().median()), 1e-6)
    scale = float(ratios[near].mean().exp())
    values = torch.where(depth.valid, depth.values * scale, 0.0)
    return Alignment(Depth(values, depth.valid, other_depth.is_metric), scale, 0.0, float(near.double().mean()))


def apply_line(relative: Depth, scale: float, shift: float, kind: DepthKind) -> Depth:
    """The map under a line that was fitted to another map of the same scale and shift: see `Alignment`.

    Args:
        relative: the map.
        scale: above 0.
        shift: of `1/z` for kind "disparity", of z for kind "depth".
        kind: which quantity is linear.

    Returns:
        `Depth` in the unit of the line.

    Raises:
        InputError: a line that puts all of the map behind the camera.
    """
    return _apply(*_numbers(relative, kind, None), scale, shift, kind)


def align_center(depth: Depth, distance: float) -> Alignment:
    """Scale that puts the middle of the image at a distance: the median of the middle 5 % of rows and columns.

    Args:
        depth: the map.
        distance: of what is seen in the middle, scene units along the optical axis.

    Returns:
        An `Alignment` of kind "depth" with shift 0; metric.

    Raises:
        InputError: a distance that is not above 0, or nothing known in the middle.
    """
    if not 0 < distance < math.inf:
        raise InputError(f"distance is {distance:g}; give one above 0 in scene units")
    rows, columns = (
        slice((9 * size) // 20, max((9 * size) // 20 + 1, -((-11 * size) // 20)))
        for size in (depth.height, depth.width)
    )
    middle = depth.values[rows, columns][depth.valid[rows, columns]]
    if not len(middle):
        raise InputError("the middle of the depth map has no known depth; use align_to_bounds or align_to_points")
    scale = distance / float(middle.median())
    values = torch.where(depth.valid, depth.values * scale, 0.0)
    return Alignment(Depth(values, depth.valid, is_metric=True), scale, 0.0, 1.0)


def _numbers(relative: Depth | Tensor, kind: str, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The quantity that the wanted map is linear in, float64 [H, W], and where it is known."""
    if kind not in ("depth", "disparity"):
        raise InputError(f"kind is {kind!r}; it is 'depth' or 'disparity'")
    if isinstance(relative, Depth):
        values = relative.values.double()
        known = relative.valid if valid is None else relative.valid & valid
        values = torch.where(known, 1 / values, 0.0) if kind == "disparity" else values
    else:
        values = relative.double()
        if values.ndim != 2:
            raise InputError(f"the map has the shape {tuple(values.shape)}; give [H, W]")
        known = torch.isfinite(values) if valid is None else torch.isfinite(values) & valid
    if not bool(known.any()):
        raise InputError("the map has no known value; at least 1 is needed")
    return values, known


def _check_size(values: Tensor, camera: Camera) -> None:
    if tuple(values.shape) != (camera.height, camera.width):
        raise InputError(
            f"the map is {values.shape[1]} x {values.shape[0]}, but its camera {camera.width} x {camera.height}; "
            "resize one like the other"
        )


def _fit_line(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """Scale > 0, shift and share of inliers of y = scale x + shift, by least median of |error| / y; y > 0."""
    count = len(x)
    if count * (count - 1) // 2 <= _PAIRS:
        first, second = torch.triu_indices(count, count, 1)
    else:
        generator = torch.Generator().manual_seed(0)
        first = torch.randint(count, (_PAIRS,), generator=generator)
        second = (first + torch.randint(1, count, (_PAIRS,), generator=generator)) % count
    run = x[second] - x[first]
    scales = (y[second] - y[first]) / torch.where(run == 0, torch.nan, run)
    rising = torch.isfinite(scales) & (scales > 0)
    if not bool(rising.any()):
        raise InputError(
            "the points fix no scale: they lie at one depth, or the map falls where it should rise; "
            "check the kind of the map, or use align_center"
        )
    scales = scales[rising]
    shifts = y[first][rising] - scales * x[first][rising]
    errors = (scales[:, None] * x + shifts[:, None] - y).abs() / y
    medians = errors.median(dim=1).values
    best = int(medians.argmin())
    scale, shift = float(scales[best]), float(shifts[best])
    # Small samples fit their two points too well: Rousseeuw and Leroy (1987), eq. 5.1.3.
    limit = 2.5 * 1.4826 * (1 + 5 / max(1, count - 2)) * float(medians[best]) + 1e-6
    inliers = errors[best] <= limit
    for _ in range(5):
        weight = torch.where(inliers, 1 / y, 0.0)
        solution = torch.linalg.lstsq(torch.stack([x * weight, weight], dim=1), (y * weight)[:, None]).solution
        if not float(solution[0]) > 0:
            break
        scale, shift = float(solution[0]), float(solution[1])
        error = (scale * x + shift - y).abs() / y
        inliers = error <= limit
        if int(inliers.sum()) < 3:
            break
    return scale, shift, float(inliers.double().mean())


def _apply(values: Tensor, known: Tensor, scale: float, shift: float, kind: str) -> Depth:
    """The aligned map."""
    straight = scale * values + shift
    if kind == "disparity":
        above = straight[known & (straight > 0)]
        if not len(above):
            raise InputError("the alignment puts all of the map behind infinity; check the kind of the map")
        straight = 1 / straight.clamp(min=float(above.median()) / FAR)
    aligned = straight.float()
    valid = known & torch.isfinite(aligned) & (aligned > 0)
    if not bool(valid.any()):
        raise InputError("the alignment puts all of the map behind the camera; check the kind of the map")
    return Depth(torch.where(valid, aligned, 0.0), valid, is_metric=True)
