"""Options that make a model faster or smaller: how much they change, and one sentence where a model lacks them."""

import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.backbones import load_backbone
from mvguide.backbones.acceleration import AccelerationOptions, denoisers
from mvguide.backbones.offload import place_networks
from mvguide.diffusion.sampler import sample
from mvguide.errors import ConfigError
from tests.backbones.test_families import known_frames, prepared, shape_of
from tests.backbones.tiny_families import FAMILIES, build, make_backbone
from tests.backbones.tiny_svd import build_pipeline

CPU = torch.device("cpu")
STEPS = 8  # divides 1000
KINDS = [kind for kind in FAMILIES if not kind.endswith(("_euler", "_dpm", "_decoder"))]
CACHED = [kind for kind in KINDS if kind not in ("wan_vace", "hunyuan15")]
DISPATCHED = [kind for kind in KINDS if not kind.startswith("cogvideox")]
"""Kinds whose attention asks for a backend, and whose blocks diffusers compiles."""


def accelerated(kind: str, options: AccelerationOptions, offload: Any = "none") -> Any:
    """A fresh backbone with the options, as loading makes it."""
    pipe = build(kind)
    options.check(CPU)
    options.check_model(kind, type(pipe.transformer).__name__)
    options.apply(pipe, CPU)
    place_networks(pipe, CPU, offload)
    backbone = make_backbone(pipe)
    backbone.acceleration = options
    return backbone


def denoise(backbone: Any, kind: str) -> Tensor:
    """The whole run without guidance, with steps cached as the options say."""
    schedule = backbone.schedule(STEPS, shape_of(backbone, kind))
    conditioning, x, generator = prepared(backbone, kind, schedule)
    with torch.no_grad(), backbone.step_cache(schedule):
        return sample(backbone.denoiser(conditioning), x, schedule, backbone.solver(schedule), generator=generator)


def evaluate(backbone: Any, kind: str) -> Tensor:
    """One estimate, at the second level."""
    schedule = backbone.schedule(STEPS, shape_of(backbone, kind))
    conditioning, x, _ = prepared(backbone, kind, schedule)
    with torch.no_grad():
        return backbone.denoiser(conditioning)(x, schedule.sigmas[1])


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).square().mean().sqrt() / expected.std())


