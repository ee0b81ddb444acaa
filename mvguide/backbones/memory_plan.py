"""How much memory a render takes on a GPU, known from the model's configs before anything is loaded.

The networks run on the meta device: shapes without numbers, which take neither memory nor time.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from mvguide.backbones.live_memory import peak_bytes, storage_bytes
from mvguide.backbones.model_configs import ModelConfigs
from mvguide.backbones.network_calls import INPUTS
from mvguide.backbones.recompute import recomputed
from mvguide.errors import ModelError

CHUNKS = (8, 4, 2, 1)
"""Frames that a VAE without a time axis takes at a time, as far as they are planned; more gain nothing."""

Coding = tuple[int, bool]
"""Frames that the VAE takes at a time, and whether it cuts them into tiles."""


@dataclass(frozen=True)
class MemoryPlan:
    """What takes how much, in bytes.

    Args:
        model: its name.
        dtype: number format of the network.
        num_frames, width, height: of the video.
        cells: rows and columns of the latents.
        multiple: the network works on rows and columns that are multiples of this.
        weights: of each network, by the name of the part.
        streamed: what of each is on the GPU at one time with group offload.
        network: activations of one call, by its batch: 2 = both halves of classifier-free guidance.
        encoding: activations of the VAE's encoder, the most demanding way first.
        decoding: activations of its decoder.
        decoding_float32: the same in float32, for a VAE that can overflow in float16.
        gradient: activations of the posterior gradient, by whether they are computed again on the way back.
        tiles: whether the gradient can be computed on tiles.
    """

    model: str
    dtype: str
    num_frames: int
    width: int
    height: int
    cells: tuple[int, int]
    multiple: int
    weights: dict[str, int]
    streamed: dict[str, int]
    network: dict[int, int]
    encoding: dict[Coding, int]
    decoding: dict[Coding, int]
    decoding_float32: dict[Coding, int]
    gradient: dict[bool, int]
    tiles: bool

    def gradient_bytes(self, checkpointing: bool, rows: int, columns: int) -> int:
        """Activations of the posterior gradient on a tile of the cells.

        They are proportional to the cells, because fused attention holds nothing that grows faster.
        """
        tile = ceil(rows / self.multiple) * ceil(columns / self.multiple)
        whole = ceil(self.cells[0] / self.multiple) * ceil(self.cells[1] / self.multiple)
        return round(self.gradient[checkpointing] * tile / whole)


@torch.no_grad()
def plan_memory(
    configs: ModelConfigs,
    *,
    num_frames: int,
    width: int,
    height: int,
    dtype: torch.dtype | None = None,
    gradient: bool = True,
) -> MemoryPlan:
    """Measure a model on the meta device: no weights, no GPU, about 2 seconds.

    Args:
        configs: of the model.
        num_frames: F.
        width: of the video, pixels.
        height: of the video.
        dtype: number format of the network; the model's own on a GPU if unset.
        gradient: whether to measure the posterior gradient.

    Raises:
        InputError: a number of frames or a size that does not fit, with the nearest that does.
        ModelError: configs of which no network can be made, or one that cannot take this video.
    """
    if configs.pipeline not in INPUTS:
        raise ModelError(f"how the network of a {configs.pipeline} is called is not known; enter it into INPUTS")
    dtype = dtype or configs.dtype
    native = configs.native_size
    # A VAE without a time axis belongs to Stable Video Diffusion. It alone pads, takes both halves of guidance in one
    # call, and tiles.
    framewise = native.grid.ratio == 1
    native.check(configs.name, num_frames, height, width, pads=framewise)
    parts = {part: configs.build(part, dtype) for part in configs.networks}
    network: Any = parts[configs.main]
    vae: Any = parts["vae"]
    factor = native.vae_scale_factor
    channels = vae.config.get("latent_channels") or vae.config.get("z_dim")
    latent_frames = native.grid.latent_frames(num_frames)
    x = torch.zeros(1, channels, latent_frames, height // factor, width // factor, device="meta")
    call = _Call(configs.pipeline, network, x, dtype)
    # Of the latent frames that are left out in the end, HunyuanVideo's go through the VAE.
    lead = native.grid.lead if "Hunyuan" in configs.pipeline else 0
    coded, coded_frames = x[:, :, native.grid.lead - lead :], num_frames + lead * native.grid.ratio
    weights = {part: storage_bytes(module) for part, module in parts.items()}
    try:
        network_bytes = {batch: call.activations(batch) for batch in ((2, 1) if framewise else (1,))}
        gradients = {again: call.gradient_activations(again) for again in (False, True)} if gradient else {}
        if framewise:
            encoding, decoding, upcast = _frame_coding(vae, x, num_frames, height, width)
        else:
            encoding, decoding = _video_coding(vae, coded, factor, coded_frames)
            upcast = {}
    except Exception as error:  # whatever a network raises on a size that is not for it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"model {configs.name} cannot take {num_frames} frames of {width} x {height} ({reason}); "
            "correct its configs, or use the size that it was published for"
        ) from error
    return MemoryPlan(
        model=configs.name,
        dtype=str(dtype).removeprefix("torch."),
        num_frames=num_frames,
        width=width,
        height=height,
        cells=(height // factor, width // factor),
        multiple=native.multiple,
        weights=weights,
        streamed={part: _streamed_bytes(module, weights[part], part) for part, module in parts.items()},
        network=network_bytes,
        encoding=encoding,
        decoding=decoding,
        decoding_float32=upcast,
        gradient=gradients,
        tiles=framewise,
    )


@dataclass(frozen=True)
class _Call:
    """A network and its x ``[1, C, L, h, w]`` on the meta device."""

    pipeline: str
    network: Any
    x: Tensor
    dtype: torch.dtype

    def activations(self, batch: int) -> int:
        """The most bytes that are live during one call."""
        return peak_bytes(lambda: self._run(self.x, batch), self.network)

    def gradient_activations(self, checkpointing: bool) -> int:
        """The most bytes that are live while a squared error is differentiated with respect to x."""

        def differentiate() -> None:
            leaf = self.x.detach().requires_grad_(True)
            with recomputed(self.network, _blocks(self.network)) if checkpointing else nullcontext():
                output = self._run(leaf, 1)
            torch.autograd.grad((output.float() ** 2).sum(), leaf)

        with torch.enable_grad():
            return peak_bytes(differentiate, self.network)

    def _run(self, x: Tensor, batch: int) -> Tensor:
        inputs = INPUTS[self.pipeline](self.network.config, x, self.dtype, batch)
        return self.network(**inputs, return_dict=False)[0]


def _blocks(network: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of the parts that gradient checkpointing computes again; of a transformer, those in lists of blocks."""
    if hasattr(network, "up_blocks"):
        from mvguide.backbones.svd import UNET_BLOCKS

        return UNET_BLOCKS
    lists = [child for child in network.children() if isinstance(child, nn.ModuleList)]
    return tuple({type(block) for blocks in lists for block in blocks})


