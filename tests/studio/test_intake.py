"""Files that visitors give: what they become, and what is refused."""

import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvguide.config.studio_options import StudioConfig
from mvguide.decoding import reading_only
from mvguide.errors import FileError, InputError, MvguideError
from mvguide.scenes import packaged_scene
from mvguide.studio.intake import check_files, check_size, clean_name, source_settings, take_in
from mvguide.studio.looking import Studio
from tests.studio.watching import opened

LIMITS = StudioConfig(most_mib=1, most_megapixels=0.1, most_frames=20)
CAPTURE = packaged_scene("marbles").folder.parent / "capture"


def write(folder: Path, **files: bytes) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.replace("__", ".") for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
    return paths


def archive(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name.replace("__", "."), data)
    return stream.getvalue()


def given(tmp_path: Path, **files: bytes) -> dict[str, Any]:
    return source_settings(take_in(write(tmp_path / "up", **files), tmp_path / "inputs", LIMITS))


def test_what_the_files_are(tmp_path: Path) -> None:
    assert Path(given(tmp_path, a__png=b"x")["image"]).name == "a.png"
    assert Path(given(tmp_path, a__MOV=b"x")["video"]).name == "a.MOV"
    posed = given(tmp_path, a__png=b"x", b__png=b"y", cams__txt=b"z")
    assert Path(posed["cameras"]).name == "cams.txt"
    assert posed["images"] == str(Path(posed["cameras"]).parent)
    nerf = given(tmp_path, a__png=b"x", transforms__json=b"{}")
    assert nerf["cameras"] == nerf["images"], "the pictures were dropped without their folder"
    film = given(tmp_path, a__mp4=b"x", transforms__json=b"{}")
    assert (Path(film["video"]).name, Path(film["cameras"]).name) == ("a.mp4", "transforms.json")
    assert [Path(view["image"]).name for view in given(tmp_path, a__png=b"x", b__png=b"y")["views"]] == [
        "a.png",
        "b.png",
    ]
    assert Path(given(tmp_path, s__yaml=b"image: a.png", a__png=b"x")["scene"]).name == "s.yaml"
    with pytest.raises(InputError, match=r"2 scene files were given \(s.yaml, t.yml\); give one"):
        given(tmp_path, s__yaml=b"a", t__yml=b"b")


def test_depth_maps_are_of_one_image_or_of_each(tmp_path: Path) -> None:
    image = take_in(write(tmp_path / "a", a__png=b"x"), tmp_path / "inputs", LIMITS)
    one = take_in(write(tmp_path / "b", d__npy=b"x"), tmp_path / "inputs", LIMITS)
    two = take_in(write(tmp_path / "c", d__npy=b"x", e__npy=b"y"), tmp_path / "inputs", LIMITS)
    assert source_settings(image, one)["depth"] == str(one / "d.npy")
    assert source_settings(image, two)["depth"] == str(two)


def test_equal_files_lie_in_one_folder_and_changed_ones_in_another(tmp_path: Path) -> None:
    first = take_in(write(tmp_path / "a", a__png=b"x"), tmp_path / "inputs", LIMITS)
    assert take_in(write(tmp_path / "b", a__png=b"x"), tmp_path / "inputs", LIMITS) == first
    assert take_in(write(tmp_path / "b", a__png=b"y"), tmp_path / "inputs", LIMITS) != first
    assert not [path for path in (tmp_path / "inputs").iterdir() if path.name.startswith(".")]


