"""Predicted memory: the same as the live bytes of a real run, the known figures of published models, and sentences."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mvguide.backbones.live_memory import peak_bytes, storage_bytes
from mvguide.backbones.memory_plan import _blocks, _Call, _streamed_bytes, _video_coding, plan_memory
from mvguide.backbones.model_configs import published_models, read_model_configs
from mvguide.backbones.native_size import NativeSize, native_size
from mvguide.backbones.network_calls import INPUTS
from mvguide.backbones.pretrained import BACKBONES
from mvguide.backbones.stock_call import run_to_first_step
from mvguide.errors import InputError, ModelError
from tests.backbones.tiny_families import FAMILIES, HEIGHT, WIDTH
from tests.backbones.tiny_svd import build_pipeline

GIB = 2**30
KINDS = ["wan21", "wan22_5b", "wan_vace", "cogvideox", "cogvideox15", "ltx_noisy_decoder", "hunyuan_replace"]
KINDS += ["hunyuan_concat", "hunyuan15"]


def native(kind: str, pipe: Any) -> NativeSize:
    return native_size(pipe.transformer.config, pipe.vae.config, kind, type(pipe).__name__)


def tiny_x(kind: str, pipe: Any) -> Tensor:
    family, size = FAMILIES[kind], native(kind, pipe)
    frames = size.grid.latent_frames(family.frames - family.dropped)
    return torch.zeros(1, family.channels, frames, HEIGHT // family.factor, WIDTH // family.factor)


def real_and_meta(pipe: Any, x: Tensor, part: str = "transformer") -> list[_Call]:
    network = deepcopy(getattr(pipe, part)).requires_grad_(False)
    kind = type(pipe).__name__
    return [_Call(kind, network, x, torch.float32), _Call(kind, deepcopy(network).to("meta"), x.to("meta"), x.dtype)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_called_as_the_stock_pipeline_calls_it(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    pipe, family = tiny_pipeline(kind), FAMILIES[kind]
    call = family.call(family.frames) | {"num_inference_steps": 4, "output_type": "latent"}
    (real, *_), _ = run_to_first_step(pipe, call)
    batch = real["hidden_states"].shape[0]
    planned = INPUTS[type(pipe).__name__](pipe.transformer.config, tiny_x(kind, pipe), torch.float32, batch)
    for name, value in real.items():
        if not isinstance(value, Tensor) or name == "control_hidden_states_scale":
            continue
        shape, expected = tuple(planned[name].shape), tuple(value.shape)
        if name.startswith("encoder_hidden_states_image"):  # the tiny image encoder has fewer tokens
            shape, expected = shape[2:], expected[2:]
        elif name.startswith("encoder"):  # HunyuanVideo drops four tokens of its template
            assert 0 <= shape[1] - expected[1] <= 4
            shape, expected = shape[2:], expected[2:]
        assert shape == expected, name


@pytest.mark.parametrize("kind", KINDS)
def test_predicted_activations_are_those_of_a_real_run(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    pipe = tiny_pipeline(kind)
    real, meta = real_and_meta(pipe, tiny_x(kind, pipe))
    with torch.no_grad():
        assert meta.activations(1) == pytest.approx(real.activations(1), rel=0.02)
    for again in (False, True):
        assert meta.gradient_activations(again) == pytest.approx(real.gradient_activations(again), rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_predicted_memory_of_the_vae_is_that_of_a_real_run(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    pipe, family = tiny_pipeline(kind), FAMILIES[kind]
    x, size = tiny_x(kind, pipe), native(kind, pipe)
    vae = deepcopy(pipe.vae)
    pixels = torch.zeros(1, 3, family.frames, HEIGHT, WIDTH)
    latents = x[:, :, : (family.frames - 1) // size.grid.ratio + 1]
    left = {"temb": torch.zeros(1)} if vae.config.get("timestep_conditioning") else {}
    with torch.no_grad():
        encoded = peak_bytes(lambda: vae.encode(pixels).latent_dist.mode(), vae) + pixels.nbytes
        decoded = peak_bytes(lambda: vae.decode(latents, **left), vae) + latents.nbytes
        encoding, decoding = _video_coding(vae.to("meta"), latents.to("meta"), family.factor, family.frames)
    assert encoding[family.frames, False] == pytest.approx(encoded, rel=0.02)
    assert decoding[family.frames, False] == pytest.approx(decoded, rel=0.02)


def test_predicted_activations_of_svd_are_those_of_a_real_run() -> None:
    pipe = build_pipeline()
    real, meta = real_and_meta(pipe, torch.zeros(1, 4, 4, 16, 24), "unet")
    with torch.no_grad():
        for batch in (1, 2):
            assert meta.activations(batch) == pytest.approx(real.activations(batch), rel=0.02)
    kept, again = real.gradient_activations(False), real.gradient_activations(True)
    assert again < 0.8 * kept
    assert meta.gradient_activations(False) == pytest.approx(kept, rel=0.02)
    assert meta.gradient_activations(True) == pytest.approx(again, rel=0.02)


@pytest.mark.parametrize("kind", ["wan21", "cogvideox", "ltx_noisy_decoder"])
def test_checkpointing_is_predicted_as_diffusers_does_it(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    pipe = tiny_pipeline(kind)
    call, _ = real_and_meta(pipe, tiny_x(kind, pipe))
    predicted = call.gradient_activations(True)
    call.network.enable_gradient_checkpointing()
    assert predicted == pytest.approx(call.gradient_activations(False), rel=0.05)


def test_live_bytes_are_the_most_at_one_time_not_a_sum() -> None:
    def work() -> Tensor:
        first = torch.zeros(1000)
        second = first + 1  # both live: 8000
        view = second.view(10, 100)  # no new storage
        del first
        third = view * 2  # 8000 again
        del second, view
        return third[:10].clone()

    assert peak_bytes(work) == 8000


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_counted_as_a_fused_kernel_holds_it(masked: bool) -> None:
    def attend(device: str) -> Callable[[], Tensor]:
        query = torch.zeros(1, 2, 512, 8, device=device)
        mask = torch.zeros(1, 1, 1, 512, dtype=torch.bool, device=device) if masked else None
        return lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)

    before = torch.nn.functional.scaled_dot_product_attention
    matrix = 2 * 512 * 512 * 4
    assert peak_bytes(attend("meta")) < matrix / 10
    assert peak_bytes(attend("meta")) == pytest.approx(peak_bytes(attend("cpu")), rel=0.05)
    assert torch.nn.functional.scaled_dot_product_attention is before


def test_a_mask_on_the_meta_device_selects_all_and_its_negation_nothing() -> None:
    chosen: list[Tensor] = []

    def work() -> None:
        values, mask = torch.zeros(6, 4, device="meta"), torch.zeros(6, dtype=torch.bool, device="meta")
        chosen.extend([values[mask], values[~mask]])

    peak_bytes(work)
    assert [tuple(part.shape) for part in chosen] == [(6, 4), (0, 4)]


def test_svd_takes_what_was_measured() -> None:
    found = plan_memory(read_model_configs("svd-xt"), num_frames=25, width=1024, height=576)
    assert found.dtype == "float16"
    assert found.weights["unet"] / GIB == pytest.approx(2.84, rel=0.01)
    assert found.network[2] / GIB == pytest.approx(7.73, rel=0.01)
    assert found.network[1] / GIB == pytest.approx(3.71, rel=0.01)
    for chunk in (1, 2, 4, 8):
        assert found.decoding[chunk, False] / GIB == pytest.approx(1.125 * chunk, rel=0.01)
        upcast = found.decoding_float32[chunk, False] - found.weights["vae"]  # its weights are twice as large meanwhile
        assert upcast / GIB == pytest.approx(2.25 * chunk, rel=0.01)
        # The encoder always runs in float32.
        assert found.encoding[chunk, False] / GIB == pytest.approx(1.41 * chunk, rel=0.2)
    assert found.gradient[True] / GIB == pytest.approx(13.1, rel=0.01)
    assert found.gradient[False] / GIB == pytest.approx(88.5, rel=0.01)
    # The released tile of 44 x 76 cells, which the network pads to 48 x 80, was measured without padding.
    assert found.gradient_bytes(True, 44, 76) / GIB == pytest.approx(4.7, rel=0.16)
    assert found.gradient_bytes(True, 44, 76) < 5.5 * GIB


def test_a_tile_of_the_gradient_takes_its_share_of_the_cells() -> None:
    found = plan_memory(read_model_configs("tiny"), num_frames=8, width=256, height=128)
    tile = plan_memory(read_model_configs("tiny"), num_frames=8, width=128, height=64)
    for again in (False, True):
        assert found.gradient_bytes(again, *tile.cells) == pytest.approx(tile.gradient[again], rel=0.05)


@pytest.mark.parametrize(
    ("model", "size", "weights", "activations"),
    [
        ("wan2.1-14b", (81, 832, 480), 30.5, 3.5),
        ("wan2.2-5b", (121, 1280, 704), 9.3, 5.1),
        ("cogvideox-5b", (49, 720, 480), 10.4, 1.32),  # 2.7 for both halves in one call; they are two here
    ],
)
def test_transformers_take_what_was_measured(
    model: str, size: tuple[int, int, int], weights: float, activations: float
) -> None:
    configs = read_model_configs(model)
    assert configs.size == size
    network = configs.build("transformer", torch.bfloat16)
    native = configs.native_size
    factor, frames = native.vae_scale_factor, native.grid.latent_frames(size[0])
    channels = configs.networks["transformer"][1]["out_channels"]
    x = torch.zeros(1, channels, frames, size[2] // factor, size[1] // factor, device="meta")
    assert storage_bytes(network) / GIB == pytest.approx(weights, rel=0.02)
    with torch.no_grad():
        call = _Call(configs.pipeline, network, x, torch.bfloat16)
        assert call.activations(1) / GIB == pytest.approx(activations, rel=0.02)
        if model == "cogvideox-5b":
            assert call.activations(2) / GIB == pytest.approx(2.7, rel=0.05)


def test_wans_vae_takes_what_was_measured_and_its_tiles_what_is_estimated() -> None:
    configs = read_model_configs("wan2.1-14b")
    vae: Any = torch.nn.Module.to(configs.build("vae", torch.bfloat16), torch.bfloat16)
    x = torch.zeros(1, 16, 21, 60, 104, device="meta")
    with torch.no_grad():
        _, decoding = _video_coding(vae, x, 8, 81)
        assert decoding[81, False] / GIB == pytest.approx(4, rel=0.05)
        # Few frames, because all tiles are run here.
        encoding, decoding = _video_coding(vae, x[:, :, :2], 8, 5)
        vae.enable_tiling()
        encoded, decoded = _video_coding(vae, x[:, :, :2], 8, 5)
    assert encoding[5, True] == pytest.approx(encoded[5, False], rel=0.2)
    assert decoding[5, True] == pytest.approx(decoded[5, False], rel=0.2)
    assert decoding[5, True] < 0.5 * decoding[5, False]


def test_every_family_that_loads_can_be_planned(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(INPUTS) == set(BACKBONES)
    monkeypatch.delitem(INPUTS, "WanImageToVideoPipeline")
    with pytest.raises(ModelError, match="how the network of a WanImageToVideoPipeline is called is not known"):
        plan_memory(read_model_configs(tiny_folder("wan21")), num_frames=9, width=64, height=32)


@pytest.mark.parametrize("model", published_models())
def test_every_published_config_is_one_of_a_backbone_and_builds(model: str) -> None:
    configs = read_model_configs(model)
    document = json.loads(published_models()[model].read_text())
    assert configs.pipeline in INPUTS
    assert set(configs.networks) == set(document["configs"])
    network = configs.build(configs.main, configs.dtype)
    assert next(network.parameters()).is_meta
    assert _streamed_bytes(network, 0, configs.main) < storage_bytes(network) / 10
    assert _blocks(network)
    hub_id = document["hub_ids"][0]
    assert read_model_configs(hub_id).networks == configs.networks


@pytest.mark.parametrize("kind", ["wan22_a14b", "hunyuan15"])
def test_a_folder_takes_its_own_configs(kind: str, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder(kind), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    configs = read_model_configs(folder)
    found = plan_memory(configs, num_frames=9, width=64, height=32, dtype=torch.float32, gradient=False)
    assert set(found.weights) == set(configs.networks)
    assert ("transformer_2" in found.weights) == (kind == "wan22_a14b")
    assert found.gradient == {}


def test_parts_that_are_never_rounded_are_planned_in_float32() -> None:
    configs = read_model_configs("wan2.1-14b")
    for dtype in (torch.bfloat16, torch.float32):
        vae = configs.build("vae", dtype)
        assert {weight.dtype for weight in vae.parameters()} == {torch.float32}
    dtypes = {name: weight.dtype for name, weight in configs.build("transformer", torch.bfloat16).named_parameters()}
    assert dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert dtypes["blocks.0.scale_shift_table"] == torch.float32


def test_bad_models_are_refused_with_a_sentence(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="'no/such-model' is neither a folder nor in the local cache.*svd-xt"):
        read_model_configs("no/such-model")
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="model_index.json is missing"):
        read_model_configs(tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="is a FluxPipeline; mvguide has a backbone for"):
        read_model_configs(tmp_path / "model")
    index.write_text(
        '{"_class_name": "WanImageToVideoPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}'
    )
    with pytest.raises(ModelError, match="transformer/config.json cannot be read"):
        read_model_configs(tmp_path / "model")
    shutil.copytree(tiny_folder("wan21") / "transformer", tmp_path / "model" / "transformer")
    with pytest.raises(ModelError, match="has no vae in its model_index.json"):
        read_model_configs(tmp_path / "model")


def test_a_config_of_another_class_is_refused_with_a_sentence(
    tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    folder = shutil.copytree(tiny_folder("wan21"), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = folder / "transformer" / "config.json"
    good = json.loads(config.read_text())
    for change, sentence in (
        ({"num_attention_heads": "two"}, r"transformer \(WanTransformer3DModel\) cannot be built from its config"),
        ({"in_channels": 8}, "cannot take 9 frames of 64 x 32"),  # fewer than the latents have
    ):
        config.write_text(json.dumps(good | change))
        with pytest.raises(ModelError, match=sentence):
            plan_memory(read_model_configs(folder), num_frames=9, width=64, height=32)


@pytest.mark.parametrize(
    ("model", "size", "sentence"),
    [
        ("wan2.1-14b", (80, 832, 480), "use 77 or 81"),
        ("wan2.1-14b", (1, 832, 480), "has at least 5"),
        ("wan2.1-14b", (81, 830, 480), "not divisible by 16.*use 832 x 480"),
        ("svd-xt", (1, 1024, 576), "has at least 2"),
        ("svd-xt", (25, 1020, 576), "not divisible by 8.*use 1024 x 576"),
        ("cogvideox-5b", (49, 640, 480), "takes 720 x 480 alone"),
    ],
)
def test_bad_sizes_are_refused_with_the_nearest_good_one(model: str, size: tuple[int, int, int], sentence: str) -> None:
    frames, width, height = size
    with pytest.raises(InputError, match=sentence):
        plan_memory(read_model_configs(model), num_frames=frames, width=width, height=height, gradient=False)
