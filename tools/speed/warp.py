"""splat against np.add.at."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import orbit
from mvguide.geometry.warp import splat
from tools.speed.timing import alternate, printed_by

WARP_FRAMES = 24


def warp_inputs(frames: int = WARP_FRAMES) -> tuple[torch.Tensor, torch.Tensor, Camera, Camera]:
    """A 1024 x 576 image over a smooth hill, and an orbit of so many cameras."""
    height, width = 576, 1024
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    depth = 3 - 1.2 * torch.exp(-6 * (rows**2 + columns**2))
    image = torch.stack([torch.sin(20 * columns), torch.cos(17 * rows), rows * columns]) * 0.5 + 0.5
    camera = Camera.from_fov(60, width, height)
    return image, depth, camera, orbit(camera, frames + 1, degrees=20, target_depth=2.5)[1:]


def numpy_splat(image: np.ndarray, depth: np.ndarray, source: Camera, target: Camera) -> np.ndarray:
    """Z-buffer with ``np.minimum.at``, then the four corners with ``np.add.at``."""
    channels, height, width = image.shape
    k, k_target = source.intrinsics.numpy(), target.intrinsics.numpy()
    motion = target.world_to_camera.numpy() @ np.linalg.inv(source.world_to_camera.numpy())
    v, u = np.mgrid[0:height, 0:width] + 0.5
    points = np.linalg.inv(k) @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)]) * depth.ravel()
    points = k_target @ (motion[:3, :3] @ points + motion[:3, 3:])
    z = points[2]
    x, y = points[0] / z - 0.5, points[1] / z - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    corners = []
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (1 - np.abs(x - left - dx)) * (1 - np.abs(y - top - dy))
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (z > 0)
            corners.append(((row * width + column)[inside], weight[inside], inside))
    front = np.full(height * width, np.inf)
    for index, _, inside in corners:
        np.minimum.at(front, index, z[inside])
    total, colour = np.zeros(height * width), np.zeros((height * width, channels))
    flat = image.reshape(channels, -1).T
    for index, weight, inside in corners:
        weight = weight * (z[inside] <= front[index] * 1.02)
        np.add.at(total, index, weight)
        np.add.at(colour, index, weight[:, None] * flat[inside])
    return (colour / np.maximum(total, 1e-6)[:, None]).T.reshape(channels, height, width)


def bench_warp() -> dict[str, Any]:
    image, depth, camera, targets = warp_inputs()
    array, depth_array = image.numpy(), depth.numpy()

    def theirs() -> np.ndarray:
        return np.stack([numpy_splat(array, depth_array, camera, targets[i]) for i in range(WARP_FRAMES)])

    ours = splat(image, depth, camera, targets)
    seen = ours.visible.expand_as(ours.image) > 0
    difference = float((ours.image - torch.from_numpy(theirs()))[seen].abs().median())
    if difference > 1e-3:
        raise RuntimeError(f"the two splats disagree by {difference:g} in the median")
    ours_s, theirs_s, ratio = alternate(lambda: splat(image, depth, camera, targets), theirs, 3)
    few, many = peak_megabytes(12), peak_megabytes(96)
    return {
        "name": "warp of one 1024 x 576 view into 24 cameras",
        "baseline": "numpy: np.minimum.at z-buffer, np.add.at four corners",
        "ours_s": ours_s,
        "baseline_s": theirs_s,
        "ratio": 1 / ratio,
        "asked": "at least 4 times faster, memory flat in the number of frames",
        "reached": 1 / ratio >= 4 and abs(many - few) < 64,
        "peak_mb_besides_result_12_frames": few,
        "peak_mb_besides_result_96_frames": many,
    }


def peak_megabytes(frames: int) -> float:
    """Peak memory of a fresh process that warps into so many cameras, less the result's own size."""
    return printed_by(f"from tools.speed.warp import print_peak; print_peak({frames})")


def print_peak(frames: int) -> None:
    image, depth, camera, targets = warp_inputs(frames)
    result = splat(image, depth, camera, targets)
    own = sum(t.numel() * t.element_size() for t in (result.image, result.visible, result.depth))
    # Not ru_maxrss, which a process inherits from the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024 - own / 2**20)
