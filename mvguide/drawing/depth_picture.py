"""A depth map as people look at it: near is bright, far is dark, what is not known is striped."""

import torch
from torch import Tensor

from mvguide.drawing.error_pictures import BRIGHTEST, heat
from mvguide.drawing.sheets import mark_holes

_TAIL = 0.02
"""Depths beyond these quantiles are drawn as bright or as dark as these."""
_SAMPLES = 100_000


def depth_picture(depth: Tensor, valid: Tensor) -> Tensor:
    """Draw a depth map.

    Args:
        depth: ``[H, W]``, scene units.
        valid: ``[H, W]`` bool: where it is known.

    Returns:
        ``[3, H, W]`` in [0, 1]; brightness follows inverse depth, so that what is near has most of the colours.
    """
    inverse = torch.where(valid, 1 / depth.clamp(min=1e-30), 0.0)
    known = inverse[valid]
    if not len(known):
        return mark_holes(inverse.expand(3, -1, -1), valid[None].float())
    sample = known[:: max(1, len(known) // _SAMPLES)]
    low, high = (float(sample.quantile(q)) for q in (_TAIL, 1 - _TAIL))
    share = ((inverse - low) / (high - low) if high > low else torch.full_like(inverse, 0.5)).clamp(0, 1)
    return mark_holes(heat(BRIGHTEST * share[None]), valid[None].float())
