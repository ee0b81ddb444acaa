"""Plane sweeps of views: which images to compare, and in what range of depths."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mvguide.depth.plane_sweep import plane_sweep
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.views.view import View

Say = Callable[[str], None]
"""Gets a sentence for everything that was made or scaled."""

ENOUGH_POINTS = 20
"""Fewer sparse points than this are no ground to fit scale and shift on."""
_NEIGHBOURS = 2  # time and memory of a sweep grow with the square of the images
_ANGLE = 45.0  # degrees between optical axes beyond which two images share little
_TAIL = 0.02  # sparse points beyond these quantiles may be outliers, and bound nothing
_SAMPLES = 5000  # pixels of a depth map that stand for it in a fit
_TRUSTED = 0.5  # confidence of a sweep above which its depth may stand for the truth


@dataclass(frozen=True)
class Hint:
    """What a camera file holds on the depth of one of its images.

    Args:
        points: sparse points that the image sees, float64 ``[M, 3]``, world.
        bounds: nearest and farthest depth.
    """

    points: Tensor | None = None
    bounds: tuple[float, float] | None = None


def sweep_view(views: Sequence[View], index: int, hint: Hint) -> View:
    """The view with depth and confidence by plane sweep against its nearest neighbours.

    Args:
        views: V posed images of a still scene.
        index: of the view among them.
        hint: bounds or sparse points, which narrow the range of depths.

    Returns:
        The view with both, at its own size.

    Raises:
        InputError: images of unlike sizes, or none that sees the same from another place.
    """
    view = views[index]
    neighbours = _neighbours(views, index)
    chosen = [index, *neighbours]
    sizes = {(views[i].camera.width, views[i].camera.height) for i in chosen}
    if len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise InputError(f"a plane sweep needs images of one size, not {listed}; bring them to one with --resize")
    near, far = _range(view, hint)
    cameras = stack([views[i].camera for i in chosen])
    depth, confidence = plane_sweep(torch.stack([views[i].image for i in chosen]), cameras, near=near, far=far)
    return replace(view, depth=depth, confidence=confidence)


def _neighbours(views: Sequence[View], index: int) -> list[int]:
    """Views that look the same way from another place: the nearest, but for those so near that nothing moves.

    How far is far enough depends on the depth, which is what is looked for; a third of the usual distance will do.
    """
    here = views[index].camera
    forward = here.camera_to_world[:3, 2]
    away: dict[int, float] = {}
    for other, view in enumerate(views):
        distance = float((view.camera.center - here.center).norm())
        angle = math.degrees(math.acos(max(-1.0, min(1.0, float(view.camera.camera_to_world[:3, 2] @ forward)))))
        if other != index and distance > 0 and angle < _ANGLE:
            away[other] = distance
    if not away:
        raise InputError(
            f"no other image looks where {views[index].name} does from another place, so a plane sweep cannot see "
            "its depth; give a depth map with --depth, or a depth model with --depth_model"
        )
    least = sorted(away.values())[len(away) // 2] / 3
    return sorted((other for other in away if away[other] >= least), key=lambda other: away[other])[:_NEIGHBOURS]


def _range(view: View, hint: Hint) -> tuple[float | None, float | None]:
    """Nearest and farthest depth to look for, with a margin, where the camera file knows them."""
    if hint.points is not None and len(hint.points) >= ENOUGH_POINTS:
        z = view.camera.project(hint.points)[1]
        z = z[z > 0]
        if len(z) >= ENOUGH_POINTS:
            return float(z.quantile(_TAIL)) / 1.5, float(z.quantile(1 - _TAIL)) * 2
    if hint.bounds is not None:
        return hint.bounds[0] / 1.2, hint.bounds[1] * 1.2
    return None, None


def swept_points(views: Sequence[View], index: int, hint: Hint) -> Tensor:
    """World points that a plane sweep of a view is sure of.

    Args:
        views: V posed images of a still scene.
        index: of the view among them.
        hint: bounds or sparse points, which narrow the range of depths.

    Returns:
        ``[M, 3]`` float64, at most about 5000.

    Raises:
        InputError: as `sweep_view`.
    """
    swept = sweep_view(views, index, hint)
    assert swept.confidence is not None  # a sweep's own
    return some_points(swept.camera, swept.require_depth().values, swept.confidence > _TRUSTED)


def some_points(camera: Camera, depth: Tensor, known: Tensor) -> Tensor:
    """World points of evenly picked known pixels of a depth map.

    Args:
        camera: of the map's size.
        depth: ``[H, W]``, scene units.
        known: ``[H, W]`` bool.

    Returns:
        ``[M, 3]`` float64, at most about 5000.
    """
    pixels, z = camera.pixel_grid()[known], depth[known].double()
    step = max(1, len(z) // _SAMPLES)
    return camera.unproject(pixels[::step], z[::step])
