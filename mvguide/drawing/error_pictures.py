"""Error pictures: the error of a video as a heat map, with the border between what was seen and the holes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import max_pool2d

from mvguide.drawing.sheets import LARGEST_TILE, SMALLEST_TILE, as_pixels, video_sheet

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
        scale: pixels along a side that each pixel becomes, >= 1.

    Returns:
        ``[F, 3, scale H, scale W]`` in [0, 1].
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
    """Repeat every pixel of ``[..., H, W]`` scale x scale times."""
    return frames.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


def whole_scale(width: int, height: int, tile: int = SMALLEST_TILE) -> int:
    """How many times small frames are enlarged for a sheet.

    Args:
        width: pixels.
        height: pixels.
        tile: pixels that the longer side is to have at least.

    Returns:
        a whole number, at least 1.
    """
    return max(1, -(-tile // max(width, height)))


def error_sheet(
    videos: Mapping[str, Tensor],
    notes: Mapping[str, Sequence[str]],
    truth: Tensor,
    visible: Tensor,
    labels: Sequence[str],
) -> Tensor:
    """Sheet with the truth at the top, and each video with its error and a note under it.

    Args:
        videos: title -> ``[F, 3, H, W]`` in [0, 1]; every frame is a column.
        notes: title -> a word for each frame, written into its error picture.
        truth: ``[F, 3, H, W]`` in [0, 1].
        visible: ``[F, 1, H, W]``: 1 = seen.
        labels: a name for each frame.

    Returns:
        ``[3, H', W']`` in [0, 1].
    """
    scale = whole_scale(truth.shape[-1], truth.shape[-2])
    rows = {"truth": enlarge(truth, scale)}
    for title, frames in videos.items():
        rows[title] = enlarge(frames, scale)
        errors = error_frames(frames, truth, visible, scale)
        # Titles are keys: blanks tell one row of errors from the other.
        rows["error" + " " * len(rows)] = torch.stack(
            [_stamp(error, note) for error, note in zip(errors, notes[title], strict=True)]
        )
    shares = [f"{share:.0%} seen" for share in visible.mean(dim=(1, 2, 3)).tolist()]
    sheet = video_sheet(rows, shares, range(len(truth)), tile=1, labels=labels)
    return torch.cat([sheet, _legend(sheet.shape[-1])], dim=-2)


def _stamp(picture: Tensor, text: str) -> Tensor:
    """The picture ``[3, H, W]`` with a word in its lower left corner, as large on the sheet as other words."""
    size = max(12, round(12 * max(picture.shape[-2:]) / LARGEST_TILE))
    image = Image.fromarray(as_pixels(picture))
    place = (size // 3, image.height - size - size // 2)
    outline = max(1, size // 8)
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(image).text(place, text, (255, 255, 255), font, stroke_width=outline, stroke_fill=(0, 0, 10))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).to(picture) / 255


def _legend(width: int) -> Tensor:
    """A strip that says what the colours mean, ``[3, 56, width]``."""
    strip = Image.new("RGB", (width, 56), _BACKGROUND)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=12)
    left, length = 8, 120
    ramp = heat(torch.linspace(0, BRIGHTEST, length).expand(12, length)[None])
    colours = (ramp.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    strip.paste(Image.fromarray(np.ascontiguousarray(colours)), (left, 8))
    draw.text((left + length + 8, 7), f"error 0 to {BRIGHTEST:g} or more", fill=_INK, font=font)
    line = tuple(round(255 * value) for value in _OUTLINE)
    draw.rectangle((left, 30, left + 20, 42), outline=line, fill=(0, 0, 10))
    draw.text((left + 28, 29), "holes: no input view sees them", fill=_INK, font=font)
    return torch.from_numpy(np.asarray(strip).copy()).permute(2, 0, 1).float() / 255
