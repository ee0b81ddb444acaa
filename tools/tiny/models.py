"""The parts of the embedded model: stock diffusers and transformers classes at tiny size, started nearly linear.

A network whose residual branches begin at zero, and whose resampling begins as averaging, already passes its input
through; on a small budget that is worth hours of training.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

SCALING_FACTOR = 0.5
"""VAE scaling factor: raw latents have a standard deviation of 2, latents of the diffusion 1."""

CONTEXT = 64
"""Width of the image embedding."""


def build_vae() -> Any:
    """VAE of factor 4 with 4 latent channels. 64 channels at least: diffusers fixes 32 groups in every GroupNorm."""
    vae: Any = AutoencoderKLTemporalDecoder(
        block_out_channels=(64, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 3,
        scaling_factor=SCALING_FACTOR,
        force_upcast=False,
    )
    start_near_linear(vae)
    pass_in_pairs(vae.encoder.conv_in)
    pass_in_pairs(vae.decoder.conv_in)
    with torch.no_grad():
        identity(vae.decoder.time_conv_out.weight)
        vae.decoder.time_conv_out.bias.zero_()
        vae.quant_conv.weight.copy_(torch.eye(8)[:, :, None, None])
        vae.quant_conv.bias.zero_()
        # The variance starts small, so that the first decoder sees its latents almost without noise.
        vae.encoder.conv_out.weight[4:].zero_()
        vae.encoder.conv_out.bias[4:].fill_(-4.0)
    return vae


def build_unet(num_frames: int, sample_size: int) -> Any:
    """UNet of three levels (64, 96 and 96 channels); attention at the middle one, and between the ways down and up.

    Latents of 128 x 128 pixels are 32 x 32. Attention among so many cells doubles the time of a step; among 16 x 16 it
    still lets the network fetch what it needs from anywhere in the first frame.
    """
    unet: Any = UNetSpatioTemporalConditionModel(
        sample_size=sample_size,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=(64, 96, 96),
        layers_per_block=1,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        cross_attention_dim=CONTEXT,
        num_attention_heads=(2, 3, 3),
        num_frames=num_frames,
    )
    start_near_linear(unet)
    pass_in_pairs(unet.conv_in)
    with torch.no_grad():
        # The last block sees what came up and, beside it, the skip from conv_in: pass on the skip.
        shortcut = unet.up_blocks[-1].resnets[-1].spatial_res_block.conv_shortcut.weight
        shortcut.zero_()
        identity(shortcut[:, -64:])
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.zero_()
    return unet


@torch.no_grad()
def grow_unet(old: Any, num_frames: int, sample_size: int) -> Any:
    """A :func:`build_unet` with the weights of ``old``: the same net, or the first generation's with two levels.

    Two levels become the outer ones: on latents twice as large they work as well as on those that they were trained
    for. The third is put inside, nearly linear, and the old middle block goes down with it. Attention at the outermost
    level is dropped. (The new level around the old ones instead, so that these see what they saw, begins far worse: the
    finest level then has to learn all anew.)

    Raises ValueError when ``old`` has weights that the new network lacks, or lacks more than the inner level.
    """
    unet = build_unet(num_frames, sample_size)
    weights = old.state_dict()
    inner: tuple[str, ...] = ()
    if len(old.config.block_out_channels) == len(unet.config.block_out_channels) - 1:
        weights = {_outer_name(name): w for name, w in weights.items() if not name.startswith("up_blocks.1.attentions")}
        inner = ("down_blocks.1.downsamplers.", "down_blocks.2.", "up_blocks.0.")
    missing, unknown = unet.load_state_dict(weights, strict=False)
    if unknown or not all(name.startswith(inner) for name in missing):
        raise ValueError(f"the UNet to start from does not fit: {[*unknown, *missing][:5]}")
    if inner:
        for resnet in unet.up_blocks[0].resnets:  # pass on what the middle block gives
            shortcut = resnet.spatial_res_block.conv_shortcut
            identity(shortcut.weight)
            shortcut.bias.zero_()
    return unet


def _outer_name(name: str) -> str:
    """Name of a two-level UNet's weight in the outer levels of a three-level one."""
    first, _, rest = name.partition(".")
    if first != "up_blocks":
        return name
    index, _, rest = rest.partition(".")
    return f"up_blocks.{int(index) + 1}.{rest}"


def build_image_encoder() -> Any:
    """Random and frozen image encoder: the pipeline needs one, and its embedding tells pictures apart."""
    encoder: Any = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=224,
            patch_size=32,
            projection_dim=CONTEXT,
        )
    )
    return encoder.eval().requires_grad_(False)


