"""Pictures, plots and videos inside a cell of a notebook: bytes and HTML that need no file."""

from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

import torch
from PIL import Image
from torch import Tensor

from mvguide.drawing.error_pictures import BRIGHTEST, heat
from mvguide.drawing.sheets import as_pixels, mark_holes

_LARGEST = 1024
"""Pixels along the longer side above which a picture is reduced: a notebook keeps all that it shows."""


def picture_png(picture: Tensor) -> bytes:
    """A picture ``[3, H, W]`` in [0, 1] as PNG, reduced to at most 1024 pixels a side."""
    image = Image.fromarray(as_pixels(picture))
    image.thumbnail((_LARGEST, _LARGEST))
    stream = BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def plot_png(plot: Callable[[BinaryIO], None]) -> bytes:
    """What a function writes as PNG into the stream that it is given."""
    stream = BytesIO()
    plot(stream)
    return stream.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Bytes as an address that HTML can have in place of a file.

    Args:
        content: of the file.
        kind: its media type.
    """
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def depth_picture(values: Tensor, valid: Tensor) -> Tensor:
    """Colours ``[3, H, W]`` of a depth map ``[H, W]``: near is bright, far is dark; unknown pixels are striped.

    The scale is that of inverse depth, from its 2nd to its 98th percentile.
    """
    near = torch.where(valid, 1 / values.double().clamp(min=1e-12), 0.0)
    known = near[valid]
    if not len(known):
        return mark_holes(torch.zeros(3, *values.shape), torch.zeros(1, *values.shape))
    sample = known[:: max(1, len(known) // 100_000)]
    low, high = (sample.quantile(share) for share in (0.02, 0.98))
    share = ((near - low) / (high - low).clamp(min=1e-12 * float(high))).clamp(0, 1)
    return mark_holes(heat((BRIGHTEST * share[None]).float()), valid[None].float())