def _streamed_bytes(module: nn.Module, weights: int, part: str) -> int:
    """What group offload has on the GPU: the layer at work and the next one; the VAE moves whole."""
    if part == "vae":
        return weights
    layers = [layer for layer in module.modules() if not list(layer.children()) and list(layer.parameters())]
    sizes = {id(next(layer.parameters())): storage_bytes(layer) for layer in layers}  # shared ones once
    return sum(sorted(sizes.values())[-2:])


def _frame_coding(
    vae: Any, x: Tensor, num_frames: int, height: int, width: int
) -> tuple[dict[Coding, int], dict[Coding, int], dict[Coding, int]]:
    """Activations of encoding, decoding, and decoding in float32, some frames at a time."""
    chunks = list(dict.fromkeys(min(chunk, num_frames) for chunk in CHUNKS))
    shapes = {chunk: (chunk, x.shape[1], *x.shape[3:]) for chunk in chunks}
    decoding = {(chunk, False): _decode_bytes(vae, shapes[chunk], num_frames=chunk) for chunk in chunks}
    upcast = {}
    extra = 0
    if vae.dtype == torch.float16 and vae.config.get("force_upcast"):
        # Its encoder overflows: that always runs in float32, and the decoder where it must.
        extra = storage_bytes(vae)
        nn.Module.to(vae, torch.float32)
        upcast = {(chunk, False): extra + _decode_bytes(vae, shapes[chunk], num_frames=chunk) for chunk in chunks}
    encoding = {(chunk, False): extra + _encode_bytes(vae, (chunk, 3, height, width)) for chunk in chunks}
    return encoding, decoding, upcast


def _video_coding(vae: Any, x: Tensor, factor: int, frames: int) -> tuple[dict[Coding, int], dict[Coding, int]]:
    """Activations of encoding and decoding a whole video, plain and in tiles where the VAE can."""
    latent_frames, rows, columns = x.shape[2:]
    encoding = {(frames, False): _encode_bytes(vae, (1, 3, frames, rows * factor, columns * factor))}
    decoding = {(frames, False): _decode_bytes(vae, (1, x.shape[1], latent_frames, rows, columns))}
    side = [getattr(vae, f"tile_sample_min_{name}", 0) // factor for name in ("height", "width")]
    if all(side) and (rows > side[0] or columns > side[1]):
        # One tile is measured: to run them all would take many seconds. Around it is the video, in tiles that overlap
        # by a quarter of a side, and at the end in three copies.
        tile_rows, tile_columns = min(rows, side[0]), min(columns, side[1])
        pixels = 3 * frames * factor**2 * vae.dtype.itemsize
        video, tile = pixels * rows * columns, pixels * tile_rows * tile_columns
        # Wan 2.2's VAE cuts tiles after it has made patches of pixels.
        patch = (vae.config.get("patch_size") or 1) if "scale_factor_spatial" in vae.config else 1
        encoded = _encode_bytes(vae, (1, 3, frames, tile_rows * factor, tile_columns * factor))
        decoded = _decode_bytes(vae, (1, x.shape[1], latent_frames, tile_rows, tile_columns))
        encoding[frames, True] = encoded * patch**2 + video - tile
        decoding[frames, True] = round(max(decoded, 3 * video) + 1.5 * video)
    return encoding, decoding


def _encode_bytes(vae: Any, shape: tuple[int, ...]) -> int:
    pixels = torch.zeros(shape, dtype=vae.dtype, device="meta")
    return pixels.nbytes + peak_bytes(lambda: vae.encode(pixels, return_dict=False)[0].mode(), vae)


def _decode_bytes(vae: Any, shape: tuple[int, ...], **options: Any) -> int:
    latents = torch.zeros(shape, dtype=vae.dtype, device="meta")
    if vae.config.get("timestep_conditioning"):
        options["temb"] = torch.zeros(1, dtype=vae.dtype, device="meta")
    return latents.nbytes + peak_bytes(lambda: vae.decode(latents, return_dict=False, **options), vae)
