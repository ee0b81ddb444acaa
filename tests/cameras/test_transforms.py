import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvguide.cameras.transforms import read_transforms, write_transforms
from mvguide.errors import FileError, InputError, MvguideError, OutputError
from mvguide.geometry.camera import Camera
from tests.mutations import JSON, damaged, result_or_error

LEGO = Path(__file__).resolve().parents[2] / "../shared/data/nerf_lego"


def rotation(axis: torch.Tensor, angle: float) -> torch.Tensor:
    """Rodrigues' formula."""
    x, y, z = (axis / axis.norm()).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def some_cameras(count: int, zoom: bool = False) -> Camera:
    generator = torch.Generator().manual_seed(3)
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for pose in poses:
        axis = torch.randn(3, generator=generator, dtype=torch.float64)
        pose[:3, :3] = rotation(axis, float(torch.rand(1, generator=generator)) * 3)
        pose[:3, 3] = torch.randn(3, generator=generator, dtype=torch.float64) * 5
    focal = 500 + 30 * torch.arange(count) * zoom
    matrix = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2] = focal / 3, focal / 2.9, 101.3, 77.7
    return Camera(matrix, poses, 200, 150)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-12)


@pytest.mark.parametrize("zoom", [False, True])
def test_round_trip_is_exact(tmp_path: Path, zoom: bool) -> None:
    cameras = some_cameras(6, zoom)
    names = [f"frames/{i:04d}.png" for i in range(6)]
    write_transforms(tmp_path / "new" / "transforms.json", cameras, names, {"maker": "mvguide", "seed": [1, 2]})
    read = read_transforms(tmp_path / "new" / "transforms.json")
    assert close(read.cameras.world_to_camera, cameras.world_to_camera)
    assert torch.equal(read.cameras.intrinsics, cameras.intrinsics)
    assert (read.cameras.width, read.cameras.height) == (200, 150)
    assert read.image_names == names
    assert read.extra == {"maker": "mvguide", "seed": [1, 2]}
    document = json.loads((tmp_path / "new" / "transforms.json").read_text())
    assert ("fl_x" in document) is not zoom
    assert all(("fl_x" in frame) is zoom for frame in document["frames"])


def test_axes_are_opengl(tmp_path: Path) -> None:
    # A camera at the origin looking along +z with y down is, in OpenGL axes, turned half around x.
    write_transforms(tmp_path / "a.json", Camera.from_fov(60, 8, 6), ["a.png"])
    document = json.loads((tmp_path / "a.json").read_text())
    wanted = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    assert torch.equal(torch.tensor(document["frames"][0]["transform_matrix"]), wanted)
    # A camera raised by 2 (y is down: centre at -2) stays there: only the camera's axes change, not the world.
    pose = torch.eye(4, dtype=torch.float64)
    pose[1, 3] = 2
    write_transforms(tmp_path / "b.json", Camera.from_fov(60, 8, 6, pose), ["a.png"])
    matrix = torch.tensor(json.loads((tmp_path / "b.json").read_text())["frames"][0]["transform_matrix"])
    assert matrix[:3, 3].tolist() == [0, -2, 0]
    assert matrix[:3, :3].tolist() == wanted[:3, :3].tolist()


def test_a_single_camera_becomes_a_batch_of_one(tmp_path: Path) -> None:
    camera = Camera.from_fov(55, 64, 48)
    write_transforms(tmp_path / "a.json", camera, ["a.png"])
    read = read_transforms(tmp_path / "a.json").cameras
    assert len(read) == 1
    assert torch.equal(read.intrinsics[0], camera.intrinsics)


def document_of(**changes: Any) -> dict[str, Any]:
    frame = {"file_path": "a.png", "transform_matrix": torch.eye(4).tolist()}
    top = {"w": 40, "h": 30, "fl_x": 50.0, "fl_y": 51.0, "cx": 20.5, "cy": 15.5, "frames": [frame]}
    for key, value in changes.items():
        place = frame if key in ("transform_matrix", "file_path", "colmap_im_id") else top
        if value is None:
            place.pop(key)
        else:
            place[key] = value
    return top


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": []}, "no list of frames"),
        ({"frames": None}, "no list of frames"),
        ({"frames": [3]}, "frame 0 is not an object"),
        ({"transform_matrix": None}, "frame 0 has no transform_matrix"),
        ({"transform_matrix": [[1, 2], [3, 4]]}, "no transform_matrix of 4 x 4"),
        ({"transform_matrix": [[1, 0, 0, "x"], *torch.eye(4).tolist()[1:]]}, "transform_matrix that is not a finite"),
        ({"transform_matrix": [[math.inf, 0, 0, 0], *torch.eye(4).tolist()[1:]]}, "transform_matrix that is not a fin"),
        ({"transform_matrix": [[10**400, 0, 0, 0], *torch.eye(4).tolist()[1:]]}, "transform_matrix that is not a fin"),
        ({"transform_matrix": torch.zeros(4, 4).tolist()}, "0 0 0 1"),
        ({"transform_matrix": torch.diag(torch.tensor([1.0, 1, 0, 1])).tolist()}, "singular"),
        ({"transform_matrix": torch.diag(torch.tensor([1.0, -1, 1, 1])).tolist()}, "reflected"),
        ({"transform_matrix": torch.diag(torch.tensor([2.0, 2, 2, 1])).tolist()}, "not rigid"),
        ({"fl_x": 0, "fl_y": 0}, "focal length"),
        ({"fl_x": -5.0}, "negative focal length"),
        ({"fl_x": None, "fl_y": None}, "no focal length"),
        ({"fl_x": True}, "fl_x that is not a finite number"),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": 4.0}, "angle in radians between 0 and pi"),
        ({"w": 40.5}, "whole number of pixels"),
        ({"w": None}, "no w and h"),
        ({"k1": 0.1}, r"lens distortion \(k1\)"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera model 'OPENCV_FISHEYE'"),
        ({"file_path": 7}, "file_path that is not text"),
    ],
)
def test_bad_files_are_refused_with_a_sentence(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(document_of(**changes)))
    with pytest.raises(FileError, match=words):
        read_transforms(tmp_path / "a.json")


