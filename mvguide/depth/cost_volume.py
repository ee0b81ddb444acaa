"""Matching cost of planes of constant depth, and the choice of one plane a pixel: the inside of `plane_sweep`.

Convention: pixel centres at +0.5, so an image spans [0, W] x [0, H], which is also how `grid_sample` counts with
`align_corners=False`. A plane is given by its disparity w = 1/z in the reference camera.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mvguide.geometry.camera import Camera
from mvguide.geometry.warp import source_to_target

# Variances of colours in [0, 1] below this are noise: windows without texture score about 0 on every plane.
_NOISE = 2e-4
# Cells of the volume whose matching cost is worked out at a time: keeps memory at a few times the volume itself.
_CELLS = 2**22


def plane_rows(reference: Camera, sources: Camera) -> Tensor:
    """Rows P [S, 3, 4] with z_s/z (u_s, v_s, 1) = P (u, v, 1, w): for a constant w, the plane's homography.

    P = K_s [R K_r^-1 | t] with [R t] the motion from the reference to each source (Hartley and Zisserman, 13.2).
    float64, on the CPU.
    """
    reference, sources = reference.to("cpu", torch.float64), sources.to("cpu", torch.float64)
    motion = source_to_target(reference, sources)
    turned = sources.intrinsics @ motion[..., :3, :3] @ torch.linalg.inv(reference.intrinsics)
    return torch.cat([turned, sources.intrinsics @ motion[..., :3, 3:]], dim=-1)


def project_disparity(row: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Where pixels of the reference at a disparity lie in a source: z_s/z (u_s, v_s, 1) = P (u, v, 1, w).

    Args:
        row: [3, 4], of `plane_rows`.
        disparity: [D, H, W], 1 / scene units.

    Returns:
        Pixels [D, H, W, 2] and the ratio z_s/z [D, H, W]; a pixel with a ratio <= 0 is behind the source.
    """
    height, width = disparity.shape[-2:]
    row = row.to(disparity)
    u = torch.arange(width, device=disparity.device, dtype=disparity.dtype) + 0.5
    v = torch.arange(height, device=disparity.device, dtype=disparity.dtype)[:, None] + 0.5
    x, y, ratio = (r[0] * u + r[1] * v + r[2] + r[3] * disparity for r in row)
    safe = ratio.clamp(min=1e-6)
    return torch.stack([x / safe, y / safe], dim=-1), ratio


