"""Encode and decode a video some frames at a time: as many as memory allows, and fewer where it runs out."""

from collections.abc import Callable

import torch
from torch import Tensor

from mvguide.backbones.base import Backbone
from mvguide.errors import NumericalError
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
    """
    height, width = frames.shape[-2:]
    with enough_memory(f"encoding {len(frames)} frames of {width} x {height}", _way_out(backbone)):
        size = min(len(frames), _chosen(backbone, chunk, height, width))
        latents, _ = _fitting(backbone, lambda count: backbone.encode(frames, count), size, height, width)
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
        size = min(x.shape[1], _chosen(backbone, chunk, height, width))
        frames, used = _fitting(backbone, lambda count: backbone.decode(x, count), size, height, width)
    if not bool(frames.isfinite().all()):
        raise NumericalError(f"decoded frames of model {backbone.name} are not finite")
    backbone.free()
    return frames, used


def _chosen(backbone: Backbone, chunk: int | None, height: int, width: int) -> int:
    """``chunk``, or where it is None, as many frames as fit into the free memory of a GPU; 8 on the CPU."""
    if chunk is not None:
        return chunk
    free = free_gpu_memory(backbone.device)
    each = backbone.decode_bytes(height, width)
    return MOST_FRAMES if free is None or not each else max(1, min(MOST_FRAMES, int(_USABLE * free / each)))


def _fitting(
    backbone: Backbone, work: Callable[[int], Tensor], chunk: int, height: int, width: int
) -> tuple[Tensor, int]:
    """What ``work`` gives for the chunk, or half of it as often as memory runs out; and that chunk."""
    while chunk > 1 and backbone.decode_bytes(height, width) is not None:
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
