"""The SVD backbone against the stock pipeline with the same modules."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.backbones import load_backbone
from mvguide.backbones.base import Backbone, ConditioningOptions
from mvguide.backbones.svd import SvdBackbone
from mvguide.diffusion.sampler import initial_noise, sample
from mvguide.diffusion.schedule import SigmaSchedule, load_sigmas
from mvguide.errors import ConfigError, InputError, ModelError
from mvguide.guidance.guides import NoGuidance
from tests.backbones.tiny_svd import build_pipeline
from tools.tiny.models import save_pipeline

FRAMES, HEIGHT, WIDTH = 3, 16, 24


@pytest.fixture(scope="module")
def pipe() -> Any:
    return build_pipeline()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pipe: Any) -> Path:
    return save_pipeline(pipe, tmp_path_factory.mktemp("model") / "svd")


def picture(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image)).permute(2, 0, 1).float() / 255


def ours(backbone: Backbone, schedule: SigmaSchedule, seed: int, **settings: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    condition = backbone.prepare(as_tensor(picture()), ConditioningOptions(FRAMES, **settings), generator)
    shape = backbone.latent_shape(FRAMES, HEIGHT, WIDTH)
    x = initial_noise(shape, backbone.path, schedule, generator)
    with torch.no_grad():
        return sample(backbone.denoiser(condition), x, schedule, guidance=NoGuidance(), generator=generator)


def stock(pipe: Any, seed: int, output_type: str = "latent", **settings: Any) -> torch.Tensor:
    return pipe(
        picture(),
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        generator=torch.Generator().manual_seed(seed),
        output_type=output_type,
        **settings,
    ).frames


@pytest.mark.parametrize("cfg_max", [1.0, 3.0], ids=["no CFG", "CFG ramp"])
def test_latents_equal_the_stock_pipeline(pipe: Any, cfg_max: float) -> None:
    backbone = SvdBackbone(pipe, "test")
    expected = stock(pipe, 7, num_inference_steps=5, max_guidance_scale=cfg_max, motion_bucket_id=90, fps=9)
    latents = ours(backbone, backbone.schedule(5), 7, cfg_max=cfg_max, motion_bucket_id=90, fps=9)
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=0)


def test_latents_equal_the_stock_pipeline_on_a_sigma_file(pipe: Any) -> None:
    schedule = load_sigmas("sigmas_25")
    expected = stock(pipe, 3, sigmas=schedule.sigmas.float().tolist(), num_inference_steps=25)
    torch.testing.assert_close(ours(SvdBackbone(pipe, "test"), schedule, 3), expected, atol=1e-4, rtol=0)


def test_frames_equal_the_stock_pipeline(pipe: Any) -> None:
    backbone = SvdBackbone(pipe, "test")
    expected = stock(pipe, 7, output_type="pt", num_inference_steps=2, decode_chunk_size=2)[0]
    frames = backbone.decode(ours(backbone, backbone.schedule(2), 7), chunk=2)
    torch.testing.assert_close(frames, expected.float(), atol=1e-4, rtol=0)
    assert frames.shape == (FRAMES, 3, HEIGHT, WIDTH)


def test_encode_is_scaled_and_does_not_depend_on_the_chunk(pipe: Any) -> None:
    backbone = SvdBackbone(pipe, "test")
    frames = torch.rand(5, 3, HEIGHT, WIDTH)
    latents = backbone.encode(frames, chunk=5)
    torch.testing.assert_close(backbone.encode(frames, chunk=2), latents, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        mode = pipe.vae.encode(frames[1:2] * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(latents[1:2], mode * pipe.vae.config.scaling_factor, atol=1e-5, rtol=1e-5)


def test_any_size_that_the_vae_allows(pipe: Any) -> None:
    """Latents of 7 x 9 do not divide by the UNet's 2: the stock pipeline fails there, the padded denoiser does not."""
    backbone = SvdBackbone(pipe, "test")
    condition = backbone.prepare(as_tensor(picture(14, 18)), ConditioningOptions(2))
    x = torch.randn(backbone.latent_shape(2, 14, 18))
    denoised = backbone.denoiser(condition)(x, torch.tensor(1.0, dtype=torch.float64))
    assert denoised.shape == (1, 2, 4, 7, 9)
    assert torch.isfinite(denoised).all()