def look_up(image: Tensor, pixels: Tensor, ratio: Tensor, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Values of an image at places in it.

    Args:
        image: [C, H', W'].
        pixels: [D, H, W, 2], (u, v) in [0, W'] x [0, H'].
        ratio: [D, H, W]; above 0 in front of the image's camera.
        mode: as of `grid_sample`.

    Returns:
        Values [D, C, H, W], outside those of the border, and whether each is inside and in front, bool [D, H, W].
    """
    size = pixels.new_tensor([image.shape[2], image.shape[1]])
    inside = (ratio > 0) & (pixels > 0).all(-1) & (pixels < size).all(-1)
    grid = (2 * pixels / size - 1).clamp(-2, 2)
    many = image[None].expand(len(grid), -1, -1, -1)
    values = functional.grid_sample(many, grid, mode=mode, padding_mode="border", align_corners=False)
    return values, inside


def ncc(image: Tensor, others: Tensor, radius: int) -> Tensor:
    """Zero-mean normalised cross-correlation over (2 radius + 1)^2 windows, summed over the channels, in [-1, 1].

    sum cov(a, b) / sqrt((sum var a + noise) (sum var b + noise)); what lies outside the image is not counted.

    Args:
        image: [C, H, W] in [0, 1].
        others: [D, C, H, W] in [0, 1].
        radius: of the window, pixels.

    Returns:
        [D, H, W].
    """
    mean, other_mean = _mean(image[None], radius), _mean(others, radius)
    # Colours are near 0.5 with deviations above 1/255: float32 holds a mean of squares less the squared mean.
    variance = (_mean(image[None] ** 2, radius) - mean**2).sum(1).clamp(min=0)
    other_variance = (_mean(others**2, radius) - other_mean**2).sum(1).clamp(min=0)
    covariance = (_mean(image * others, radius) - mean * other_mean).sum(1)
    return covariance / ((variance + _NOISE) * (other_variance + _NOISE)).sqrt()


def match(image: Tensor, others: Tensor, rows: Tensor, disparity: Tensor, radius: int = 2) -> Tensor:
    """NCC of the reference with the sources warped onto disparities, in [-1, 1].

    The mean over the better half (rounded up) of the sources that see the pixel, so that a source in which it is
    hidden does not count; 0 where none sees it.

    Args:
        image: reference [C, H, W] in [0, 1].
        others: sources [S, C, H', W'].
        rows: [S, 3, 4] of `plane_rows`.
        disparity: [D, H, W] (expanded from [D, 1, 1] for planes).
        radius: of the window, pixels.

    Returns:
        [D, H, W].
    """
    best = (len(others) + 1) // 2
    step = max(1, _CELLS // (disparity[0].numel() * image.shape[0]))
    parts = []
    for planes in disparity.split(step):
        scores = []
        for other, row in zip(others, rows, strict=True):
            values, inside = look_up(other, *project_disparity(row, planes))
            scores.append(torch.where(inside, ncc(image, values, radius), -2.0))
        top = torch.stack(scores).topk(best, dim=0).values
        seen = top > -1.5
        parts.append(torch.where(seen, top, 0.0).sum(0) / seen.sum(0).clamp(min=1))
    return torch.cat(parts)


def semi_global(cost: Tensor, image: Tensor, small: float = 0.1, large: float = 1.5) -> Tensor:
    """Sum of the costs of the best paths that reach each cell from 8 sides: Hirschmueller, TPAMI 2008, eq. 13.

    A step to the next plane costs `small`; a longer jump `large / (1 + difference of colour / 0.04)` and never less
    than twice `small`, so depth may break where colour does, and surfaces without texture take the planes at their
    rims.

    Args:
        cost: [D, H, W].
        image: [C, H, W] in [0, 1].
        small: for a change by one plane.
        large: for any other change.

    Returns:
        [D, H, W].
    """
    volume, picture = cost.permute(1, 2, 0).contiguous(), image.permute(1, 2, 0).contiguous()
    total = torch.zeros_like(volume)
    for turned in (False, True):
        for backward in (False, True):
            steps = (0,) if turned else (-1, 0, 1)
            lines, colours, out = volume, picture, total
            if turned:
                lines, colours, out = lines.transpose(0, 1), colours.transpose(0, 1), out.transpose(0, 1)
            order = range(len(lines) - 1, -1, -1) if backward else range(len(lines))
            _walk(lines, colours, out, order, steps, small, large)
    return total.permute(2, 0, 1)


def _walk(
    lines: Tensor, colours: Tensor, out: Tensor, order: range, steps: tuple[int, ...], small: float, large: float
) -> None:
    """Add to `out` the path costs along straight and diagonal paths from line to line; all [lines, N, D]."""
    count, planes = lines.shape[1:]
    place = torch.arange(count, device=lines.device)
    come = torch.stack([(place + step).clamp(0, count - 1) for step in steps])  # the cell a path comes from
    before: Tensor | None = None
    shifted = lines.new_full((len(steps), count, planes + 2), torch.inf)
    last = order[0]
    for line in order:
        if before is None:
            path = lines[line].expand(len(steps), -1, -1)
        else:
            previous = torch.stack([before[k, index] for k, index in enumerate(come)])
            least = previous.amin(-1, keepdim=True)
            shifted[..., 1:-1] = previous
            contrast = (colours[last][come] - colours[line]).abs().mean(-1, keepdim=True)
            jump = least + (large / (1 + contrast / 0.04)).clamp(min=2 * small)
            beside = torch.minimum(shifted[..., :-2], shifted[..., 2:]).add_(small)
            path = torch.minimum(torch.minimum(previous, beside), jump).sub_(least).add_(lines[line])
        out[line] += path.sum(0)
        before, last = path, line


def best_plane(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Cheapest plane of each pixel and where between its neighbours the parabola through three costs has its least.

    Args:
        cost: [D, H, W].

    Returns:
        Index, int64 [H, W], and offset [H, W] in [-1/2, 1/2] planes, 0 on the first and last plane.
    """
    index = cost.argmin(0)
    inner = index.clamp(1, len(cost) - 2) if len(cost) > 2 else index
    if len(cost) < 3:
        return index, torch.zeros_like(cost[0])
    before, here, after = (cost.gather(0, inner[None] + k)[0] for k in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = torch.where(bend > 1e-9, (before - after) / (2 * bend.clamp(min=1e-9)), 0.0).clamp(-0.5, 0.5)
    return index, torch.where(index == inner, offset, 0.0)


def _mean(values: Tensor, radius: int) -> Tensor:
    """Mean over the window, of the pixels inside the image only."""
    size = 2 * radius + 1
    across = functional.avg_pool2d(values, (1, size), stride=1, padding=(0, radius), count_include_pad=False)
    return functional.avg_pool2d(across, (size, 1), stride=1, padding=(radius, 0), count_include_pad=False)
