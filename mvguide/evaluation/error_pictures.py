"""Where a video is wrong: its error as a heat map, with the border between what was seen and the holes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import max_pool2d

from mvguide.evaluation.pictures import LARGEST_TILE, SMALLEST_TILE, video_sheet

BRIGHTEST = 0.3
"""Error, a share of full scale, that is drawn brightest: the same in every picture, so that pictures compare."""

_STOPS = ((0.0, 0.0, 0.04), (0.28, 0.07, 0.42), (0.72, 0.21, 0.33), (0.97, 0.55, 0.04), (0.99, 1.0, 0.68))
"""Black, violet, red, orange, pale yellow: brightness rises evenly, in print and for colour-blind eyes too."""

_OUTLINE = (0.25, 0.95, 0.55)
_INK, _BACKGROUND = (30, 30, 30), (250, 250, 250)


def heat(error: Tensor) -> Tensor:
    """Colours ``[..., 3, H, W]`` of errors ``[..., 1, H, W]``: 0 is black, :data:`BRIGHTEST` and more pale yellow."""
    place = (error / BRIGHTEST).clamp(0, 1) * (len(_STOPS) - 1)
    lower = place.floor().clamp(max=len(_STOPS) - 2)
    stops = torch.tensor(_STOPS, dtype=error.dtype, device=error.device)
    below, above = (stops[index.squeeze(-3).long()].movedim(-1, -3) for index in (lower, lower + 1))
    return below + (place - lower) * (above - below)


def error_frames(frames: Tensor, truth: Tensor, visible: Tensor, scale: int = 1) -> Tensor:
    """Heat maps of the mean absolute error over colours, enlarged, with a green line around the holes.

    Args:
        frames: ``[F, 3, H, W]`` in [0, 1].
        truth: the same shape.
        visible: ``[F, 1, H, W]``: 1 = seen.
        scale: whole number of pixels that a pixel becomes.

    Returns:
        ``[F, 3, scale H, scale W]``.
    """
    pictures = enlarge(heat((frames - truth).abs().mean(dim=1, keepdim=True)), scale)
    holes = enlarge(1 - (visible > 0.5).to(pictures), scale)
    # The line lies on the holes' own side, so that what is seen stays whole; large frames are reduced on the sheet.
    width = max(1, round(max(holes.shape[-2:]) / LARGEST_TILE))
    inner = -max_pool2d(-holes, 2 * width + 1, stride=1, padding=width)
    line = holes - inner
    colour = pictures.new_tensor(_OUTLINE).view(3, 1, 1)
    return torch.where(line > 0.5, colour, pictures)


def enlarge(frames: Tensor, scale: int) -> Tensor:
    """Every pixel of ``[..., H, W]`` as a square of scale x scale."""
    return frames.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


def whole_scale(width: int, height: int, tile: int = SMALLEST_TILE) -> int:
    """How many times small frames are enlarged for a sheet."""
    return max(1, -(-tile // max(width, height)))


def error_sheet(
    videos: Mapping[str, Tensor],
    truth: Tensor,
    visible: Tensor,
    notes: Sequence[str],
    columns: Sequence[int],
    labels: Sequence[str],
) -> Tensor:
    """Truth above, each video and under it its error; ``[3, H', W']``.

    Args:
        videos: title -> ``[F, 3, H, W]``.
        truth: ``[F, 3, H, W]``.
        visible: ``[F, 1, H, W]``.
        notes: a word for each frame.
        columns: frames to show.
        labels: what each frame is called.
    """
    picked = list(columns)
    scale = whole_scale(truth.shape[-1], truth.shape[-2])
    rows = {"truth": enlarge(truth[picked], scale)}
    for title, frames in videos.items():
        rows[title] = enlarge(frames[picked], scale)
        rows["error" + " " * len(rows)] = error_frames(frames[picked], truth[picked], visible[picked], scale)
    sheet = video_sheet(
        rows,
        [notes[k] for k in picked],
        range(len(picked)),
        tile=1,
        labels=[labels[k] for k in picked],
    )
    return torch.cat([sheet, _legend(sheet.shape[-1])], dim=-2)


def _legend(width: int) -> Tensor:
    """A strip that says what the colours mean, ``[3, 40, width]``."""
    strip = Image.new("RGB", (width, 40), _BACKGROUND)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=14)
    left, length = 86, min(200, max(40, width - 86 - 60))
    ramp = heat(torch.linspace(0, BRIGHTEST, length).expand(12, length)[None])
    colours = (ramp.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    strip.paste(Image.fromarray(np.ascontiguousarray(colours)), (left, 10))
    draw.text((8, 8), "error", fill=_INK, font=font)
    text = f"0 to {BRIGHTEST:g} of full scale and more"
    draw.text((left + length + 8, 8), text, fill=_INK, font=font)
    start = left + length + 8 + round(font.getlength(text)) + 24
    line = tuple(round(255 * value) for value in _OUTLINE)
    draw.rectangle((start, 10, start + 20, 22), outline=line, fill=(0, 0, 10))
    draw.text((start + 28, 8), "green line: holes, which no input view sees", fill=_INK, font=font)
    return torch.from_numpy(np.asarray(strip).copy()).permute(2, 0, 1).float() / 255


