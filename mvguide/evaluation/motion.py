"""How steady a video is in time: its flicker, and the error of each frame warped into the next by known depth."""

import torch
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.geometry.masks import smeared_depth
from mvguide.geometry.warp import splat

_SAME_SURFACE = 0.02
"""Two depths within this share of each other are of one surface."""


def flicker(frames: Tensor, counted: Tensor | None = None) -> float:
    """Mean absolute second difference in time, `mean |I(k+1) - 2 I(k) + I(k-1)|`: 0 where change is steady.

    VBench (Huang et al., CVPR 2024) scores temporal flickering by the first difference of neighbouring frames, for
    videos without motion. The second difference is 0 for a still image and for a steady change of brightness. Motion
    adds to it in a true video too: compare with the truth's.

    Args:
        frames: ``[F, 3, H, W]`` in [0, 1], evenly spaced in time.
        counted: ``[F]`` bool: triples of frames of which none counts are left out; all count by default.

    Returns:
        in [0, 2]; NaN for fewer than three frames, or where no triple counts.
    """
    counts = torch.ones(len(frames), dtype=torch.bool) if counted is None else counted
    triples = [k for k in range(1, len(frames) - 1) if bool(counts[k - 1 : k + 2].any())]
    video = frames.double()
    changes = [(video[k + 1] - 2 * video[k] + video[k - 1]).abs().mean() for k in triples]
    return float(torch.stack(changes).mean()) if changes else float("nan")


def reprojection_errors(frames: Tensor, depth: Tensor, valid: Tensor, cameras: Camera) -> Tensor:
    """Root-mean-square colour error between each frame, warped by the known depth, and the next.

    The warping error of Lai et al. (ECCV 2018, "Learning Blind Video Temporal Consistency"), with the true motion of
    depth and cameras in place of an estimated flow: `sqrt(mean (warp(I_k) - I_(k+1))^2)` over pixels that both frames
    see, which is where the warped depth is that of the next frame to 2 %. Resampling costs something in a true video
    too: compare with the truth's.

    Args:
        frames: ``[F, 3, H, W]`` in [0, 1].
        depth: ``[F, H, W]`` z of each frame, scene units.
        valid: ``[F, H, W]`` bool: where the depth is known.
        cameras: F cameras of the frames' size.

    Returns:
        float64 ``[F - 1]`` in [0, 1]; NaN where two frames share no pixel.

    Raises:
        InputError: counts or sizes that differ.
    """
    size = (len(frames), *frames.shape[-2:])
    if tuple(depth.shape) != size or tuple(valid.shape) != size or len(cameras) != len(frames):
        raise InputError(
            f"frames {tuple(frames.shape)} need depth {size} and as many cameras, got depth {tuple(depth.shape)}, "
            f"valid {tuple(valid.shape)} and {len(cameras)} cameras"
        )
    errors = torch.full((max(0, len(frames) - 1),), torch.nan, dtype=torch.float64)
    for k in range(len(errors)):
        usable = valid[k] & ~smeared_depth(torch.where(valid[k], depth[k], 0))
        if not bool(usable.any()):
            continue
        warp = splat(frames[k], depth[k], cameras[k], cameras[k + 1 : k + 2], valid=usable)
        there = warp.depth[0, 0]
        same = valid[k + 1] & ((there - depth[k + 1]).abs() <= _SAME_SURFACE * depth[k + 1])
        both = (warp.visible[0, 0] > 0) & same
        if bool(both.any()):
            errors[k] = ((warp.image[0] - frames[k + 1]).double()[:, both] ** 2).mean().sqrt()
    return errors


def reprojection_error(
    frames: Tensor, depth: Tensor, valid: Tensor, cameras: Camera, counted: Tensor | None = None
) -> float:
    """Mean of :func:`reprojection_errors` over neighbours of which at least one frame counts.

    Args:
        frames: ``[F, 3, H, W]`` in [0, 1].
        depth: ``[F, H, W]`` z of each frame, scene units.
        valid: ``[F, H, W]`` bool: where the depth is known.
        cameras: F cameras of the frames' size.
        counted: ``[F]`` bool; all count by default.

    Returns:
        in [0, 1]; NaN where no pair counts or shares a pixel.

    Raises:
        InputError: counts or sizes that differ.
    """
    errors = reprojection_errors(frames, depth, valid, cameras)
    counts = torch.ones(len(frames), dtype=torch.bool) if counted is None else counted
    kept = errors[(counts[1:] | counts[:-1]) & torch.isfinite(errors)]
    return float(kept.mean()) if len(kept) else float("nan")
