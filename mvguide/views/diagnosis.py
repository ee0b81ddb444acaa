"""What is wrong with a path through these views, in words, and how to mend it."""

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
_KNOWN = 0.5  # share of a depth map below which it is worth a word
_SCALES = torch.logspace(-5, 5, 41, base=2.0, dtype=torch.float64).tolist()
_SMALL = 96  # width of the pictures that the scales are tried on
_UNSEEN = 0.15  # counts for a pixel that a warp leaves open: as bad as a clearly wrong colour
_FAR = 5.0  # a path this many times as long as the scene is deep is a mistake of units more often than not


def diagnose(views: Sequence[View], trajectory: Camera, warps: Warps) -> list[str]:
    """Sentences about what is wrong; none when nothing is.

    Args:
        views: with depth.
        trajectory: F cameras at the video's size.
        warps: of these views into these cameras.
    """
    found = [_looks_inverse(view) for view in views] + [_hardly_known(view) for view in views]
    found += [_scales_differ(views), _too_far(views, trajectory)]
    found += [_through_surface(views, trajectory), _too_little_seen(trajectory, warps)]
    return [sentence for sentence in found if sentence]


def _looks_inverse(view: View) -> str:
    depth = view.require_depth()
    stored = torch.where(depth.valid, depth.values, 0).cpu().numpy()
    evidence = disparity_evidence(stored)
    if not evidence.is_strong:
        return ""
    return f"depth of {view.name} looks like disparity (inverse depth), because {evidence}: say --depth_kind disparity"


def _hardly_known(view: View) -> str:
    share = float(view.require_depth().valid.float().mean())
    if share >= _KNOWN:
        return ""
    return f"only {share:.0%} of the depth map of {view.name} is known: the rest cannot be warped; fill or estimate it"


def _too_little_seen(trajectory: Camera, warps: Warps) -> str:
    little = ((warps.seen < SEEN) & ~warps.pinned).nonzero()[:, 0].tolist()
    if not little:
        return ""
    first, last = little[0], len(trajectory) - 1
    where = f"from frame {first} on" if little == list(range(first, last + 1)) else f"in {len(little)} frames"
    least = float(warps.seen[little].min())
    if first == 0:
        return f"{where} less than {SEEN:.0%} is seen (down to {least:.0%}): start nearer to a view, or add one"
    turn, share = _turn(trajectory[0], trajectory[first - 1]), (first - 1) / last
    measure = f"{turn:.0f} degrees" if turn >= 3 else f"{share:.0%} of its length"
    return (
        f"{where} less than {SEEN:.0%} is seen (down to {least:.0%}): shorten the move to about {measure}, "
        "or add a view"
    )


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


def _too_far(views: Sequence[View], trajectory: Camera) -> str:
    if len(views) > 1:
        return ""  # several views say more exactly whether the scales agree
    travel = float((trajectory.center - views[0].camera.center).norm(dim=-1).max())
    ratio = travel / views[0].median_depth
    if ratio <= _FAR:
        return ""
    return (
        f"the path leads {ratio:.0f} times as far from the view as its scene is deep: depth scale and camera scale "
        "probably differ; give the depth's unit (--depth_unit), or a shorter path"
    )


def _scales_differ(views: Sequence[View]) -> str:
    """Which factor on the depths makes two views agree best in colour."""
    pairs = [(a, b) for a, b in pairwise(views) if _baseline(a, b) > 0]
    if not pairs:
        return ""
    errors = torch.tensor([_errors(a.cover(*_small(a)), b.cover(*_small(b))) for a, b in pairs[:4]]).mean(0)
    best, plain = int(errors.argmin()), _SCALES.index(1.0)
    factor = _SCALES[best]
    if abs(math.log(factor)) < math.log(1.5) or errors[best] > 0.8 * errors[plain]:
        return ""
    times = max(factor, 1 / factor)
    return (
        f"depth scale and camera scale differ about {times:.2g} times: multiply the depths by about {factor:.2g} "
        "(--depth_unit), or divide the camera positions by it"
    )


def _baseline(a: View, b: View) -> float:
    """Distance of two views against the depth of the scene: without any, no scale can be told."""
    moved = float((a.camera.center - b.camera.center).norm()) / a.median_depth
    return moved if moved > 1e-6 else 0.0


def _small(view: View) -> tuple[int, int]:
    scale = min(1.0, _SMALL / view.camera.width)
    return max(1, round(view.camera.width * scale)), max(1, round(view.camera.height * scale))


def _errors(a: View, b: View) -> list[float]:
    """Mean difference of colour after a warp from a to b, for each scale of the depth."""
    depth, targets = a.require_depth(), stack([b.camera])
    truth = b.image if b.image.shape == a.image.shape else interpolate(b.image[None], a.image.shape[1:])[0]
    found: list[float] = []
    for scale in _SCALES:
        warp = splat(a.image, depth.values * scale, a.camera, targets, valid=depth.valid)
        found.append(float(_difference(warp.image[0], truth, warp.visible[0, 0] > 0)))
    return found


def _difference(image: Tensor, truth: Tensor, seen: Tensor) -> Tensor:
    difference = (image - truth).abs().mean(0)
    return torch.where(seen, difference.clamp(max=2 * _UNSEEN), _UNSEEN).mean()
