"""Posed views with depth from `../shared/data`, beside the checkout; tests that use them skip when it is absent."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mvguide.depth.maps import Depth, read_depth
from mvguide.geometry import Camera

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")

OPENGL_TO_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class PosedView:
    """An image [3, H, W] in [0, 1], its camera and its depth."""

    image: Tensor
    camera: Camera
    depth: Depth


def redwood(index: int) -> PosedView:
    """Redwood RGB-D: the `.log` holds camera_to_world; K = 525 counts the first pixel's centre as 0 (Open3D)."""
    folder = DATA / "redwood_rgbd"
    lines = (folder / "trajectory.log").read_text().splitlines()[5 * index + 1 : 5 * index + 5]
    camera_to_world = torch.tensor([[float(value) for value in line.split()] for line in lines], dtype=torch.float64)
    image = _image(folder / "color" / f"{index:05d}.jpg")
    camera = _camera(image, (525, 525, 319.5, 239.5), camera_to_world.inverse(), pixel_center=0.0)
    return PosedView(image, camera, read_depth(folder / "depth" / f"{index:05d}.png", unit=0.001))


def seven_scenes(index: int) -> PosedView:
    """7-Scenes: the txt holds camera_to_world; depth in millimetres, 0 and 65535 invalid."""
    stem = DATA / "7scenes_rgbd" / f"frame-{index:06d}"
    camera_to_world = torch.from_numpy(np.loadtxt(f"{stem}.pose.txt"))
    image = _image(Path(f"{stem}.color.jpg"))
    camera = _camera(image, (585, 585, 320, 240), camera_to_world.inverse())
    return PosedView(image, camera, read_depth(f"{stem}.depth.png", unit=0.001, invalid=65535))


def lego(index: int) -> PosedView:
    """NeRF lego: OpenGL camera_to_world, a field of view, RGBA over white, depth z = 8 (1 - d / 255) in 8 bits."""
    folder = DATA / "nerf_lego"
    scene = json.loads((folder / "transforms_test.json").read_text())
    frame = next(frame for frame in scene["frames"] if frame["file_path"] == f"./test/r_{index}")
    camera_to_world = torch.tensor(frame["transform_matrix"], dtype=torch.float64) @ OPENGL_TO_OPENCV
    with Image.open(folder / "test" / f"r_{index}.png") as picture:
        white = Image.new("RGBA", picture.size, "white")
        rgb = np.asarray(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
    image = torch.from_numpy(rgb.copy()).permute(2, 0, 1) / 255
    fov = float(np.degrees(scene["camera_angle_x"]))
    camera = Camera.from_fov(fov, image.shape[2], image.shape[1], camera_to_world.inverse())
    depth = read_depth(folder / "test" / f"r_{index}_depth_0001.png", unit=-8 / 255, offset=8)
    return PosedView(image, camera, depth)


def dtu(index: int) -> PosedView:
    """DTU scan1 at 640x512: the image halved, its middle cut out, to which K and depth belong at 160x128."""
    stem = DATA / "nvs_dtu_scan1" / f"{index:06d}"
    words = Path(f"{stem}.txt").read_text().split()
    world_to_camera = torch.tensor([float(value) for value in words[1:17]], dtype=torch.float64).reshape(4, 4)
    fx, _, cx, _, fy, cy = (float(value) for value in words[18:24])
    with Image.open(f"{stem}.jpg") as picture:
        half = picture.convert("RGB").resize((800, 600), Image.Resampling.BOX)
    image = torch.from_numpy(np.asarray(half)[44:556, 80:720].copy()).permute(2, 0, 1) / 255
    small = Camera.from_intrinsics((fx, fy, cx, cy), 160, 128, world_to_camera)
    depth = read_depth(f"{stem}.pfm").resize(640, 512)
    return PosedView(image, small.resize(640, 512), depth)


def psnr(a: Tensor, b: Tensor, mask: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images [3, H, W] in [0, 1] over the pixels of a mask [1, H, W]."""
    error = ((a.double() - b.double()) ** 2).mean(dim=0, keepdim=True)[mask > 0]
    return float(-10 * torch.log10(error.mean()))


def _image(path: Path) -> Tensor:
    """Image as float32 [3, H, W] in [0, 1]."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1) / 255


def _camera(
    image: Tensor, intrinsics: tuple[float, float, float, float], world_to_camera: Tensor, pixel_center: float = 0.5
) -> Camera:
    """Camera of an image's size."""
    return Camera.from_intrinsics(intrinsics, image.shape[2], image.shape[1], world_to_camera, pixel_center)
