"""Depth of an image of which a part is known: measured in the holes where that can be done, else guessed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mvguide.depth.align import align_to_points
from mvguide.depth.fill import fill_from_similar
from mvguide.depth.maps import Depth, DepthKind
from mvguide.depth.model import estimate_depth
from mvguide.depth.plane_sweep import plane_sweep
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack

_BEYOND = 3.0  # a sweep looks for depths up to this many times beyond the known ones, both ways
_LEAST = 16  # known pixels that can align a map


def complete_depth(
    known: Depth,
    image: Tensor,
    camera: Camera,
    others: Sequence[tuple[Tensor, Camera]] = (),
    model: str | None = None,
) -> tuple[Depth, Tensor]:
    """A depth map without holes; what is known stays as it is.

    In holes the depth is that of a depth model, aligned to what is known; without a model, that of a plane sweep with
    other images of the scene, where they agree. What is then left takes the depth of a pixel that is close by and of
    like colour.

    Args:
        known: the map with its holes.
        image: ``[3, H, W]`` of the map's size, without holes.
        camera: of the image.
        others: further images of that size with their cameras, near enough that they show the same.
        model: depth model, a folder or hub id.

    Returns:
        The map, everywhere valid, and ``[H, W]`` bool: where the depth is known or measured, not guessed.

    Raises:
        InputError: nothing is known.
        ModelError: the model cannot be loaded.
    """
    if not bool(known.valid.any()):
        raise InputError("no depth is known in the image, so there is nothing to complete")
    measured = _by_model(known, image, camera, model) if model else _by_sweep(known, image, camera, others)
    values, sure = known.values, known.valid
    if measured is not None:
        values, sure = torch.where(sure, values, measured.values), sure | measured.valid
    values = 1 / fill_from_similar(1 / values.clamp(min=1e-12), sure, image)
    return Depth(values, torch.ones_like(sure), known.is_metric), sure


def _by_model(known: Depth, image: Tensor, camera: Camera, model: str) -> Depth | None:
    """A model's map, by the line that fits what is known."""
    found = estimate_depth(image, model)
    kind: DepthKind = "depth" if found.is_metric else "disparity"
    if int(known.valid.sum()) < _LEAST:
        return None
    device, known = known.values.device, known.to("cpu")
    points = camera.unproject(camera.pixel_grid()[known.valid], known.values[known.valid].double())
    try:
        return align_to_points(found, camera, points, kind=kind).depth.to(device)
    except InputError:  # what is known lies at one depth, or the model says the opposite of it
        return None


def _by_sweep(known: Depth, image: Tensor, camera: Camera, others: Sequence[tuple[Tensor, Camera]]) -> Depth | None:
    """What a plane sweep is sure of, scaled to what is known."""
    apart = [(picture, place) for picture, place in others if bool((place.center - camera.center).norm() > 0)]
    if not apart:
        return None
    images = torch.stack([image, *(picture for picture, _ in apart)])
    cameras = stack([camera, *(place for _, place in apart)])
    depths = known.values[known.valid]
    near, far = float(depths.min()) / _BEYOND, float(depths.max()) * _BEYOND
    try:
        swept, confidence = plane_sweep(images, cameras, near=near, far=far)
    except InputError:  # the images agree nowhere
        return None
    sure = confidence > 0
    both = sure & known.valid
    if int(both.sum()) >= _LEAST:
        scale = (known.values[both] / swept.values[both]).log().median().exp()
        swept = Depth(swept.values * scale, sure, known.is_metric)
    return Depth(swept.values, sure, known.is_metric)
