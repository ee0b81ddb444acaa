"""Parts of the trainer: sharing of work, the start of the UNet, exact continuation, noise levels, the optimiser."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file

from mvguide.diffusion.training import gamma_v, score_matching_loss
from tools.tiny.attention import use_fast_attention
from tools.tiny.data import load_shards, render_shards, save_shard, shard_path
from tools.tiny.models import SCALING_FACTOR, build_image_encoder, build_pipeline, build_unet, build_vae, grow_unet
from tools.tiny.optim import orthogonalise, trapezoid
from tools.tiny.settings import Settings, load_settings
from tools.tiny.sources import StoredLatents
from tools.tiny.unet import ConditionedUnet, draw_batch, draw_sigmas, train_unet

SETTINGS = load_settings(Path(__file__).resolve().parents[2] / "configs" / "train_tiny.yaml")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A run's folder with smooth made-up latents, of unit spread after scaling."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(16, 1, 4, 2, 2, generator=generator).expand(-1, 4, -1, -1, -1)
    latents = torch.nn.functional.interpolate(base.flatten(0, 1), size=8, mode="bilinear").unflatten(0, (16, 4))
    content = {
        "latents": (latents / SCALING_FACTOR).half(),
        "embeddings": torch.randn(16, 2, 64, generator=generator),
        "bucket": torch.full((16,), 30.0),
    }
    save_shard(shard_path(tmp_path / "latents", 0), content)
    return replace(
        SETTINGS,
        folder=str(tmp_path),
        size=32,
        frames=4,
        unet_steps=20,
        unet_batch=2,
        unet_lr=2e-3,
        save_every=100,
        held_out_every=10,
        held_out_scenes=2,
    )


@pytest.fixture(scope="module")
def pipe() -> Any:
    torch.manual_seed(3)
    return build_pipeline(build_vae(), build_unet(4, 8), build_image_encoder())


def test_shards_are_rendered_once_and_the_same_by_any_number_of_processes(tmp_path: Path) -> None:
    small = replace(SETTINGS, size=16, frames=3, scenes_per_shard=3, compile="never")
    first, second = (replace(small, folder=str(tmp_path / name)) for name in ("one", "two"))
    render_shards(first, 2, rank=0, world=1)
    for rank in (1, 0):
        render_shards(second, 2, rank=rank, world=2)
    one, two = (load_shards(tmp_path / name / "videos", ("video", "bucket")) for name in ("one", "two"))
    assert one["video"].shape == (6, 3, 3, 16, 16)
    assert one["video"].dtype == torch.uint8
    assert all(torch.equal(one[name], two[name]) for name in one)
    path = shard_path(first.root / "videos", 0)
    stamp = path.stat().st_mtime_ns
    render_shards(first, 2, rank=0, world=1)
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(FileNotFoundError, match="holds no shard"):
        load_shards(tmp_path / "none", ("video",))


def test_the_unet_starts_at_zero_and_learns_at_every_noise_level(settings: Settings, pipe: Any) -> None:
    torch.manual_seed(0)
    unet = build_unet(4, 8)
    data = load_shards(settings.root / "latents", ("latents", "embeddings", "bucket"))
    x0 = data["latents"][:8].float() * SCALING_FACTOR
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    sigma = torch.logspace(0, 2, 8)
    denoiser = ConditionedUnet(unet, x0[:, 0] / SCALING_FACTOR, data["embeddings"][:8, 0], data["bucket"][:8])
    level = sigma.view(-1, 1, 1, 1, 1)
    v = (noise - level * x0) / (level**2 + 1).sqrt()
    with torch.no_grad():
        before = score_matching_loss(denoiser, x0, noise, sigma, gamma_v)
    torch.testing.assert_close(before, v.square().flatten(1).mean(1), rtol=1e-3, atol=1e-4)
    train_unet(unet, pipe, settings)
    with torch.no_grad():
        after = score_matching_loss(denoiser, x0, noise, sigma, gamma_v)
    assert after.mean() < 0.8 * before.mean()


def test_a_stopped_unet_run_continues_exactly(settings: Settings, pipe: Any) -> None:
    stored = []
    for name, stops in (("straight", (3,)), ("stopped", (1, 3))):
        folder = settings.root / name
        folder.mkdir()
        (folder / "latents").symlink_to(settings.root / "latents")
        for stop in stops:
            torch.manual_seed(7)
            train_unet(build_unet(4, 8), pipe, replace(settings, folder=str(folder)), steps=stop)
        stored.append(load_file(folder / "unet.rank0.safetensors"))
    straight, stopped = stored
    assert {name.split("/")[0] for name in straight} == {
        "weight",
        "momentum",
        "mean",
        "square",
        "rng",
        "ema0.998",
        "ema0.99",
        "ema0.9995",
    }
    assert straight.keys() == stopped.keys()
    assert [name for name in straight if not torch.equal(straight[name], stopped[name])] == []


def test_conditions_are_dropped_together_and_as_often_as_asked(settings: Settings) -> None:
    some = replace(settings, condition_dropout=0.25)
    batch = draw_batch(StoredLatents(settings), 0, 4000, some, torch.Generator().manual_seed(0))
    latents, condition, embedding, _ = batch
    without = condition.flatten(1).abs().amax(1) == 0
    assert without.float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(without, embedding.abs().amax(1) == 0)
    # The condition is the first frame of what is to be made, in the VAE's own unit, with a little noise on it.
    rest = (condition - latents[:, 0] / SCALING_FACTOR)[~without]
    assert rest.std() == pytest.approx(0.05, rel=0.1)


def test_noise_levels_cover_what_sampling_uses() -> None:
    sigma = draw_sigmas(20000, SETTINGS, torch.Generator().manual_seed(0))
    assert sigma.min() >= 0.0019
    assert sigma.max() <= 701
    assert (sigma > 100).float().mean() > 0.02
    assert (sigma < 0.1).float().mean() > 0.05


def test_orthogonalising_keeps_the_singular_vectors() -> None:
    for shape in ((16, 16), (12, 30), (30, 12)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        rest = left.T @ orthogonalise(matrix) @ right.T
        assert (rest - torch.diag(rest.diagonal())).abs().max() < 1e-4


def test_the_learning_rate_does_not_know_its_end_until_it_decays() -> None:
    values = [trapezoid(step, 200) for step in range(201)]
    assert values[0] < 0.06
    assert values[20:141] == [1.0] * 121
    assert values[:100] == [trapezoid(step, 1000) for step in range(100)]
    assert values[200] == pytest.approx(0, abs=1e-9)
    assert all(a > b for a, b in pairwise(values[140:]))


def small_old_unet() -> Any:
    """A two-level UNet as the first generation's, with weights that are not zero."""
    torch.manual_seed(0)
    config = dict(build_unet(4, 8).config)
    levels = {
        "down_block_types": ("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        "up_block_types": ("CrossAttnUpBlockSpatioTemporal",) * 2,
        "block_out_channels": (64, 96),
        "num_attention_heads": (2, 3),
    }
    return UNetSpatioTemporalConditionModel.from_config({**config, **levels})


def test_a_grown_unet_keeps_the_old_one_as_its_outer_levels() -> None:
    old = small_old_unet()
    grown = grow_unet(old, 4, 8)
    weights = dict(grown.named_parameters())
    for name, weight in old.named_parameters():
        if name.startswith("up_blocks.1.attentions"):
            continue
        outer = name.replace("up_blocks.1", "up_blocks.2").replace("up_blocks.0", "up_blocks.1")
        assert torch.equal(weights[outer], weight), name
    # The inner level begins as an average that is repeated: latents and features that are flat pass unchanged.
    seen: list[torch.Tensor] = []
    grown.down_blocks[1].register_forward_hook(lambda _, __, found: seen.append(found[0]))
    grown.mid_block.register_forward_hook(lambda _, __, ___: seen[0])
    grown.up_blocks[0].register_forward_hook(lambda _, __, found: seen.append(found))
    ids, context = torch.tensor([[6.0, 30.0, 0.02]]), torch.randn(1, 1, 64)
    with torch.no_grad():
        grown(torch.randn(1, 4, 8, 16, 16), torch.tensor(0.3), context, added_time_ids=ids)
    small, out = seen
    assert small.shape[-1] == 4
    torch.testing.assert_close(out, small.repeat_interleave(2, -1).repeat_interleave(2, -2))
    with pytest.raises(ValueError, match="does not fit"):
        grow_unet(build_vae(), 4, 8)


def test_the_same_unet_grows_into_itself() -> None:
    torch.manual_seed(0)
    old = build_unet(4, 8)
    with torch.no_grad():
        old.conv_out.weight.normal_()
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), grow_unet(old, 4, 8).parameters(), strict=True))


