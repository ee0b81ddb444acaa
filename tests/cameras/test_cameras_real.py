"""The camera readers against COLMAP itself, and on the real data of shared/data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mvguide.cameras.colmap_text import write_colmap
from mvguide.cameras.formats import read_cameras
from mvguide.geometry.camera import Camera
from mvguide.geometry.lens import Lens, distort
from tests.cameras.camera_cases import some_cameras
from tests.real_data import DATA, OPENGL_TO_OPENCV, dtu, lego, needs_data, redwood, seven_scenes

MODELS = [
    ("SIMPLE_PINHOLE", [160.0, 101, 77], Lens()),
    ("PINHOLE", [160.0, 170, 101, 77], Lens()),
    ("SIMPLE_RADIAL", [160.0, 101, 77, -0.1], Lens(k1=-0.1)),
    ("RADIAL", [160.0, 101, 77, -0.1, 0.02], Lens(k1=-0.1, k2=0.02)),
    ("OPENCV", [160.0, 170, 101, 77, -0.1, 0.02, 3e-3, -4e-3], Lens(k1=-0.1, k2=0.02, p1=3e-3, p2=-4e-3)),
]


def colmap_model(cameras: Camera, points: np.ndarray) -> Any:
    """A Reconstruction with a camera of every model, an image for each, and points that some images see."""
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction()
    for index, (name, params, _) in enumerate(MODELS):
        camera = pycolmap.Camera(model=name, width=200 + index, height=150, params=params, camera_id=index + 1)
        model.add_camera_with_trivial_rig(camera)
        motion = cameras.world_to_camera[index].numpy()
        rays = points @ motion[:3, :3].T + motion[:3, 3]
        keypoints = camera.img_from_cam(rays, check_cheirality=False)
        image = pycolmap.Image(
            name=f"p/{9 - index}.png", keypoints=keypoints, camera_id=index + 1, image_id=10 * index + 1
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(motion[:3]))
    for number, point in enumerate(points):
        track = pycolmap.Track()
        for index in range(len(MODELS)):
            if (number + index) % 3 == 0:
                track.add_element(10 * index + 1, number)
        model.add_point3D(point, track, np.array([number, 2, 255], np.uint8))
    return model


@pytest.mark.parametrize("binary", [False, True])
def test_models_that_colmap_writes(tmp_path: Path, binary: bool) -> None:
    cameras = some_cameras(len(MODELS))
    points = np.random.default_rng(0).normal(size=(12, 3)) * 4
    model = colmap_model(cameras, points)
    place = tmp_path / "sparse" / "0"
    place.mkdir(parents=True)
    (model.write_binary if binary else model.write_text)(place)
    read = read_cameras(tmp_path)
    assert read.names == [f"p/{number}.png" for number in (5, 6, 7, 8, 9)]
    assert read.points is not None
    assert read.tracks is not None
    for image, tracked in zip(read.images, read.tracks, strict=True):
        index = 9 - int(image.name[2])
        assert image.lens == MODELS[index][2]
        assert (image.camera.width, image.camera.height) == (200 + index, 150)
        assert torch.allclose(image.camera.world_to_camera, cameras.world_to_camera[index], atol=1e-12)
        # Every ray falls where COLMAP says that it does: focal lengths, principal point, lens and pose at once.
        theirs = model.images[10 * index + 1]
        rays = image.camera.world_to_camera[:3, :3] @ torch.from_numpy(points).T + image.camera.world_to_camera[:3, 3:]
        bent = distort((rays[:2] / rays[2:]).T, image.lens)
        pixels = bent @ image.camera.intrinsics[:2, :2].mT + image.camera.intrinsics[:2, 2]
        wanted = np.stack([point.xy for point in theirs.points2D])
        seen = rays[2] > 0
        assert torch.allclose(pixels[seen], torch.from_numpy(wanted)[seen], rtol=1e-9, atol=1e-6)
        expected = points[[number for number in range(12) if (number + index) % 3 == 0]]
        assert np.allclose(np.sort(tracked.numpy(), axis=0), np.sort(expected, axis=0), atol=1e-12)
    order = read.extra["point_colors"][:, 0].long()
    assert torch.allclose(read.points, torch.from_numpy(points)[order], atol=1e-12)


def test_models_that_colmap_reads(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    cameras = some_cameras(4)
    names = [f"frames/{index}.png" for index in range(4)]
    points = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    write_colmap(tmp_path, cameras, names, points, torch.tensor([[1.0, 0.5, 0]] * 5))
    model = pycolmap.Reconstruction(tmp_path)
    assert len(model.cameras) == 1
    for image in model.images.values():
        index = names.index(image.name)
        assert np.allclose(image.cam_from_world().matrix(), cameras.world_to_camera[index, :3].numpy(), atol=1e-12)
        assert np.allclose(image.camera.calibration_matrix(), cameras.intrinsics[index].numpy(), atol=1e-12)
        assert (image.camera.width, image.camera.height) == (200, 150)
    theirs = np.stack([model.points3D[number].xyz for number in sorted(model.points3D)])
    assert np.allclose(theirs, points.numpy(), atol=1e-12)
    assert all(point.color.tolist() == [255, 128, 0] for point in model.points3D.values())


def equal(a: Camera, b: Camera) -> bool:
    return (
        (a.width, a.height) == (b.width, b.height)
        and bool(torch.allclose(a.intrinsics, b.intrinsics, rtol=0, atol=1e-9))
        and bool(torch.allclose(a.world_to_camera, b.world_to_camera, rtol=0, atol=1e-9))
    )


@needs_data
def test_redwood() -> None:
    read = read_cameras(
        DATA / "redwood_rgbd" / "trajectory.log",
        intrinsics=(525, 525, 319.5, 239.5),
        size=(640, 480),
        pixel_center=0.0,
    )
    assert len(read) == 5
    assert all(equal(read.images[index].camera, redwood(index).camera) for index in (0, 4))
    assert read.extra["ids"][1] == [1, 1, 2]


@needs_data
def test_seven_scenes() -> None:
    given: dict[str, Any] = {"intrinsics": (585, 585, 320, 240), "size": (640, 480)}
    read = read_cameras(DATA / "7scenes_rgbd", **given)
    assert read.names == [f"frame-{index:06d}" for index in (0, 5, 10, 15, 20, 25, 30, 40, 50, 60)]
    for place, index in ((0, 0), (4, 20), (9, 60)):
        assert equal(read.images[place].camera, seven_scenes(index).camera)
        assert read.picture(place) == DATA / "7scenes_rgbd" / f"frame-{index:06d}.color.jpg"
    one = read_cameras(DATA / "7scenes_rgbd" / "frame-000020.pose.txt", **given)
    assert equal(one.images[0].camera, seven_scenes(20).camera)


@needs_data
def test_lego() -> None:
    read = read_cameras(DATA / "nerf_lego")
    for index in (0, 1):
        place = read.names.index(f"./test/r_{index}")
        assert equal(read.images[place].camera, lego(index).camera)
        assert read.picture(place) == DATA / "nerf_lego" / "test" / f"r_{index}.png"
    # By hand, without any reader of ours: the file's first matrix, its axes turned.
    frame = json.loads((DATA / "nerf_lego" / "transforms_test.json").read_text())["frames"][0]
    pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64) @ OPENGL_TO_OPENCV
    assert torch.allclose(read.images[0].camera.camera_to_world, pose, atol=1e-6)


@needs_data
def test_dtu() -> None:
    read = read_cameras(DATA / "nvs_dtu_scan1", size=(160, 128))
    assert read.names == ["000001", "000002"]
    assert all(equal(read.images[index].camera.resize(640, 512), dtu(index + 1).camera) for index in (0, 1))
    assert read.extra["depth_range"] == [[425.0, 2.5]] * 2
    assert read.picture(0) == DATA / "nvs_dtu_scan1" / "000001.jpg"
