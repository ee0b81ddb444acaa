"""Held-out scenes with everything that is known of them, and the scores of a video of one."""

import torch
from torch import Tensor

from mvguide.depth.files import Depth
from mvguide.evaluation.metrics import psnr, sharpness_ratio, ssim
from mvguide.geometry.camera import Camera
from mvguide.view import View
from mvguide.warps import Warps, warp_views
from tools.scenes import render_scenes

SKY = 100.0
"""Depth of the sky, of which only the direction is known: far away rather than a hole."""

METRICS = {"psnr": psnr, "ssim": ssim, "sharpness": sharpness_ratio}
REGIONS = ("whole", "seen", "holes")


class Scene:
    """A held-out scene: its true video, its first view with exact depth, its cameras and warps."""

    def __init__(self, seed: int, size: int, frames: int) -> None:
        found = render_scenes([seed], size=size, frames=frames, with_depth=True)
        assert found.depth is not None  # it was asked for
        self.seed = seed
        self.truth = found.video[0]
        self.bucket = float(found.bucket[0])
        depth = torch.nan_to_num(found.depth[0, 0], posinf=SKY).clamp(max=SKY)
        self.cameras = Camera(found.intrinsics[0].double(), found.world_to_camera[0].double(), size, size)
        known = torch.ones(size, size, dtype=torch.bool)
        self.view = View(self.truth[0], self.cameras[0], Depth(depth, known, True), f"scene {seed}")
        self.warps: Warps = warp_views([self.view], self.cameras)

    def score(self, frames: Tensor) -> dict[str, float]:
        """Metrics by ``metric region``, mean over all frames but the given first; NaN where a region is empty.

        Seen and holes are told apart by the warp of the exact depth.
        """
        truth, found, visible = self.truth[1:], frames[1:], self.warps.visible[1:]
        masks = {"whole": None, "seen": visible, "holes": 1 - visible}
        return {
            f"{metric} {region}": float(values[torch.isfinite(values)].mean())
            for region, mask in masks.items()
            for metric, function in METRICS.items()
            for values in [function(found, truth, mask)]
        }
