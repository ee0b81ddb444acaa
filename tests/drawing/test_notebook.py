"""Objects show themselves in a notebook, and have a repr of one line."""

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mvguide
from mvguide.drawing.notebook import depth_picture, picture_png
from mvguide.files.video import read_video
from mvguide.scenes import packaged_scene
from mvguide.tables.table import LambdaTable


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def embedded(html: str, kind: str) -> list[bytes]:
    assert not re.search(r'src="(?!data:)', html), "nothing but what is embedded"
    return [b64decode(found) for found in re.findall(rf'src="data:{kind};base64,([^"]+)"', html)]


@pytest.fixture(scope="module")
def scene() -> tuple[mvguide.View, mvguide.Camera]:
    return packaged_scene("marbles").load(4)


def test_reprs_are_one_line(scene: tuple[mvguide.View, mvguide.Camera]) -> None:
    view, path = scene
    schedule = mvguide.load_sigmas("sigmas_25")
    assert repr(view.camera) == "Camera(256 x 256, fov 57.45 degrees)"
    assert repr(path) == "Camera(4 of 256 x 256, fov 57.45 degrees)"
    zoomed = mvguide.zoom(view.camera, 3, factor=2)
    assert repr(zoomed) == "Camera(3 of 256 x 256, fov 30.65 to 57.45 degrees)"
    assert repr(path[:0]) == "Camera(0 of 256 x 256, fov nan degrees)"
    assert repr(schedule) == "SigmaSchedule(sigmas_25, 25 steps, sigma 700 to 0.002, then 0)"
    assert repr(view) == "View(image.png, 256 x 256, median depth 2.92)"
    assert repr(LambdaTable.constant(0.5, schedule, 4)).startswith("LambdaTable(25 levels x 4 frames, ")


def test_a_view_shows_its_image_and_its_depth(scene: tuple[mvguide.View, mvguide.Camera]) -> None:
    view = scene[0]
    shown = opened(view._repr_png_())
    assert shown.shape == (256, 512, 3)
    image = (view.image.permute(1, 2, 0) * 255).round().byte().numpy()
    assert np.array_equal(shown[:, :256], image)
    brightness = shown[:, 256:].sum(-1).astype(float)
    assert np.corrcoef(brightness.flatten(), 1 / view.require_depth().values.flatten())[0, 1] > 0.9, "near is bright"
    alone = mvguide.View(view.image, view.camera)
    assert opened(alone._repr_png_()).shape == (256, 256, 3)


def test_unknown_depth_is_striped() -> None:
    valid = torch.ones(24, 24, dtype=torch.bool)
    valid[:, 12:] = False
    shown = depth_picture(torch.linspace(1, 3, 24).expand(24, 24), valid)
    assert shown[:, :, 12:].unique().numel() == 2
    assert shown[:, :, :12].unique().numel() > 10
    assert depth_picture(torch.zeros(4, 4), torch.zeros(4, 4, dtype=torch.bool)).shape == (3, 4, 4)


def test_large_pictures_are_reduced() -> None:
    assert opened(picture_png(torch.rand(3, 900, 2048))).shape == (450, 1024, 3)


def test_cameras_show_figures_or_their_path(scene: tuple[mvguide.View, mvguide.Camera]) -> None:
    view, path = scene
    single = view.camera._repr_html_()
    assert "57.45 degrees" in single
    assert "233.538, 233.538 pixels" in single
    (plot,) = embedded(path._repr_html_(), "image/png")
    blue = (np.abs(opened(plot).astype(int) - [31, 119, 180]).sum(-1) < 60).sum()
    assert blue > 300, "the path is drawn"
    still = mvguide.Camera(path.intrinsics[:1].expand(3, 3, 3), path.world_to_camera[:1], 256, 256)
    assert embedded(still._repr_html_(), "image/png"), "a path of no length"
    assert "Camera(0 of" in path[:0]._repr_html_()


def test_tables_and_schedules_are_plotted() -> None:
    schedule = mvguide.load_sigmas("sigmas_25")
    assert opened(LambdaTable.constant(0.5, schedule, 4)._repr_png_()).shape[1] > 600
    assert opened(schedule._repr_png_()).shape[1] > 400


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("constant 0.8", "the same weight, 0.8, in every cell; 1 in the first frame, which is given"),
        (
            "search_hypers released v1=0.001 v2=950 v3=10",
            "found by search_hypers: the rule of the published script; v1 = 0.001, v2 = 950, v3 = 10",
        ),
        (
            "search_hypers exact calibrated v1=1e-06 v2=1 v3=0.0001",
            "found by search_hypers: the exact rule, as near as it comes to the errors measured on this input; "
            "v1 = 1e-06, v2 = 1, v3 = 0.0001",
        ),
        ("calibrated: E_I 0.2", "computed from the errors of model and warp, measured on this input"),
        ("mine", "mine"),
        ("", "of unknown origin"),
    ],
)
def test_how_a_table_was_made_is_said_in_words(source: str, words: str) -> None:
    assert LambdaTable(torch.ones(1, 2), torch.ones(1), source).made_by == words


def test_the_sources_that_are_written_are_known() -> None:
    schedule = mvguide.load_sigmas("sigmas_25")
    for rule in ("exact", "released"):
        assert mvguide.search_hypers(schedule, num_frames=4, rule=rule).table.made_by.startswith("found by")


def test_a_result_shows_its_video_and_its_sheet(scene: tuple[mvguide.View, mvguide.Camera], tmp_path: Path) -> None:
    view, path = scene
    result = mvguide.MultiViewPipeline.from_pretrained("tiny")([view], path, schedule=1, size=(32, 32))
    html = result._repr_html_()
    (video,) = embedded(html, "video/mp4")
    (tmp_path / "v.mp4").write_bytes(video)
    assert read_video(tmp_path / "v.mp4").shape == (4, 3, 32, 32)
    assert len(embedded(html, "image/png")) == 1
    assert "Result(4 frames of 32 x 32" in html
