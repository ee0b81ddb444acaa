"""Colours for the holes of a warp, before it is encoded (1 = seen, 0 = hole)."""

import torch
from torch import Tensor
from torch.nn import functional

from mvguide.errors import InputError

_SATURATION = 0.3  # chosen on ray-traced scenes: what is far behind everything must not outweigh what is just behind


def close_pinholes(visible: Tensor, neighbours: int = 6) -> Tensor:
    """Count a hole pixel as seen when at least so many of its 8 neighbours are: cracks of a splat, not openings.

    What lies outside the image counts as seen, so that a one-pixel border is closed too. Give closed pixels their
    colour with `fill_pinholes`.

    Args:
        visible: [F, 1, H, W] in {0, 1}.
        neighbours: 5 to 8.

    Returns:
        [F, 1, H, W] in {0, 1}.

    Raises:
        InputError: another number of neighbours.
    """
    if neighbours not in (5, 6, 7, 8):
        raise InputError(f"neighbours is {neighbours!r}; it must be a whole number from 5 to 8")
    padded = functional.pad(visible, (1, 1, 1, 1), value=1.0)
    around = functional.avg_pool2d(padded, 3, stride=1) * 9 - visible
    return torch.maximum(visible, (around > neighbours - 0.5).to(visible))


def fill_pinholes(image: Tensor, visible: Tensor, closed: Tensor) -> Tensor:
    """Give every pixel that was closed the mean of its seen neighbours of 8.

    Args:
        image: [F, C, H, W]; values in holes are ignored.
        visible: [F, 1, H, W] before `close_pinholes`.
        closed: [F, 1, H, W] after it.

    Returns:
        [F, C, H, W], 0 where closed is 0. Pinholes are a few pixels in a thousand: this is cheaper than a pyramid.
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


def push_pull_fill(image: Tensor, visible: Tensor, depth: Tensor | None = None) -> Tensor:
    """Fill holes with the colours around them: the pull-push pyramid of Gortler et al., The Lumigraph (1996).

    Pull: halve the image until it is one pixel, averaging seen pixels only. Push: on the way back, bilinear
    enlargement fills what a level has not seen. A hole that a camera's move opens mostly shows more of what lies
    behind: with depth z, seen pixels count by f^2 where they are averaged and by f where they are enlarged, with
    f = z / (m + 0.3 z) and the median depth m of the frame, so that the farther side of a hole fills it.

    Args:
        image: [F, C, H, W] of any size and range; values in holes are ignored, NaN too.
        visible: [F, 1, H, W]: 1 = seen, 0 = hole.
        depth: [F, 1, H, W], z of what is seen, in any unit; where it is not finite and positive, the frame's median
            stands for it. None: all seen pixels count alike.

    Returns:
        float32 [F, C, H, W]; seen pixels are unchanged, and a frame with nothing seen is all 0.

    Raises:
        InputError: unlike shapes.
    """
    wanted = (image.shape[0], 1, *image.shape[2:])
    if image.ndim != 4 or tuple(visible.shape) != wanted:
        given = f"{tuple(image.shape)} and {tuple(visible.shape)}"
        raise InputError(f"image and visible have shapes {given}; they must be [F, C, H, W] and [F, 1, H, W]")
    if depth is not None and tuple(depth.shape) != wanted:
        raise InputError(f"depth has shape {tuple(depth.shape)}; it must be {wanted}, as the mask")
    seen = visible > 0
    colours = torch.where(seen, image.float(), 0.0)
    if depth is None:
        return _fill(colours, seen.float())
    return _fill_from_behind(torch.cat([colours, _farness(depth, seen)], dim=1))[:, :-1]


def _farness(depth: Tensor, seen: Tensor) -> Tensor:
    """How far: z / (m + 0.3 z) with the frame's median depth m: grows with depth, up to 3.3 for a sky; 0 in holes."""
    usable = seen & torch.isfinite(depth) & (depth > 0)
    median = torch.where(usable, depth.float(), torch.nan).flatten(1).nanmedian(dim=1).values
    relative = torch.where(usable, depth.float() / median.view(-1, 1, 1, 1), 1.0)
    return torch.where(seen, (relative / (1 + _SATURATION * relative)).clamp(1e-4, 1 / _SATURATION), 0.0)


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


def _fill_from_behind(image: Tensor) -> Tensor:
    """One level: the last channel of image [F, C + 1, H, W] is the farness, 0 where nothing is seen."""
    height, width = image.shape[-2:]
    if max(height, width) == 1:
        return image
    padding = (0, width % 2, 0, height % 2)
    farness = image[:, -1:]
    pull = farness**2
    total = functional.avg_pool2d(functional.pad(pull, padding), 2)
    coarse = functional.avg_pool2d(functional.pad(image * pull, padding), 2) / total.clamp(min=1e-12)
    filled = _fill_from_behind(coarse)
    push = filled[:, -1:]
    enlarged = functional.interpolate(
        torch.cat([filled * push, push], dim=1), scale_factor=2, mode="bilinear", align_corners=False
    )[..., :height, :width]
    return torch.where(farness > 0, image, enlarged[:, :-1] / enlarged[:, -1:].clamp(min=1e-12))
