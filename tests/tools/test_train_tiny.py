"""The trainer: losses fall, a stopped run continues exactly, and the export loads in the stock pipeline."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline

from mvguide.files.images import read_image
from tools.tiny.data import render_shards
from tools.tiny.latents import encode_frames, encode_shards, load_latents
from tools.tiny.models import SCALING_FACTOR, build_image_encoder, build_pipeline, build_unet, build_vae, whiten
from tools.tiny.optim import orthogonalise
from tools.tiny.settings import Settings, load_settings
from tools.tiny.vae import train_vae
from tools.train_tiny import check_resume, stage_export, stage_latents, stage_unet, stage_vae

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("run")
    settings = load_settings(
        ROOT / "configs" / "train_tiny.yaml",
        folder=str(folder),
        size=32,
        frames=4,
        shards=1,
        video_shards=1,
        compile="never",
        texture_clips=4,
        scenes_per_shard=4,
        vae_steps=20,
        vae_batch=4,
        unet_steps=20,
        unet_batch=2,
        save_every=5,
        held_out_every=10,
        held_out_scenes=2,
    )
    render_shards(settings, 1, rank=0, world=1)
    return settings


def losses(log: Path) -> list[float]:
    with log.open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def test_the_whole_recipe_and_the_losses_fall(settings: Settings, tmp_path: Path) -> None:
    stage_vae(settings)
    stage_latents(settings)
    stage_unet(settings)
    for name in ("vae", "unet"):
        found = losses(settings.root / f"{name}.csv")
        assert found[-1] < 0.9 * found[0] if name == "vae" else found[-1] < found[0]
    stage_export(settings, tmp_path / "model")
    pipe = StableVideoDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert pipe.unet.config.num_frames == 4
    size = sum(file.stat().st_size for file in (tmp_path / "model").rglob("*"))
    assert size < 16 * 2**20
    configs = list((tmp_path / "model").glob("*/config.json"))
    assert len(configs) == 3
    assert not any(str(settings.root) in config.read_text() for config in configs), "no path of the run is shipped"
    assert read_image(settings.root / "curves.png").shape[-1] > 2000  # three panels
    with (settings.root / "unet_held_out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["10", "20"]
    assert float(rows[1]["v_mse_sigma_1"]) < float(rows[0]["v_mse_sigma_1"])
    with pytest.raises(SystemExit, match="continue it with --resume"):
        check_resume(settings, ("unet",), resume=False)
    check_resume(settings, ("unet",), resume=True)
    check_resume(settings, ("export",), resume=False)


def test_a_stopped_run_continues_exactly(settings: Settings, tmp_path: Path) -> None:
    def train(folder: Path, stops: list[int]) -> dict[str, torch.Tensor]:
        folder.mkdir()
        (folder / "videos").symlink_to(settings.root / "videos")
        for stop in stops:
            torch.manual_seed(0)
            vae = build_vae()
            train_vae(vae, replace(settings, folder=str(folder)), steps=stop)
        return vae.state_dict()

    whole = train(tmp_path / "whole", [10])
    parts = train(tmp_path / "parts", [5, 10])
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_the_decoder_can_be_trained_alone(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(settings.root / "videos")
    some = replace(settings, folder=str(tmp_path), vae_part="decoder", vae_steps=2)
    stage_vae(some)
    torch.manual_seed(some.seed)
    before, after = build_vae(), AutoencoderKLTemporalDecoder.from_pretrained(tmp_path / "vae")
    latents_part = ("encoder.", "quant_conv.")
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert not name.startswith(latents_part) or torch.equal(old, new), name
    assert not torch.equal(before.decoder.conv_in.weight, after.decoder.conv_in.weight)


def test_whitening_changes_latents_and_not_pictures(settings: Settings) -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    with torch.no_grad():
        vae.encoder.conv_out.bias[:4] = torch.tensor([0.3, -0.2, 0.1, 0.0])
    video = (torch.rand(4, 2, 3, 32, 32) * 255).to(torch.uint8)
    before = encode_frames(vae, video).flatten(0, 1)
    with torch.no_grad():
        decoded = vae.decode(before, num_frames=2).sample
        whiten(vae, before)
        after = encode_frames(vae, video).flatten(0, 1)
        again = vae.decode(after, num_frames=2).sample
    # Zero padding at the border means another latent after the change, so only the inside is the same.
    torch.testing.assert_close(again[..., 12:-12, 12:-12], decoded[..., 12:-12, 12:-12], atol=0.05, rtol=0.05)
    flat = (after * SCALING_FACTOR).permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(torch.cov(flat), torch.eye(4), atol=1e-3, rtol=1e-3)
    assert flat.mean(1).abs().max() < 1e-3


def test_latents_come_in_two_directions(settings: Settings, tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = build_pipeline(build_vae(), build_unet(4, 8), build_image_encoder())
    (tmp_path / "videos").symlink_to(settings.root / "videos")
    encode_shards(pipe, replace(settings, folder=str(tmp_path)), 0, 1)
    data = load_latents(tmp_path / "latents")
    assert data["latents"].shape == (4, 4, 4, 8, 8)
    assert data["embeddings"].shape == (4, 2, 64)
    assert not torch.allclose(data["embeddings"][:, 0], data["embeddings"][:, 1])


def test_orthogonalise_brings_singular_values_near_one() -> None:
    for shape in ((20, 50), (50, 20)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_settings_are_checked(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("sise: 64\n")
    with pytest.raises(SystemExit, match="unknown or missing settings"):
        load_settings(tmp_path / "bad.yaml")
