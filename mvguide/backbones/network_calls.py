"""How the network of each model family is called: the shapes of its inputs, with zeros in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

Config = Mapping[str, Any]
Call = Callable[[Config, Tensor, torch.dtype, int], dict[str, Any]]


@dataclass(frozen=True)
class Family:
    """What the memory of a family depends on, beyond its configs.

    Args:
        call: config of the network, x ``[1, C, L, h, w]`` (float32), number format and batch -> its keyword arguments.
        batched: the two halves of classifier-free guidance are one call of batch 2.
        framewise: the VAE takes frames in chunks; else it takes the whole video.
        tiles: the gradient can be computed on tiles of the cells.
    """

    call: Call
    batched: bool
    framewise: bool = False
    tiles: bool = False


def _svd(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    multiple = cells_together(config)
    x = pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple)).transpose(1, 2)
    picture = _zeros(x, (1, x.shape[1], config["in_channels"] - x.shape[2], *x.shape[3:]), dtype)
    return {
        "sample": torch.cat([torch.cat([x.to(dtype), picture], dim=2)] * batch),
        "timestep": _zeros(x, ()),
        "encoder_hidden_states": _zeros(x, (batch, 1, config["cross_attention_dim"]), dtype),
        "added_time_ids": _zeros(x, (batch, 3), dtype),
    }


def _wan(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    # Without a condition beside x, the picture is its first latent frame, with a timestep of its own for each token.
    tokens = x.shape[2] * (x.shape[3] // config["patch_size"][1]) * (x.shape[4] // config["patch_size"][2])
    extra = config["in_channels"] - x.shape[1]
    condition = _zeros(x, (1, extra, *x.shape[2:]), dtype)
    call = {
        "hidden_states": torch.cat([torch.cat([x.to(dtype), condition], dim=1)] * batch),
        "timestep": _zeros(x, (batch,) if extra else (batch, tokens)),
        "encoder_hidden_states": _zeros(x, (batch, 512, config["text_dim"]), dtype),
    }
    if config.get("image_dim") is not None:
        call["encoder_hidden_states_image"] = _zeros(x, (batch, 257, config["image_dim"]), dtype)
    return call


def _wan_vace(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    control = _zeros(x, (batch, config["vace_in_channels"], *x.shape[2:]), dtype)
    call = _wan(config, x, dtype, batch)
    return {**call, "timestep": _zeros(x, (batch,)), "control_hidden_states": control}


def _cogvideox(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    patch, patch_t = config["patch_size"], config.get("patch_size_t") or 1
    x = pad(x, (0, 0, 0, 0, -x.shape[2] % patch_t, 0)).transpose(1, 2)
    frames, _, height, width = x.shape[1:]
    tokens = frames // patch_t * (height // patch) * (width // patch)
    rotation = _zeros(x, (tokens, config["attention_head_dim"]))
    picture = _zeros(x, (1, frames, config["in_channels"] - x.shape[2], height, width), dtype)
    return {
        "hidden_states": torch.cat([torch.cat([x.to(dtype), picture], dim=2)] * batch),
        "encoder_hidden_states": _zeros(x, (batch, config["max_text_seq_length"], config["text_embed_dim"]), dtype),
        "timestep": _zeros(x, (batch,)),
        "ofs": None if config.get("ofs_embed_dim") is None else _zeros(x, (1,)),
        "image_rotary_emb": (rotation, rotation) if config["use_rotary_positional_embeddings"] else None,
    }


def _ltx(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    frames, height, width = x.shape[2:]
    tokens = x.flatten(2).transpose(1, 2).to(dtype)
    return {
        "hidden_states": torch.cat([tokens] * batch),
        "encoder_hidden_states": _zeros(x, (batch, 128, config["caption_channels"]), dtype),
        "timestep": _zeros(x, (batch, tokens.shape[1])),
        "encoder_attention_mask": _zeros(x, (batch, 128), torch.long),
        "num_frames": frames,
        "height": height,
        "width": width,
        "rope_interpolation_scale": (8 / 25, 32, 32),
    }


def _hunyuan(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    # 576 tokens of the picture, of which every second or fourth is kept, and 256 of the prompt.
    text = 256 + 576 // (4 if config.get("image_condition_type") == "token_replace" else 2)
    condition = _zeros(x, (1, config["in_channels"] - x.shape[1], *x.shape[2:]), dtype)
    return {
        "hidden_states": torch.cat([torch.cat([x.to(dtype), condition], dim=1)] * batch),
        "timestep": _zeros(x, (batch,)),
        "encoder_hidden_states": _zeros(x, (batch, text, config["text_embed_dim"]), dtype),
        "encoder_attention_mask": _zeros(x, (batch, text), torch.long),
        "pooled_projections": _zeros(x, (batch, config["pooled_projection_dim"]), dtype),
        "guidance": _zeros(x, (batch,), dtype) if config["guidance_embeds"] else None,
    }


def _hunyuan15(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    condition = _zeros(x, (1, config["in_channels"] - x.shape[1], *x.shape[2:]), dtype)
    prompt, glyphs, picture = 1000, 256, 729
    return {
        "hidden_states": torch.cat([torch.cat([x.to(dtype), condition], dim=1)] * batch),
        "timestep": _zeros(x, (batch,), dtype),
        "encoder_hidden_states": _zeros(x, (batch, prompt, config["text_embed_dim"]), dtype),
        "encoder_attention_mask": _zeros(x, (batch, prompt), dtype) + 1,
        "encoder_hidden_states_2": _zeros(x, (batch, glyphs, config["text_embed_2_dim"]), dtype),
        "encoder_attention_mask_2": _zeros(x, (batch, glyphs), dtype) + 1,
        "image_embeds": _zeros(x, (batch, picture, config["image_embed_dim"]), dtype) + 1,
    }


FAMILIES = {
    "StableVideoDiffusionPipeline": Family(_svd, batched=True, framewise=True, tiles=True),
    "WanImageToVideoPipeline": Family(_wan, batched=False),
    "WanPipeline": Family(_wan, batched=False),  # TI2V-5B is published under this name
    "WanVACEPipeline": Family(_wan_vace, batched=False),
    "CogVideoXImageToVideoPipeline": Family(_cogvideox, batched=True),
    "LTXImageToVideoPipeline": Family(_ltx, batched=True),
    "LTXPipeline": Family(_ltx, batched=True),  # so is LTX-Video
    "HunyuanVideoImageToVideoPipeline": Family(_hunyuan, batched=False),
    "HunyuanVideo15ImageToVideoPipeline": Family(_hunyuan15, batched=False),
}
"""Families whose memory is known, by the class of the stock pipeline."""


def compression(vae: Any) -> tuple[int, int]:
    """Frames in a latent frame, and pixels along the side of a latent cell."""
    config = vae.config
    if "scale_factor_spatial" in config:  # Wan
        return config["scale_factor_temporal"], config["scale_factor_spatial"]
    frames = config.get("temporal_compression_ratio") or getattr(vae, "temporal_compression_ratio", 1)
    side = config.get("spatial_compression_ratio") or getattr(vae, "spatial_compression_ratio", None)
    return frames, side or 2 ** (len(config["block_out_channels"]) - 1)


def cells_together(config: Config) -> int:
    """Latent cells along a side that the network takes together: a token of a transformer, the coarsest of a UNet."""
    if "block_out_channels" in config:
        return 2 ** (len(config["block_out_channels"]) - 1)
    patch = config["patch_size"]
    return patch[-1] if isinstance(patch, list | tuple) else patch


def _zeros(x: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=x.device)