def build_pipeline(vae: Any, unet: Any, encoder: Any) -> Any:
    """Stock pipeline with SVD's scheduler config."""
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    pipe: Any = StableVideoDiffusionPipeline(
        vae=vae.eval(),
        image_encoder=encoder.eval(),
        unet=unet.eval(),
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(size=224, crop_size=224),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_pipeline(pipe: Any, folder: Path, variant: str | None = None) -> Path:
    """Write in diffusers layout, in the pipeline's own dtype; ``variant`` is part of the names of the weights."""
    pipe.save_pretrained(folder, safe_serialization=True, variant=variant)
    index = folder / "model_index.json"
    content = json.loads(index.read_text())
    # transformers names its backend's class; the public name loads with any backend.
    content["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index.write_text(json.dumps(content, indent=2) + "\n")
    for config in folder.glob("*/config.json"):
        # Where the part was loaded from says nothing to who gets it.
        kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "_name_or_path"}
        config.write_text(json.dumps(kept, indent=2) + "\n")
    return folder


@torch.no_grad()
def start_near_linear(model: nn.Module) -> None:
    """Residual branches at zero; down-sampling averages 2 x 2, up-sampling repeats."""
    module: Any
    for name, module in model.named_modules():
        if name.endswith((".conv2", ".to_out.0", ".proj_out")):
            module.weight.zero_()
            module.bias.zero_()
        elif name.endswith((".downsamplers.0.conv", ".upsamplers.0.conv")):
            module.weight.zero_()
            module.bias.zero_()
            places, value = ((slice(1, 3), slice(1, 3)), 0.25) if "down" in name else ((1, 1), 1.0)
            if "down" in name and model.__class__.__name__.startswith("AutoencoderKL"):
                places = (slice(0, 2), slice(0, 2))  # the VAE pads on the far sides only
            for channel in range(module.weight.shape[0]):
                module.weight[(channel, channel, *places)] = value


@torch.no_grad()
def pass_in_pairs(conv: nn.Conv2d, offset: float = 1.0) -> None:
    """Make each GroupNorm pair of channels carry ``+(v + offset)`` and ``-(v + offset)`` of one mix v of the inputs.

    The mean of such a pair is 0 and its spread nearly constant, so normalisation keeps sign and scale; and as
    ``silu(u) - silu(-u) = u``, what follows can read v back linearly.
    """
    half, inputs, size = conv.weight.shape[0] // 2, conv.weight.shape[1], conv.weight.shape[2]
    mix = 0.1 * torch.randn(half, inputs, size, size)
    mix[:, :, size // 2, size // 2] += torch.randn(half, inputs) / math.sqrt(inputs)
    conv.weight[0::2], conv.weight[1::2] = mix, -mix
    assert conv.bias is not None  # both models have one
    conv.bias[0::2], conv.bias[1::2] = offset, -offset


@torch.no_grad()
def identity(weight: Tensor) -> None:
    """Fill a convolution's weight ``[C, C, ...]`` (odd sizes) with the identity."""
    weight.zero_()
    middle = tuple(size // 2 for size in weight.shape[2:])
    for channel in range(min(weight.shape[:2])):
        weight[(channel, channel, *middle)] = 1.0


@torch.no_grad()
def restart_variance(vae: Any) -> None:
    """Give a whitened VAE, whose variance is switched off, a small one to train with."""
    vae.quant_conv.weight[4:].zero_()
    vae.quant_conv.bias[4:].fill_(-6.0)


@torch.no_grad()
def whiten(vae: Any, latents: Tensor) -> None:
    """Fold a change of latents into the VAE, so that ``mode() * scaling_factor`` has mean 0 and covariance 1.

    Args:
        vae: changed in place: ``quant_conv`` gives new latents, the decoder's ``conv_in`` undoes it.
        latents: ``[N, 4, h, w]`` samples of ``mode()`` before the change.
    """
    flat = latents.double().permute(1, 0, 2, 3).flatten(1)
    mean = flat.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    # The symmetric square root changes the channels as little as possible.
    forward = vectors @ torch.diag(values.rsqrt()) @ vectors.T / SCALING_FACTOR
    back = torch.linalg.inv(forward)
    weight, bias = vae.quant_conv.weight, vae.quant_conv.bias
    weight[:4] = (forward @ weight[:4, :, 0, 0].double())[:, :, None, None].to(weight)
    bias[:4] = (forward @ (bias[:4].double() - mean)).to(bias)
    weight[4:].zero_()  # the variance is not used after training
    bias[4:].fill_(-30.0)
    conv = vae.decoder.conv_in
    conv.bias += (conv.weight.double().sum((2, 3)) @ mean).to(conv.bias)
    conv.weight.copy_(torch.einsum("oihw,ij->ojhw", conv.weight.double(), back).to(conv.weight))
