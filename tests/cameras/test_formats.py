"""Camera files in and out: round trips, the formats' own words, options, and how formats are found."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.cameras.colmap import read_colmap
from mvguide.cameras.colmap_text import write_colmap
from mvguide.cameras.formats import find_formats, read_cameras
from mvguide.cameras.matrices import write_matrices
from mvguide.cameras.redwood import write_log
from mvguide.cameras.transforms import read_transforms, write_transforms
from mvguide.cameras.tum import write_tum
from mvguide.errors import FileError, InputError, OutputError
from mvguide.geometry.camera import Camera
from mvguide.geometry.lens import Lens
from tests.cameras.camera_cases import (
    GIVEN,
    INTRINSICS,
    SIZE,
    colmap_binary_files,
    llff_table,
    mvsnet_text,
    same,
    some_cameras,
    write_all,
)

NAMES = [f"{index:04d}.png" for index in range(6)]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("path.log", write_log),
        ("path.txt", write_matrices),
        ("path.tum", write_tum),
    ],
)
def test_paths_without_intrinsics_round_trip(tmp_path: Path, name: str, write: Callable[[Path, Camera], None]) -> None:
    cameras = some_cameras(6)
    write(tmp_path / "new" / name, cameras)
    assert same(read_cameras(tmp_path / "new" / name, **GIVEN), cameras, 1e-12)
    write(tmp_path / "one", cameras[2])
    assert same(read_cameras(tmp_path / "one", **GIVEN), cameras[2:3], 1e-12)


def test_tum_keeps_timestamps(tmp_path: Path) -> None:
    times = [1305031102.1758 + index / 30 for index in range(6)]
    write_tum(tmp_path / "tum.txt", some_cameras(6), times)
    read = read_cameras(tmp_path / "tum.txt", **GIVEN)
    assert same(read, some_cameras(6), 1e-12)
    assert read.extra["timestamps"] == [float(name) for name in read.names] == times
    for wrong, words in [(times[:2], "2 timestamps for cameras"), ([*times[:5], math.nan], "NaN")]:
        with pytest.raises(InputError, match=words):
            write_tum(tmp_path / "tum.txt", some_cameras(6), wrong)


def test_formats_with_intrinsics_round_trip(tmp_path: Path) -> None:
    cameras = some_cameras(6)
    write_transforms(tmp_path / "transforms.json", cameras, NAMES)
    assert same(read_cameras(tmp_path / "transforms.json"), cameras, 1e-12)
    points = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    write_colmap(tmp_path / "model", cameras, NAMES, points, colors=torch.rand(20, 3))
    read = read_cameras(tmp_path / "model")
    assert same(read, cameras, 1e-12)
    assert read.names == NAMES
    assert read.points is not None
    assert torch.equal(read.points, points)
    assert read.extra["point_colors"].dtype == torch.uint8
    assert read.tracks is None
    assert (tmp_path / "model" / "cameras.txt").read_text().count("PINHOLE") == 1
    (tmp_path / "cams").mkdir()
    for index in range(6):
        (tmp_path / "cams" / f"{index:08d}_cam.txt").write_text(mvsnet_text(cameras[index]))
    (tmp_path / "cams" / "pair.txt").write_text("1\n0\n")
    read = read_cameras(tmp_path / "cams", size=SIZE)
    assert same(read, cameras, 1e-12)
    assert read.names == [f"{index:08d}" for index in range(6)]
    assert read.bounds is not None
    assert read.bounds.tolist() == [[2.5, 21.6]] * 6
    square = Camera.from_intrinsics((170, 170, 100, 75), *SIZE).intrinsics
    cameras = Camera(square, cameras.world_to_camera, *SIZE)
    np.save(tmp_path / "poses_bounds.npy", llff_table(cameras))
    read = read_cameras(tmp_path / "poses_bounds.npy")
    assert same(read, cameras, 1e-12)
    assert read.bounds is not None
    assert read.bounds.tolist() == [[1.5, 9.0]] * 6


def test_world_to_camera_matrices_and_folders_of_them(tmp_path: Path) -> None:
    cameras = some_cameras(3)
    write_matrices(tmp_path / "a.txt", cameras, world_to_camera=True)
    assert same(read_cameras(tmp_path / "a.txt", **GIVEN, world_to_camera=True), cameras)
    assert not same(read_cameras(tmp_path / "a.txt", **GIVEN), cameras)
    for index in (2, 0, 1):
        write_matrices(tmp_path / "poses" / f"frame-{index:06d}.pose.txt", cameras[index])
    Image.new("RGB", SIZE).save(tmp_path / "poses" / "frame-000001.color.jpg")
    read = read_cameras(tmp_path / "poses", **GIVEN)
    assert same(read, cameras)
    assert read.names == ["frame-000000", "frame-000001", "frame-000002"]
    assert read.picture(1) == tmp_path / "poses" / "frame-000001.color.jpg"
    with pytest.raises(FileError, match="frame-000000' of the camera file does not exist"):
        read.picture(0)


def test_a_camera_that_moved_right_and_looks_right_by_hand(tmp_path: Path) -> None:
    """Centre (2, 0, 0), turned so that it looks along world +x: its x axis is world -z."""
    pose = [[0, 0, 1, 2], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]
    rows = "\n".join(" ".join(map(str, row)) for row in pose)
    half = math.sqrt(0.5)
    (tmp_path / "a.log").write_text(f"0 0 1\n{rows}\n")
    (tmp_path / "a.pose.txt").write_text(rows)
    for count in (12, 16):
        (tmp_path / f"rows{count}").write_text(" ".join(rows.split()[:count]) + "\n")
    (tmp_path / "a.tum").write_text(f"# a comment\n12.5 2 0 0 0 {half} 0 {half}\n")
    down, right, back = (0, 1, 0), (0, 0, -1), (-1, 0, 0)
    row = np.column_stack([down, right, back, (2, 0, 0), (150, 200, 170)]).ravel().tolist()
    np.save(tmp_path / "poses_bounds.npy", np.array([[*row, 1, 2]]))
    # world_to_camera: x_c = -z, y_c = y, z_c = x - 2
    (tmp_path / "a_cam.txt").write_text(
        "extrinsic\n0 0 -1 0\n0 1 0 0\n1 0 0 -2\n0 0 0 1\nintrinsic\n9 0 90\n0 9 70\n0 0 1\n"
    )
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "cameras.txt").write_text("1 SIMPLE_PINHOLE 200 150 9 90 70\n")
    (tmp_path / "m" / "images.txt").write_text(f"1 {half} 0 {-half} 0 0 0 -2 1 a.png\n\n")
    poses_only = ("a.log", "a.pose.txt", "a.tum", "rows12", "rows16")
    options = dict.fromkeys(poses_only, GIVEN) | {"a_cam.txt": {"size": SIZE}}
    for name in (*poses_only, "poses_bounds.npy", "a_cam.txt", "m"):
        camera = read_cameras(tmp_path / name, **options.get(name, {})).images[0].camera
        assert torch.allclose(camera.center, torch.tensor([2.0, 0, 0], dtype=torch.float64), atol=1e-12), name
        assert torch.allclose(camera.forward, torch.tensor([1.0, 0, 0], dtype=torch.float64), atol=1e-12), name
        # A point ahead and below (+y) falls below the middle; one at -z, on the camera's right, falls right of it.
        pixels, depth = camera.project(torch.tensor([[6.0, 1, 0], [6, 0, -1]], dtype=torch.float64))
        assert depth.tolist() == pytest.approx([4, 4]), name
        assert pixels[0, 1] > camera.intrinsics[1, 2], name
        assert pixels[1, 0] > camera.intrinsics[0, 2], name


def test_pixel_centres_at_zero_are_shifted(tmp_path: Path) -> None:
    write_log(tmp_path / "a.log", some_cameras(1))
    read = read_cameras(tmp_path / "a.log", **GIVEN, pixel_center=0.0)
    assert read.images[0].camera.intrinsics[:2, 2].tolist() == pytest.approx([INTRINSICS[2] + 0.5, INTRINSICS[3] + 0.5])
    (tmp_path / "a_cam.txt").write_text(mvsnet_text(some_cameras(1)[0], "425 2.5"))
    read = read_cameras(tmp_path / "a_cam.txt", size=SIZE, pixel_center=0.0)
    assert read.images[0].camera.intrinsics[:2, 2].tolist() == pytest.approx([INTRINSICS[2] + 0.5, INTRINSICS[3] + 0.5])
    assert read.bounds is None
    assert read.extra["depth_range"] == [[425, 2.5]]


def test_transforms_with_lenses_sizes_and_depths_of_their_own(tmp_path: Path) -> None:
    cameras = some_cameras(2)
    more = [{"depth_file_path": "d/0.pfm", "mask_path": "m/0.png"}, {"depth_file_path": "d/1.pfm"}]
    write_transforms(tmp_path / "a.json", cameras, ["a.png", "b.png"], {"applied_scale": 2}, frame_extra=more)
    read = read_cameras(tmp_path / "a.json")
    assert same(read, cameras, 1e-12)
    assert [image.depth_name for image in read.images] == ["d/0.pfm", "d/1.pfm"]
    assert [image.mask_name for image in read.images] == ["m/0.png", None]
    assert read.extra == {"applied_scale": 2}
    for name in ("x" * 5000, "a\0b"):  # names that no disk can hold
        document = json.loads((tmp_path / "a.json").read_text())
        document["frames"][0]["file_path"] = name
        (tmp_path / "long.json").write_text(json.dumps(document))
        with pytest.raises(FileError, match="does not exist"):
            read_cameras(tmp_path / "long.json").picture(0)
        del document["w"]
        (tmp_path / "long.json").write_text(json.dumps(document))
        with pytest.raises(FileError, match="no w and h"):
            read_cameras(tmp_path / "long.json")
    document = json.loads((tmp_path / "a.json").read_text()) | {"k1": 0.1, "p2": -0.01}
    document["frames"][1] |= {"k1": 0.2, "w": 400, "h": 300, "fl_x": 10, "fl_y": 11, "cx": 12, "cy": 13}
    (tmp_path / "a.json").write_text(json.dumps(document))
    first, second = read_cameras(tmp_path / "a.json").images
    assert (first.lens, second.lens) == (Lens(k1=0.1, p2=-0.01), Lens(k1=0.2, p2=-0.01))
    assert (second.camera.width, second.camera.height) == (400, 300)
    assert second.camera.intrinsics.tolist() == [[10, 0, 12], [0, 11, 13], [0, 0, 1]]
    with pytest.raises(InputError, match="unlike sizes"):
        read_cameras(tmp_path / "a.json").trajectory()
    with pytest.raises(FileError, match=r"lens distortion \(k1, p2\)"):
        read_transforms(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps(document | {"k4": 0.1}))
    with pytest.raises(FileError, match="k4"):
        read_cameras(tmp_path / "a.json")
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([{}], "1 entries for 2 cameras"),
        ([{"w": 3}, {}], "w of"),
        ([{"file_path": "x"}, {}], "file_path"),
    ]
    for frame_extra, words in cases:
        with pytest.raises(InputError, match=words):
            write_transforms(tmp_path / "b.json", cameras, ["a.png", "b.png"], frame_extra=frame_extra)


def test_colmap_binary_by_the_formats_description(tmp_path: Path) -> None:
    colmap_binary_files(tmp_path / "sparse" / "0")
    (tmp_path / "images").mkdir()
    for place in (tmp_path, tmp_path / "sparse", tmp_path / "sparse" / "0", tmp_path / "sparse" / "0" / "images.bin"):
        if place.name == "sparse":
            continue
        read = read_cameras(place)
        (image,) = read.images
        assert image.name == "a.png"
        assert image.lens == Lens(k1=0.1, k2=-0.02, p1=0.003, p2=-0.004)
        assert image.camera.intrinsics.tolist() == [[166.5, 0, 101.3], [0, 172.25, 77.7], [0, 0, 1]]
        assert image.camera.world_to_camera[:3, 3].tolist() == [1, 2, 3]
        assert read.points is not None
        assert read.points.tolist() == [[1, 2, 9], [4, 5, 6]]
        assert read.extra["point_colors"].tolist() == [[10, 20, 30], [1, 2, 3]]
        assert read.tracks is not None
        assert [track.tolist() for track in read.tracks] == [[[1, 2, 9]]]
        assert read.folder == tmp_path / "images"


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("count", [2, 2**31, 2**63, 2**64 - 1])
def test_colmap_counts_beyond_the_file_are_refused_at_once(tmp_path: Path, part: str, count: int) -> None:
    colmap_binary_files(tmp_path)
    file = tmp_path / f"{part}.bin"
    file.write_bytes(struct.pack("<Q", max(count, 3)) + file.read_bytes()[8:])
    with pytest.raises(FileError, match="is damaged: at byte"):
        read_colmap(tmp_path)


def test_colmap_models_that_cannot_be_used(tmp_path: Path) -> None:
    write_all(tmp_path)
    text = tmp_path / "text"
    for line, words in [
        ("1 OPENCV_FISHEYE 200 150 1 1 1 1 0 0 0 0", "camera model OPENCV_FISHEYE.*image_undistorter"),
        ("1 FULL_OPENCV 200 150 1 1 1 1 0 0 0 0 0 0 0 0", "camera model FULL_OPENCV"),
        ("1 PINHOLE 200 150 1 1 1", "3 camera parameters; PINHOLE has 4"),
        ("1 PINHOLE 0 150 9 9 90 70", "whole number of pixels"),
        ("1 PINHOLE 200 150", "3 camera parameters|4 words"),
        ("2 PINHOLE 200 150 9 9 90 70", "has camera 1, which the cameras file does not hold"),
        ("1.5 PINHOLE 200 150 9 9 90 70", "whole number"),
    ]:
        (text / "cameras.txt").write_text(line + "\n")
        with pytest.raises(FileError, match=words):
            read_colmap(text)
    (text / "images.txt").write_text("# nothing\n")
    (text / "cameras.txt").write_text("1 PINHOLE 200 150 9 9 90 70\n")
    with pytest.raises(FileError, match="has no images"):
        read_colmap(text)
    camera = (tmp_path / "binary" / "cameras.bin").read_bytes()
    for model, words in [(5, "OPENCV_FISHEYE"), (99, "model number 99"), (-1, "model number -1")]:
        (tmp_path / "binary" / "cameras.bin").write_bytes(camera[:12] + struct.pack("<i", model) + camera[16:])
        with pytest.raises(FileError, match=words):
            read_colmap(tmp_path / "binary")
    with pytest.raises(FileError, match="is no COLMAP model"):
        read_colmap(tmp_path / "nothing")


def test_what_write_colmap_refuses(tmp_path: Path) -> None:
    cameras = some_cameras(2)
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((cameras, ["a.png"]), "1 image names for cameras"),
        ((cameras, ["a.png", "b c.png"]), "blanks"),
        ((cameras, ["a.png", ""]), "empty"),
        ((cameras, NAMES[:2], torch.zeros(3)), "points have shape"),
        ((cameras, NAMES[:2], torch.full((1, 3), math.nan)), "points have shape .* finite"),
        ((cameras, NAMES[:2], torch.zeros(4, 3), torch.zeros(3, 3)), "colors have shape"),
        ((cameras, NAMES[:2], None, torch.zeros(3, 3)), "colors were given without points"),
    ]
    for arguments, words in cases:
        with pytest.raises(InputError, match=words):
            write_colmap(tmp_path / "a", *arguments)
    colmap_binary_files(tmp_path / "binary")
    with pytest.raises(OutputError, match="cameras.bin of another COLMAP model"):
        write_colmap(tmp_path / "binary", cameras, NAMES[:2])
    write_colmap(tmp_path / "a", cameras, NAMES[:2])
    write_colmap(tmp_path / "a", cameras[:1], NAMES[:1])
    assert len(read_colmap(tmp_path / "a")) == 1


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("a.log", "0 0 1\n1 0 0 0\n", GIVEN, "has 2 lines; a Redwood .log has 5"),
        ("a.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0\n", GIVEN, "line 4 has 3 numbers"),
        ("a.txt", "1 0 0 0\n0 1 0 0\n0 0 1 x\n0 0 0 1\n", GIVEN, "line 3 has 'x' where a finite number"),
        ("a.txt", "2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1\n", GIVEN, "camera_to_world is not rigid"),
        ("a.txt", "1 0 0 0\n0 -1 0 0\n0 0 1 0\n0 0 0 1\n", GIVEN, "camera_to_world is reflected"),
        ("a.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n3 4 5 1\n", GIVEN, "looks transposed"),
        ("a.tum", "1 2 3 4 5 6 7\n", GIVEN, "line 1 has 7 numbers"),
        ("a.tum", "1 2 3 4 0 0 0 2\n", GIVEN, "quaternion of length 2"),
        ("a.tum", "# nothing\n", GIVEN, "has 0 lines; a TUM trajectory has a line of"),
        ("a_cam.txt", "extrinsic\n1 0 0 0\n", {"size": SIZE}, "lacks the words"),
        ("a_cam.txt", "extrinsic\nintrinsic\n1 0 0\n", {"size": SIZE}, "ends within a matrix"),
        ("a.npy", "x", {}, "cannot be read"),
        ("a.txt", "hello world", {}, "no format that is recognised"),
    ],
)
def test_files_that_are_not_what_they_seem(
    tmp_path: Path, name: str, content: str, options: dict[str, Any], words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(FileError, match=words):
        read_cameras(tmp_path / name, **options)


def test_llff_files_that_are_not_what_they_seem(tmp_path: Path) -> None:
    table = llff_table(some_cameras(2))
    wrong = table.copy()
    wrong[0, 4] = 150.5
    for array, words in [
        (table[:, :16], r"shape \(2, 16\)"),
        (table[:0], r"shape \(0, 17\)"),
        (np.full((1, 17), "a"), "holds <U1"),
        (np.where(table == 9, np.nan, table), "NaN"),
        (wrong, "whole number of pixels"),
    ]:
        np.save(tmp_path / "poses_bounds.npy", array)
        with pytest.raises(FileError, match=words):
            read_cameras(tmp_path)
    with (tmp_path / "poses_bounds.npy").open("wb") as file:  # a header that claims 10^12 rows
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 17)})
        file.write(b"\0" * 1000)
    with pytest.raises(FileError, match="cannot be read"):
        read_cameras(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", np.array([None, {}]), allow_pickle=True)
    with pytest.raises(FileError, match="cannot be read"):
        read_cameras(tmp_path)


def test_llff_takes_its_names_from_the_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "poses_bounds.npy", llff_table(some_cameras(2)))
    assert read_cameras(tmp_path).names == ["00000", "00001"]
    with pytest.raises(FileError, match="names no file of image"):
        read_cameras(tmp_path).picture(0)
    (tmp_path / "images").mkdir()
    for name in ("y.png", "x.JPG", "notes.txt"):
        (tmp_path / "images" / name).touch()
    read = read_cameras(tmp_path)
    assert read.names == ["x.JPG", "y.png"]
    assert read.picture(1) == tmp_path / "images" / "y.png"


def test_options_are_asked_for_and_refused(tmp_path: Path) -> None:
    paths = write_all(tmp_path)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("log", {}, r"is a Redwood .log, which holds no intrinsics.*give intrinsics=\(fx, fy, cx, cy\) and size"),
        ("tum", {"size": SIZE}, "is a TUM trajectory, which holds no intrinsics"),
        ("matrices", {"intrinsics": INTRINSICS}, r"give size=\(width, height\)"),
        ("mvsnet", {}, "is an MVSNet camera, which holds no image size"),
        ("mvsnet", GIVEN, "of the format mvsnet, which takes no intrinsics"),
        ("llff", GIVEN, "takes no intrinsics and no size"),
        ("log", {**GIVEN, "world_to_camera": True}, "takes no world_to_camera"),
        ("log", {"intrinsics": (1, 2, 3), "size": SIZE}, "intrinsics .* holds 3 numbers"),
        ("log", {"intrinsics": (0, 2, 3, 4), "size": SIZE}, "focal length is 0"),
        ("log", {"intrinsics": "abcd", "size": SIZE}, "cannot be used"),
        ("log", {"intrinsics": INTRINSICS, "size": (200,)}, "size for .* whole numbers"),
        ("log", {"intrinsics": INTRINSICS, "size": (200, 1.5)}, "size for .* whole numbers"),
        ("log", {**GIVEN, "pixel_center": 0.25}, "pixel_center is 0.25"),
        ("mvsnet", {"size": SIZE, "pixel_center": 0.25}, "pixel_center is 0.25"),
        ("log", {"format": "bundler"}, "camera format is 'bundler'; the formats are"),
        ("transforms", {"size": (0, 1)}, "size for"),
    ]
    for name, options, words in cases:
        with pytest.raises(InputError, match=words):
            read_cameras(paths[name], **options)


def test_formats_are_found_by_name_and_content(tmp_path: Path) -> None:
    paths = write_all(tmp_path / "all")
    for name, path in paths.items():
        assert find_formats(path)[0].name == name.split()[0], name
        bare = tmp_path / "bare"
        if not name.startswith("colmap") and name not in ("transforms", "llff"):
            bare.write_bytes(path.read_bytes())
            assert find_formats(bare)[0].name == name, name
    folder = tmp_path / "all"
    for name, found in [
        ("transforms.json", "transforms"),
        ("poses_bounds.npy", "llff"),
        ("00000000_cam.txt", "mvsnet"),
    ]:
        assert find_formats(folder)[0].name == found
        (folder / name).unlink()
    with pytest.raises(FileError, match="holds no camera file that is known by name"):
        find_formats(folder)
    assert find_formats(folder / "binary")[0].name == "colmap"
    for missing in (tmp_path / "none", "x" * 5000, "a\0b"):
        with pytest.raises(FileError):
            read_cameras(missing)
    with pytest.raises(FileError, match="is a folder"):
        read_cameras(folder, format="log", **GIVEN)
