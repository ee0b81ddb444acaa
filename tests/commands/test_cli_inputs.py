"""Scene files, previews and videos through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from mvguide.cli import main
from mvguide.config.input_options import InputConfig
from mvguide.config.parsing import load_settings
from mvguide.errors import MvguideError
from mvguide.files.images import read_image, write_png
from mvguide.files.video import read_video
from mvguide.inputs.loading import load_inputs
from mvguide.scenes import packaged_scene
from tests.mutations import damaged
from tests.real_data import DATA, needs_data

ROOT = Path(__file__).resolve().parents[2]
SCENES = sorted((ROOT / "mvguide" / "scenes").glob("*.yaml"))
QUICK = ["--steps", "2", "--model", "tiny", "--device", "cpu", "--quiet"]


def run(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("scene", SCENES, ids=[path.stem for path in SCENES])
def test_every_scene_previews_without_warnings_and_renders(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of a scene file start at its own folder
    assert run("preview", "--scene", str(scene), "--out", "look") == 0
    said = "".join(capsys.readouterr())
    assert "frame   seen" in said
    assert "warning" not in said
    rows = json.loads(Path("look/preview.json").read_text())["frames"]
    assert len(rows) == 8
    assert all(row["seen"] > 0.5 for row in rows), [row["seen"] for row in rows]
    small = ["--width", "32", "--height", "32", "--num_frames", "4"]
    assert run("render", "--scene", str(scene), *small, *QUICK, "--steps", "1", "--out", "made") == 0
    assert len(read_video("made/video.mp4")) == 4


def test_two_views_are_pinned_at_both_ends(tmp_path: Path) -> None:
    scene = ROOT / "mvguide" / "scenes" / "two_views.yaml"
    small = ["--width", "64", "--height", "64"]
    assert run("render", "--scene", str(scene), *small, *QUICK, "--steps", "8", "--out", str(tmp_path / "out")) == 0
    inputs = load_inputs(load_settings(InputConfig, scene=str(scene)))
    for view, name in ((inputs.views[0], "0000.png"), (inputs.views[1], "0007.png")):
        found, there = read_image(tmp_path / "out" / "images" / name), view.fit(64, 64).image
        assert float(-10 * ((found - there) ** 2).mean().log10()) > 25, name
        assert (read_image(tmp_path / "out" / "masks" / name) == 1).all()
    # The folder is itself a capture.
    again = load_inputs(InputConfig(cameras=str(tmp_path / "out"), depth_source="file"))
    assert len(again.views) == 8
    torch.testing.assert_close(
        again.views[7].camera.world_to_camera, inputs.views[1].camera.world_to_camera, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("width", "height"), [(48, 80), (64, 64), (90, 50)])
def test_portrait_square_and_wide_pictures_keep_their_shape(width: int, height: int, tmp_path: Path) -> None:
    view = packaged_scene("hall").load(num_frames=2)[0].fit(width, height)
    write_png(tmp_path / "a.png", view.image)
    np.save(tmp_path / "a.npy", view.require_depth().values.numpy())
    arguments = ["--image", str(tmp_path / "a.png"), "--depth", str(tmp_path / "a.npy"), "--fov", "50"]
    short = ["--trajectory.kind", "truck", "--num_frames", "2", *QUICK, "--steps", "1"]
    assert run("render", *arguments, *short, "--out", str(tmp_path / "out")) == 0
    frame = read_image(tmp_path / "out" / "images" / "0000.png")
    assert frame.shape[2] / frame.shape[1] == pytest.approx(width / height, rel=0.15)
    assert run("preview", *arguments, "--quiet", "--out", str(tmp_path / "look")) == 0


def test_preview_needs_no_model_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mvguide.backbones.pretrained.load_backbone", None)  # whoever calls it, fails
    scene = packaged_scene("marbles")
    given = ["--image", str(scene.image), "--depth", str(scene.depth), "--depth_unit", "0.001", "--fov", "55"]
    out = ["--out", str(tmp_path / "look")]
    assert run("preview", *given, "--trajectory.degrees", "150", "--num_frames", "10", *out) == 0
    said = capsys.readouterr().out
    assert "frame   seen" in said
    assert "less than 40% is seen" in said
    assert "shorten the move to about" in said
    assert {path.name for path in (tmp_path / "look").iterdir()} == {
        "warps.mp4",
        "sheet.png",
        "path.png",
        "preview.json",
    }
    assert run("preview", "--image", str(scene.image), *out) == 2
    assert "has no depth" in capsys.readouterr().err
    assert run("preview", *given, "--num_frames", "0", *out) == 2
    assert "num_frames is 0" in capsys.readouterr().err
    assert run("preview", "--scene", str(tmp_path / "none.yaml"), *out) == 2
    assert "none.yaml does not exist" in capsys.readouterr().err


def test_render_prints_the_warnings_of_the_preview_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = packaged_scene("marbles")
    given = ["--image", str(scene.image), "--depth", str(scene.depth), "--depth_unit", "0.001", "--fov", "55"]
    quick = ["--width", "64", "--height", "64", *(word for word in QUICK if word != "--quiet")]
    assert run("render", *given, "--trajectory.degrees", "150", *quick, "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().err
    assert said.index("less than 40% is seen") < said.index("denoising")


@needs_data
def test_the_bus_stays_where_it_is_in_time(tmp_path: Path) -> None:
    """A street, filmed from a standing camera: each frame's warp is that moment's image, and so is the result."""
    street = DATA / "nvs_dynamic_street"
    given = ["--video", str(street / "images"), "--depth", str(street / "depth"), "--depth_kind", "disparity"]
    size = ["--width", "128", "--height", "72"]
    still = ["--trajectory.kind", "still", "--steps", "4"]
    assert run("render", *given, *size, *QUICK, *still, "--out", str(tmp_path / "still")) == 0
    views = load_inputs(
        InputConfig(video=str(street / "images"), depth=str(street / "depth"), depth_kind="disparity")
    ).views
    frames = [read_image(tmp_path / "still" / "images" / f"{index:04d}.png") for index in range(8)]
    truth = [view.fit(128, 72).image for view in views]

    def error(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(((a - b) ** 2).mean())

    for index in range(8):
        nearest = min(range(8), key=lambda other: error(frames[index], truth[other]))
        assert nearest == index
    # The camera moves: the warp of frame 7 shows the bus of moment 7, not of moment 0.
    moved = ["--trajectory.kind", "truck", "--trajectory.distance", "0.02", "--steps", "2"]
    assert run("render", *given, *size, *QUICK, *moved, "--out", str(tmp_path / "moved")) == 0
    last = read_image(tmp_path / "moved" / "images" / "0007.png")
    assert error(last, truth[7]) < error(last, truth[0])


def test_damaged_scene_files_raise_nothing_else(tmp_path: Path) -> None:
    scene = packaged_scene("marbles")
    good = (ROOT / "mvguide" / "scenes" / "two_views.yaml").read_bytes()
    others = [path.read_bytes() for path in SCENES] + [scene.cameras.read_bytes(), scene.image.read_bytes()]
    path = tmp_path / "scene.yaml"

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(good, others))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            load_inputs(load_settings(InputConfig, scene=str(path)))
        except MvguideError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 700

    check()
