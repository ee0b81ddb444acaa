"""The sheet of a run: its videos above each other, with holes made visible."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SMALLEST_TILE = 144
LARGEST_TILE = 256
MOST_COLUMNS = 8
BACKGROUND = 250 / 255
"""Grey level of a sheet's paper; a tile of it is left empty."""
_GAP, _PAPER, _INK = 6, (250, 250, 250), (30, 30, 30)
_SMALLEST_TEXT = 14
_DARK, _LIGHT = 0.7, 0.86  # of the stripes of holes


def mark_holes(frames: Tensor, visible: Tensor) -> Tensor:
    """Draw holes as diagonal stripes of two light greys.

    Args:
        frames: ``[..., 3, H, W]`` in [0, 1].
        visible: ``[..., 1, H, W]``, 1 = seen.

    Returns:
        ``[..., 3, H, W]`` in [0, 1].
    """
    height, width = frames.shape[-2:]
    period = max(4, height // 12)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    stripe = ((rows + columns) % period < period // 2).to(frames)
    return torch.where(visible > 0.5, frames, _DARK + (_LIGHT - _DARK) * stripe)


def as_pixels(picture: Tensor) -> np.ndarray:
    """An image ``[3, H, W]`` in [0, 1] as uint8 ``[H, W, 3]``; values outside are clipped."""
    pixels = (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)


def pick_columns(count: int, most: int = MOST_COLUMNS) -> list[int]:
    """Frame numbers for a sheet: all of them, or ``most`` spread evenly from the first to the last."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def video_sheet(
    rows: Mapping[str, Tensor],
    notes: Sequence[str] | None = None,
    columns: Sequence[int] | None = None,
    tile: int = SMALLEST_TILE,
    labels: Sequence[str] | None = None,
) -> Tensor:
    """Sheet of videos: one above the other, frames across.

    Args:
        rows: title -> ``[F, 3, H, W]`` in [0, 1], all of one F and one size.
        notes: a word for each frame, written under its column.
        columns: frames to show; by default all of them, or 8 evenly spread.
        tile: pixels of the longer side to which smaller images are enlarged, by whole pixels; large ones are reduced.
        labels: names of the frames; their numbers by default.

    Returns:
        ``[3, H', W']`` in [0, 1].
    """
    first = next(iter(rows.values()))
    count, _, height, width = first.shape
    columns = pick_columns(count) if columns is None else columns
    enlarged = max(1, -(-tile // max(height, width)))
    scale = enlarged if enlarged > 1 else min(1.0, LARGEST_TILE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    names = [labels[index] if labels else f"frame {index}" for index in columns]
    words = [notes[index] for index in columns] if notes else []
    letter = _text_size(size[0], [*names, *words])
    font, line = ImageFont.load_default(size=letter), round(1.3 * letter)
    footer = (2 if words else 1) * line + _GAP
    margin = max(letter + round(font.getlength(title)) for title in rows)
    canvas = (margin + len(columns) * (size[0] + _GAP), _GAP + len(rows) * (size[1] + _GAP) + footer)
    sheet = Image.new("RGB", canvas, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (title, video) in enumerate(rows.items()):
        top = _GAP + row * (size[1] + _GAP)
        draw.text((letter // 2, top + size[1] // 2), title, fill=_INK, font=font, anchor="lm")
        for column, index in enumerate(columns):
            picture = Image.fromarray(as_pixels(video[index])).resize(size, resample)
            sheet.paste(picture, (margin + column * (size[0] + _GAP), top))
    bottom = _GAP + len(rows) * (size[1] + _GAP)
    for column, name in enumerate(names):
        left = margin + column * (size[0] + _GAP)
        draw.text((left, bottom), name, fill=_INK, font=font)
        if words:
            draw.text((left, bottom + line), words[column], fill=(90, 90, 90), font=font)
    return torch.from_numpy(np.asarray(sheet).copy()).permute(2, 0, 1).float() / 255


def _text_size(width: int, words: Sequence[str]) -> int:
    """Pixels of letters that can still be read where a page shrinks the sheet, as far as all words fit under a tile."""
    largest = max(_SMALLEST_TEXT, width // 8)
    for size in range(largest, _SMALLEST_TEXT, -1):
        font = ImageFont.load_default(size=size)  # its lengths do not shrink in proportion
        if max(font.getlength(word) for word in words) <= width:
            return size
    return _SMALLEST_TEXT
