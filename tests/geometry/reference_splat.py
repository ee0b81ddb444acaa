"""The splat of `mvguide.geometry.warp` as one reads it: for each pixel of each frame, every point is looked at."""

import torch
from torch import Tensor

from mvguide.geometry import Camera, Warp


def reference_splat(
    image: Tensor, depth: Tensor, source: Camera, targets: Camera, valid: Tensor, front_tolerance: float = 0.02
) -> Warp:
    """Points of image [C, H, W] at depth [H, W] where valid [H, W], in each target; enlargements are not cut finer."""
    points = source.unproject(source.pixel_grid()[valid], depth[valid].double())
    colours = image[:, valid].double()
    frames, height, width = len(targets), targets.height, targets.width
    pictures = torch.zeros(frames, len(image), height, width)
    visible, fronts = torch.zeros(2, frames, 1, height, width)
    for frame in range(frames):
        landed, z = targets[frame].project(points)
        for row in range(height):
            for column in range(width):
                away = (landed - torch.tensor([column + 0.5, row + 0.5])).abs()
                weights = (1 - away).clamp(min=0).prod(dim=-1) * (z > 0)
                voters = weights >= 1 / 64
                if not voters.any():
                    continue
                front = z[voters].min()
                weights = weights * (z <= front * (1 + front_tolerance))
                if weights.sum() >= 1 / 16:
                    pictures[frame, :, row, column] = colours @ weights / weights.sum()
                    visible[frame, 0, row, column], fronts[frame, 0, row, column] = 1, front
    return Warp(pictures, visible, fronts)
