"""Fill the holes of a map from its known pixels, led by the image's colours."""

import torch
from torch import Tensor

from mvguide.errors import InputError

# One unit of the distance that is made least: so many pixels of way, or so much difference of colour.
_PIXELS, _COLOUR = 20.0, 0.05


def fill_from_similar(values: Tensor, known: Tensor, image: Tensor) -> Tensor:
    """Give every unknown pixel the value of a known one that is close by and of like colour; values are never mixed.

    The known pixel is the one with the least `distance / 20 pixels + |colour difference| / 0.05`, as far as jump
    flooding finds it (Rong and Tan, I3D 2006): candidates are handed on in steps that halve from the map's size to 1,
    then again from 8, as such distances are no Voronoi diagram.

    Args:
        values: [H, W]; ignored where unknown.
        known: bool [H, W].
        image: [C, H, W] in [0, 1].

    Returns:
        [H, W]; known pixels unchanged.

    Raises:
        InputError: unlike shapes, or nothing known.
    """
    size = tuple(values.shape)
    if values.ndim != 2 or tuple(known.shape) != size or tuple(image.shape[1:]) != size:
        raise InputError(f"values {size}, known {tuple(known.shape)} and image {tuple(image.shape)} differ in size")
    if not bool(known.any()):
        raise InputError("no pixel is known, so there is nothing to fill from; at least 1 is needed")
    height, width = size
    flat = image.flatten(1)
    place = torch.arange(height * width, device=values.device).view(height, width)
    seed = torch.where(known, place, -1)  # where each pixel takes its value from
    cost = torch.where(known, 0.0, torch.inf)
    rows, columns = place // width, place % width
    largest = 1 << (max(height, width) - 1).bit_length()
    steps = [largest >> k for k in range(1, largest.bit_length())] + [8, 4, 2, 1]
    for step in steps:
        for down in (-step, 0, step):
            for right in (-step, 0, step):
                if (down == 0 and right == 0) or abs(down) >= height or abs(right) >= width:
                    continue
                offered = _shift(seed, down, right)
                at = offered.clamp(min=0)
                way = torch.hypot((rows - at // width).float(), (columns - at % width).float()) / _PIXELS
                colour = (flat[:, at.flatten()].view_as(image) - image).abs().mean(0) / _COLOUR
                offer = torch.where(offered >= 0, way + colour, torch.inf)
                better = offer < cost
                seed, cost = torch.where(better, offered, seed), torch.where(better, offer, cost)
    return values.flatten()[seed.clamp(min=0)]


def _shift(seed: Tensor, down: int, right: int) -> Tensor:
    """The map moved by so many pixels; -1 comes in at the border."""
    height, width = seed.shape
    moved = torch.full_like(seed, -1)
    rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    from_rows = slice(max(0, -down), height + min(0, -down))
    from_columns = slice(max(0, -right), width + min(0, -right))
    moved[rows, columns] = seed[from_rows, from_columns]
    return moved
