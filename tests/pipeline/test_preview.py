"""Preview: what a path shows, and what is wrong with it, in words."""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvguide.files.images import read_image
from mvguide.files.video import read_video
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.trajectory import dolly, orbit, truck
from mvguide.pipeline.prepare import warp_path
from mvguide.pipeline.preview import Preview, write_preview
from mvguide.scenes import packaged_scene
from mvguide.views.diagnosis import diagnose
from mvguide.views.view import View
from tests.real_data import needs_data, seven_scenes


@pytest.fixture(scope="module")
def scene() -> tuple[View, Camera]:
    return packaged_scene("courtyard").load(num_frames=6)


def small(view: View) -> View:
    return view.fit(64, 64)


def scaled(view: View, factor: float) -> View:
    depth = view.require_depth()
    return replace(view, depth=replace(depth, values=depth.values * factor))


def warnings(views: list[View], path: Camera) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return write_preview(folder + "/out", views, path, (64, 64)).warnings


def test_a_sound_path_has_no_warnings_and_a_full_folder(scene: tuple[View, Camera], tmp_path: Path) -> None:
    view, path = scene
    out = tmp_path / "preview"
    found = write_preview(out, [view], path, (64, 64))
    assert found.warnings == []
    assert {file.name for file in out.iterdir()} == {"warps.mp4", "sheet.png", "path.png", "preview.json"}
    assert len(read_video(out / "warps.mp4")) == 6
    assert read_image(out / "path.png").shape[-1] > 800
    rows = json.loads((out / "preview.json").read_text())["frames"]
    assert [row["frame"] for row in rows] == list(range(6))
    assert rows[0]["seen"] == 1
    assert rows[0]["parallax_pixels"] == 0
    assert rows[5]["parallax_pixels"] > rows[1]["parallax_pixels"] > 0
    assert rows[5]["seen"] < 1
    assert rows[0]["confidence"] == 1 > rows[5]["confidence"]
    assert 0 < rows[3]["depth_near"] < rows[3]["depth_far"]
    assert len(found.text().splitlines()) == 8, "titles, frames, what the columns mean"


def test_too_long_a_turn_is_to_be_shortened(scene: tuple[View, Camera]) -> None:
    view = small(scene[0])
    path = orbit(view.camera, 12, degrees=170, target_depth=view.median_depth)
    (sentence,) = [text for text in warnings([view], path) if "is seen" in text]
    seen = warp_path([view], path, (64, 64)).warps.seen
    first = int((seen < 0.4).nonzero()[0])
    assert f"from frame {first} on less than 40% is seen" in sentence or f"in {int((seen < 0.4).sum())}" in sentence
    assert f"about {170 * (first - 1) / 11:.0f} degrees" in sentence
    assert "or add a view" in sentence


def test_a_path_through_the_wall(scene: tuple[View, Camera]) -> None:
    view = small(scene[0])
    path = dolly(view.camera, 8, distance=0.9, target_depth=4 * view.median_depth)
    (sentence,) = [text for text in warnings([view], path) if "through the surface" in text]
    centre = view.require_depth().values[32, 32]
    lengths = (path.center - view.camera.center).norm(dim=-1)
    assert f"at frame {int((lengths > centre).nonzero()[0])} " in sentence


def test_disparity_given_as_depth(scene: tuple[View, Camera]) -> None:
    view, path = scene
    depth = view.require_depth()
    inverse = replace(view, depth=replace(depth, values=torch.where(depth.valid, 1 / depth.values, 0)))
    assert any(
        "looks like disparity" in text and "--depth_kind disparity" in text for text in warnings([inverse], path)
    )


def test_units_that_differ(scene: tuple[View, Camera]) -> None:
    view, path = scene
    assert any("times as far from the view as its scene" in text for text in warnings([scaled(view, 0.001)], path))


@needs_data
@pytest.mark.parametrize("factor", [12.0, 1 / 12, 1.0])
def test_depth_and_cameras_of_unlike_scale(factor: float) -> None:
    views = [
        scaled(View(posed.image, posed.camera, posed.depth, str(index)).fit(160, 120), factor)
        for index, posed in ((0, seven_scenes(0)), (50, seven_scenes(50)))
    ]
    found = [text for text in warnings(views, stack([view.camera for view in views])) if "differ about" in text]
    if factor == 1:
        assert found == []
    else:
        (sentence,) = found
        times = float(sentence.split("about ")[1].split(" times")[0])
        assert times == pytest.approx(12, rel=0.35)
        assert float(sentence.split("by about ")[1].split(" ")[0]) == pytest.approx(1 / factor, rel=0.35)


def test_a_depth_map_with_little_in_it(scene: tuple[View, Camera], tmp_path: Path) -> None:
    view = small(scene[0])
    depth = view.require_depth()
    valid = depth.valid.clone()
    valid[16:] = False
    sparse = replace(view, depth=replace(depth, valid=valid, values=torch.where(valid, depth.values, 0)))
    path = truck(view.camera, 3, distance=0.05, target_depth=view.median_depth)
    found = write_preview(tmp_path / "out", [sparse], path, (64, 64))
    assert any("only 25% of the depth map" in text for text in found.warnings)
    assert isinstance(found, Preview)
    assert diagnose([view], path, warp_path([view], path, (64, 64)).warps) == []


_PEAK = """
import sys, tempfile
import torch
from mvguide.depth.maps import Depth
from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import orbit
from mvguide.pipeline.preview import write_preview
from mvguide.views.view import View

size = 256
camera, depth = Camera.from_fov(60, size, size), torch.full((size, size), 4.0)
depth[80:160, 80:160] = 2.0
image = torch.linspace(0, 1, size).expand(3, size, size).clone()
view = View(image, camera, Depth(depth, depth > 0, True))
for frames in (40, 104):
    with tempfile.TemporaryDirectory() as folder:
        write_preview(folder + "/out", [view], orbit(camera, frames, target_depth=4.0), (size, size))
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(int(peak.split()[1]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_frames() -> None:
    run = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    few, many = (int(line) for line in run.stdout.split())
    assert many - few < 60_000, "64 more frames held 105 MB in the warps alone when all were kept"
