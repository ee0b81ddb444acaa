"""Problems of a camera path through these views, a sentence each, and how to fix them."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.depth.kind import disparity_evidence
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.warp import splat
from mvguide.views.view import View
from mvguide.views.warps import Warps

SEEN = 0.4
"""Frames of which less is seen are mostly the model's invention."""
_KNOWN = 0.5  # a depth map of which less is known is worth a word
_OCTAVES = 14  # depths are tried from 2^-14 to 2^14 times as large: metres against millimetres are 2^10
_SMALL = 96  # width of the images that the scales are tried on
_UNSEEN = 0.15  # counts for a pixel that a warp leaves open: as bad as a clearly wrong colour
_BETTER = 0.8  # another scale must bring the error down to this share of what it is now
_BETTER_AS_MILLIMETRES = 0.95  # the same, where the values of the depth maps already say millimetres
_MILLIMETRES = 100.0  # a median of whole numbers above this is no distance in metres
_FAR = 5.0  # a path this many times as long as the scene is deep is a mistake of units more often than not
_STILL = 1e-3  # so is one this short, where depths are whole numbers
_WHOLE_NUMBERS = "the depths are whole numbers in the hundreds or thousands, as files in millimetres hold"


def diagnose(views: Sequence[View], trajectory: Camera, warps: Warps) -> list[str]:
    """Find what is wrong with a path through these views.

    Args:
        views: with depth.
        trajectory: F cameras at the video's size.
        warps: of these views into these cameras.

    Returns:
        a sentence for each fault, with the way out; none when nothing is wrong.

    Raises:
        InputError: a view without depth.
    """
    return diagnose_path(views, trajectory, warps.seen, warps.pinned)


def diagnose_path(views: Sequence[View], trajectory: Camera, seen: Tensor, pinned: Tensor) -> list[str]:
    """The same as :func:`diagnose`, from two figures of each frame.

    Args:
        views: with depth.
        trajectory: F cameras at the video's size.
        seen: share of each frame that a view shows, ``[F]``.
        pinned: frames that are a view itself, ``[F]`` bool.
    """
    found = [_looks_inverse(view) for view in views] + [_hardly_known(view) for view in views]
    found += [_scales_differ(views), _path_of_another_scale(views, trajectory)]
    found += [_through_surface(views, trajectory), _too_little_seen(views, trajectory, seen, pinned)]
    return [sentence for sentence in found if sentence]


def _looks_inverse(view: View) -> str:
    depth = view.scene_depth
    stored = torch.where(depth.valid, depth.values, 0).cpu().numpy()
    evidence = disparity_evidence(stored)
    if not evidence.is_strong:
        return ""
    return f"depth of {view.name} looks like disparity (inverse depth), because {evidence}: use --depth_kind disparity"


def _hardly_known(view: View) -> str:
    share = _known(view)
    if share >= _KNOWN:
        return ""
    return f"only {share:.0%} of the depth map of {view.name} is known, and the rest is guessed; fill or estimate it"


def _known(view: View) -> float:
    """Share of the image that has depth."""
    return float(view.require_depth().valid.float().mean())


def _too_little_seen(views: Sequence[View], trajectory: Camera, seen: Tensor, pinned: Tensor) -> str:
    little = ((seen < SEEN) & ~pinned).nonzero()[:, 0].tolist()
    if not little:
        return ""
    first, last = little[0], len(trajectory) - 1
    where = "in 1 frame" if len(little) == 1 else f"in {len(little)} frames"
    if little == list(range(first, last + 1)):
        where = f"from frame {first} on"
    least = float(seen[little].min())
    found = f"{where} less than {SEEN:.0%} is seen (down to {least:.0%})"
    with_depth = sum(_known(view) for view in views)
    if with_depth <= SEEN:  # however short the move
        return f"{found}: depth is known for only {with_depth:.0%} of an image; give depth for the rest, or add a view"
    if first == 0:
        return f"{found}: start nearer to a view, or add one"
    turn, share = _turn(trajectory[0], trajectory[first - 1]), (first - 1) / last
    measure = f"about {turn:.0f} degrees" if turn >= 3 else f"about {share:.0%} of its length"
    if first == 1:
        measure = f"less than {1 / last:.0%} of its length"
    return f"{found}: shorten the move to {measure}, or add a view"


def _turn(a: Camera, b: Camera) -> float:
    """Angle between the orientations of two cameras, degrees."""
    rotation = a.world_to_camera[:3, :3].double() @ b.world_to_camera[:3, :3].double().T
    return math.degrees(math.acos(max(-1.0, min(1.0, (float(rotation.trace()) - 1) / 2))))


def _through_surface(views: Sequence[View], trajectory: Camera) -> str:
    """Cameras behind what a view sees, and not in front of what any other sees."""
    centres = trajectory.center.double()
    behind = torch.zeros(len(centres), dtype=torch.bool)
    free = torch.zeros_like(behind)
    gaps = torch.zeros(len(centres), dtype=torch.float64)
    for view in views:
        depth = view.require_depth()
        pixels, z = view.camera.to("cpu", torch.float64).project(centres)
        column, row = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
        inside = (z > 0) & (column >= 0) & (row >= 0) & (column < view.camera.width) & (row < view.camera.height)
        column, row = column.clamp(0, view.camera.width - 1), row.clamp(0, view.camera.height - 1)
        surface, known = depth.values[row, column].double(), depth.valid[row, column] & inside
        behind |= known & (z > surface)
        free |= known & (z <= surface)
        gaps = torch.where(known & (z > surface), z - surface, gaps)
    hit = (behind & ~free).nonzero()[:, 0].tolist()
    if not hit:
        return ""
    return (
        f"the path goes through the surface at frame {hit[0]} ({float(gaps[hit[0]]):.3g} scene units behind it): "
        "make the move shorter, or lead it another way"
    )


