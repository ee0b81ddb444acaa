"""Encode and decode a video some frames at a time: as many as memory allows, and fewer where it runs out."""

from collections.abc import Callable

import torch
from torch import Tensor

from mvguide.backbones.base import Backbone
from mvguide.errors import InputError, NumericalError
from mvguide.memory import enough_memory, free_gpu_memory, is_out_of_memory

MOST_FRAMES = 8
"""Frames of a chunk where nobody says how many; more would cost memory and gain nothing."""
_USABLE = 0.9
"""Share of the free memory that a chunk may take: allocators lose some."""


def encode_frames(backbone: Backbone, frames: Tensor, chunk: int | None) -> Tensor:
    """Pictures ``[F, 3, H, W]`` of one video to latents ``[L, C, h, w]``.

    Args:
        backbone: the model.
        frames: pictures in [0, 1].
        chunk: frames at a time; None = as many as memory allows, up to 8. Half as many wherever memory runs out.

    Raises:
        OutOfMemoryError: one frame alone does not fit.
        InputError: a chunk below 1.
    """
    height, width = frames.shape[-2:]
    with enough_memory(f"encoding {len(frames)} frames of {width} x {height}", _way_out(backbone)):
        each = backbone.decode_bytes(height, width)
        # Twice what decoding takes: SVD encodes in float32 even where it decodes in 16 bits.
        size = min(len(frames), _chosen(chunk, 2 * (each or 0), backbone.device))
        latents, _ = _fitting(lambda count: backbone.encode(frames, count), size, splits=each is not None)
    backbone.free()
    return latents


def decode_latents(backbone: Backbone, x: Tensor, chunk: int | None, way_out: str = "") -> tuple[Tensor, int]:
    """Clean latents ``[1, L, C, h, w]`` to pictures ``[F, 3, H, W]`` on the CPU, and the chunk that was decoded.

    A smaller chunk starts again at the first frame, so that the video is the one that this chunk gives.

    Args:
        backbone: the model.
        x: latents in its units.
        chunk: frames at a time; None = as many as memory allows, up to 8. Half as many wherever memory runs out.
        way_out: end of the sentence where that is not enough.

    Raises:
        OutOfMemoryError: one frame alone does not fit.
        NumericalError: the pictures are not finite.
    """
    height, width = (side * backbone.vae_scale_factor for side in x.shape[-2:])
    backbone.free()  # the decoder may have the memory of the network
    with enough_memory(f"decoding a video of {width} x {height}", way_out or _way_out(backbone)):
        each = backbone.decode_bytes(height, width)
        size = min(x.shape[1], _chosen(chunk, each or 0, backbone.device))
        frames, used = _fitting(lambda count: backbone.decode(x, count), size, splits=each is not None)
    if not bool(frames.isfinite().all()):
        raise NumericalError(f"decoded frames of model {backbone.name} are not finite; load it with dtype float32")
    backbone.free()
    return frames, used


def _chosen(chunk: int | None, each: float, device: torch.device) -> int:
    """``chunk``, or where it is None, as many frames of so many bytes as are free on a GPU; 8 where that is unknown."""
    if chunk is not None:
        if chunk < 1:
            raise InputError(f"chunk is {chunk}; it must be at least 1")
        return chunk
    free = free_gpu_memory(device)
    return MOST_FRAMES if free is None or each == 0 else max(1, min(MOST_FRAMES, int(_USABLE * free / each)))


def _fitting(work: Callable[[int], Tensor], chunk: int, *, splits: bool) -> tuple[Tensor, int]:
    """What ``work`` gives for the chunk, or half of it as often as memory runs out; and that chunk."""
    while splits and chunk > 1:
        try:
            return work(chunk), chunk
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the error keeps alive what the functions that it went through hold.
        chunk //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return work(chunk), chunk


def _way_out(backbone: Backbone) -> str:
    if backbone.device.type == "cpu":
        return "ask for a smaller width and height"
    return "keep the network off the GPU with --offload model, or ask for a smaller width and height"