@pytest.mark.parametrize("kind", KINDS)
def test_a_video_of_one_tile_is_the_same(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    plain, tiled = make_backbone(tiny_pipeline(kind)), accelerated(kind, AccelerationOptions(vae_tiling=True))
    video = known_frames(kind).video
    latents = plain.encode(video)
    assert torch.equal(tiled.encode(video), latents)
    assert torch.equal(tiled.decode(latents[None]), plain.decode(latents[None]))


@pytest.mark.parametrize("kind", ["wan21", "wan22_5b", "cogvideox", "ltx", "hunyuan_concat", "hunyuan15"])
def test_a_video_of_more_tiles(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    plain, tiled = make_backbone(tiny_pipeline(kind)), accelerated(kind, AccelerationOptions(vae_tiling=True))
    vae, factor = tiled.pipe.vae, tiled.vae_scale_factor
    for side in ("height", "width"):
        setattr(vae, f"tile_sample_min_{side}", 64)
        for name, value in (
            (f"tile_latent_min_{side}", 64 // factor),
            (f"tile_sample_stride_{side}", 32),
            (f"tile_overlap_factor_{side}", 0.5),
        ):
            if hasattr(vae, name):
                setattr(vae, name, value)
    video = interpolate(known_frames(kind).video, size=(32, 128))
    latents, whole = tiled.encode(video), plain.encode(video)
    frames, expected = tiled.decode(whole[None]), plain.decode(whole[None])
    assert latents.shape == whole.shape
    assert frames.shape == expected.shape
    assert not torch.equal(frames, expected), "it was cut"
    if kind.startswith("wan"):  # the others' group norms are of a tile
        assert relative(latents, whole) < 0.5
        assert relative(frames, expected) < 0.5


@pytest.mark.parametrize("kind", DISPATCHED)
def test_another_attention_gives_the_same(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry as Registry

    before = Registry.get_active_backend()
    backbone = accelerated(kind, AccelerationOptions(attention="_native_math"))
    assert Registry.get_active_backend() == before, "other models of the process keep theirs"
    found, expected = evaluate(backbone, kind), evaluate(make_backbone(tiny_pipeline(kind)), kind)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.equal(found, expected), "it is another one"


def test_attention_that_is_not_there_or_fails_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="attention 'quick' is not a backend of diffusers; use one of .*native"):
        accelerated("wan21", AccelerationOptions(attention="quick"))
    with pytest.raises(ConfigError, match="attention 'xformers' cannot be used here: .* install `xformers"):
        accelerated("wan21", AccelerationOptions(attention="xformers"))
    masked = accelerated("ltx", AccelerationOptions(attention="_native_flash"))
    with pytest.raises(ConfigError, match="attention '_native_flash' fails with model tiny .*`attn_mask`"):
        evaluate(masked, "ltx")


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("MVGUIDE_SLOW") != "1", reason="compiles for a minute: set MVGUIDE_SLOW=1")
@pytest.mark.parametrize("kind", DISPATCHED)
def test_compiled_blocks_give_the_same(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    backbone, plain = accelerated(kind, AccelerationOptions(compile=True)), make_backbone(tiny_pipeline(kind))
    torch.testing.assert_close(evaluate(backbone, kind), evaluate(plain, kind), atol=1e-5, rtol=0)
    assert backbone.fingerprint == plain.fingerprint, "the weights are the same"


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("MVGUIDE_SLOW") != "1", reason="compiles for a minute: set MVGUIDE_SLOW=1")
@pytest.mark.parametrize("more", [{"cache": "first_block", "cache_threshold": 0.3}, {"quantize": "float8"}])
def test_compiled_blocks_with_a_cache_or_float8_weights(more: dict[str, Any]) -> None:
    found, expected = (accelerated("wan21", AccelerationOptions(compile=on, **more)) for on in (True, False))
    torch.testing.assert_close(denoise(found, "wan21"), denoise(expected, "wan21"), atol=1e-5, rtol=0)


def test_no_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", lambda function: broken)
    with pytest.raises(ConfigError, match="torch cannot compile here .* install a C\\+\\+ compiler such as g\\+\\+"):
        accelerated("wan21", AccelerationOptions(compile=True))


@pytest.mark.parametrize("kind", KINDS)
def test_float8_weights_differ_little(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    backbone, plain = accelerated(kind, AccelerationOptions(quantize="float8")), make_backbone(tiny_pipeline(kind))
    assert 0 < relative(evaluate(backbone, kind), evaluate(plain, kind)) < 0.05
    blocks = backbone.pipe.transformer.state_dict()
    small = [name for name, weight in blocks.items() if weight.dtype == torch.float8_e4m3fn]
    assert any(re.search(r"blocks\.0\..*(to_q|ff|ffn).*weight", name) for name in small)
    assert backbone.dtype == torch.float32
    assert backbone.fingerprint != plain.fingerprint, "what was measured with other weights does not hold"


def test_float8_weights_have_a_gradient(tiny_pipeline: Callable[[str], Any]) -> None:
    found = []
    for backbone in (
        accelerated("wan21", AccelerationOptions(quantize="float8")),
        make_backbone(tiny_pipeline("wan21")),
    ):
        schedule = backbone.schedule(STEPS, shape_of(backbone, "wan21"))
        conditioning, x, _ = prepared(backbone, "wan21", schedule)
        x.requires_grad_()
        loss = backbone.denoiser(conditioning).for_gradient()(x, schedule.sigmas[1]).square().sum()
        found.append(torch.autograd.grad(loss, x)[0])
    assert 0 < relative(*found) < 0.1


def test_svd_has_float8_weights_and_none_of_the_others(tmp_path: Path) -> None:
    build_pipeline().save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path, device="cpu", acceleration=AccelerationOptions(quantize="float8"))
    assert backbone.acceleration.given() == {"quantize": "float8"}
    assert any(weight.dtype == torch.float8_e4m3fn for weight in backbone.pipe.unet.state_dict().values())  # type: ignore[attr-defined]
    for option, sentence in {
        "vae_tiling": "its VAE works frame by frame, without tiles; give a smaller chunk",
        "attention": "its attention has one backend; leave attention out",
        "compile": "diffusers names no blocks of it to compile; leave compile out",
        "cache": "step caches are right for Wan, CogVideoX, LTX and HunyuanVideo alone",
    }.items():
        given: dict[str, Any] = {option: {"attention": "native", "cache": "first_block"}.get(option, True)}
        with pytest.raises(
            ConfigError, match=f"{option} was asked for, but model {tmp_path} does not have it: {sentence}"
        ):
            load_backbone(tmp_path, device="cpu", acceleration=AccelerationOptions(**given))


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("wan_vace", ["cache", "context_parallel"]),
        ("cogvideox", ["attention", "compile", "context_parallel"]),
        ("cogvideox15", ["attention", "compile", "context_parallel"]),
        ("ltx", ["context_parallel"]),
        ("hunyuan_concat", ["context_parallel"]),
        ("hunyuan_replace", ["context_parallel"]),
        ("hunyuan15", ["cache", "context_parallel"]),
        ("wan21", []),
    ],
)
def test_what_a_family_lacks_is_refused(kind: str, lacks: list[str], tiny_pipeline: Callable[[str], Any]) -> None:
    network = type(tiny_pipeline(kind).transformer).__name__
    every: dict[str, Any] = {
        "vae_tiling": True,
        "attention": "native",
        "compile": True,
        "cache": "first_block",
        "context_parallel": 2,
        "quantize": "float8",
    }
    for option, value in every.items():
        refused = pytest.raises(ConfigError, match=f"^{option} was asked for, but model some/model does not have it")
        with refused if option in lacks else nullcontext():
            AccelerationOptions(**{option: value}).check_model("some/model", network)