def test_an_archive_of_a_capture_is_read_as_it_is(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for file in sorted(CAPTURE.rglob("*")):
            if file.is_file() and file.parts[-2] in ("images", "depth", "capture"):
                packed.write(file, Path("my scene") / file.relative_to(CAPTURE))
    limits = StudioConfig()
    taken = take_in(write(tmp_path / "up", scene__zip=stream.getvalue()), tmp_path / "inputs", limits)
    source = source_settings(taken)
    assert source == {"cameras": str(taken / "my scene")}
    check_files(source, taken, limits)
    studio = Studio(StudioConfig(out=str(tmp_path)))
    assert len(studio.load(studio.settings(source, depth_unit=0.001)).inputs.views) == 3


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "c:\\evil.png", "..\\evil.png"])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError, match=r"leads out of it; pack plain files$"):
        given(tmp_path, a__zip=archive(**{name: b"x"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs", "up"]
    assert not list((tmp_path / "inputs").iterdir())


def test_an_archive_with_a_link_or_with_too_much_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(FileError, match="which is a link"):
        given(tmp_path, a__zip=stream.getvalue())
    bomb = archive(**{f"{k}__png": bytes(2**20) for k in range(5)})
    assert len(bomb) < 2**14
    with pytest.raises(FileError, match="more than 2000 files or 4 MiB"):
        given(tmp_path, a__zip=bomb)
    with pytest.raises(FileError, match="more than 2000 files"):
        given(tmp_path, a__zip=archive(**{f"{k}__png": b"" for k in range(2001)}))
    lying = bytearray(archive(a__png=bytes(1000)))
    for place in (lying.index(b"PK\3\4") + 22, lying.index(b"PK\1\2") + 24):
        lying[place : place + 4] = (10).to_bytes(4, "little")
    with pytest.raises(FileError):
        given(tmp_path, a__zip=bytes(lying))
    with pytest.raises(FileError, match="archive a.zip cannot be read"):
        given(tmp_path, a__zip=b"no archive")
    assert not list((tmp_path / "inputs").iterdir())


def test_sizes_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the files have 2 MiB; the studio takes 1 \(--most_mib\)"):
        given(tmp_path, a__npy=bytes(2**21))
    for k in range(4):
        given(tmp_path, **{f"{k}__npy": bytes([k]) * (2**20 - 100)})
    with pytest.raises(InputError, match="would take 5 MiB, more than 4; delete"):
        given(tmp_path, z__npy=bytes(2**20 - 100))
    with pytest.raises(InputError, match="several files are named a.png; rename them"):
        take_in([tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"], tmp_path / "inputs", LIMITS)


def test_pixels_are_counted_before_a_picture_is_unpacked(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4000, 4000), np.uint8)).save(stream, "PNG")
    taken = take_in(write(tmp_path / "up", a__png=stream.getvalue()), tmp_path / "inputs", LIMITS)
    with pytest.raises(InputError, match=r"is 4000 x 4000, more than the 0\.1 million pixels"):
        check_files(source_settings(taken), taken, LIMITS)


def test_numbers_are_bounded(tmp_path: Path) -> None:
    studio = Studio(StudioConfig(out=str(tmp_path)))
    for name, value, words in (
        ("num_frames", 21, "num_frames is 21; the studio makes 20 at most"),
        ("steps", 1001, "steps is 1001; the studio makes 1000 at most"),
    ):
        check_size(studio.settings({"scene": "marbles"}, **{name: value - 1}), LIMITS)
        with pytest.raises(InputError, match=words):
            check_size(studio.settings({"scene": "marbles"}, **{name: value}), LIMITS)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("photo.JPG", "photo.JPG"),
        ("my photo (1).png", "my photo (1).png"),
        ("사진.png", "사진.png"),
        ("..", "file"),
        ("-rf.png", "rf.png"),
        ("a$(rm x);`b`.png", "a_(rm x)__b_.png"),
        ("a\0\n.png", "a__.png"),
        ("x" * 500 + ".png", "x" * 160 + ".png"),
        ("한" * 300 + ".png", "한" * 53 + ".png"),
    ],
)
def test_names_are_only_names(name: str, clean: str) -> None:
    assert clean_name(name) == clean
    assert len(clean.encode()) < 200


@pytest.mark.parametrize(
    "text",
    [
        "image: {secret}",
        "image: ../../secret.png",
        "image: link.png",
        "image: a.png\ndepth: {secret}",
        "video: {secret}",
        "cameras: {folder}",
        "cameras: cameras.json",
        "image: a.png\ndepth: d.npy\ntrajectory: {{kind: file, file: {folder}/transforms.json}}",
        "views: [{{image: {secret}, fov: 60}}]",
    ],
)
def test_a_scene_file_cannot_name_what_was_not_given(tmp_path: Path, text: str) -> None:
    """Every way in which settings name a file; the audit hook sees whether Python opens one outside."""
    folder = tmp_path / "elsewhere"
    secret = folder / "secret.png"
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(secret)
    (folder / "transforms.json").write_text((CAPTURE / "transforms.json").read_text())
    mine = tmp_path / "visitor"
    picture = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture, "PNG")
    depth = io.BytesIO()
    np.save(depth, np.full((8, 8), 2.0, np.float32))
    frame = {"file_path": str(secret), "transform_matrix": np.eye(4).tolist()}
    cameras = json.dumps({"w": 8, "h": 8, "fl_x": 8, "fl_y": 8, "frames": [frame]})
    scene = text.format(secret=secret, folder=folder)
    files = write(tmp_path / "up", s__yaml=scene.encode(), a__png=picture.getvalue(), d__npy=depth.getvalue())
    files += write(tmp_path / "up", cameras__json=cameras.encode())
    taken = take_in(files, mine / "inputs", LIMITS)
    (taken / "link.png").symlink_to(secret)
    studio = Studio(StudioConfig(out=str(tmp_path / "out")))

    def read() -> None:
        source = source_settings(taken)
        check_files(source, taken, LIMITS)
        settings = studio.settings(source, depth_source="file")
        studio.load(settings).inputs.trajectory(settings.trajectory, 4)

    with opened() as seen, reading_only(*studio.readable(mine)), pytest.raises(MvguideError):
        read()
    assert [path for path in seen if path.is_relative_to(folder)] == []
    assert any(path.is_relative_to(mine) for path in seen), "the hook sees what is read"
