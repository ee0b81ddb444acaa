"""Offload: the same numbers, and networks that leave the GPU when their work is done."""

from typing import Any

import pytest
import torch
from accelerate.hooks import CpuOffload
from torch import Tensor

from mvguide.backbones import load_backbone
from mvguide.backbones.base import ConditioningOptions
from mvguide.backbones.chunks import decode_latents, encode_frames
from mvguide.backbones.offload import check_offload, offload_of, place_networks
from mvguide.backbones.svd import SvdBackbone
from mvguide.errors import ConfigError
from tests.backbones.test_families import known_frames, make_backbone, prepared, shape_of
from tests.backbones.tiny_families import FAMILIES, STEPS, build
from tests.backbones.tiny_svd import build_pipeline

FRAMES = 3
CPU = torch.device("cpu")


def run(backbone: SvdBackbone) -> list[Tensor]:
    """What a run asks of a model: condition, encode, denoise, decode, and the same again."""
    found = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(0)
        picture, frames = torch.rand(3, 16, 24, generator=generator), torch.rand(FRAMES, 3, 16, 24, generator=generator)
        conditioning = backbone.prepare(picture, ConditioningOptions(FRAMES), generator)
        backbone.free()
        found.append(encode_frames(backbone, frames, None).cpu())
        x = torch.randn(backbone.latent_shape(FRAMES, 16, 24), generator=generator).to(backbone.device)
        with torch.no_grad():
            x = backbone.denoiser(conditioning)(x, torch.tensor(1.0, dtype=torch.float64))
        found += [x.cpu(), decode_latents(backbone, x, 2)[0]]
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("offload", ["model", "group"])
def test_offload_changes_no_number(offload: Any, dtype: torch.dtype) -> None:
    expected = run(SvdBackbone(build_pipeline().to(dtype), "test"))
    pipe = build_pipeline().to(dtype)
    place_networks(pipe, CPU, offload)
    backbone = SvdBackbone(pipe, "test")
    assert backbone.device.type == "cpu"
    assert pipe.vae.dtype == dtype
    for found, wanted in zip(run(backbone), expected, strict=True):
        assert torch.equal(found, wanted)
    assert pipe.vae.dtype == dtype


@pytest.mark.parametrize("offload", ["model", "group"])
def test_the_vae_is_away_while_the_network_works_and_all_are_at_the_end(
    monkeypatch: pytest.MonkeyPatch, offload: Any
) -> None:
    pipe = build_pipeline()
    place_networks(pipe, CPU, offload)
    there: set[str] = set()
    meanwhile = []

    def come(hook: CpuOffload, module: torch.nn.Module, *given: Any, **named: Any) -> Any:
        there.add(type(module).__name__)
        return before(hook, module, *given, **named)

    def go(hook: CpuOffload, module: torch.nn.Module) -> torch.nn.Module:
        there.discard(type(module).__name__)
        return away(hook, module)

    before, away = CpuOffload.pre_forward, CpuOffload.init_hook
    monkeypatch.setattr(CpuOffload, "pre_forward", come)
    monkeypatch.setattr(CpuOffload, "init_hook", go)
    pipe.unet.conv_in.register_forward_pre_hook(lambda *_: meanwhile.append(set(there)))
    pipe.vae.decoder.register_forward_pre_hook(lambda *_: meanwhile.append(set(there)))
    run(SvdBackbone(pipe, "test"))
    vae, unet = {type(pipe.vae).__name__}, {type(pipe.unet).__name__}
    assert meanwhile == [unet if offload == "model" else set(), vae, vae] * 2
    assert there == set()


def test_group_offload_moves_layers_one_by_one() -> None:
    pipe = build_pipeline()
    place_networks(pipe, CPU, "group")
    hooked = [name for name, part in pipe.unet.named_modules() if getattr(part, "_diffusers_hook", None)]
    assert len(hooked) > 20
    assert not any(getattr(part, "_diffusers_hook", None) for part in pipe.vae.modules()), "the VAE moves whole"


@pytest.mark.parametrize("kind", ["svd", "ltx"])
def test_a_gradient_needs_the_layers_that_group_offload_takes_away(kind: str) -> None:
    pipe = build_pipeline() if kind == "svd" else build(kind)
    place_networks(pipe, CPU, "group")
    backbone: Any = SvdBackbone(pipe, "test") if kind == "svd" else make_backbone(pipe)
    if kind == "svd":
        conditioning = backbone.prepare(torch.rand(3, 16, 24), ConditioningOptions(FRAMES))
        x, sigma = torch.randn(1, FRAMES, 4, 8, 12), torch.tensor(1.0, dtype=torch.float64)
    else:
        schedule = backbone.schedule(STEPS, shape_of(backbone, kind))
        conditioning, x, _ = prepared(backbone, kind, schedule)
        sigma = schedule.sigmas[1]
    denoiser = backbone.denoiser(conditioning).for_gradient()
    with pytest.raises(ConfigError, match="offload 'group' has taken .*; use offload 'model', or another guidance"):
        denoiser(x.clone().requires_grad_(True), sigma)
    with torch.no_grad():
        assert denoiser(x, sigma).isfinite().all(), "the released gradient leaves the network out"


def test_where_offload_makes_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    for offload in ("model", "group"):
        with pytest.raises(ConfigError, match=f"offload '{offload}' moves networks .* the device is the CPU; leave it"):
            load_backbone("tiny", device="cpu", offload=offload)
    with pytest.raises(ConfigError, match="offload is True; it is one of none, model, group"):
        load_backbone("tiny", device="cpu", offload=True)  # type: ignore[arg-type]
    assert check_offload("group", torch.device("cuda")) == "group"
    pipe = build_pipeline()
    monkeypatch.setattr(type(pipe), "model_cpu_offload_seq", None)
    with pytest.raises(ConfigError, match="StableVideoDiffusionPipeline has no offload 'model'; use 'group'"):
        place_networks(pipe, CPU, "model")
    monkeypatch.setattr(type(pipe.unet), "_supports_group_offloading", False)
    with pytest.raises(ConfigError, match="has no offload 'group', because of its unet; use 'model'"):
        place_networks(pipe, CPU, "group")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("offload", ["model", "group"])
def test_offload_on_a_gpu(offload: str) -> None:
    expected = run(load_backbone("tiny", device="cuda", dtype="float32"))  # type: ignore[arg-type]
    torch.cuda.empty_cache()
    backbone: Any = load_backbone("tiny", device="cuda", dtype="float32", offload=offload)
    for found, wanted in zip(run(backbone), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    backbone.free()
    resting = [part.device.type for part in (backbone.pipe.vae, backbone.pipe.unet)]
    assert resting == ["cpu", "cpu"]


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_offload_changes_no_number_of_any_family(kind: str, offload: Any) -> None:
    found = []
    for placing in ("none", offload):
        pipe = build(kind)
        place_networks(pipe, CPU, placing)
        assert offload_of(pipe) == placing
        backbone = make_backbone(pipe)
        schedule = backbone.schedule(STEPS, shape_of(backbone, kind))
        conditioning, x, _ = prepared(backbone, kind, schedule)
        with torch.no_grad():
            x = backbone.denoiser(conditioning)(x, schedule.sigmas[1])
        latents = encode_frames(backbone, known_frames(kind).video, None)
        frames, _ = decode_latents(backbone, x, None)
        found.append((x, latents, frames))
    for wanted, given in zip(*found, strict=True):
        assert torch.equal(given, wanted)
