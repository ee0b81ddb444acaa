"""Depth of an image of which a part is known."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mvguide.depth.complete import complete_depth
from mvguide.depth.maps import Depth
from mvguide.depth.model import estimate_depth
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from tests.depth.tiny_model import save_model
from tools.quality.long_scenes import LongScene


@pytest.fixture(scope="module")
def scene() -> LongScene:
    """Eight frames of a turn of 60 degrees: the neighbours of frame 4 are 9 degrees away."""
    return LongScene(0, 96, 8, 60.0)


@pytest.fixture(scope="module")
def truth(scene: LongScene) -> Tensor:
    return scene.depth[4]


def known_part(truth: Tensor) -> Depth:
    """The left half."""
    valid = torch.zeros_like(truth, dtype=torch.bool)
    valid[:, :48] = True
    return Depth(torch.where(valid, truth, 0.0), valid, is_metric=True)


def error(found: Tensor, truth: Tensor, where: Tensor) -> float:
    return float((found / truth).log().abs()[where].median())


def test_other_pictures_measure_what_is_missing(scene: LongScene, truth: Tensor) -> None:
    known = known_part(truth)
    others = [(scene.truth[k], scene.cameras[k]) for k in (3, 5)]
    swept, measured = complete_depth(known, scene.truth[4], scene.cameras[4], others)
    guessed, sure = complete_depth(known, scene.truth[4], scene.cameras[4])
    for depth in (swept, guessed):
        assert bool(depth.valid.all())
        assert bool((depth.values > 0).all())
        torch.testing.assert_close(depth.values[known.valid], known.values[known.valid])
    assert torch.equal(sure, known.valid), "nothing was measured"
    assert bool(measured[known.valid].all())
    hole = ~known.valid
    assert 0.3 < float(measured[hole].float().mean()) < 1
    assert error(swept.values, truth, hole & measured) < 0.03
    assert error(swept.values, truth, hole) < 0.5 * error(guessed.values, truth, hole)


def test_a_sweep_is_scaled_to_what_is_known(scene: LongScene, truth: Tensor) -> None:
    """The known depth is half of what the cameras say: so is what is measured beside it."""
    known = known_part(truth / 2)
    others = [(scene.truth[k], scene.cameras[k]) for k in (3, 5)]
    found, measured = complete_depth(known, scene.truth[4], scene.cameras[4], others)
    assert error(found.values, truth / 2, measured & ~known.valid) < 0.04


def test_pictures_from_the_same_place_measure_nothing(scene: LongScene, truth: Tensor) -> None:
    known = known_part(truth)
    _, measured = complete_depth(known, scene.truth[4], scene.cameras[4], [(scene.truth[4], scene.cameras[4])])
    assert torch.equal(measured, known.valid)


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_a_depth_model_is_brought_to_what_is_known(kind: str, scene: LongScene, tmp_path: Path) -> None:
    """What is known is a line of the model's own map: the rest must be on that line too."""
    model, image = str(save_model(tmp_path, kind)), scene.truth[4]
    said = estimate_depth(image, model).values
    truth = 3 * said + 1 if kind == "metric" else 1 / (0.2 / said + 0.05)
    known = known_part(truth)
    found, measured = complete_depth(known, image, scene.cameras[4], model=model)
    assert bool(measured.all())
    torch.testing.assert_close(found.values, truth, rtol=1e-3, atol=1e-3)


def test_nothing_known_is_refused(scene: LongScene) -> None:
    nothing = Depth(torch.zeros(96, 96), torch.zeros(96, 96, dtype=torch.bool), is_metric=True)
    with pytest.raises(InputError, match="no depth is known in the image"):
        complete_depth(nothing, scene.truth[4], Camera.from_fov(60, 96, 96))