def test_why_cogvideox_refuses_attention_and_compile(tiny_pipeline: Callable[[str], Any]) -> None:
    network = tiny_pipeline("cogvideox").transformer
    processors = [module.processor for module in network.modules() if hasattr(module, "processor")]
    assert processors
    assert not any(hasattr(processor, "_attention_backend") for processor in processors), "a backend is not asked"
    assert not network._repeated_blocks


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cache": "all"}, "cache is 'all'; it is one of none, first_block, mag"),
        ({"quantize": "2bit"}, "quantize is '2bit'; it is one of none, float8, 8bit, 4bit"),
        ({"cache_threshold": 0.1}, "cache_threshold was given without a cache"),
        ({"cache": "first_block", "cache_threshold": 0.0}, "cache_threshold is 0; it is a number above 0"),
        ({"cache": "mag"}, "cache mag, and no other, needs a .npz file"),
        ({"cache": "first_block", "cache_file": "a.npz"}, "cache mag, and no other, needs a .npz file"),
        ({"cache": "mag", "cache_file": "a.npz", "compile": True}, "cache 'mag' keeps blocks from being compiled"),
        ({"cache": "first_block", "context_parallel": 2}, "each process would skip other steps, drop one"),
        ({"context_parallel": 0}, "context_parallel is 0; it is a number of GPUs, 1 or more"),
        (
            {"context_parallel": 2},
            "but 1 process runs; start it with torchrun --nproc-per-node 2 -m mvguide render ... --context_parallel 2",
        ),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        AccelerationOptions(**options).check(CPU)


def test_bitsandbytes_that_is_missing_or_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there = False
    monkeypatch.setattr("mvguide.backbones.acceleration.find_spec", lambda name: there or None)
    for bits in ("8bit", "4bit"):
        with pytest.raises(
            ConfigError, match="not installed; install it with pip install 'bitsandbytes>=0.48', or use"
        ):
            AccelerationOptions(quantize=bits).check(torch.device("cuda"))
    there = True
    with pytest.raises(ConfigError, match="quantize '4bit' needs a GPU, but the device is cpu; use quantize float8"):
        AccelerationOptions(quantize="4bit").check(CPU)


def test_bitsandbytes_quantises_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.48.0")
    for bits, names in (("8bit", "load_in_8bit"), ("4bit", "load_in_4bit")):
        options = AccelerationOptions(quantize=bits)  # type: ignore[arg-type]
        config = options.quantization("transformer_2", torch.bfloat16)["quantization_config"]
        assert getattr(config, names)
        assert options.quantization("text_encoder", torch.bfloat16) == options.quantization("vae", torch.bfloat16) == {}
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


def test_a_cache_refuses_a_second_evaluation_and_a_gradient() -> None:
    options = AccelerationOptions(cache="first_block")
    options.check_run(evaluations=1, gradient=False)
    with pytest.raises(ConfigError, match="cache 'first_block' .* solver heun and resampling evaluate the network"):
        options.check_run(evaluations=2, gradient=False)
    with pytest.raises(ConfigError, match="guidance posterior_gradient evaluates the network more than once in a step"):
        options.check_run(evaluations=1, gradient=True)
    with pytest.raises(ConfigError, match="context_parallel and a checkpoint were given, .* drop one of the two"):
        AccelerationOptions(context_parallel=2).check_run(evaluations=1, gradient=False, kept=True)
    with pytest.raises(ConfigError, match="context_parallel has no derivative of a network that is split"):
        AccelerationOptions(context_parallel=2).check_run(evaluations=1, gradient=True)


