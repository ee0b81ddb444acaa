"""What the model is conditioned on, window by window."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mvguide.backbones.base import Backbone, Conditioning, ConditioningOptions, KnownFrames
from mvguide.diffusion.windows import Window
from mvguide.pipeline.encoding import fill_holes
from mvguide.pipeline.prepare import Context, WarpedPath
from mvguide.views.warps import Warps, mean_flow


def condition(
    backbone: Backbone,
    path: WarpedPath,
    warps: Warps,
    windows: Sequence[Window],
    asked: ConditioningOptions,
    generator: torch.Generator,
) -> tuple[ConditioningOptions, list[Conditioning]]:
    """Encode what the model is given for each window of a path.

    Args:
        backbone: the model.
        path: the views along the path.
        warps: what is known of its frames, which may be more than the views show.
        windows: of latent frames.
        asked: options that were set.
        generator: of the noise.

    Returns:
        The options with nothing left unset, and for each window the encoded conditioning.
    """
    flow = mean_flow(path.first_view, path.trajectory)
    found = []
    for window in windows:
        frames = backbone.grid.frames(window.latent_frames)
        some = warps[frames]
        video = fill_holes(some)
        known = KnownFrames(video, (some.visible > 0).to(some.visible), some.pinned)
        view = path.view_at(frames.start)
        own_flow = mean_flow(view, path.trajectory[frames]) or flow
        options = backbone.with_defaults(replace(asked, num_frames=len(video)), own_flow)
        found.append(backbone.prepare(view.image, options, generator, known))
    return backbone.with_defaults(asked, flow), found


def some_frames(context: Context, numbers: Sequence[int], generator: torch.Generator) -> Context:
    """Some frames of a path, as a video of its own that the model denoises as a whole.

    Args:
        context: of the long video.
        numbers: of the frames, increasing; as many as a window has.
        generator: of the noise of the conditioning.
    """
    numbers = list(numbers)
    parts: dict[str, Any] = {
        "trajectory": context.trajectory[numbers],
        "moments": None if context.moments is None else context.moments[numbers],
        "warps": context.warps[numbers],
    }
    path = WarpedPath(views=context.views, **parts)
    windows = context.long.windows(context.backbone.grid, len(numbers), len(numbers))
    asked = replace(context.asked, num_frames=len(numbers))
    options, conditioning = condition(context.backbone, path, path.warps, windows, asked, generator)
    return replace(
        context,
        **parts,
        options=options,
        asked=asked,
        windows=windows,
        conditioning=conditioning,
        seconds={},
        encoded={},  # of other warps
    )


def with_anchors(context: Context, anchored: Warps, generator: torch.Generator) -> Context:
    """The context with what anchors show in the holes of its warps.

    Args:
        context: of the long video.
        anchored: its warps, with their holes filled.
        generator: of the noise of the conditioning.
    """
    windows = context.windows
    _, conditioning = condition(context.backbone, context, anchored, windows, context.asked, generator)
    return replace(context, anchored=anchored, conditioning=conditioning, encoded={})
