"""Example captures: a few posed images in every layout that mvguide reads, and a short video with its depth."""

from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from mvguide.cameras.colmap_text import write_colmap
from mvguide.cameras.matrices import write_matrices
from mvguide.cameras.redwood import write_log
from mvguide.cameras.transforms import write_transforms
from mvguide.cameras.tum import write_tum
from mvguide.depth.maps import Depth
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.geometry.camera import Camera
from mvguide.views.view import View, scene_points
from tools.scenes import EXAMPLES, render_scenes

SIZE = 128
FAR = 65.0
"""Metres at which the sky is put: 16-bit millimetres end there."""

VIEWS_SEED, VIEWS_FRAMES = 10041, (0, 6, 12)
"""A courtyard that the camera passes sideways: parallax enough to find depth by it."""

FILM_SEED, FILM_FRAMES = 10043, 8
"""Something turns in it."""


@dataclass(frozen=True)
class Rendered:
    """Images [F, 3, H, W], depth [F, H, W] in metres, and cameras of some frames of a scene."""

    pictures: Tensor
    depth: Tensor
    cameras: Camera

    @classmethod
    def of(cls, seed: int, count: int, frames: tuple[int, ...]) -> "Rendered":
        """Render a scene that is kept for examples."""
        if seed not in EXAMPLES:
            raise SystemExit(f"seed {seed} is not one that is kept for examples")
        found = render_scenes([seed], size=SIZE, frames=count, supersample=3, with_depth=True)
        assert found.depth is not None  # it was asked for
        chosen = list(frames)
        cameras = Camera(found.intrinsics[0].double(), found.world_to_camera[0, chosen].double(), SIZE, SIZE)
        depth = torch.nan_to_num(found.depth[0, chosen].double(), posinf=FAR).clamp(0.001, FAR)
        return cls(found.video[0, chosen], depth, cameras)

    def views(self) -> list[View]:
        """The frames as views."""
        known = torch.ones(SIZE, SIZE, dtype=torch.bool)
        return [
            View(picture, self.cameras[index], Depth(depth.float(), known, True))
            for index, (picture, depth) in enumerate(zip(self.pictures, self.depth, strict=True))
        ]


def make_views(out: Path) -> None:
    """Posed images with depth: one capture, its cameras in seven formats."""
    scene = Rendered.of(VIEWS_SEED, 16, VIEWS_FRAMES)
    names = [f"{index:04d}.png" for index in range(len(VIEWS_FRAMES))]
    for name, picture, depth in zip(names, scene.pictures, scene.depth, strict=True):
        write_png(out / "images" / name, picture)
        _write_millimetres(out / "depth" / name, depth)
    depth_names = [{"depth_file_path": f"depth/{name}"} for name in names]
    places = [f"images/{name}" for name in names]
    write_transforms(out / "transforms.json", scene.cameras, places, frame_extra=depth_names)
    points, colours = scene_points(scene.views(), 600)
    near = points.norm(dim=-1) < FAR / 2  # without the sky
    write_colmap(out / "sparse" / "0", scene.cameras, names, points[near], colours[near])
    write_log(out / "trajectory.log", scene.cameras)
    write_tum(out / "trajectory.tum", scene.cameras)
    np.save(out / "poses_bounds.npy", _llff(scene.cameras, scene.depth))
    for index, name in enumerate(names):
        stem = Path(name).stem
        write_matrices(out / "poses" / f"{stem}.pose.txt", scene.cameras[index])
        write_png(out / "poses" / f"{stem}.color.png", scene.pictures[index])
        _write_mvsnet(out / "cams" / f"{stem}_cam.txt", scene.cameras[index], scene.depth[index])


def make_film(out: Path) -> None:
    """A video with a moving object, its cameras, and relative inverse depth for each frame; the first frame alone."""
    scene = Rendered.of(FILM_SEED, FILM_FRAMES, tuple(range(FILM_FRAMES)))
    out.mkdir(parents=True, exist_ok=True)
    write_video(out / "clip.mp4", scene.pictures, fps=7)
    write_png(out / "frame.png", scene.pictures[0])
    nearest = float((1 / scene.depth).max())
    for index, depth in enumerate(scene.depth):
        inverse = (1 / depth / nearest * 65534).round()
        (out / "disparity").mkdir(exist_ok=True)
        iio.imwrite(out / "disparity" / f"{index:04d}.png", inverse.numpy().astype(np.uint16))
    write_transforms(out / "transforms.json", scene.cameras, [f"clip.mp4#{index}" for index in range(FILM_FRAMES)])


def _write_millimetres(path: Path, depth: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, (depth / 0.001).round().numpy().astype(np.uint16))


def _llff(cameras: Camera, depths: Tensor) -> np.ndarray:
    """poses_bounds.npy: for each image [down, right, back, centre, (height, width, focal)] and two bounds."""
    rows = []
    for index, depth in enumerate(depths):
        camera = cameras[index]
        right, down, forward, centre = camera.camera_to_world[:3].T
        sizes = torch.tensor([camera.height, camera.width, float(camera.intrinsics[0, 0])])
        pose = torch.stack([down, right, -forward, centre, sizes.double()], dim=1)
        solid = depth[depth < FAR / 2]
        rows.append(torch.cat([pose.flatten(), solid.quantile(torch.tensor([0.02, 0.98]).double())]).numpy())
    return np.stack(rows)


def _write_mvsnet(path: Path, camera: Camera, depth: Tensor) -> None:
    """MVSNet's cam.txt, its K for the image's own size."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def rows(matrix: Tensor) -> str:
        return "\n".join(" ".join(f"{value:.9g}" for value in row) for row in matrix.tolist())

    near = float(depth.min())
    text = f"extrinsic\n{rows(camera.world_to_camera)}\n\nintrinsic\n{rows(camera.intrinsics)}\n\n{near:.4f} 0.05\n"
    path.write_text(text)