def test_files_that_are_no_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.json").write_text("[1, 2]")
    for name, words in [("a.json", "cannot be read"), ("b.json", "cannot be read"), ("c.json", "no list of frames")]:
        with pytest.raises(FileError, match=words):
            read_transforms(tmp_path / name)
    with pytest.raises(FileError, match="does not exist"):
        read_transforms(tmp_path / "none.json")


def test_defaults_of_the_format(tmp_path: Path) -> None:
    document = document_of(cx=None, cy=None, fl_y=None, transform_matrix=torch.eye(4)[:3].tolist(), k1=0.0)
    (tmp_path / "a.json").write_text(json.dumps(document))
    matrix = read_transforms(tmp_path / "a.json").cameras.intrinsics[0]
    assert matrix.tolist() == [[50, 0, 20], [0, 50, 15], [0, 0, 1]]


def test_unlike_sizes_are_refused(tmp_path: Path) -> None:
    document = document_of()
    document["frames"].append(document["frames"][0] | {"w": 41})
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(FileError, match=r"unlike sizes \(40 x 30, 41 x 30\)"):
        read_transforms(tmp_path / "a.json")


def test_the_size_may_come_from_the_caller_or_the_picture(tmp_path: Path) -> None:
    document = document_of(w=None, h=None, fl_x=None, fl_y=None, cx=None, cy=None, camera_angle_x=math.pi / 2)
    document["frames"][0]["file_path"] = "./train/r_0"
    (tmp_path / "a.json").write_text(json.dumps(document))
    given_size = read_transforms(tmp_path / "a.json", size=(64, 32)).cameras
    assert (given_size.width, given_size.height) == (64, 32)
    assert float(given_size.intrinsics[0, 0, 0]) == pytest.approx(32)
    (tmp_path / "train").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "train" / "r_0.png")
    asked = read_transforms(tmp_path / "a.json").cameras
    assert (asked.width, asked.height) == (20, 10)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    cameras = some_cameras(2)
    skewed = cameras.intrinsics.clone()
    skewed[0, 0, 1] = 1
    cases: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        ((cameras, ["a.png"]), InputError, "1 image names for cameras of shape"),
        ((cameras, ["a", "b"], {"fl_x": 3}), InputError, "fl_x"),
        ((cameras, ["a", "b"], {"x": object()}), InputError, "cannot be written as JSON"),
        ((cameras, ["a", "b"], {"x": math.nan}), InputError, "cannot be written as JSON"),
        ((Camera(skewed, cameras.world_to_camera, 200, 150), ["a", "b"]), InputError, "skew"),
        ((Camera(skewed * math.nan, cameras.world_to_camera, 200, 150), ["a", "b"]), InputError, "NaN"),
    ]
    for arguments, error, words in cases:
        with pytest.raises(error, match=words):
            write_transforms(tmp_path / "a.json", *arguments)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is not a folder"):
        write_transforms(tmp_path / "file" / "a.json", cameras, ["a", "b"])
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not LEGO.exists(), reason="shared data is not here")
def test_lego_cameras_look_at_the_model() -> None:
    read = read_transforms(LEGO / "transforms_test.json")
    assert (read.cameras.width, read.cameras.height) == (800, 800)
    assert float(read.cameras.intrinsics[0, 0, 0]) == pytest.approx(1111.1, abs=0.1)
    # The set's cameras all look at the origin from the upper half of a sphere: with wrong axes it would be behind them.
    pixels, depth = read.cameras.project(torch.zeros(len(read.cameras), 1, 3, dtype=torch.float64))
    assert (pixels - 400).abs().max() < 1e-2
    assert ((depth - 4.031).abs() < 0.01).all()
    assert (read.cameras.center[:, 2] > -1e-6).all()
    up_in_picture = read.cameras.project(
        torch.tensor([[[0.0, 0.0, 0.5]]], dtype=torch.float64).expand(len(read.cameras), 1, 3)
    )
    assert (up_in_picture[0][..., 1] <= 400 + 1e-6).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transforms")


KEYS = ["w", "h", "fl_x", "fl_y", "cx", "cy", "k1", "camera_model", "frames", "file_path", "transform_matrix"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(folder: Path, data: st.DataObject) -> None:
    path = folder / "damaged.json"
    text = json.dumps(document_of()).encode()
    kind = data.draw(st.sampled_from(["bytes", "json", "entry"]))
    if kind == "bytes":
        content = data.draw(damaged(text))
    elif kind == "json":
        content = json.dumps(data.draw(JSON)).encode()
    else:
        document = document_of(colmap_im_id=1)
        key = data.draw(st.sampled_from(KEYS))
        target = document["frames"][0] if key in ("file_path", "transform_matrix") else document
        target[key] = data.draw(JSON)
        content = json.dumps(document).encode()
    path.write_bytes(content)
    read = result_or_error(read_transforms, path)
    if isinstance(read, MvguideError):
        assert str(path) in str(read)
        return
    assert len(read.cameras) == len(read.image_names) > 0
    read.cameras.check()