@pytest.mark.parametrize("kind", CACHED)
def test_a_cache_differs_little_and_is_gone_after_the_run(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    expected = denoise(make_backbone(tiny_pipeline(kind)), kind)
    backbone = accelerated(kind, AccelerationOptions(cache="first_block", cache_threshold=0.3))
    found = denoise(backbone, kind)
    assert 0 < relative(found, expected) < 0.05, "something was skipped, and it hardly shows"
    assert torch.equal(denoise(backbone, kind), found), "a run sees nothing of the one before"
    assert not any(network.is_cache_enabled for network in denoisers(backbone.pipe).values())
    assert torch.equal(evaluate(backbone, kind), evaluate(make_backbone(tiny_pipeline(kind)), kind))


@pytest.mark.parametrize("kind", CACHED)
def test_magnitudes_are_measured_then_used(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    expected = denoise(make_backbone(tiny_pipeline(kind)), kind)
    backbone = accelerated(kind, AccelerationOptions(cache="mag", cache_file="any.npz", cache_threshold=0.5))
    schedule = backbone.schedule(STEPS, shape_of(backbone, kind))

    def run(magnitudes: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        conditioning, x, generator = prepared(backbone, kind, schedule)
        with torch.no_grad(), backbone.step_cache(schedule, magnitudes) as measured:
            solver = backbone.solver(schedule)
            x = sample(backbone.denoiser(conditioning), x, schedule, solver, generator=generator)
        return x, measured

    measuring, magnitudes = run(None)
    assert torch.equal(measuring, expected), "it skips nothing"
    assert sum(len(values) for values in magnitudes.values()) == STEPS
    assert all(bool((values > 0).all()) for values in magnitudes.values())
    skipping, nothing = run(magnitudes)
    assert nothing == {}
    assert 0 < relative(skipping, expected) < 0.05
    if kind == "wan22_a14b":
        assert list(magnitudes) == ["transformer", "transformer_2"]
        del magnitudes["transformer_2"]
        with pytest.raises(ConfigError, match="did not use transformer_2; remove it, and measure again"):
            run(magnitudes)


def test_a_run_that_was_stopped_measures_nothing() -> None:
    backbone = accelerated("wan21", AccelerationOptions(cache="mag", cache_file="any.npz"))
    schedule = backbone.schedule(STEPS, shape_of(backbone, "wan21"))
    conditioning, x, _ = prepared(backbone, "wan21", schedule)
    with torch.no_grad(), backbone.step_cache(schedule) as measured:
        sample(backbone.denoiser(conditioning), x, schedule, watch=lambda progress: progress.step.index == 2)
    assert measured == {}


@pytest.mark.parametrize("kind", ["wan_vace", *CACHED])
def test_a_cache_gives_what_the_blocks_would(kind: str) -> None:
    """Of an equal call, a right cache changes nothing. WanVACE adds its condition between blocks: it would twice."""
    from diffusers import FirstBlockCacheConfig

    backbone = make_backbone(build(kind))
    schedule = backbone.schedule(STEPS, shape_of(backbone, kind))
    conditioning, x, _ = prepared(backbone, kind, schedule)
    denoiser, sigma = backbone.denoiser(conditioning), schedule.sigmas[1]
    backbone.network(sigma).enable_cache(FirstBlockCacheConfig(threshold=1e9))
    with torch.no_grad():
        computed, cached = denoiser(x, sigma), denoiser(x, sigma)
    if kind == "wan_vace":
        assert relative(cached, computed) > 0.05, "WanVACE may have a cache now"
    else:
        torch.testing.assert_close(cached, computed, atol=1e-5, rtol=0)


def test_a_cache_and_float8_with_layers_that_are_offloaded(tiny_pipeline: Callable[[str], Any]) -> None:
    expected = denoise(make_backbone(tiny_pipeline("wan22_5b")), "wan22_5b")
    options = AccelerationOptions(cache="first_block", cache_threshold=0.3, quantize="float8")
    here, away = (denoise(accelerated("wan22_5b", options, place), "wan22_5b") for place in ("none", "group"))
    assert torch.equal(here, away)
    assert 0 < relative(here, expected) < 0.1