def test_fast_attention_gives_what_the_stock_one_gives() -> None:
    unet = small_old_unet()
    inputs = torch.randn(2, 4, 8, 8, 8), torch.tensor([0.3, -0.2]), torch.randn(2, 1, 64)
    ids = torch.tensor([[6.0, 30.0, 0.02]] * 2)
    found = []
    for fast in (False, True):
        if fast:
            use_fast_attention(unet)
        unet.zero_grad()
        out = unet(*inputs, added_time_ids=ids).sample
        out.square().mean().backward()
        found.append((out.detach(), unet.conv_in.weight.grad.clone()))
    for stock, fast_one in zip(*found, strict=True):
        torch.testing.assert_close(fast_one, stock, atol=1e-5, rtol=1e-4)


def test_bfloat16_gradients_are_those_of_float32() -> None:
    """One thread: with two, torch 2.13 now and then gives a wrong gradient of a temporal convolution on a CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        unet = small_old_unet()
        gradients = []
        for low in (False, True):
            unet.zero_grad()
            generator = torch.Generator().manual_seed(1)
            sample = torch.randn(2, 4, 8, 8, 8, generator=generator)
            ids = torch.tensor([[6.0, 30.0, 0.02]] * 2)
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                out = unet(sample, torch.tensor(0.3), torch.ones(2, 1, 64), added_time_ids=ids).sample
            (out.float() * torch.randn(out.shape, generator=generator)).mean().backward()
            names = [name for name, p in unet.named_parameters() if p.ndim > 1 and p.grad is not None]
            gradients.append({name: unet.get_parameter(name).grad.clone() for name in names})
    finally:
        torch.set_num_threads(threads)
    for name, exact in gradients[0].items():
        if exact.norm() > 1e-4:
            assert (gradients[1][name] - exact).norm() < 0.15 * exact.norm(), name


def test_new_shards_are_found_while_training(settings: Settings) -> None:
    source = StoredLatents(settings)
    before = len(source.data["latents"])
    source.refresh()
    assert len(source.data["latents"]) == before
    one = {name: tensor.clone() for name, tensor in source.data.items()}
    save_shard(shard_path(settings.root / "latents", 1), one)
    source.refresh()
    assert len(source.data["latents"]) == 2 * before
