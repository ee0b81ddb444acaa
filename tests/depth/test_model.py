import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTImageProcessorPil,
)

from mvguide.depth.kind import disparity_to_depth
from mvguide.depth.model import estimate_depth, load_depth_model, output_kind
from mvguide.errors import InputError, ModelError
from tests.depth.tiny_model import save_model


@functools.cache
def picture() -> torch.Tensor:
    """84 x 60, bright at the top left."""
    v, u = torch.meshgrid(torch.linspace(1, 0, 60), torch.linspace(1, 0, 84), indexing="ij")
    return torch.stack([u * v, u, v]).clamp(0, 1)


@pytest.fixture(scope="module", params=["relative", "metric"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    save_model(folder, request.param)
    return request.param, folder


def by_hand(folder: Path) -> torch.Tensor:
    """Processor, model and bicubic enlargement one after the other."""
    model = DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
    array = (picture() * 255).round().byte().permute(1, 2, 0).numpy()
    inputs = DPTImageProcessorPil.from_pretrained(folder)(array, return_tensors="pt")
    assert inputs["pixel_values"].shape[-2:] == (56, 84)  # the height fits 56; 84 is the multiple of 14 beside 78
    with torch.no_grad():
        predicted = model(**inputs).predicted_depth
    return torch.nn.functional.interpolate(predicted[:, None], (60, 84), mode="bicubic")[0, 0]


def test_the_result_is_that_of_processor_and_model_by_hand(saved: tuple[str, Path]) -> None:
    kind, folder = saved
    depth = estimate_depth(picture(), str(folder), device="cpu")
    expected = by_hand(folder)
    assert float(expected.max() - expected.min()) > 1e-3 * float(expected.abs().max())
    assert depth.values.shape == (60, 84)
    assert depth.is_metric == (kind == "metric")
    assert bool(depth.valid.all())
    if kind == "metric":
        assert torch.allclose(depth.values, expected, rtol=1e-4)
        assert float(depth.values.max()) <= 20
        return
    assert torch.allclose(
        depth.values, torch.from_numpy(disparity_to_depth(expected.double().numpy())).float(), rtol=1e-3
    )
    assert depth.median == pytest.approx(1, rel=0.01)
    # Larger output is nearer, and the rows have kept their order.
    assert np.corrcoef(1 / depth.values.flatten(), expected.flatten())[0, 1] > 0.99


def test_a_model_is_loaded_once(saved: tuple[str, Path]) -> None:
    _, folder = saved
    assert load_depth_model(str(folder), "cpu") is load_depth_model(str(folder), "cpu")


def test_kinds_come_from_the_configuration_and_not_from_the_name() -> None:
    assert output_kind(DPTConfig()) == "disparity"
    assert output_kind(DPTConfig(add_projection=True)) == "depth"
    for name in ("zoedepth", "glpn", "depth_pro"):
        assert output_kind(AutoConfig.for_model(name)) == "depth"
    assert output_kind(DepthAnythingConfig()) == "disparity"
    assert output_kind(DepthAnythingConfig(depth_estimation_type="metric")) == "depth"
    with pytest.raises(ModelError, match="type 'chmv2' are not known"):  # heights of trees
        output_kind(AutoConfig.for_model("chmv2"))


def test_models_that_are_not_there_are_refused_with_the_way_out(tmp_path: Path) -> None:
    for name in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ModelError, match=r"cannot be loaded .*save_pretrained.*hub id.*--depth") as caught:
            estimate_depth(picture(), str(name), device="cpu")
        assert "\n" not in str(caught.value)
    AutoConfig.for_model("depth_pro").save_pretrained(tmp_path / "pro")
    (tmp_path / "pro/preprocessor_config.json").write_text('{"image_processor_type": "DepthProImageProcessor"}')
    with pytest.raises(ModelError, match="needs the package torchvision"):
        estimate_depth(picture(), str(tmp_path / "pro"), device="cpu")
    with pytest.raises(InputError, match=r"image has the shape \(60, 84\)"):
        estimate_depth(picture()[0], str(tmp_path))
