"""What a diagnosis says of units, on captures and on every packaged scene."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvguide.cli import main
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.trajectory import orbit, truck
from mvguide.scenes import packaged_scene
from mvguide.views.diagnosis import diagnose
from mvguide.views.view import View
from mvguide.views.warps import warp_views
from tests.real_data import DATA, needs_data

ROOT = Path(__file__).resolve().parents[2]
SCENES = sorted((ROOT / "mvguide" / "scenes").glob("*.yaml"))


def previewed(out: Path, *arguments: str) -> list[str]:
    """Warnings of `mvguide preview` at a small size."""
    size = ["--num_frames", "3", "--width", "64", "--height", "48", "--quiet", "--out", str(out)]
    assert main(["preview", *arguments, *size]) == 0
    return json.loads((out / "preview.json").read_text())["warnings"]


def diagnosed(views: list[View], path: Camera) -> list[str]:
    return diagnose(views, path, warp_views(views, path))


def in_millimetres(view: View) -> View:
    """The view as if a depth file in millimetres had been read without its unit."""
    depth = view.require_depth()
    return replace(view, depth=replace(depth, values=(1000 * depth.values).round()))


@needs_data
@pytest.mark.parametrize(
    ("cameras", "lens"),
    [("7scenes_rgbd", "[585,585,320,240]"), ("redwood_rgbd/trajectory.log", "[525,525,319.5,239.5]")],
)
def test_depth_in_millimetres_with_cameras_in_metres(cameras: str, lens: str, tmp_path: Path) -> None:
    folder = DATA / cameras.split("/")[0]
    depth = folder / "depth" if (folder / "depth").is_dir() else folder
    arguments = ["--cameras", str(DATA / cameras), "--depth", str(depth), "--intrinsics", lens]
    if depth != folder:
        arguments += ["--images", str(folder / "color")]
    wrong = previewed(tmp_path / "wrong", *arguments)
    (sentence,) = [text for text in wrong if "differ about" in text]
    assert sentence.startswith("depth scale and camera scale differ about 1000 times")
    assert sentence.endswith("use --depth_unit 0.001")
    assert previewed(tmp_path / "right", *arguments, "--depth_unit", "0.001") == []


@pytest.mark.parametrize("scene", SCENES, ids=[path.stem for path in SCENES])
def test_units_of_packaged_scenes_are_in_order(scene: Path, tmp_path: Path) -> None:
    found = previewed(tmp_path / "preview", "--scene", str(scene))
    assert [text for text in found if "scale" in text] == []


@pytest.fixture(scope="module")
def pair() -> list[View]:
    """The same exact scene from two places."""
    view, path = packaged_scene("courtyard").load(num_frames=6)
    assert view.depth is not None
    small = view.fit(128, 128)
    other = warp_views([small], stack([path[5].resize(128, 128)]))
    depth = replace(view.depth, values=other.depth[0, 0], valid=other.depth[0, 0] > 0)
    return [small, View(other.image[0], path[5].resize(128, 128), depth, "other")]


def test_two_views_of_a_wrong_unit_say_which_option_mends_it(pair: list[View]) -> None:
    path = stack([view.camera for view in pair])
    assert [text for text in diagnosed(pair, path) if "scale" in text] == []
    (sentence,) = [text for text in diagnosed([in_millimetres(view) for view in pair], path) if "scale" in text]
    assert "differ about 1000 times" in sentence
    assert "whole numbers" in sentence
    assert "use --depth_unit 0.001" in sentence


def test_one_view_of_a_wrong_unit_on_a_recorded_path(pair: list[View]) -> None:
    view = in_millimetres(pair[0])
    path = truck(pair[0].camera, 4, distance=0.1, target_depth=pair[0].median_depth)
    (sentence,) = [text for text in diagnosed([view], path) if "scale" in text]
    assert "the path is only 0.0001 times as long as the scene is deep" in sentence
    assert "use --depth_unit 0.001" in sentence
    assert [text for text in diagnosed([pair[0]], path) if "scale" in text] == []
    still = stack([view.camera, view.camera])
    assert [text for text in diagnosed([view], still) if "scale" in text] == [], "a camera that stands needs no scale"


def test_views_from_one_place_say_nothing_of_units(pair: list[View]) -> None:
    view = in_millimetres(pair[0])
    path = stack([view.camera, view.camera])
    assert [text for text in diagnosed([view, view], path) if "scale" in text] == []


def test_a_picture_without_depth_is_not_helped_by_a_shorter_move(pair: list[View]) -> None:
    view = pair[0]
    depth = view.require_depth()
    valid = depth.valid.clone()
    valid[: 2 * 128 // 3] = False
    sparse = replace(view, depth=replace(depth, valid=valid, values=torch.where(valid, depth.values, 0)))
    path = orbit(view.camera, 5, degrees=10, target_depth=view.median_depth)
    (sentence,) = [text for text in diagnosed([sparse], path) if "is seen" in text]
    assert sentence.startswith("from frame 1 on less than 40% is seen")
    assert sentence.endswith("depth is known for only 34% of an image; give depth for the rest, or add a view")


def test_two_views_with_hardly_a_pixel_of_depth_are_diagnosed_all_the_same(pair: list[View]) -> None:
    path = truck(pair[0].camera, 3, distance=0.1, target_depth=pair[0].median_depth)
    sparse = []
    for view in pair:
        valid = torch.zeros(128, 128, dtype=torch.bool)
        valid[65, 65] = True  # not among the pixels of the small image that scales are tried on
        sparse.append(replace(view, depth=replace(view.require_depth(), valid=valid)))
    assert any("depth is known for only 0% of an image" in text for text in diagnosed(sparse, path))


def test_a_move_too_long_from_its_second_frame_on_is_never_cut_to_nothing(pair: list[View]) -> None:
    path = truck(pair[0].camera, 5, distance=8, target_depth=pair[0].median_depth)
    (sentence,) = [text for text in diagnosed([pair[0]], path) if "is seen" in text]
    assert "shorten the move to less than 25% of its length, or add a view" in sentence
