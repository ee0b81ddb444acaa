"""A known background is warped along, and is no hole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.config.input_options import CropOptions, DepthOptions, LensOptions, SourceOptions, TrajectoryOptions
from mvguide.errors import InputError
from mvguide.inputs.loading import Inputs, load_views
from mvguide.views.view import INFINITY
from mvguide.views.warps import warp_views
from tests.real_data import DATA, needs_data

SIZE = 48
SQUARE = slice(16, 32)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A red square with a white spot before nothing: transparent over white, without depth."""
    pixels = np.full((SIZE, SIZE, 4), 255, np.uint8)
    pixels[..., 3] = 0
    pixels[SQUARE, SQUARE] = (200, 30, 30, 255)
    pixels[20:24, 20:24] = 255
    Image.fromarray(pixels).save(tmp_path / "thing.png")
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "opaque.png")
    depth = np.zeros((SIZE, SIZE), np.float32)
    depth[SQUARE, SQUARE] = 2.0
    np.save(tmp_path / "depth.npy", depth)
    return tmp_path


def load(files: Path, background: str | None, image: str = "thing.png", crop: CropOptions | None = None) -> Inputs:
    depth = DepthOptions(depth=str(files / "depth.npy"), background=background)
    return load_views(SourceOptions(image=str(files / image)), depth, LensOptions(fov=60), crop)


def known(inputs: Inputs, path: TrajectoryOptions) -> float:
    """Share of the middle frame that is seen, and not guessed."""
    warps = warp_views(inputs.views, inputs.trajectory(path, 3))
    return float((warps.confidence[1] > 0.5).float().mean())


@pytest.mark.parametrize("background", ["white", "#ffffff", "alpha", "far"])
def test_a_background_is_infinitely_far_and_seen(files: Path, background: str) -> None:
    (view,) = load(files, background).views
    expected = torch.ones(SIZE, SIZE, dtype=torch.bool)
    expected[SQUARE, SQUARE] = False  # nor the white spot, whose depth is known
    assert view.background is not None
    assert torch.equal(view.background, expected)
    depth = view.require_depth()
    assert depth.valid.all()
    assert (depth.values[expected] == 2 * INFINITY).all()
    assert view.median_depth == 2, "paths are measured by what is before the background"
    move = TrajectoryOptions(kind="truck", distance=0.1)  # type: ignore[call-arg]
    assert known(load(files, background), move) > 0.95
    assert known(load(files, None), move) < 0.2


def test_a_background_follows_resizing_and_cropping(files: Path) -> None:
    (view,) = load(files, "alpha", crop=CropOptions(resize=[96, 96], crop=[8, 8, 60, 60])).views
    assert view.background is not None
    assert int((~view.background).sum()) == 32 * 32
    assert not view.background[24:56, 24:56].any()
    (small,) = (view.fit(30, 30) for _ in range(1))
    assert small.background is not None
    assert int((~small.background).sum()) == 16 * 16


def test_another_colour_is_no_background(files: Path) -> None:
    (view,) = load(files, "#00ff00").views
    assert view.background is None
    assert not view.require_depth().valid.all()


def test_what_is_no_background(files: Path) -> None:
    with pytest.raises(InputError, match="background is 'blue'; give white or another colour as '#rrggbb', alpha"):
        load(files, "blue")
    with pytest.raises(InputError, match=r"background is 'alpha', but opaque\.png has no transparency"):
        load(files, "alpha", "opaque.png")


@needs_data
def test_the_white_around_the_lego_is_no_hole() -> None:
    folder = DATA / "nerf_lego"
    found = {}
    for background in (None, "white", "alpha", "far"):
        inputs = load_views(
            SourceOptions(cameras=str(folder / "transforms_test.json"), use=["r_0"]),
            DepthOptions(
                depth=str(folder / "test" / "{stem}_depth_0001.png"),
                depth_unit=-8 / 255,
                depth_offset=8,
                background=background,
            ),
            crop=CropOptions(resize=[200, 200]),
        )
        found[background] = known(inputs, TrajectoryOptions(kind="orbit", degrees=5))  # type: ignore[call-arg]
        assert 3 < inputs.start.median_depth < 5
    # The turn by 2.5 degrees brings a strip of what is beside the image into view.
    assert min(found["white"], found["alpha"], found["far"]) > 0.85
    assert found[None] < 0.35
