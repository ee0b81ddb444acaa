"""Depth of a still scene from two or more posed images: a plane sweep, from coarse to fine."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mvguide.depth import cost_volume
from mvguide.depth.fill import fill_from_similar
from mvguide.depth.maps import Depth
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera

# All planes are tried on images of this longer side; larger ones are searched near what that found.
_SWEEP_SIZE = 320
# Two views agree on a pixel when their depths are this far apart, in pixels of parallax of the swept image.
_AGREE = 1.0
# The farthest plane has this parallax in full-size pixels, the nearest this share of the width.
_FAR_PARALLAX, _NEAR_PARALLAX, _OVERLAP = 1.0, 0.25, 0.75
_MOST_PLANES = 256


@torch.no_grad()
def plane_sweep(
    images: Tensor,
    cameras: Camera,
    index: int = 0,
    *,
    num_planes: int | None = None,
    near: float | None = None,
    far: float | None = None,
) -> tuple[Depth, Tensor]:
    """Depth of one of several posed images of a still scene, and how far to trust it.

    Planes parallel to the image, uniform in disparity 1/z, carry the other images over by their homographies
    (Collins, CVPR 1996); windows are compared by zero-mean NCC; paths from 8 sides choose among the planes
    (Hirschmueller, TPAMI 2008); a parabola places the depth between planes. That is done at up to 320 pixels; the full
    size searches two pixels of parallax around it. Every image gets its depth, and a pixel is kept where another
    image's depth, met by reprojection, agrees within a pixel of parallax; the rest is filled from the kept pixel that
    is close by and of like colour, with confidence 0.

    The default range of depths. With f the focal length in pixels and b the distance of two cameras, a point at z has
    the parallax f b / z. far has 1 pixel of it for the longest b. near has a quarter of the width for the shortest b,
    or is the nearest plane on which the images overlap by three quarters of what they do at best, whichever is
    nearer: cameras that turn towards an object see it with far more parallax than a quarter of the width. Where the
    range is known (`near` and `far`, say from a sparse reconstruction), give it: fewer planes, fewer mistakes.

    Time and memory grow with the square of the number of images; 2 to 5 are sensible. Computed on the device of
    `images` in float32.

    Args:
        images: [V, 3, H, W] in [0, 1], V >= 2.
        cameras: a batch of V cameras of the images' size.
        index: which image's depth is wanted.
        num_planes: planes between near and far; None: one for each pixel of parallax at 320 pixels, 16 to 256.
        near: nearest depth, scene units.
        far: farthest depth, scene units.

    Returns:
        Depth in the cameras' unit, everywhere valid, and the confidence [H, W] in [0, 1]: NCC at the chosen plane x
        how much worse the best plane elsewhere is x agreement of the views.

    Raises:
        InputError: unlike shapes, cameras in one place, an empty range, or images that agree nowhere.
    """
    _check(images, cameras, index, num_planes)
    images = images.float()
    ranges = depth_range(cameras, index, near, far)
    found = []
    for view in range(len(images)):
        # Another image may see the same points nearer or farther by as much as its camera is away.
        apart = float((cameras.center[view] - cameras.center[index]).norm())
        span = max(ranges[0] - apart, ranges[0] / 2), ranges[1] + apart
        found.append(_sweep(images, cameras, view, span if view != index else ranges, num_planes))
    agreement = _agreement(found, cameras, index)
    disparity, confidence = found[index].disparity, found[index].distinct * agreement
    kept = agreement > math.exp(-0.5)
    if not bool(kept.any()):
        raise InputError(
            f"image {index} and the others agree on the depth of no pixel; check that the cameras belong to the "
            "images and have OpenCV axes, or give near and far"
        )
    depth = 1 / fill_from_similar(disparity, kept, images[index])
    return Depth(depth, torch.ones_like(kept), is_metric=True), torch.where(kept, confidence, 0.0)


def depth_range(
    cameras: Camera, index: int, near: float | None = None, far: float | None = None
) -> tuple[float, float]:
    """Nearest and farthest depth worth looking for in one of several posed images; see `plane_sweep` for the rule.

    Args:
        cameras: a batch of V >= 2 cameras.
        index: of the image.
        near: scene units; found if None.
        far: scene units; found if None.

    Returns:
        Nearest and farthest depth, scene units.

    Raises:
        InputError: cameras in one place, or a near that is not in (0, far).
    """
    away = [float((center - cameras.center[index]).norm()) for center in cameras.center]
    baselines = [b for k, b in enumerate(away) if k != index]
    focal, width = float(cameras.intrinsics[index, 0, 0]), cameras.width
    if not min(baselines) > 0:
        raise InputError(
            f"another camera stands where camera {index} does: without parallax no depth can be seen; leave it out"
        )
    if far is None:
        far = focal * max(baselines) / _FAR_PARALLAX
        far = far if near is None else max(far, 4 * near)
    if near is None:
        near = min(focal * min(baselines) / (_NEAR_PARALLAX * width), far / 4)
        near = min(near, _nearest_overlap(cameras, index, near, far))
    if not (0 < near < far < math.inf):
        raise InputError(f"near is {near:g} and far {far:g}; they must satisfy 0 < near < far, in scene units")
    return near, far


def _nearest_overlap(cameras: Camera, index: int, near: float, far: float) -> float:
    """Nearest depth at which three quarters of the best overlap are left; `near` or more where nothing overlaps."""
    small = cameras.resize(32, max(1, round(32 * cameras.height / cameras.width)))
    others = [k for k in range(len(cameras)) if k != index]
    depths = torch.logspace(math.log10(near / 16), math.log10(far), 96, dtype=torch.float64)
    planes = (1 / depths)[:, None, None].expand(-1, small.height, small.width)
    size = torch.tensor([small.width, small.height])
    shares = []
    for row in cost_volume.plane_rows(small[index], small[others]):
        pixels, ratio = cost_volume.project_disparity(row, planes)
        inside = (ratio > 0) & (pixels > 0).all(-1) & (pixels < size).all(-1)
        shares.append(inside.double().mean(dim=(1, 2)))
    overlap = torch.stack(shares).amax(0)
    return float(depths[overlap >= _OVERLAP * overlap.max()][0]) if overlap.max() > 0 else near


@dataclass(frozen=True)
class _Swept:
    """What the sweep of one image found."""

    disparity: Tensor  # [H, W]
    distinct: Tensor  # [H, W] in [0, 1]: how good the match is, and how much better than any other
    step: float  # disparity of one pixel of parallax at _SWEEP_SIZE


def _sweep(images: Tensor, cameras: Camera, index: int, span: tuple[float, float], num_planes: int | None) -> _Swept:
    height, width = images.shape[-2:]
    shrink = min(1.0, _SWEEP_SIZE / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    small, few = _resize(images, *size), cameras.resize(*size)
    others = [k for k in range(len(images)) if k != index]
    farthest = max(float((cameras.center[k] - cameras.center[index]).norm()) for k in others)
    pixel = 1 / (float(few.intrinsics[index, 0, 0]) * farthest)
    nearest, least = 1 / span[0], 1 / span[1]
    if num_planes is None:
        num_planes = min(_MOST_PLANES, max(16, math.ceil((nearest - least) / pixel) + 1))
    planes = torch.linspace(least, nearest, num_planes, device=images.device)
    rows = cost_volume.plane_rows(few[index], few[others])
    grey = small.mean(1, keepdim=True)
    volume = planes[:, None, None].expand(-1, *grey.shape[-2:])
    score = cost_volume.match(grey[index], grey[others], rows, volume, radius=3)
    cost = cost_volume.semi_global(1 - score, small[index])
    best, offset = cost_volume.best_plane(cost)
    step = (nearest - least) / (num_planes - 1)
    disparity = least + step * (best + offset)
    distinct = _distinct(score, cost, best)
    disparity = _refine(disparity, images, cameras, index, others, max(step, pixel), pixel * shrink)
    if shrink < 1:
        distinct = functional.interpolate(distinct[None, None], (height, width), mode="bilinear")[0, 0]
    return _Swept(disparity.clamp(least, nearest), distinct, pixel)


def _distinct(score: Tensor, cost: Tensor, best: Tensor) -> Tensor:
    """NCC at the chosen plane x (1 - its cost / the least cost more than two planes away), in [0, 1]."""
    matched = score.gather(0, best[None])[0].clamp(0, 1)
    place = torch.arange(len(cost), device=cost.device)[:, None, None]
    elsewhere = cost.masked_fill((place - best).abs() <= 2, torch.inf).amin(0)
    ratio = cost.gather(0, best[None])[0] / elsewhere.clamp(min=1e-6)
    return matched * (1 - ratio).clamp(0, 1)


def _refine(
    coarse: Tensor, images: Tensor, cameras: Camera, index: int, others: list[int], step: float, pixel: float
) -> Tensor:
    """Disparity at the full size: the best of nine within two pixels of parallax of the coarse one."""
    height, width = images.shape[-2:]
    start = _enlarge(coarse, height, width, 2 * step)
    offsets = pixel * torch.linspace(-2, 2, 9, device=images.device)
    rows = cost_volume.plane_rows(cameras[index], cameras[others])
    tried = start + offsets[:, None, None]
    score = cost_volume.match(images[index], images[others], rows, tried, radius=3)
    # Windows that lie side by side mostly show one surface: their mean is steadier, and as sharp as the NCC's own.
    score = functional.avg_pool2d(score[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    best, offset = cost_volume.best_plane(-score)
    found = start + (offsets[0] + (best + offset) * (offsets[1] - offsets[0]))
    sure = (score.amax(0) > 0.6) & (best > 0) & (best < len(offsets) - 1)
    return torch.where(sure, found, start)


def _enlarge(disparity: Tensor, height: int, width: int, jump: float) -> Tensor:
    """Bilinear on surfaces; the nearest pixel where the four around differ by more than a jump: nothing is mixed."""
    grid = disparity[None, None]
    smooth = functional.interpolate(grid, (height, width), mode="bilinear")[0, 0]
    nearest = functional.interpolate(grid, (height, width), mode="nearest-exact")[0, 0]
    spread = functional.max_pool2d(grid, 3, 1, 1) + functional.max_pool2d(-grid, 3, 1, 1)
    spread = functional.interpolate(spread, (height, width), mode="nearest-exact")[0, 0]
    return torch.where(spread > jump, nearest, smooth)


def _agreement(found: list[_Swept], cameras: Camera, index: int) -> Tensor:
    """exp(-e^2 / 2) with e the distance in units of `_AGREE` to the best agreeing other view, [H, W]; 0: not seen."""
    disparity, best = found[index].disparity, torch.zeros_like(found[index].disparity)
    for k, other in enumerate(found):
        if k == index:
            continue
        row = cost_volume.plane_rows(cameras[index], cameras[[k]])[0]
        pixels, ratio = cost_volume.project_disparity(row, disparity[None])
        seen, inside = cost_volume.look_up(other.disparity[None], pixels, ratio, mode="nearest")
        expected = disparity / ratio[0].clamp(min=1e-6)
        error = (seen[0, 0] - expected).abs() / (_AGREE * other.step)
        best = torch.maximum(best, torch.where(inside[0], torch.exp(-(error**2) / 2), 0.0))
    return best


def _resize(images: Tensor, width: int, height: int) -> Tensor:
    return functional.interpolate(images, (height, width), mode="area")


def _check(images: Tensor, cameras: Camera, index: int, num_planes: int | None) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or len(images) < 2:
        raise InputError(f"images have the shape {tuple(images.shape)}; give [V, 3, H, W] with 2 or more images")
    if len(cameras.batch_shape) != 1 or len(cameras) != len(images):
        raise InputError(
            f"cameras have the batch shape {list(cameras.batch_shape)}; give one for each of the {len(images)} images"
        )
    if (cameras.height, cameras.width) != tuple(images.shape[-2:]):
        size = f"{images.shape[3]} x {images.shape[2]}"
        raise InputError(f"cameras are {cameras.width} x {cameras.height}, but the images {size}; resize the cameras")
    if not 0 <= index < len(images):
        raise InputError(f"index is {index}, but there are {len(images)} images; count from 0")
    if num_planes is not None and num_planes < 3:
        raise InputError(f"num_planes is {num_planes}; give at least 3, or leave it out")
    cameras.check()
