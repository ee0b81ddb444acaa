"""Masks of what a warp has seen (1 = seen, 0 = hole), and filling of its holes."""

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from mvguide.errors import InputError


def dilate_holes(visible: Tensor, radius: int) -> Tensor:
    """Grow the holes by a square of (2 radius + 1)^2 pixels; what lies outside the picture is no hole.

    visible [..., H, W] in {0, 1}; radius in pixels, 0 changes nothing. Returns the same shape. Raises InputError for
    a radius that is not a whole number >= 0.
    """
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise InputError(f"radius is {radius!r}; it must be a whole number of pixels, 0 or more")
    holes = (1 - visible).reshape(-1, 1, *visible.shape[-2:])
    # One axis after the other gives the same square at (2 radius + 1) * 2 comparisons a pixel.
    holes = functional.max_pool2d(holes, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    holes = functional.max_pool2d(holes, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return (1 - holes).reshape(visible.shape)


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


def latent_visible(visible: Tensor, factor: int, share: float = 1.0) -> Tensor:
    """Mask of latent cells of which at least the given share of pixels is seen; 1 = every pixel.

    visible [..., H, W] in {0, 1} -> [..., H / factor, W / factor] in {0, 1}; factor is the VAE's (8 for SVD); share in
    (0, 1]. Raises InputError if factor does not divide the size, or for another share.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share}; it must be above 0 and at most 1")
    # Half a pixel of tolerance: the mean of ones and zeros is not exact in float32.
    return (cell_means(visible, factor) >= share - 0.5 / factor**2).to(visible)


def cell_means(values: Tensor, factor: int) -> Tensor:
    """Mean over the pixels of each latent cell: of a mask, the share of the cell that is seen.

    values [..., H, W] -> [..., H / factor, W / factor]. Raises InputError if factor does not divide the size.
    """
    height, width = values.shape[-2:]
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise InputError(f"factor is {factor!r}; it must be a whole number, at least 1")
    if height % factor or width % factor:
        raise InputError(
            f"mask is {width}x{height}, which {factor} does not divide; resize or crop to multiples of {factor}"
        )
    cells = values.unflatten(-2, (height // factor, factor)).unflatten(-1, (width // factor, factor))
    return cells.mean(dim=(-3, -1))


def hole_ramp(cells: Tensor, width: float) -> Tensor:
    """Factor that rises with the distance to the nearest hole: ``min(1, d / (width + 1))``, 0 in holes.

    d is the Euclidean distance in cells to the nearest cell that is 0 in the same frame: 1 beside it. A width of 0
    leaves all cells that are no holes at 1; without holes everything is 1.

    cells [..., h, w] -> [..., h, w] in [0, 1]. Raises InputError for a width that is not a finite number >= 0.
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
    """Pixels that straddle a jump in depth, whose value may be a smear of both sides and belong to neither.

    A pixel is marked when the largest depth in its 3x3 square exceeds the least by more than the share relative_jump,
    e.g. 0.05. depth [..., H, W]; values not finite and positive are left out of the square. Returns bool [..., H, W].
    Raises InputError for a jump that is not positive.
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

    Along a row or a column, in disparity d: the neighbours on both sides differ by more than the share relative_jump,
    the pixel lies strictly between them (more than a tenth of the way from either), and the slope across it is over
    twice that of its flatter side. A clean step has no pixel in between; a slanted plane, straight in disparity, has
    the same slope on both sides.

    depth [H, W]; values not finite and positive are neither marked nor compared. Returns bool [H, W]. Raises
    InputError for a jump that is not positive.
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
