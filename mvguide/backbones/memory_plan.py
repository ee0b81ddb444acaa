"""How much memory a render takes on a GPU, and which settings fit, known from the model's configs before it is loaded.

The network, the VAE and the gradient run on the meta device: shapes without numbers, and so without memory.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from mvguide.backbones.live_memory import peak_bytes, storage_bytes
from mvguide.backbones.model_configs import ModelConfigs
from mvguide.backbones.network_calls import FAMILIES, Family, cells_together, compression
from mvguide.backbones.recompute import recomputed
from mvguide.errors import InputError, ModelError

CHUNKS = (8, 4, 2, 1)
"""Frames that a framewise VAE takes at a time, as far as they are planned; more than 8 is never chosen."""

Coding = tuple[int, bool]
"""Frames at a time, and whether the VAE cuts them into tiles."""


@dataclass(frozen=True)
class MemoryPlan:
    """What takes how much, in bytes.

    Args:
        model: its name.
        pipeline: class of the stock pipeline.
        dtype: number format of the networks.
        num_frames, width, height: of the video.
        cells: rows and columns of the latents.
        cells_together: rows and columns are padded to multiples of this.
        weights: of each network.
        streamed: what of each network is on the GPU at one time with group offload.
        network: activations of one call, by its batch: 2 = both halves of classifier-free guidance.
        encoding: activations of the VAE's encoder, the most demanding way first.
        decoding: activations of its decoder.
        decoding_float32: the same in float32, for a VAE that can overflow in float16.
        gradient: activations of the posterior gradient, by whether they are computed again on the way back.
        tiles: whether the gradient can be computed on tiles.
    """

    model: str
    pipeline: str
    dtype: str
    num_frames: int
    width: int
    height: int
    cells: tuple[int, int]
    cells_together: int
    weights: dict[str, int]
    streamed: dict[str, int]
    network: dict[int, int]
    encoding: dict[Coding, int]
    decoding: dict[Coding, int]
    decoding_float32: dict[Coding, int]
    gradient: dict[bool, int]
    tiles: bool

    def gradient_bytes(self, checkpointing: bool, tile: tuple[int, int]) -> int:
        """Activations of the posterior gradient on a tile of latent rows x columns.

        They are proportional to the cells: with fused attention nothing grows faster.
        """
        size = self.cells_together
        share = [ceil(side / size) / ceil(whole / size) for side, whole in zip(tile, self.cells, strict=True)]
        return round(self.gradient[checkpointing] * share[0] * share[1])


@torch.no_grad()
def plan_memory(
    configs: ModelConfigs, *, num_frames: int, width: int, height: int, dtype: torch.dtype, gradient: bool = True
) -> MemoryPlan:
    """Measure a model of random shapes-without-numbers, on the meta device: no weights, no GPU, about 2 seconds.

    Args:
        configs: of the model.
        num_frames: F.
        width, height: of the video, pixels.
        dtype: number format of the networks.
        gradient: whether to measure the posterior gradient.

    Raises:
        ModelError: a model whose calls are not known here, or one that cannot take this video.
        InputError: a number of frames or a size that it does not take, with the nearest that it does.
    """
    family = FAMILIES.get(configs.pipeline)
    if family is None:
        raise ModelError(
            f"model {configs.name} is a {configs.pipeline}; memory can be planned for {', '.join(FAMILIES)}"
        )
    main = next((part for part in configs.classes if part in ("unet", "transformer")), None)
    if main is None or "vae" not in configs.classes:
        raise ModelError(f"model {configs.name} has no {'vae' if main else 'network'} in its model_index.json")
    networks = {part: configs.build(part, dtype) for part in configs.classes}
    network, vae = networks[main], networks["vae"]
    x = _latents(configs.name, network, vae, (num_frames, height, width), framewise=family.framewise)
    weights = {part: storage_bytes(module) for part, module in networks.items()}
    streamed = {part: _streamed_bytes(module) for part, module in networks.items()}
    try:
        calls = {batch: _call_bytes(network, family, x, dtype, batch) for batch in (2, 1)[not family.batched :]}
        gradients = {again: _gradient_bytes(network, family, x, dtype, again) for again in (False, True) if gradient}
        encoding, decoding = _coding_bytes(vae, family, x, (num_frames, height, width), dtype)
        upcast: dict[Coding, int] = {}
        if dtype == torch.float16 and vae.config.get("force_upcast"):
            _, upcast = _coding_bytes(vae.float(), family, x, (num_frames, height, width), torch.float32)
    except Exception as error:  # whatever a network raises on a size that is not for it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"model {configs.name} cannot take {num_frames} frames of {width} x {height} ({reason}); "
            "try its published size"
        ) from error
    return MemoryPlan(
        model=configs.name,
        pipeline=configs.pipeline,
        dtype=str(dtype).removeprefix("torch."),
        num_frames=num_frames,
        width=width,
        height=height,
        cells=(x.shape[3], x.shape[4]),
        cells_together=cells_together(network.config),
        weights=weights,
        streamed=streamed,
        network=calls,
        encoding=encoding,
        decoding=decoding,
        decoding_float32=upcast,
        gradient=gradients,
        tiles=family.tiles,
    )


def _latents(name: str, network: Any, vae: Any, size: tuple[int, int, int], *, framewise: bool) -> Tensor:
    """Noisy latents ``[1, C, L, h, w]`` on the meta device. Refuses frames and sizes (F, H, W) that do not fit."""
    frames, height, width = size
    ratio, factor = compression(vae)
    if frames < 2:
        raise InputError(f"num_frames is {frames}; a video needs at least 2 frames")
    if (frames - 1) % ratio:
        below = (frames - 1) // ratio * ratio + 1
        near = f"{below} or {below + ratio}" if below > 1 else str(below + ratio)
        raise InputError(
            f"num_frames is {frames}, but model {name} takes {ratio} frames as one, after the first; use {near}"
        )
    unit = factor if framewise else factor * cells_together(network.config)
    if height < 1 or width < 1 or height % unit or width % unit:
        near = " x ".join(str(max(1, round(side / unit)) * unit) for side in (width, height))
        raise InputError(
            f"video size {width} x {height} (width x height) is not divisible by {unit}, as model {name} needs; "
            f"use {near}"
        )
    channels = vae.config.get("latent_channels") or vae.config.get("z_dim")
    latent_frames = (frames - 1) // ratio + 1
    return torch.zeros(1, channels, latent_frames, height // factor, width // factor, device="meta")


def _call_bytes(network: Any, family: Family, x: Tensor, dtype: torch.dtype, batch: int) -> int:
    """Activations of one call of the network."""
    return peak_bytes(lambda: network(**family.call(network.config, x, dtype, batch), return_dict=False), network)


def _gradient_bytes(network: Any, family: Family, x: Tensor, dtype: torch.dtype, checkpointing: bool) -> int:
    """Activations of the derivative of a squared error with respect to x, through the network."""

    def differentiate() -> None:
        leaf = x.detach().requires_grad_(True)
        with recomputed(network, _blocks(network)) if checkpointing else nullcontext():
            output = network(**family.call(network.config, leaf, dtype, 1), return_dict=False)[0]
        torch.autograd.grad((output.float() ** 2).sum(), leaf)

    with torch.enable_grad():
        return peak_bytes(differentiate, network)


def _blocks(network: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of the parts that gradient checkpointing computes again: the repeated ones of a transformer."""
    from diffusers import UNetSpatioTemporalConditionModel

    if isinstance(network, UNetSpatioTemporalConditionModel):
        from mvguide.backbones.svd import UNET_BLOCKS

        return UNET_BLOCKS
    lists = [child for child in network.children() if isinstance(child, nn.ModuleList)]
    return tuple({type(block) for blocks in lists for block in blocks})


