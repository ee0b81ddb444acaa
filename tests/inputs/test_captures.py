"""Captures as people have them: which image belongs to which camera, and what is opened to find out."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.cameras.colmap_text import write_colmap
from mvguide.cameras.matrices import write_matrices
from mvguide.cameras.transforms import write_transforms
from mvguide.cameras.tum import write_tum
from mvguide.config.input_options import CropOptions, DepthOptions, InputConfig, LensOptions, SourceOptions
from mvguide.errors import FileError, InputError
from mvguide.files import images as image_files
from mvguide.files.images import write_png
from mvguide.geometry.camera import Camera
from mvguide.inputs.loading import Inputs, find_posed, load_inputs, load_views
from tests.cameras.camera_cases import llff_table, mvsnet_text
from tests.real_data import DATA, needs_data

SIZE = (32, 24)
INTRINSICS = [40.0, 40.0, 16.0, 12.0]


def some_path(count: int) -> Camera:
    """Cameras side by side."""
    one = Camera.from_intrinsics(INTRINSICS, *SIZE)
    motion = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    motion[:, 0, 3] = -0.1 * torch.arange(count)
    return Camera(one.intrinsics, motion, *SIZE)


def paint(folder: Path, names: list[str]) -> None:
    """Images that differ in brightness, by their order."""
    for index, name in enumerate(names):
        write_png(folder / name, torch.full((3, SIZE[1], SIZE[0]), index / 100))


def load(cameras: Path, said: list[str] | None = None, **options: object) -> Inputs:
    """Views without depth."""
    source = {name: options.pop(name) for name in ("images", "use") if name in options}
    lens = LensOptions(**options)  # type: ignore[arg-type]
    say = None if said is None else said.append
    return load_views(
        SourceOptions(cameras=str(cameras), **source),  # type: ignore[arg-type]
        DepthOptions(depth_source="file", depth_align="none"),
        lens,
        CropOptions(),
        say,
    )


def brightness(inputs: Inputs) -> list[int]:
    """By which the images are known."""
    return [round(100 * float(view.image.mean())) for view in inputs.views]


def test_missing_pictures_are_skipped_and_counted(tmp_path: Path) -> None:
    names = [f"images/{index}.png" for index in range(5)]
    write_transforms(tmp_path / "transforms.json", some_path(5), names)
    paint(tmp_path, names)
    (tmp_path / names[0]).unlink()
    (tmp_path / names[3]).unlink()
    said: list[str] = []
    found = load(tmp_path, said)
    assert brightness(found) == [1, 2, 4]
    assert found.views[2].camera.center[0] == pytest.approx(0.4)
    assert [line for line in said if "2 of 5 images" in line and "skipped, first images/0.png" in line], said
    # Numbers are those of the camera file, whatever is missing.
    assert brightness(load(tmp_path, use=["4", "1"])) == [4, 1]
    with pytest.raises(FileError, match="images/3.png' of .* does not exist"):
        load(tmp_path, use=["1", "3"])
    known, (use, rest) = find_posed(InputConfig(cameras=str(tmp_path)), ["4"], None)
    assert (known, use, rest) == ([names[1], names[2], names[4]], [2], None)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(FileError, match="images/0.png' of .* does not exist; check the folder, or give that of"):
        load(tmp_path)


def test_the_folder_of_the_pictures_decides_the_names_of_llff(tmp_path: Path) -> None:
    np.save(tmp_path / "poses_bounds.npy", llff_table(some_path(3)))
    paint(tmp_path / "images", ["b.png", "c.png", "d.png"])
    paint(tmp_path / "images_8", ["image000.png", "image001.png", "image002.png"])
    paint(tmp_path / "few", ["x.png"])
    small = load(tmp_path, images=str(tmp_path / "images_8"), use=["image002"])
    assert small.views[0].name == "image002.png"
    assert small.views[0].camera.center[0] == pytest.approx(0.2)
    with pytest.raises(InputError, match="has 3 cameras, but .*few holds 1 images"):
        load(tmp_path, images=str(tmp_path / "few"))
    (tmp_path / "images" / "b.png").unlink()  # now the folder of another size is the only one with a name for each
    assert len(load(tmp_path, images=str(tmp_path / "images_8")).views) == 3


def test_pictures_elsewhere_are_paired_by_name(tmp_path: Path) -> None:
    """By order, the image of an image that COLMAP could not register would shift all others by one."""
    write_colmap(tmp_path / "sparse", some_path(3), ["a.JPG", "c.JPG", "d.JPG"])
    paint(tmp_path / "half", ["a.png", "b.png", "c.png", "d.png"])
    found = load(tmp_path / "sparse", images=str(tmp_path / "half"))
    assert brightness(found) == [0, 2, 3]


def test_a_damaged_model_does_not_hide_a_good_file_beside_it(tmp_path: Path) -> None:
    write_colmap(tmp_path / "sparse" / "0", some_path(3), ["a.png", "b.png", "c.png"])
    np.save(tmp_path / "poses_bounds.npy", llff_table(some_path(3)))
    paint(tmp_path / "images", ["a.png", "b.png", "c.png"])
    file = tmp_path / "sparse" / "0" / "images.txt"
    file.write_text(file.read_text()[:150])
    said: list[str] = []
    assert len(load(tmp_path, said).views) == 3
    assert "cameras are read from its llff files, because" in said[0]
    assert "images.txt" in said[0]
    with pytest.raises(FileError, match=r"images\.txt"):
        load(tmp_path, camera_format="colmap")
    (tmp_path / "poses_bounds.npy").write_bytes(b"x")
    with pytest.raises(FileError, match=r"images\.txt"):
        load(tmp_path)


@pytest.mark.parametrize("numbers", [12, 16])
def test_a_line_of_numbers_a_camera_with_intrinsics_beside_it(tmp_path: Path, numbers: int) -> None:
    poses = some_path(3).camera_to_world.reshape(3, 16)[:, :numbers]
    np.savetxt(tmp_path / "poses.txt", poses.numpy())
    np.savetxt(tmp_path / "K.txt", some_path(1).intrinsics[0].numpy())
    paint(tmp_path / "images", ["0.png", "1.png", "2.png"])
    said: list[str] = []
    found = load(tmp_path, said, use=["2.png"])
    assert "K.txt" in said[0]
    assert found.views[0].camera.intrinsics.tolist() == some_path(1).intrinsics[0].tolist()
    assert found.views[0].camera.center.tolist() == pytest.approx([0.2, 0, 0])
    given = load(tmp_path, use=["0"], intrinsics=[50, 50, 15, 11]).views[0].camera
    assert float(given.intrinsics[0, 0]) == 50
    (tmp_path / "K.txt").write_text("1 2 3")
    with pytest.raises(FileError, match=r"K.txt has 3 numbers.*--intrinsics"):
        load(tmp_path)
    (tmp_path / "K.txt").unlink()
    with pytest.raises(InputError, match="holds poses alone; give the images' intrinsics as --intrinsics"):
        load(tmp_path)


def test_kitti(tmp_path: Path) -> None:
    (tmp_path / "poses").mkdir()
    np.savetxt(tmp_path / "poses" / "00.txt", some_path(2).camera_to_world.reshape(2, 16)[:, :12].numpy())
    sequence = tmp_path / "sequences" / "00"
    paint(sequence / "image_2", ["000000.png", "000001.png"])
    matrix = "40 0 16 {} 0 40 12 0 0 0 1 0"
    lines = [f"P{index}: {matrix.format(-index)}" for index in range(4)]
    (sequence / "calib.txt").write_text("\n".join([*lines, "Tr: 1 0 0 0 0 1 0 0 0 0 1 0", ""]))
    found = load(tmp_path / "poses" / "00.txt", images=str(sequence / "image_2"))
    assert brightness(found) == [0, 1]
    assert found.views[1].camera.intrinsics.tolist() == [[40, 0, 16], [0, 40, 12], [0, 0, 1]]
    assert found.views[1].camera.center.tolist() == pytest.approx([0.1, 0, 0])


def test_the_format_can_be_given(tmp_path: Path) -> None:
    write_matrices(tmp_path / "poses.log", some_path(2))  # a name that belongs to another format
    paint(tmp_path / "images", ["0.png", "1.png"])
    given: dict[str, Any] = {"images": str(tmp_path / "images"), "intrinsics": INTRINSICS}
    with pytest.raises(FileError, match=r"has 8 lines; a Redwood .log has 5 for each camera"):
        load(tmp_path / "poses.log", **given)
    found = load(tmp_path / "poses.log", **given, camera_format="matrices")
    assert found.views[1].camera.center.tolist() == pytest.approx([0.1, 0, 0])
    with pytest.raises(InputError, match="camera format is 'bundler'; the formats are transforms, colmap"):
        load(tmp_path / "poses.log", **given, camera_format="bundler")
    (tmp_path / "odometry").write_text("a b c\n")
    with pytest.raises(FileError, match="no format that is recognised; name the format with --camera_format"):
        load(tmp_path / "odometry", **given)


def test_two_views_of_fifty_open_two_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{index:08d}.png" for index in range(50)]
    paint(tmp_path / "images", names)
    (tmp_path / "cams").mkdir()
    for index in range(50):
        (tmp_path / "cams" / f"{index:08d}_cam.txt").write_text(mvsnet_text(some_path(50)[index]))
    write_tum(tmp_path / "path.tum", some_path(50))
    opened: set[str] = set()

    open_picture = image_files.open_picture

    def opening(path: Path) -> Image.Image:
        opened.add(Path(path).name)
        return open_picture(path)

    monkeypatch.setattr(image_files, "open_picture", opening)
    for cameras, options in (
        ("cams", {}),
        ("cams", {"images": str(tmp_path / "images")}),
        ("path.tum", {"images": str(tmp_path / "images"), "intrinsics": INTRINSICS}),
    ):
        opened.clear()
        assert brightness(load(tmp_path / cameras, use=["7", "31"], **options)) == [7, 31]
        assert opened == {names[7], names[31]}


def test_intrinsics_of_another_size_are_not_taken_for_the_pictures(tmp_path: Path) -> None:
    paint(tmp_path / "images", ["00000000.png"])
    (tmp_path / "cams").mkdir()
    camera = some_path(1)[0].resize(8, 6)
    (tmp_path / "cams" / "00000000_cam.txt").write_text(mvsnet_text(camera))
    with pytest.raises(InputError, match=r"far from the middle of the 32 x 24 image; .* --camera_size"):
        load(tmp_path / "cams")
    found = load(tmp_path / "cams", camera_size=[8, 6])
    assert found.views[0].camera.intrinsics.tolist() == some_path(1).intrinsics[0].tolist()


@needs_data
def test_dtu_without_options_names_the_option_that_it_needs() -> None:
    folder = DATA / "nvs_dtu_scan1"
    with pytest.raises(InputError, match="--camera_size"):
        load(folder)
    with pytest.raises(InputError, match="--already_cropped"):
        load_views(
            SourceOptions(cameras=str(folder)), DepthOptions(depth=str(folder)), LensOptions(camera_size=[160, 128])
        )


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
@pytest.mark.parametrize("option", ["image", "cameras", "video", "depth", "images"])
def test_names_that_no_disk_can_hold_are_refused_in_a_sentence(tmp_path: Path, option: str, name: str) -> None:
    paint(tmp_path, ["a.png"])
    write_transforms(tmp_path / "transforms.json", some_path(1), ["a.png"])
    options: dict[str, Any] = {"cameras": str(tmp_path)} if option in ("depth", "images") else {}
    config = InputConfig(**{**options, option: name})
    with pytest.raises(FileError):
        load_inputs(config)


def said_of_depth(folder: Path, stored: np.ndarray, **options: object) -> list[str]:
    """What is said of one image with a depth file."""
    paint(folder, ["a.png"])
    np.save(folder / "a.npy", stored)
    said: list[str] = []
    depth = DepthOptions(depth=str(folder / "a.npy"), **options)  # type: ignore[arg-type]
    load_views(SourceOptions(image=str(folder / "a.png")), depth, LensOptions(fov=60), say=said.append)
    return said


def test_an_enlarged_depth_map_is_said(tmp_path: Path) -> None:
    assert said_of_depth(tmp_path, np.ones((24, 32)), depth_kind="depth") == []
    assert said_of_depth(tmp_path, np.ones((23, 31)), depth_kind="depth") == []
    (line,) = said_of_depth(tmp_path, np.ones((3, 4)), depth_kind="depth")
    assert "depth maps of 1 of 1 images were enlarged, that of a.png 8 times" in line


@pytest.mark.parametrize(
    ("focal", "offset", "warned"), [(1000.0, 120.0, False), (1000.0, 0.0, True), (4.0, 120.0, True), (1e6, 120.0, True)]
)
def test_stereo_numbers_that_make_no_scene_are_said(tmp_path: Path, focal: float, offset: float, warned: bool) -> None:
    """Middlebury: disparity + doffs runs from 120 to 220 pixels; without doffs the far end is beyond all scenes."""
    disparity = np.geomspace(0.01, 100, 24 * 32).reshape(24, 32)
    said = said_of_depth(
        tmp_path, disparity, depth_kind="disparity", depth_baseline=0.2, depth_focal=focal, depth_offset=offset
    )
    assert any("--depth_offset (Middlebury's doffs)" in line for line in said) == warned
