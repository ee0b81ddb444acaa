"""Overlapping tiles that cover the latent cells, and weights that join what was computed on each without a seam."""

from dataclasses import dataclass
from math import ceil, log, pi

import torch
from torch import Tensor

from mvguide.errors import ConfigError

OVERLAP = 0.25
"""Share of a tile's side that it has in common with the next."""


@dataclass(frozen=True)
class Tile:
    """A part of the cells and its weight ``[rows, columns]`` in (0, 1]; in each cell those of all tiles sum to 1."""

    rows: slice
    columns: slice
    weight: Tensor


def make_tiles(height: int, width: int, count: int, overlap: float = OVERLAP) -> list[Tile]:
    """Cut ``height x width`` cells into a grid of overlapping tiles of one size, as near to square as the count allows.

    Args:
        height: cells of a column.
        width: cells of a row.
        count: number of tiles, at least 1.
        overlap: share of a tile's side that overlaps the next, in [0, 0.5].

    Raises:
        ConfigError: for a count or an overlap out of range, or more tiles than cells along a side.
    """
    check_tiles(count, overlap)
    grids = [(n, count // n) for n in range(1, count + 1) if count % n == 0 and n <= height and count // n <= width]
    if not grids:
        raise ConfigError(f"tiles is {count}, which no grid fits into {width} x {height} latent cells; give fewer")
    rows, columns = min(grids, key=lambda grid: abs(log(height / grid[0] * grid[1] / width)))
    down, across = _pieces(height, rows, overlap), _pieces(width, columns, overlap)
    return [Tile(a, b, v[:, None] * w[None, :]) for a, v in down for b, w in across]


def check_tiles(count: int, overlap: float) -> None:
    """Raise ConfigError for a count or an overlap that suits no image."""
    if isinstance(count, bool) or count < 1:
        raise ConfigError(f"tiles is {count}; give the number of tiles, 1 for the whole image")
    if not 0 <= overlap <= 0.5:
        raise ConfigError(f"tile_overlap is {overlap:g}; it is a share of a tile's side, between 0 and 0.5")


def _pieces(length: int, count: int, overlap: float) -> list[tuple[slice, Tensor]]:
    """Overlapping pieces of a line with their weights, which sum to 1 in every cell."""
    size = min(length, ceil(length / (count - (count - 1) * overlap)))
    starts = [round(i * (length - size) / max(1, count - 1)) for i in range(count)]
    total = torch.zeros(length)
    pieces = []
    for start in starts:
        cell = torch.arange(size) + 0.5
        weight = torch.ones(size)
        # Soft on the inner sides only: at the border of the image there is nobody to share with.
        soft = max(1.0, size - (length - size) / max(1, count - 1))
        if start > 0:
            weight = weight * _rise(cell / soft)
        if start + size < length:
            weight = weight * _rise((size - cell) / soft)
        pieces.append((slice(start, start + size), weight))
        total[start : start + size] += weight
    return [(piece, weight / total[piece]) for piece, weight in pieces]


def _rise(share: Tensor) -> Tensor:
    """From 0 to 1 without a kink, 1 beyond."""
    return torch.sin(share.clamp(0, 1) * (pi / 2)) ** 2