def _streamed_bytes(module: nn.Module) -> int:
    """What group offload has on the GPU: the block at work, the next one, and all that is no block."""
    blocks = [storage_bytes(block) for block in _listed(module)]
    return storage_bytes(module) - sum(blocks) + 2 * max(blocks, default=0)


def _listed(module: nn.Module) -> list[nn.Module]:
    """Members of the outermost lists of modules, however deep in it these are."""
    found: list[nn.Module] = []
    for child in module.children():
        found += list(child) if isinstance(child, nn.ModuleList | nn.Sequential) else _listed(child)
    return found


def _coding_bytes(
    vae: Any, family: Family, x: Tensor, size: tuple[int, int, int], dtype: torch.dtype
) -> tuple[dict[Coding, int], dict[Coding, int]]:
    """Activations of encoding and of decoding a video of (F, H, W), in the ways that the VAE can do it."""
    frames, height, width = size
    if family.framewise:
        encoding, decoding = {}, {}
        for chunk in dict.fromkeys(min(chunk, frames) for chunk in CHUNKS):
            encoding[chunk, False] = _encode_bytes(vae, (chunk, 3, height, width), dtype)
            decoding[chunk, False] = _decode_bytes(vae, (chunk, *x.shape[1:2], *x.shape[3:]), dtype, chunk)
        return encoding, decoding
    encoding = {(frames, False): _encode_bytes(vae, (1, 3, *size), dtype)}
    decoding = {(frames, False): _decode_bytes(vae, tuple(x.shape), dtype)}
    side = getattr(vae, "tile_sample_min_height", 0), getattr(vae, "tile_sample_min_width", 0)
    if all(side) and (height > side[0] or width > side[1]):
        factor = height // x.shape[3]
        rows, columns = (
            min(whole, tile) // factor * factor for whole, tile in zip((height, width), side, strict=True)
        )
        tile_of_latents = (*x.shape[:3], rows // factor, columns // factor)
        video = 3 * frames * height * width * dtype.itemsize
        tile = 3 * frames * rows * columns * dtype.itemsize
        # One tile is measured; running them all would take many seconds. Around it are the video, whose tiles overlap
        # by a quarter of a side, and in the end up to three copies of it.
        patch = vae.config.get("patch_size") or 1 if "scale_factor_spatial" in vae.config else 1
        encoding[frames, True] = _encode_bytes(vae, (1, 3, frames, rows, columns), dtype) * patch**2 + video - tile
        decoding[frames, True] = round(max(_decode_bytes(vae, tile_of_latents, dtype), 3 * video) + 1.5 * video)
    return encoding, decoding


def _encode_bytes(vae: Any, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    pixels = torch.zeros(shape, dtype=dtype, device="meta")
    return pixels.nbytes + peak_bytes(lambda: vae.encode(pixels, return_dict=False)[0].mode(), vae)


def _decode_bytes(vae: Any, shape: tuple[int, ...], dtype: torch.dtype, chunk: int | None = None) -> int:
    latents = torch.zeros(shape, dtype=dtype, device="meta")
    options = {} if chunk is None else {"num_frames": chunk}
    if vae.config.get("timestep_conditioning"):
        options = {"temb": torch.zeros(1, dtype=dtype, device="meta")}
    return latents.nbytes + peak_bytes(lambda: vae.decode(latents, return_dict=False, **options), vae)
