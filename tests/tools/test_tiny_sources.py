"""Where training data come from, and how the trainer chooses where to compute."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tools.scenes import TRAINING, render_scenes
from tools.tiny.averages import best_average
from tools.tiny.compute import Compute, fast_bfloat16, keep_float32
from tools.tiny.data import render_shards
from tools.tiny.latents import embed_pictures, encode_frames, encode_shards, load_latents
from tools.tiny.models import build_image_encoder, build_pipeline, build_unet, build_vae
from tools.tiny.settings import Settings, load_settings
from tools.tiny.sources import EncodedVideos, RenderedVideos
from tools.tiny.unet import train_unet

YAML = Path(__file__).resolve().parents[2] / "configs" / "train_tiny.yaml"


@pytest.fixture(scope="module")
def pipe() -> Any:
    torch.manual_seed(3)
    return build_pipeline(build_vae(), build_unet(4, 8), build_image_encoder())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        YAML,
        folder=str(tmp_path),
        size=32,
        frames=4,
        device="cpu",
        scenes="rendered",
        compile="never",
        precision="float32",
        unet_steps=4,
        unet_batch=2,
        save_every=2,
        held_out_every=2,
        held_out_scenes=1,
    )


def test_embeddings_are_those_of_the_stock_pipeline(pipe: Any) -> None:
    pictures = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
    with torch.no_grad():
        expected = pipe._encode_image(images, "cpu", 1, False)[:, 0]
    torch.testing.assert_close(embed_pictures(pipe, pictures), expected, atol=1e-5, rtol=1e-5)


def test_rendered_scenes_follow_from_the_step(settings: Settings, pipe: Any) -> None:
    compute = Compute.of(settings)
    source = RenderedVideos(settings, compute)
    first = source.draw(0, 2, torch.Generator())
    expected = render_scenes(range(TRAINING.start + 10, TRAINING.start + 12), size=32, frames=4)
    later, bucket = source.render(5, 2)
    assert torch.equal(later, (expected.video * 255).round().to(torch.uint8))
    assert torch.equal(bucket, expected.bucket)
    assert not torch.equal(first, later)
    encoded = EncodedVideos(settings, compute, pipe).draw(5, 2, torch.Generator())
    torch.testing.assert_close(encoded["latents"], encode_frames(pipe.vae, later), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoded["embeddings"][:, 1], embed_pictures(pipe, later[:, -1]))


def test_the_unet_trains_on_scenes_that_no_disk_holds(settings: Settings, pipe: Any) -> None:
    unet = build_unet(4, 8)
    before = unet.conv_out.weight.clone()
    train_unet(unet, pipe, settings)
    assert not torch.equal(unet.conv_out.weight, before)
    assert {path.name for path in settings.root.iterdir()} == {
        "unet.csv",
        "unet_held_out.csv",
        "unet.rank0.safetensors",
    }


def test_what_auto_comes_to(settings: Settings) -> None:
    found = Compute.of(replace(settings, scenes="auto"))
    assert found == Compute(torch.device("cpu"), bfloat16=False, compiled=False, rendered=False, compiled_scenes=False)
    assert Compute.of(replace(settings, precision="bfloat16", compile="always")).bfloat16
    with pytest.raises(SystemExit, match="precision is 'half'; use one of auto, float32, bfloat16"):
        load_settings(YAML, precision="half")
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="no CUDA device; use auto or cpu"):
            Compute.of(replace(settings, device="cuda"))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx2": True}, False),
        ({}, False),
    ],
)
def test_auto_takes_bfloat16_where_the_cpu_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_bfloat16() == expected
    assert Compute.of(replace(settings, precision="auto")).bfloat16 == expected
    assert not Compute.of(replace(settings, precision="float32")).bfloat16
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not fast_bfloat16()


def test_a_module_can_be_kept_in_float32() -> None:
    layers = [torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)]
    keep_float32(layers[1])
    with torch.autocast("cpu", torch.bfloat16):
        first = layers[0](torch.randn(2, 4))
        second = layers[1](first)
    assert (first.dtype, second.dtype) == (torch.bfloat16, torch.float32)


def test_scenes_are_encoded_without_keeping_their_pictures(settings: Settings, pipe: Any) -> None:
    some = replace(settings, shards=2, video_shards=1, scenes_per_shard=2)
    render_shards(some, some.video_shards, rank=0, world=1)
    encode_shards(pipe, some, rank=0, world=1)
    assert len(list((some.root / "videos").iterdir())) == 1
    data = load_latents(some.root / "latents")
    assert data["latents"].shape == (4, 4, 4, 8, 8)
    scenes = render_scenes(range(TRAINING.start, TRAINING.start + 4), size=32, frames=4)
    torch.testing.assert_close(data["bucket"], scenes.bucket)
    exact = encode_frames(pipe.vae, (scenes.video * 255).round().to(torch.uint8))
    assert (data["latents"].float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_the_best_average_is_taken(settings: Settings, pipe: Any) -> None:
    some = replace(settings, unet_averages=[0.5, 0.9], held_out_scenes=2)
    torch.manual_seed(0)
    unet = build_unet(4, 8)
    train_unet(unet, pipe, some, steps=1)
    path = some.root / "unet.rank0.safetensors"
    tensors = load_file(path)
    noise = torch.Generator().manual_seed(0)
    for name, value in tensors.items():
        if name.startswith(("ema0.5/", "weight/")):
            value += 0.2 * torch.randn(value.shape, generator=noise)
    save_file(tensors, path)
    assert best_average(unet, pipe, some) == "ema0.9"
    assert torch.equal(unet.conv_out.weight, tensors["ema0.9/conv_out.weight"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_trainer_on_cuda(settings: Settings, pipe: Any) -> None:
    some = replace(settings, device="cuda", compile="auto", precision="auto", unet_batch=8)
    unet = build_unet(4, 8)
    train_unet(unet, pipe, some)
    assert Compute.of(some) == Compute(
        torch.device("cuda", 0), bfloat16=True, compiled=True, rendered=True, compiled_scenes=True
    )
    assert all(torch.isfinite(p).all() for p in unet.parameters())
