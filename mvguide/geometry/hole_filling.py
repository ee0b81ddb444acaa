"""Colours for the holes of a warp, before it is encoded (1 = seen, 0 = hole)."""

import torch
from torch import Tensor
from torch.nn import functional

from mvguide.errors import InputError


def close_pinholes(visible: Tensor, neighbours: int = 6) -> Tensor:
    """Count a hole pixel as seen when at least so many of its 8 neighbours are: cracks of a splat, not openings.

    What lies outside the picture counts as seen, so that a one-pixel border is closed too. visible [F, 1, H, W] in
    {0, 1}; neighbours from 5 to 8. Returns the same shape; give closed pixels their colour with `fill_pinholes`.
    Raises InputError for other numbers.
    """
    if neighbours not in (5, 6, 7, 8):
        raise InputError(f"neighbours is {neighbours!r}; it must be a whole number from 5 to 8")
    padded = functional.pad(visible, (1, 1, 1, 1), value=1.0)
    around = functional.avg_pool2d(padded, 3, stride=1) * 9 - visible
    return torch.maximum(visible, (around > neighbours - 0.5).to(visible))


def fill_pinholes(image: Tensor, visible: Tensor, closed: Tensor) -> Tensor:
    """Give every pixel that was closed the mean of its seen neighbours of 8.

    image [F, C, H, W], values in holes ignored; visible [F, 1, H, W] before and closed [F, 1, H, W] after
    `close_pinholes`. Returns [F, C, H, W], 0 where closed is 0. A few pixels in a thousand: cheaper than a pyramid.
    """
    filled = torch.where(visible > 0, image, 0.0)
    frame, row, column = ((closed > 0) & (visible <= 0))[:, 0].nonzero(as_tuple=True)
    height, width = image.shape[-2:]
    total = image.new_zeros(len(frame), image.shape[1])
    count = image.new_zeros(len(frame), 1)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            y, x = row + down, column + right
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
            seen = ((visible[frame, 0, y, x] > 0) & inside).to(image)[:, None]
            total += seen * filled[frame, :, y, x]
            count += seen
    filled[frame, :, row, column] = total / count.clamp(min=1)
    return filled


def push_pull_fill(image: Tensor, visible: Tensor) -> Tensor:
    """Fill holes with the colours around them: the pull-push pyramid of Gortler et al., The Lumigraph (1996).

    Pull: halve the picture until it is one pixel, averaging seen pixels only. Push: on the way back, bilinear
    enlargement fills what a level has not seen. image [F, C, H, W] of any size and range, values in holes ignored
    (NaN too); visible [F, 1, H, W]. Returns float32 [F, C, H, W]; seen pixels are returned unchanged; a frame with
    nothing seen comes back all 0. Raises InputError for unlike shapes.
    """
    if image.ndim != 4 or tuple(visible.shape) != (image.shape[0], 1, *image.shape[2:]):
        given = f"{tuple(image.shape)} and {tuple(visible.shape)}"
        raise InputError(f"image and visible have shapes {given}; they must be [F, C, H, W] and [F, 1, H, W]")
    seen = visible > 0
    return _fill(torch.where(seen, image.float(), 0.0), seen.float())


def _fill(image: Tensor, weight: Tensor) -> Tensor:
    """One level: image [F, C, H, W] is 0 where weight [F, 1, H, W] is; weights are 0 or 1."""
    height, width = image.shape[-2:]
    if max(height, width) == 1:
        return image
    # Odd sizes get an unseen row or column, which the averages leave out.
    padding = (0, width % 2, 0, height % 2)
    share = functional.avg_pool2d(functional.pad(weight, padding), 2)
    coarse = functional.avg_pool2d(functional.pad(image, padding), 2) / share.clamp(min=0.25)
    filled = _fill(coarse, (share > 0).float())
    enlarged = functional.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, image, enlarged[..., :height, :width])
