"""What the model is conditioned on, window by window."""

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from mvguide.backbones.base import Backbone, Conditioning, ConditioningOptions, KnownFrames
from mvguide.diffusion.windows import Window
from mvguide.pipeline.encoding import fill_holes
from mvguide.pipeline.prepare import WarpedPath
from mvguide.views.warps import mean_flow


def condition(
    backbone: Backbone,
    path: WarpedPath,
    windows: Sequence[Window],
    options: ConditioningOptions,
    generator: torch.Generator,
) -> tuple[ConditioningOptions, list[Conditioning]]:
    """Encode what the model is given for each window."""
    whole = backbone.with_defaults(options, mean_flow(path.first_view, path.trajectory))
    found = []
    for window in windows:
        frames = backbone.grid.frames(window.latent_frames)
        warps = path.warps[frames]
        filled = fill_holes(warps)
        known = KnownFrames(filled, warps.visible, warps.pinned)
        how = os.environ.get("COND", "warp")
        size = (path.trajectory.width, path.trajectory.height)
        if frames.start == 0 or how == "first":
            picture = path.first_view.image
        elif how == "nearest":
            picture = path.views[int(path.warps.shares[:, frames.start].argmax())].fit(*size).image
        else:
            picture = filled[0]
        own = replace(whole, num_frames=frames.stop - frames.start)
        found.append(backbone.prepare(picture, own, generator, known))
    return whole, found
