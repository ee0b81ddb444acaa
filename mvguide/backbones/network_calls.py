"""How the network of each model family is called: the shapes of its inputs, with zeros in them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

Config = Mapping[str, Any]
Inputs = dict[str, Any]


def svd_inputs(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> Inputs:
    """Stable Video Diffusion; cells are padded to what its UNet halves."""
    multiple = 2 ** (len(config["block_out_channels"]) - 1)
    x = pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple)).transpose(1, 2)
    picture = _zeros(x, (1, x.shape[1], config["in_channels"] - x.shape[2], *x.shape[3:]), dtype)
    return {
        "sample": torch.cat([torch.cat([x.to(dtype), picture], dim=2)] * batch),
        "timestep": _zeros(x, ()),
        "encoder_hidden_states": _zeros(x, (batch, 1, config["cross_attention_dim"]), dtype),
        "added_time_ids": _zeros(x, (batch, 3), dtype),
    }


def wan_inputs(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> Inputs:
    """Wan; a model without a condition beside x has the picture in it, and a timestep for each token."""
    frames, rows, columns = (side // patch for side, patch in zip(x.shape[2:], config["patch_size"], strict=True))
    hidden = _with_condition(config, x, dtype)
    beside = hidden.shape[1] > x.shape[1]
    inputs = {
        "hidden_states": torch.cat([hidden] * batch),
        "timestep": _zeros(x, (batch,) if beside else (batch, frames * rows * columns)),
        "encoder_hidden_states": _zeros(x, (batch, 512, config["text_dim"]), dtype),
    }
    if config.get("image_dim") is not None:
        inputs["encoder_hidden_states_image"] = _zeros(x, (batch, 257, config["image_dim"]), dtype)
    return inputs


def wan_vace_inputs(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> Inputs:
    """WanVACE: the video and its mask are an input of their own."""
    return {
        "hidden_states": torch.cat([x.to(dtype)] * batch),
        "timestep": _zeros(x, (batch,)),
        "encoder_hidden_states": _zeros(x, (batch, 512, config["text_dim"]), dtype),
        "control_hidden_states": _zeros(x, (batch, config["vace_in_channels"], *x.shape[2:]), dtype),
    }


def cogvideox_inputs(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> Inputs:
    """CogVideoX and 1.5: latent frames before channels."""
    patch, patch_t = config["patch_size"], config.get("patch_size_t") or 1
    tokens = x.shape[2] // patch_t * (x.shape[3] // patch) * (x.shape[4] // patch)
    rotation = _zeros(x, (tokens, config["attention_head_dim"]))
    return {
        "hidden_states": torch.cat([_with_condition(config, x, dtype).transpose(1, 2)] * batch),
        "encoder_hidden_states": _zeros(x, (batch, config["max_text_seq_length"], config["text_embed_dim"]), dtype),
        "timestep": _zeros(x, (batch,)),
        "ofs": None if config.get("ofs_embed_dim") is None else _zeros(x, (1,)),
        "image_rotary_emb": (rotation, rotation) if config["use_rotary_positional_embeddings"] else None,
    }


def ltx_inputs(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> Inputs:
    """LTX-Video: a token for each cell, with its own timestep."""
    tokens = x.flatten(2).transpose(1, 2).to(dtype)
    return {
        "hidden_states": torch.cat([tokens] * batch),
        "encoder_hidden_states": _zeros(x, (batch, 128, config["caption_channels"]), dtype),
        "timestep": _zeros(x, (batch, tokens.shape[1])),
        "encoder_attention_mask": _zeros(x, (batch, 128), torch.bool),
        "num_frames": x.shape[2],
        "height": x.shape[3],
        "width": x.shape[4],
        "rope_interpolation_scale": (8 / 25, 32, 32),
    }


def hunyuan_inputs(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> Inputs:
    """HunyuanVideo; every second or fourth of the picture's 576 tokens, and 256 of the prompt."""
    tokens = 256 + 576 // (4 if config.get("image_condition_type") == "token_replace" else 2)
    return {
        "hidden_states": torch.cat([_with_condition(config, x, dtype)] * batch),
        "timestep": _zeros(x, (batch,)),
        "encoder_hidden_states": _zeros(x, (batch, tokens, config["text_embed_dim"]), dtype),
        "encoder_attention_mask": _zeros(x, (batch, tokens), torch.long) + 1,
        "pooled_projections": _zeros(x, (batch, config["pooled_projection_dim"]), dtype),
        "guidance": _zeros(x, (batch,), dtype) if config["guidance_embeds"] else None,
    }


def hunyuan15_inputs(config: Config, x: Tensor, dtype: torch.dtype, batch: int) -> Inputs:
    """HunyuanVideo 1.5: tokens of the prompt, of words to be drawn, and of the picture."""
    return {
        "hidden_states": torch.cat([_with_condition(config, x, dtype)] * batch),
        "timestep": _zeros(x, (batch,), dtype),
        "encoder_hidden_states": _zeros(x, (batch, 1000, config["text_embed_dim"]), dtype),
        "encoder_attention_mask": _zeros(x, (batch, 1000), dtype) + 1,
        "encoder_hidden_states_2": _zeros(x, (batch, 256, config["text_embed_2_dim"]), dtype),
        "encoder_attention_mask_2": _zeros(x, (batch, 256), dtype) + 1,
        "image_embeds": _zeros(x, (batch, 729, config["image_embed_dim"]), dtype) + 1,
    }


INPUTS: dict[str, Callable[[Config, Tensor, torch.dtype, int], Inputs]] = {
    "StableVideoDiffusionPipeline": svd_inputs,
    "WanImageToVideoPipeline": wan_inputs,
    "WanPipeline": wan_inputs,
    "WanVACEPipeline": wan_vace_inputs,
    "CogVideoXImageToVideoPipeline": cogvideox_inputs,
    "LTXPipeline": ltx_inputs,
    "LTXImageToVideoPipeline": ltx_inputs,
    "HunyuanVideoImageToVideoPipeline": hunyuan_inputs,
    "HunyuanVideo15ImageToVideoPipeline": hunyuan15_inputs,
}
"""Keyword arguments of the network, by the class of the stock pipeline.

Each is made from the network's config, x ``[1, C, L, h, w]``, number format and batch.
"""


def _with_condition(config: Config, x: Tensor, dtype: torch.dtype) -> Tensor:
    """X in the number format, and the channels that the network takes beside it."""
    return torch.cat([x.to(dtype), _zeros(x, (1, config["in_channels"] - x.shape[1], *x.shape[2:]), dtype)], dim=1)


def _zeros(x: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=x.device)