def test_sizes(pipe: Any) -> None:
    backbone = SvdBackbone(pipe, "test")
    with pytest.raises(InputError, match="25 x 16 .* VAE factor 2 .* use 24 x 16"):
        backbone.latent_shape(4, 16, 25)
    with pytest.raises(InputError, match="num_frames is 1"):
        backbone.latent_shape(1, 16, 16)
    assert backbone.native_size.default_size(640, 480) == (20, 12)
    assert SvdBackbone(build_pipeline(4), "test").native_size.default_size(1024, 576) == (64, 64)


def level(sigma: float) -> torch.Tensor:
    return torch.tensor(sigma, dtype=torch.float64)


def test_the_halves_of_guidance_one_after_the_other_give_the_same(pipe: Any) -> None:
    backbone, x = SvdBackbone(pipe, "test"), torch.randn(1, FRAMES, 4, 8, 12)
    found = []
    for chunked in (False, True):
        told = ConditioningOptions(FRAMES, cfg_max=3.0, cfg_chunked=chunked)
        condition = backbone.prepare(as_tensor(picture()), told, torch.Generator().manual_seed(0))
        with torch.no_grad():
            found.append(backbone.denoiser(condition)(x, level(2.0)))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)


def test_checkpointing_changes_no_gradient_and_keeps_less(pipe: Any) -> None:
    backbone = SvdBackbone(pipe, "test")
    generator = torch.Generator().manual_seed(0)
    denoiser = backbone.denoiser(
        backbone.prepare(as_tensor(picture()), ConditioningOptions(FRAMES, cfg_max=3.0), generator)
    )
    x = torch.randn(1, FRAMES, 4, 8, 12)
    gradients, estimates, kept = [], [], []
    for checkpointing in (False, True):
        held: dict[int, int] = {}

        def keep(saved: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
            return saved

        leaf = x.clone().requires_grad_(True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            estimates.append(denoiser.for_gradient(checkpointing)(leaf, level(2.0)))
        kept.append(sum(held.values()))
        gradients.append(torch.autograd.grad(estimates[-1].square().sum(), leaf)[0])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(*estimates)
    assert kept[1] < 0.5 * kept[0]
    assert not any("forward" in vars(module) for module in pipe.unet.modules()), "the modules are as they were"
    plain = backbone.denoiser(
        backbone.prepare(as_tensor(picture()), ConditioningOptions(FRAMES, cfg_max=1.0), generator)
    )
    assert (gradients[0].abs() > 0).all()
    assert plain.conditioning.scale.tolist() == denoiser.for_gradient().conditioning.scale.tolist()


def test_a_window_is_the_denoiser_of_that_part(pipe: Any) -> None:
    backbone = SvdBackbone(pipe, "test")
    denoiser = backbone.denoiser(backbone.prepare(as_tensor(picture()), ConditioningOptions(FRAMES)))
    x = torch.randn(1, FRAMES, 4, 8, 12)
    part = denoiser.window(slice(2, 8), slice(3, 10))
    with torch.no_grad():
        whole = denoiser(x, level(2.0))
        inside = part(x[..., 2:8, 3:10], level(2.0))
    assert inside.shape == (1, FRAMES, 4, 6, 7)
    latents = denoiser.conditioning.tensors["latents"]
    assert torch.equal(part.conditioning.tensors["latents"], latents[..., 2:8, 3:10])
    assert denoiser.conditioning.tensors["latents"] is latents
    torch.testing.assert_close(denoiser.window(slice(0, 8), slice(0, 12))(x, level(2.0)).detach(), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_and_keeps_x_in_float32(dtype: torch.dtype) -> None:
    full, half = SvdBackbone(build_pipeline(), "test"), SvdBackbone(build_pipeline().to(dtype), "test")
    sigma = torch.tensor(700.0, dtype=torch.float64)
    x = 700 * torch.randn(1, FRAMES, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    results = []
    for backbone in (full, half):
        generator = torch.Generator().manual_seed(0)
        condition = backbone.prepare(as_tensor(picture()), ConditioningOptions(FRAMES), generator)
        with torch.no_grad():
            results.append(backbone.denoiser(condition)(x, sigma))
        decoded = backbone.decode(results[-1])
        assert torch.isfinite(decoded).all()
    assert results[1].dtype == torch.float32
    assert (results[0] - results[1]).std() < 0.05 * results[0].std()
    assert half.pipe.vae.dtype == dtype


def test_a_saved_folder_loads_and_says_the_same(folder: Path, pipe: Any) -> None:
    backbone = load_backbone(folder, device="cpu")
    expected = stock(pipe, 7, num_inference_steps=3)
    torch.testing.assert_close(ours(backbone, backbone.schedule(3), 7), expected, atol=1e-3, rtol=0)


def test_notes_of_a_model_are_read(folder: Path, tmp_path: Path) -> None:
    asked = ConditioningOptions(FRAMES)
    plain = load_backbone(folder, device="cpu").with_defaults(asked, flow=0.1)
    assert (plain.motion_bucket_id, plain.cfg_min, plain.cfg_max) == (127, 1, 3)  # SVD's own
    noted = shutil.copytree(folder, tmp_path / "noted")
    notes = {"motion_bucket_per_width": 1000, "hypers": [0.001, 900, 2], "guidance_scale": [1, 1.5]}
    (noted / "mvguide.json").write_text(json.dumps(notes))
    backbone = load_backbone(noted, device="cpu")
    assert backbone.notes.hypers == (0.001, 900.0, 2.0)
    buckets = [backbone.with_defaults(asked, flow).motion_bucket_id for flow in (0.1, 9.0, 0.0, None)]
    assert buckets == [100, 255, 1, 127]
    assert (backbone.with_defaults(asked).cfg_min, backbone.with_defaults(asked).cfg_max) == (1, 1.5)
    given = ConditioningOptions(FRAMES, motion_bucket_id=7, cfg_min=2, cfg_max=4)
    assert backbone.with_defaults(given, flow=0.1) == given
    scale = backbone.prepare(as_tensor(picture()), asked).scale
    torch.testing.assert_close(scale, torch.linspace(1, 1.5, FRAMES))
    for text in ("no json", '{"hypers": [1, 2]}', '{"guidance_scale": 3}', '{"motion_bucket_per_width": "fast"}', "[]"):
        (noted / "mvguide.json").write_text(text)
        with pytest.raises(ModelError, match=r"mvguide\.json cannot be read"):
            load_backbone(noted, device="cpu")


def test_models_that_cannot_be_loaded(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded .* give tiny, a folder"):
        load_backbone("nobody/no-such-model", device="cpu")
    with pytest.raises(ModelError, match="model_index.json is missing"):
        load_backbone(tmp_path, device="cpu")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "CosmosVideoToWorldPipeline"}))
    with pytest.raises(ModelError, match="holds a CosmosVideoToWorldPipeline"):
        load_backbone(tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="dtype 'int8' is not known"):
        load_backbone(folder, device="cpu", dtype="int8")
    with pytest.raises(ConfigError, match="device 'quantum' is not known"):
        load_backbone(folder, device="quantum")
    broken = build_pipeline()
    broken.scheduler.register_to_config(timestep_type="discrete")
    with pytest.raises(ModelError, match="timestep_type 'discrete'"):
        SvdBackbone(broken, "test")
