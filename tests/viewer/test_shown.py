"""What the viewer finds in result folders, and what it says of those that it cannot show."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mvguide
from mvguide.cli import main
from mvguide.errors import FileError
from mvguide.files.images import write_png
from mvguide.pipeline.prepare import warp_path
from mvguide.viewer.shown import Shown, is_result, read_shown, show_path

SIZE, FRAMES = 32, 4
QUICK = ["--steps", "1", "--width", "32", "--height", "32", "--num_frames", "4", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result with its latents."""
    out = tmp_path_factory.mktemp("rendered") / "result"
    assert main(["render", "--scene", "marbles", *QUICK, "--save_latents", "--out", str(out)]) == 0
    return out


@pytest.fixture
def folder(rendered: Path, tmp_path: Path) -> Path:
    shutil.copytree(rendered, tmp_path / "result")
    return tmp_path / "result"


def pictures(shown: Shown, name: str) -> torch.Tensor:
    return torch.stack([shown.frames[name][number] for number in range(FRAMES)])


def test_a_whole_result(rendered: Path) -> None:
    shown = read_shown(rendered, 5000)
    assert list(shown.frames) == ["result", "warp", "mask", "confidence"]
    assert pictures(shown, "result").shape == (FRAMES, 3, SIZE, SIZE)
    assert len(shown.trajectory) == FRAMES
    assert [view.name for view in shown.views] == ["image.png"]
    assert 2500 < len(shown.points) <= 5000
    assert not shown.posed
    torch.testing.assert_close(shown.start.world_to_camera, shown.trajectory[0].world_to_camera)


def test_without_latents_the_points_are_those_of_sparse(folder: Path) -> None:
    whole = read_shown(folder, 50_000)
    (folder / "latents.safetensors").unlink()
    shown = read_shown(folder, 50_000)
    assert len(shown.points) > 1000
    assert shown.colours.std() > 0.1
    assert shown.depth is None
    assert [view.name for view in shown.views] == ["frame 0"], "the frame that is an input view"
    torch.testing.assert_close(pictures(shown, "warp"), pictures(whole, "warp"))


@pytest.mark.parametrize("kept", ["transforms.json", "latents.safetensors"])
def test_the_least_that_can_be_shown(folder: Path, kept: str) -> None:
    for path in folder.iterdir():
        if path.name not in (kept, "report.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shown = read_shown(folder, 1000)
    assert len(shown.trajectory) == FRAMES
    assert list(shown.frames) == ([] if kept == "transforms.json" else ["warp", "mask", "confidence"])
    assert len(shown.points) == 0 if kept == "transforms.json" else len(shown.points) > 500
    assert shown.share_names == ([] if kept == "transforms.json" else ["seen", "confidence"])
    assert list(shown.point_shares) == shown.share_names


def test_what_is_a_result(folder: Path, tmp_path: Path) -> None:
    assert is_result(folder)
    (tmp_path / "nerfstudio" / "images").mkdir(parents=True)
    shutil.copy(folder / "transforms.json", tmp_path / "nerfstudio")
    assert not is_result(tmp_path / "nerfstudio")
    assert not is_result(folder / "report.json")
    assert not is_result(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("command", "posed"),
    [
        ({"cameras": "capture"}, True),
        ({"views": [{"image": "a.png", "camera_to_world": [[1.0]]}]}, True),
        ({"views": [{"image": "a.png"}]}, False),
        ({"views": "a"}, False),
        ("render", False),
    ],
)
def test_where_new_paths_may_start(folder: Path, command: object, posed: bool) -> None:
    report = json.loads((folder / "report.json").read_text())
    report["settings"]["command"] = command
    (folder / "report.json").write_text(json.dumps(report))
    assert read_shown(folder, 10).posed is posed


def cut_picture(folder: Path) -> None:
    (folder / "images" / "0002.png").write_bytes((folder / "images" / "0002.png").read_bytes()[:60])


def another_size(folder: Path) -> None:
    write_png(folder / "images" / "0002.png", torch.zeros(3, 8, 8))


def drop_picture(folder: Path) -> None:
    (folder / "masks" / "0003.png").unlink()


def drop_cameras(folder: Path) -> None:
    (folder / "latents.safetensors").unlink()
    (folder / "transforms.json").unlink()


def cut_latents(folder: Path) -> None:
    (folder / "latents.safetensors").write_bytes(b"x" * 100)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (drop_picture, r"has 4 cameras, but no .*masks/0003\.png"),
        (drop_cameras, r"has no transforms\.json, so its cameras are not known; give a folder that"),
        (cut_latents, r"latents file"),
    ],
)
def test_folders_that_cannot_be_shown(folder: Path, damage: Callable[[Path], None], sentence: str) -> None:
    damage(folder)
    with pytest.raises(FileError, match=sentence):
        read_shown(folder, 10)


@pytest.mark.parametrize(
    ("damage", "sentence"), [(cut_picture, "0002.png"), (another_size, "is 8 x 8, but its camera")]
)
def test_a_bad_image_is_told_of_when_it_is_looked_at(
    folder: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(folder)
    shown = read_shown(folder, 10)
    with pytest.raises(FileError, match=sentence):
        _ = shown.frames["result"][2]


def test_points_behind_others_are_not_seen() -> None:
    """A wall that hides half of another one: from the side more of that comes into view."""
    depth = torch.full((SIZE, SIZE), 4.0)
    depth[:, :16] = 2.0
    camera = mvguide.Camera.from_fov(60, SIZE, SIZE)
    view = mvguide.View(torch.rand(3, SIZE, SIZE), camera, mvguide.Depth(depth, depth > 0, True))
    path = warp_path([view], mvguide.truck(camera, 5, target_depth=2.0, distance=-0.6), (SIZE, SIZE))
    shown = show_path(path, camera, posed=False, count=10_000, title="walls")
    shares = shown.point_shares
    assert shares["seen"].max() == 1
    behind = shares["seen"][shown.points[:, 2] > 3]
    beside = shown.points[shown.points[:, 2] > 3][:, 0]
    near_the_edge, far_away = behind[beside < 0.6], behind[(beside > 1.2) & (beside < 1.8)]
    assert near_the_edge.mean() < far_away.mean() - 0.2, "the near wall moves over it"
    assert 0 < shares["confidence"].max() <= 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing/here"], "nothing/here does not exist; give a result folder, a scene file"),
        ([], "nothing to view was given; give a result folder"),
        (["empty"], "folder empty is no result"),
        (["marbles", "--port", "70000"], "port is 70000"),
        (["marbles", "--points", "0"], "points is 0"),
        (["marbles", "--out", "empty"], "output file empty is an existing folder"),
        (["--image", "photo.png"], "photo.png has no depth"),
        (["marbles", "--image", "photo.png"], "--scene and --image were given"),
    ],
)
def test_one_sentence_for_what_cannot_be_viewed(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("photo.png")
    assert main(["view", *words, "--quiet", "--depth_source", "file"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_without_viser_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    assert main(["view", "marbles"]) == 2
    assert "pip install 'mvguide[viewer]'" in capsys.readouterr().err