def _path_of_another_scale(views: Sequence[View], trajectory: Camera) -> str:
    if len(views) > 1:
        return ""  # several views say more exactly whether the scales agree
    travel = float((trajectory.center - views[0].camera.center).norm(dim=-1).max())
    ratio = travel / views[0].median_depth
    if ratio > _FAR:
        return (
            f"the path leads {ratio:.0f} times as far from the view as its scene is deep: depth scale and camera scale "
            "probably differ; give the depth's unit (--depth_unit), or a shorter path"
        )
    if 0 < ratio < _STILL and _in_millimetres(views[0]):
        return (
            f"the path is only {ratio:.2g} times as long as the scene is deep, and {_WHOLE_NUMBERS}: depth scale and "
            "camera scale probably differ about 1000 times; use --depth_unit 0.001"
        )
    return ""


def _in_millimetres(view: View) -> bool:
    """Whether depths look like millimetres that were read as metres: large whole numbers."""
    depth = view.scene_depth
    values = depth.values[depth.valid]
    return view.median_depth > _MILLIMETRES and bool((values == values.round()).all())


def _scales_differ(views: Sequence[View]) -> str:
    """Which factor on the depths makes views agree best in colour, once they are warped into each other."""
    pairs = [(a.cover(*_small(a)), b.cover(*_small(b))) for a, b in _pairs(views) if _baseline(a, b) > 0]
    pairs = [(a, b) for a, b in pairs if bool(a.require_depth().valid.any())]
    if not pairs:
        return ""
    octaves = [2.0**k for k in range(-_OCTAVES, _OCTAVES + 1)]
    coarse = _errors(pairs, octaves)
    middle = octaves[int(coarse.argmin())]
    scales = [middle * 2.0 ** (k / 4) for k in range(-4, 5)]
    fine = _errors(pairs, scales)
    factor, least = scales[int(fine.argmin())], float(fine.min())
    in_millimetres = 1 / 3000 < factor < 1 / 300 and all(_in_millimetres(view) for view in views)
    needed = _BETTER_AS_MILLIMETRES if in_millimetres else _BETTER
    # Infinitely far (only the turn between the views counts) or very near must not explain the images as well.
    others = min(float(coarse[_OCTAVES]), float(coarse[0]), float(coarse[-1]))
    if abs(math.log(factor)) < math.log(1.5) or least > needed * others:
        return ""
    if in_millimetres:
        return f"depth scale and camera scale differ about 1000 times, and {_WHOLE_NUMBERS}: use --depth_unit 0.001"
    # A quarter of an octave is as exact as this gets: near a power of ten, that is what was meant.
    factor = next((power for power in (1e-3, 1e-2, 1e2, 1e3) if 0.8 < factor / power < 1.25), factor)
    return (
        f"depth scale and camera scale differ about {_digits(max(factor, 1 / factor))} times: multiply the depths by "
        f"about {_digits(factor)} (--depth_unit), or divide the camera positions by it"
    )


def _digits(number: float) -> str:
    """Two significant digits, without a power of ten."""
    return f"{float(f'{number:.2g}'):.10f}".rstrip("0").rstrip(".")


def _pairs(views: Sequence[View]) -> list[tuple[View, View]]:
    """A few neighbours, which overlap, and the first view with farther ones, whose wider baseline says more."""
    neighbours = list(pairwise(views))
    step = max(1, len(neighbours) // 4)
    wide = sorted({len(views) // 2, len(views) - 1} - {0, 1})
    return neighbours[::step][:4] + [(views[0], views[k]) for k in wide]


def _baseline(a: View, b: View) -> float:
    """Distance of two views against the depth of the scene; 0 where no scale can be told, or depth is out of range."""
    depth = a.median_depth
    moved = float((a.camera.center - b.camera.center).norm()) / depth if 1e-20 < depth < 1e20 else 0.0
    return moved if moved > 1e-9 else 0.0


def _small(view: View) -> tuple[int, int]:
    scale = min(1.0, _SMALL / view.camera.width)
    return max(1, round(view.camera.width * scale)), max(1, round(view.camera.height * scale))


def _errors(pairs: Sequence[tuple[View, View]], scales: Sequence[float]) -> Tensor:
    """Mean difference of colour after a warp from a to b, for each scale of the depth: the pairs' geometric mean.

    Pairs that do not overlap are equally bad at every scale and so change no ratio.
    """
    total = torch.zeros(len(scales), dtype=torch.float64)
    for a, b in pairs:
        depth, targets = a.require_depth(), stack([b.camera])
        truth = b.image if b.image.shape == a.image.shape else interpolate(b.image[None], a.image.shape[1:])[0]
        for index, scale in enumerate(scales):
            warp = splat(a.image, depth.values * scale, a.camera, targets, valid=depth.valid)
            total[index] += _difference(warp.image[0], truth, warp.visible[0, 0] > 0).clamp(min=1e-4).log()
    return (total / len(pairs)).exp()


def _difference(image: Tensor, truth: Tensor, seen: Tensor) -> Tensor:
    difference = (image - truth).abs().mean(0)
    return torch.where(seen, difference.clamp(max=2 * _UNSEEN), _UNSEEN).mean()
