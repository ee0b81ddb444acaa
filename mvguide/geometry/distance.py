"""How far the frames of a trajectory are from a view, measured against the depth of its scene."""

import torch
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera

_NEAREST_SHARE = 0.99  # disparities above this quantile count as the quantile: one bad pixel must not set the distance


def frame_distances(
    source: Camera,
    trajectory: Camera,
    depth: Tensor,
    valid: Tensor | None = None,
    *,
    normalise: bool = False,
) -> Tensor:
    """Parallax of each frame: d_k = |c_k - c_source| * sqrt(mean over pixels of 1 / z^2), 0 at the source.

    With a relative error of depth e, a point at depth z lands about f |c_k - c_source| e / z pixels off, so d_k is, up
    to f e, the root-mean-square error of a warp; for an orbit by a small angle it is the angle in radians. A camera
    that only turns or zooms has distance 0: it warps without error whatever the depth, and what it newly reveals is a
    hole. The nearest 1% of the pixels count as the 99th percentile of 1 / z.

    Args:
        source: one camera.
        trajectory: F cameras.
        depth: [H, W], z in scene units; values that are not finite and positive are left out.
        valid: [H, W] bool; pixels marked False are left out.
        normalise: divide by the largest distance, if that is not 0, as search_hypers does.

    Returns:
        float64 [F] on the CPU, dimensionless, >= 0.

    Raises:
        InputError: unlike shapes, cameras that cannot be used, or no usable pixel.
    """
    if source.batch_shape or len(trajectory.batch_shape) != 1:
        given = f"{list(source.batch_shape)} and {list(trajectory.batch_shape)}"
        raise InputError(f"source and trajectory have batch shapes {given}; give one camera and a batch of F cameras")
    if valid is not None and valid.shape != depth.shape:
        raise InputError(f"valid has shape {tuple(valid.shape)} and depth {tuple(depth.shape)}; they must be the same")
    source.check()
    trajectory.check()
    usable = torch.isfinite(depth) & (depth > 0)
    if valid is not None:
        usable &= valid.to(depth.device)
    disparity = 1 / depth[usable].double().cpu()
    if disparity.numel() == 0:
        raise InputError(
            "depth has no usable pixel (finite, above 0 and marked valid); at least 1 is needed for distances"
        )
    rank = max(1, round(_NEAREST_SHARE * disparity.numel()))
    nearness = disparity.clamp(max=disparity.kthvalue(rank).values).square().mean().sqrt()
    moved = torch.linalg.vector_norm(trajectory.center.double().cpu() - source.center.double().cpu(), dim=-1)
    distances = moved * nearness
    largest = distances.max()
    return distances / largest if normalise and largest > 0 else distances
