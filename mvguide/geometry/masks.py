"""Masks of what a warp has seen (1 = seen, 0 = hole), of latent cells, and of depth that cannot be trusted."""

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from mvguide.errors import InputError


def dilate_holes(visible: Tensor, radius: int) -> Tensor:
    """Grow the holes by a square of (2 radius + 1)^2 pixels; what lies outside the image is no hole.

    Args:
        visible: [..., H, W] in {0, 1}.
        radius: pixels, >= 0; 0 changes nothing, and more than the image has changes nothing more.

    Returns:
        [..., H, W] in {0, 1}.

    Raises:
        InputError: a radius that is not a whole number >= 0.
    """
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise InputError(f"radius is {radius!r}; it must be a whole number of pixels, 0 or more")
    radius = min(radius, max(visible.shape[-2:]))
    holes = (1 - visible).reshape(-1, 1, *visible.shape[-2:])
    # One axis after the other gives the same square at (2 radius + 1) * 2 comparisons a pixel.
    holes = functional.max_pool2d(holes, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    holes = functional.max_pool2d(holes, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return (1 - holes).reshape(visible.shape)


def latent_visible(visible: Tensor, vae_scale_factor: int, coverage: float = 1.0) -> Tensor:
    """Mask of the latent cells of which at least the given part of the pixels is seen.

    Args:
        visible: [..., H, W] in {0, 1}: 1 = seen.
        vae_scale_factor: pixels along a side of a latent cell, 8 for SVD; it must divide H and W.
        coverage: least part of a cell's pixels that must be seen, in (0, 1]; 1 = all of them.

    Returns:
        [..., H / vae_scale_factor, W / vae_scale_factor] in {0, 1}.

    Raises:
        InputError: a size that vae_scale_factor does not divide, or a coverage outside (0, 1].
    """
    return covered(cell_means(visible, vae_scale_factor), vae_scale_factor**2, coverage)


def covered(shares: Tensor, count: int, coverage: float) -> Tensor:
    """1 where a share of seen pixels reaches the coverage, else 0.

    Args:
        shares: seen share of each cell, any shape.
        count: pixels that a share is the mean of.
        coverage: least share, in (0, 1].

    Raises:
        InputError: a coverage outside (0, 1].
    """
    if not 0 < coverage <= 1:
        raise InputError(f"coverage is {coverage}; it must be above 0 and at most 1")
    # Half a pixel of tolerance: the mean of ones and zeros is not exact in float32.
    return (shares >= coverage - 0.5 / count).to(shares)


def cell_means(values: Tensor, vae_scale_factor: int) -> Tensor:
    """Mean over the pixels of each latent cell; of a mask, the cell's coverage.

    Args:
        values: [..., H, W].
        vae_scale_factor: pixels along a side of a latent cell; it must divide H and W.

    Returns:
        [..., H / vae_scale_factor, W / vae_scale_factor].

    Raises:
        InputError: a size that vae_scale_factor does not divide.
    """
    height, width = values.shape[-2:]
    side = vae_scale_factor
    if isinstance(side, bool) or not isinstance(side, int) or side < 1:
        raise InputError(f"vae_scale_factor is {side!r}; it must be a whole number, at least 1")
    if height % side or width % side:
        raise InputError(
            f"mask is {width}x{height}, which {side} does not divide; resize or crop to multiples of {side}"
        )
    cells = values.unflatten(-2, (height // side, side)).unflatten(-1, (width // side, side))
    return cells.mean(dim=(-3, -1))


def hole_ramp(cells: Tensor, width: float) -> Tensor:
    """Weight that rises with the distance to the nearest hole: ``min(1, d / (width + 1))``, 0 in holes.

    d is the Euclidean distance to the nearest cell of the same frame that is 0: 1 beside it. A frame without holes is 1
    everywhere.

    Args:
        cells: [..., h, w]; 0 = hole.
        width: cells over which the weight rises, >= 0; 0 leaves all cells that are no holes at 1.

    Returns:
        [..., h, w] in [0, 1].

    Raises:
        InputError: a width that is not a finite number >= 0.
    """
    if not 0 <= width < torch.inf:
        raise InputError(f"ramp is {width}; it must be a finite number of cells, 0 or more")
    ramps = torch.ones_like(cells).reshape(-1, *cells.shape[-2:])
    for ramp, known in zip(ramps, (cells > 0).reshape(ramps.shape), strict=True):
        if not bool(known.all()):
            distance = torch.from_numpy(distance_transform_edt(known.cpu().numpy()))
            ramp.copy_((distance / (width + 1)).clamp(max=1))
    return ramps.reshape(cells.shape)


def depth_edges(depth: Tensor, relative_jump: float = 0.05) -> Tensor:
    """Pixels next to a jump in depth, where a value may be a mix of both sides.

    A pixel is marked when the largest depth in its 3x3 square exceeds the least by more than relative_jump.

    Args:
        depth: [..., H, W]; values that are not finite and positive are left out of the square.
        relative_jump: share of the depth, > 0.

    Returns:
        bool [..., H, W].

    Raises:
        InputError: a jump that is not positive.
    """
    if not 0 < relative_jump < torch.inf:
        raise InputError(f"relative_jump is {relative_jump}; it must be a share of the depth above 0, such as 0.05")
    usable = torch.isfinite(depth) & (depth > 0)
    flat = torch.where(usable, depth, 1.0).log().reshape(-1, 1, *depth.shape[-2:])
    known = usable.reshape(flat.shape)
    farthest = functional.max_pool2d(flat.masked_fill(~known, -torch.inf), 3, stride=1, padding=1)
    nearest = -functional.max_pool2d((-flat).masked_fill(~known, -torch.inf), 3, stride=1, padding=1)
    jump = torch.tensor(1 + relative_jump, dtype=flat.dtype).log().item()
    return (farthest - nearest > jump).reshape(depth.shape) & usable


def smeared_depth(depth: Tensor, relative_jump: float = 0.05) -> Tensor:
    """Pixels whose depth is a mix of a near and a far surface and belongs to neither: they would hang in mid-air.

    Along a row or a column, in disparity d: the neighbours on both sides differ by more than relative_jump, the pixel
    lies strictly between them (more than a tenth of the way from either), and the slope across it is over twice that of
    its flatter side. A clean step has no pixel in between; a slanted plane, straight in disparity, has the same slope
    on both sides.

    Args:
        depth: [H, W]; values that are not finite and positive are neither marked nor compared.
        relative_jump: share of the disparity, > 0.

    Returns:
        bool [H, W].

    Raises:
        InputError: a jump that is not positive.
    """
    if not 0 < relative_jump < torch.inf:
        raise InputError(f"relative_jump is {relative_jump}; it must be a share of the depth above 0, such as 0.05")
    usable = torch.isfinite(depth) & (depth > 0)
    disparity = torch.where(usable, 1 / torch.where(usable, depth, 1.0), torch.nan)  # NaN makes comparisons false
    marked = torch.zeros_like(usable)
    for lines, out in ((disparity, marked), (disparity.mT, marked.mT)):
        if lines.shape[1] < 5:
            continue
        before2, before, here, after, after2 = (lines[:, k : lines.shape[1] - 4 + k] for k in range(5))
        across = (after - before).abs()
        jumps = across > relative_jump * torch.minimum(before, after)
        between = torch.minimum((here - before).abs(), (here - after).abs()) > 0.1 * across
        flatter = torch.minimum((before - before2).abs(), (after2 - after).abs())
        out[:, 2:-2] |= jumps & between & (across / 2 > 2 * flatter)
    return marked
