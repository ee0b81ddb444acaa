"""Cameras and files that the tests of the camera readers share."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvguide.cameras.colmap_text import write_colmap
from mvguide.cameras.matrices import write_matrices
from mvguide.cameras.posed import PosedImages
from mvguide.cameras.redwood import write_log
from mvguide.cameras.transforms import write_transforms
from mvguide.cameras.tum import write_tum
from mvguide.geometry.camera import Camera

SIZE = (200, 150)
INTRINSICS = (166.5, 172.25, 101.3, 77.7)
GIVEN: dict[str, Any] = {"intrinsics": INTRINSICS, "size": SIZE}


def some_cameras(count: int, seed: int = 3) -> Camera:
    """Cameras all over the place: any rotation, centres some units away."""
    generator = torch.Generator().manual_seed(seed)
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for pose in poses:
        turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
        pose[:3, :3] = turn * torch.linalg.det(turn)
        pose[:3, 3] = torch.randn(3, generator=generator, dtype=torch.float64) * 5
    one = Camera.from_intrinsics(INTRINSICS, *SIZE)
    return Camera(one.intrinsics, poses, *SIZE)


def same(read: PosedImages, cameras: Camera, tolerance: float = 1e-9) -> bool:
    """Whether intrinsics, poses and sizes are those of the cameras."""
    trajectory = read.trajectory()
    assert trajectory.intrinsics.dtype == trajectory.world_to_camera.dtype == torch.float64
    return (
        len(read) == len(trajectory) == len(cameras)
        and (trajectory.width, trajectory.height) == (cameras.width, cameras.height)
        and float((trajectory.intrinsics - cameras.intrinsics).abs().max()) <= tolerance
        and float((trajectory.world_to_camera - cameras.world_to_camera).abs().max()) <= tolerance
    )


def mvsnet_text(camera: Camera, tail: str = "2.5 0.1 192 21.6") -> str:
    rows = [" ".join(map(repr, row)) for row in camera.world_to_camera.tolist()]
    matrix = [" ".join(map(repr, row)) for row in camera.intrinsics.tolist()]
    return "\n".join(["extrinsic", *rows, "", "intrinsic", *matrix, "", tail, ""])


def llff_table(cameras: Camera, bounds: tuple[float, float] = (1.5, 9.0)) -> np.ndarray:
    """By the format's own words: columns down, right, backwards, centre, then height, width, focal."""
    rows = []
    for pose in cameras.camera_to_world.numpy():
        right, down, forward, center = pose[:3, :4].T
        sizes = [cameras.height, cameras.width, float(cameras.intrinsics[0, 0, 0])]
        rows.append([*np.stack([down, right, -forward, center, sizes], axis=1).ravel(), *bounds])
    return np.array(rows)


def colmap_binary_files(folder: Path) -> None:
    """A tiny binary model, written by hand from the format's description."""
    folder.mkdir(parents=True, exist_ok=True)
    camera = struct.pack("<QIiQQ8d", 1, 7, 4, 200, 150, 166.5, 172.25, 101.3, 77.7, 0.1, -0.02, 0.003, -0.004)
    (folder / "cameras.bin").write_bytes(camera)
    image = struct.pack("<I7dI", 3, 1, 0, 0, 0, 1, 2, 3, 7) + b"a.png\0"
    features = struct.pack("<Q2dq2dq", 2, 10, 20, 5, 30, 40, -1)
    (folder / "images.bin").write_bytes(struct.pack("<Q", 1) + image + features)
    point = struct.pack("<Q3d3BdQ2I", 5, 1, 2, 9, 10, 20, 30, 0.5, 1, 3, 0)
    other = struct.pack("<Q3d3BdQ", 6, 4, 5, 6, 1, 2, 3, 0.5, 0)
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", 2) + point + other)


def write_all(folder: Path) -> dict[str, Path]:
    """A valid file of every format; for COLMAP its several files. By name of the case, the file to damage."""
    cameras = some_cameras(2)
    names = ["a.png", "b.png"]
    for place in ("text", "binary"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    paths = {
        "transforms": folder / "transforms.json",
        "log": folder / "path.log",
        "matrices": folder / "path.txt",
        "tum": folder / "path.tum",
        "rows": folder / "path.kitti",
        "mvsnet": folder / "00000000_cam.txt",
        "llff": folder / "poses_bounds.npy",
    }
    lens = [{"k1": 0.1, "p1": 0.01, "depth_file_path": "a.pfm", "mask_path": "m.png"}, {}]
    write_transforms(paths["transforms"], cameras, names)
    document = json.loads(paths["transforms"].read_text())
    document["frames"] = [frame | more for frame, more in zip(document["frames"], lens, strict=True)]
    paths["transforms"].write_text(json.dumps(document))
    write_log(paths["log"], cameras)
    write_matrices(paths["matrices"], cameras)
    write_tum(paths["tum"], cameras)
    np.savetxt(paths["rows"], cameras.camera_to_world[:, :3].reshape(2, 12).numpy())
    paths["mvsnet"].write_text(mvsnet_text(cameras[0]))
    np.save(paths["llff"], llff_table(cameras))
    write_colmap(folder / "text", cameras, names, torch.eye(3))
    lines = (folder / "text" / "images.txt").read_text().splitlines()
    (folder / "text" / "images.txt").write_text("\n".join([*lines[:2], "1 2 1 3 4 -1 5 6 3", *lines[3:], ""]))
    colmap_binary_files(folder / "binary")
    for place, suffix in (("text", "txt"), ("binary", "bin")):
        for part in ("cameras", "images", "points3D"):
            paths[f"colmap {place} {part}"] = folder / place / f"{part}.{suffix}"
    return paths
