from pathlib import Path

import numpy as np
import pytest

from mvguide.depth.kind import FAR, disparity_evidence, disparity_to_depth, looks_like_disparity
from mvguide.files.depth_formats import read_stored

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
ROOMS = ["redwood_rgbd/depth/*.png", "7scenes_rgbd/*.depth.png", "nyu_single/depth.png"]


def real(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in DATA.glob(pattern))


def named(paths: list[Path]) -> dict:
    """The skipped case stands where there is no data, so that its absence shows."""
    return {
        "argvalues": paths or [pytest.param(Path(), marks=pytest.mark.skip("shared data is not here"))],
        "ids": [str(path.relative_to(DATA)) for path in paths] or ["absent"],
    }


def sensor(path: Path) -> np.ndarray:
    values = read_stored(path).astype(np.float64)
    return np.where(values == 65535, 0, values)


def inverse(depth: np.ndarray) -> np.ndarray:
    return np.divide(1000.0, depth, out=np.zeros_like(depth), where=depth > 0)


@pytest.mark.parametrize("path", **named(real(*ROOMS)))
def test_real_rooms_are_told_from_their_inverse(path: Path) -> None:
    depth = sensor(path)
    assert not looks_like_disparity(depth)
    assert looks_like_disparity(inverse(depth))
    evidence = disparity_evidence(depth)
    assert evidence.row_correlation < -0.5
    assert evidence.straightness is not None
    assert evidence.straightness < 0.4


@pytest.mark.parametrize("path", **named(real("nerf_lego/test/*depth*.png")))
def test_a_real_object_is_depth(path: Path) -> None:
    stored = read_stored(path).astype(np.float64)
    assert not looks_like_disparity(np.where(stored > 0, 8 * (1 - stored / 255), 0))


@pytest.mark.parametrize("path", **named(real("nvs_dtu_scan1/*.pfm")))
def test_a_real_table_top_is_depth_though_it_grows_down_the_picture(path: Path) -> None:
    depth = read_stored(path)
    assert disparity_evidence(depth).row_correlation > 0.5
    assert not looks_like_disparity(depth)


@pytest.mark.parametrize("path", **named(real("nvs_dynamic_street/depth/*.npy", "moon_single/moon.npy")))
def test_real_inverse_depth_is_found_and_its_inverse_is_not(path: Path) -> None:
    values = read_stored(path)
    evidence = disparity_evidence(values)
    assert evidence.is_strong
    assert evidence.is_certain is (path.name == "moon.npy")
    assert not looks_like_disparity(disparity_to_depth(values))


@pytest.mark.parametrize("path", **named(real("nvs_dynamic_street/depth/*.npy")))
def test_a_street_is_found_without_its_sky_too(path: Path) -> None:
    # Evidence must not hang on exact zeros: other writers add a constant or stretch to 8 bits.
    values = read_stored(path)
    evidence = disparity_evidence(values + 5)
    assert evidence.fading is None
    assert evidence.is_strong
    assert looks_like_disparity(np.round(values / values.max() * 255).astype(np.uint8))


@pytest.mark.parametrize("path", **named(real(*ROOMS)[::4]))
@pytest.mark.parametrize("factor", [4, 9])
def test_real_depth_smeared_into_its_holes_is_not_called_disparity(path: Path, factor: int) -> None:
    from PIL import Image

    depth = sensor(path).astype(np.float32)[120:360, 160:480]
    smeared = np.asarray(
        Image.fromarray(depth[::2, ::2]).resize((160 * factor, 120 * factor), Image.Resampling.BILINEAR)
    )
    assert not looks_like_disparity(smeared)


def corridor(height: int = 120, width: int = 160) -> np.ndarray:
    """Z of a corridor 3 wide, floor 1.2 below and ceiling 5 above the eye, closed at z = 12; f = half the width."""
    v = ((np.arange(height) + 0.5) - height / 2)[:, None] / (width / 2)
    u = ((np.arange(width) + 0.5) - width / 2)[None] / (width / 2)
    floor = np.where(v > 0, 1.2 / np.maximum(v, 1e-9), 5 / np.maximum(-v, 1e-9))
    return np.minimum(np.minimum(floor, 1.5 / np.maximum(np.abs(u), 1e-9)), 12.0)


def test_planes_are_straight_in_inverse_depth() -> None:
    depth = corridor()
    straightness = disparity_evidence(depth).straightness
    assert straightness is not None
    assert straightness < 0.1
    turned = disparity_evidence(7 / depth - 0.3).straightness
    assert turned is not None
    assert turned > 0.9
    assert not looks_like_disparity(depth)
    assert looks_like_disparity(7 / depth)
    # A camera held upside down: depth grows down the image, but its planes still say depth.
    assert not looks_like_disparity(depth[::-1])


def test_too_little_evidence_is_no_evidence() -> None:
    for values in (np.full((50, 60), 3.0), np.zeros((5, 5)), np.ones((1, 1)), np.full((9, 9), np.nan)):
        evidence = disparity_evidence(values)
        assert evidence.row_correlation == 0
        assert evidence.straightness is None
        assert not evidence.is_strong
    noise = np.random.default_rng(0).uniform(1, 5, (100, 100))
    assert not looks_like_disparity(noise)


def test_one_negative_value_is_certain() -> None:
    values = corridor()
    values[3, 4] = -0.01
    evidence = disparity_evidence(values)
    assert evidence.is_certain
    assert evidence.negative == pytest.approx(1 / values.size)
    assert "negative" in str(evidence)


def test_the_words_name_what_was_found() -> None:
    sky = 7 / corridor()
    sky[:60] = np.maximum(sky[:60] - np.linspace(3, 0, 60)[:, None], 0)
    words = str(disparity_evidence(sky))
    assert "fade smoothly to 0" in words
    assert "grow towards the bottom" in words


def test_conversion_is_affine_in_the_inverse_and_bounded() -> None:
    disparity = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    assert disparity_to_depth(disparity, 3.0).tolist() == pytest.approx([3 * FAR, 9, 4.5, 2.25, 1.125])
    assert np.allclose(disparity_to_depth(disparity - 1), disparity_to_depth(disparity))
    assert np.allclose(disparity_to_depth(disparity * 1e-200), disparity_to_depth(disparity))
    assert disparity_to_depth(disparity + 1)[0] == pytest.approx(2)  # a positive map is not shifted
