"""A held-out scene under a condition: all that is known of it, and the scores of a video of it."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from mvguide.evaluation.metrics import psnr, sharpness_ratio, ssim
from mvguide.views.view import View
from mvguide.views.warps import Warps, warp_views
from tools.quality.conditions import CONDITIONS, Condition, exact_view, scene_cameras
from tools.scenes import Scenes

METRICS = {"psnr": psnr, "ssim": ssim, "sharpness": sharpness_ratio}
REGIONS = ("whole", "seen", "holes")


@lru_cache(maxsize=4)
def _render(seed: int, size: int, frames: int, stretch: float, new_share: tuple[float, float]) -> Scenes:
    # Conditions that differ in the depth alone share the rendering.
    return Condition("", stretch=stretch, new_share=new_share).render(seed, size, frames)


class Scene:
    """A held-out scene: its true video and cameras, the views that methods are given, and their warps.

    ``warps`` are those of the given depth, ``exact_warps`` those of the exact depth of the same views.
    """

    def __init__(self, seed: int, size: int, frames: int, condition: str = "exact") -> None:
        chosen = CONDITIONS[condition]
        found = _render(seed, size, frames, chosen.stretch, chosen.new_share)
        self.seed, self.condition = seed, condition
        self.truth = found.video[0]
        self.bucket = float(found.bucket[0])
        self.cameras = scene_cameras(found)
        exact = [exact_view(found, self.cameras, frame) for frame in ((0, -1) if chosen.both_ends else (0,))]
        self.views: list[View] = [_with_change(view, chosen, seed) for view in exact]
        self.exact_warps: Warps = warp_views(exact, self.cameras)
        self.warps: Warps = self.exact_warps if chosen.change is None else warp_views(self.views, self.cameras)

    def score(self, frames: Tensor) -> dict[str, float]:
        """Metrics by ``metric region``, mean over all frames that were not given; NaN where a region is empty.

        Seen and holes are told apart by the warp of the exact depth.
        """
        scored = ~self.exact_warps.pinned
        truth, found, visible = self.truth[scored], frames[scored], self.exact_warps.visible[scored]
        masks = {"whole": None, "seen": visible, "holes": 1 - visible}
        return {
            f"{metric} {region}": float(values[torch.isfinite(values)].mean())
            for region, mask in masks.items()
            for metric, function in METRICS.items()
            for values in [function(found, truth, mask)]
        }


def _with_change(view: View, condition: Condition, seed: int) -> View:
    if condition.change is None:
        return view
    depth = view.require_depth()
    return replace(view, depth=replace(depth, values=condition.change(depth.values, seed)))
