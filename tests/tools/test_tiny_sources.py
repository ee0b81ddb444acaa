"""Where training data come from, and how the trainer chooses where to compute."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tools.scenes import TRAINING, render_scenes
from tools.tiny.compute import Compute
from tools.tiny.latents import embed_pictures, encode_frames
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
    found = Compute.of(replace(settings, scenes="auto", precision="float32"))
    assert found == Compute(torch.device("cpu"), bfloat16=False, compiled=False, rendered=False, compiled_scenes=False)
    assert Compute.of(replace(settings, precision="bfloat16", compile="always")).bfloat16
    with pytest.raises(SystemExit, match="precision is 'half'; use one of auto, float32, bfloat16"):
        load_settings(YAML, precision="half")
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="no CUDA device; use auto or cpu"):
            Compute.of(replace(settings, device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_trainer_on_cuda(settings: Settings, pipe: Any) -> None:
    some = replace(settings, device="cuda", compile="auto", unet_batch=8)
    unet = build_unet(4, 8)
    train_unet(unet, pipe, some)
    assert Compute.of(some) == Compute(
        torch.device("cuda", 0), bfloat16=True, compiled=True, rendered=True, compiled_scenes=True
    )
    assert all(torch.isfinite(p).all() for p in unet.parameters())
