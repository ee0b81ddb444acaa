"""Merge several views of one scene: the nearest surface is in front, and the views that see it best count most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.geometry.warp import Warp

ANGLE = math.radians(30)
"""Angle between the rays from a surface point to the view and to the target at which quality falls to 1/e."""
_AGREEMENT = 0.05  # surfaces whose depths differ by less than this share are one surface, seen by several views
_SPREAD = 0.15  # root-mean-square difference of colour at which the confidence of agreeing views falls to 1/e
_SHARP = math.radians(0.5)  # angles below this make no difference to the weight


@dataclass(frozen=True, eq=False)
class Merged:
    """Views merged into F cameras."""

    image: Tensor  # [F, C, H, W] float32, 0 at holes
    visible: Tensor  # [F, 1, H, W] float32: 1 = seen by some view, 0 = hole
    depth: Tensor  # [F, 1, H, W] float32: z of the front surface, 0 at holes
    confidence: Tensor  # [F, 1, H, W] in [0, 1], 0 at holes
    shares: Tensor  # [V, F]: share of the frame's pixels taken mostly from each view


@dataclass(frozen=True, eq=False)
class Quality:
    """What one view is worth in each pixel of F targets, 0 at holes."""

    confidence: Tensor  # [F, 1, H, W] in [0, 1]
    weight: Tensor  # [F, 1, H, W] >= 0: against other views


def view_quality(warp: Warp, source: Camera, targets: Camera) -> Quality:
    """How well a view knows what it shows in each target.

    ``confidence = exp(-(angle / 30 degrees)^2) * min(1, f_s |p - c_t| / (f_t |p - c_s|))`` for the surface point p of a
    pixel: the angle between its rays to the two cameras, and the view's resolution there against the target's (focal
    length over distance); 1 where the target is the view itself. ``weight = confidence / (angle^2 + (0.5 degrees)^2)``:
    what goes wrong when depth is wrong grows with the angle. Both penalties are those of the Unstructured Lumigraph
    (Buehler et al. 2001).

    Args:
        warp: of the view into F cameras.
        source: the view's camera.
        targets: the F cameras, of the warp's size.

    Returns:
        confidence and weight, [F, 1, H, W] each, 0 in holes.
    """
    device = warp.depth.device
    targets = targets.to(device, torch.float32)
    baseline = targets.center - source.center.to(device, torch.float32)
    # In each target's own axes: the pixel's ray r with r_z = 1, so that the point is depth r from the target's centre.
    offset = (targets.camera_to_world[:, :3, :3].mT @ baseline[:, :, None])[:, :, 0]
    grid = torch.cat([targets.pixel_grid(), targets.intrinsics.new_ones(targets.height, targets.width, 1)], dim=-1)
    inverse = torch.linalg.inv(targets.intrinsics)
    along = (grid @ (inverse.mT @ offset[:, :, None])[:, None]).movedim(-1, 1)  # r . baseline, [F, 1, H, W]
    square = (grid @ (inverse.mT @ inverse)[:, None] * grid).sum(-1)[:, None]  # r . r
    length = (offset**2).sum(-1)[:, None, None, None]
    depth = warp.depth
    near = square * depth + along  # (point - target) . (point - source) / depth
    cross = (square * length - along**2).clamp(min=0).sqrt()
    angle = torch.atan2(cross, near)
    focal = source.intrinsics[0, 0].to(device, torch.float32) / targets.intrinsics[:, 0, 0]
    away = (depth * (near + along) + length).clamp(min=1e-24).sqrt()  # |point - source|
    sharper = focal[:, None, None, None] * depth * square.sqrt() / away
    confidence = torch.exp(-((angle / ANGLE) ** 2)) * sharper.clamp(max=1.0) * warp.visible
    return Quality(confidence, confidence / (angle**2 + _SHARP**2))


def merge(warps: Sequence[Warp], qualities: Sequence[Quality]) -> Merged:
    """Merge warps of V views into the same F cameras.

    In each pixel the least depth of all views is the front; views within 5% of it agree, and their colours are averaged
    by their weights. Confidence: ``1 - prod(1 - confidence)`` over those that agree, times ``exp(-(spread / 0.15)^2)``
    with the weighted rms difference of their colours. One view alone is returned as it is.

    Args:
        warps: V warps of one shape.
        qualities: for each, from :func:`view_quality`, its confidence times the view's own.

    Returns:
        the merged views, on the warps' device; `shares` on the CPU.

    Raises:
        InputError: no warp, or unlike shapes.
    """
    if not warps or len(warps) != len(qualities) or len({warp.image.shape for warp in warps}) != 1:
        shapes = [tuple(warp.image.shape) for warp in warps]
        raise InputError(f"warps of shapes {shapes} and {len(qualities)} qualities; give both for each view, one shape")
    if len(warps) == 1:
        warp, confidence = warps[0], qualities[0].confidence
        return Merged(warp.image, warp.visible, warp.depth, confidence, warp.visible.mean((1, 2, 3))[None].cpu())
    unseen = torch.full_like(warps[0].depth, torch.inf)
    front = unseen
    for warp in warps:
        front = torch.minimum(front, torch.where(warp.visible > 0, warp.depth, unseen))
    limit = front * (1 + _AGREEMENT)
    image, square, total = torch.zeros_like(warps[0].image), torch.zeros_like(front), torch.zeros_like(front)
    doubt, best = torch.ones_like(front), torch.zeros_like(front)
    owner = torch.full_like(front, -1, dtype=torch.int16)
    for index, (warp, quality) in enumerate(zip(warps, qualities, strict=True)):
        agrees = (warp.visible > 0) & (warp.depth <= limit)
        # A view seen at the worst angle still shows something, if it is the only one.
        weight = torch.where(agrees, quality.weight + 1e-6, 0.0)
        image += weight * warp.image
        square += weight * (warp.image**2).mean(1, keepdim=True)
        total += weight
        doubt *= 1 - torch.where(agrees, quality.confidence, 0.0)
        owner = torch.where(weight > best, index, owner)
        best = torch.maximum(best, weight)
    seen = total > 0
    image /= total.clamp(min=1e-12)
    spread = (square / total.clamp(min=1e-12) - (image**2).mean(1, keepdim=True)).clamp(min=0)
    confidence = torch.where(seen, (1 - doubt) * torch.exp(-spread / _SPREAD**2), 0.0)
    shares = torch.stack([(owner == index).float().mean((1, 2, 3)) for index in range(len(warps))])
    return Merged(image, seen.float(), torch.where(seen, front, 0.0), confidence, shares.cpu())
