"""PSNR, SSIM and a sharpness ratio of images [..., C, H, W] in [0, 1], over all pixels or over those of a mask."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mvguide.errors import InputError

_WINDOW, _SIGMA = 11, 1.5
BORDER = _WINDOW // 2
"""Pixels along each side on which no window of SSIM is centred."""
_C1, _C2 = 0.01**2, 0.03**2


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in decibels.

    `-10 log10(mean((a - b)^2))` for a peak of 1, the mean taken over channels and (masked) pixels together.

    Args:
        a: [..., C, H, W], in [0, 1].
        b: the same shape.
        mask: [H, W], [1, H, W] or [..., 1, H, W]: the pixels that count (true or > 0.5).

    Returns:
        float64 [...]: infinite for equal images, NaN where the mask is empty.

    Raises:
        InputError: the shapes do not fit.
    """
    a, b, weight = _prepare(a, b, mask)
    error = ((a - b) ** 2).mean(dim=-3, keepdim=True)
    return -10 * torch.log10(_average(error, weight))


def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity (Wang et al. 2004), mean over channels and (masked) window centres.

    `(2 mu_a mu_b + C1)(2 cov + C2) / ((mu_a^2 + mu_b^2 + C1)(var_a + var_b + C2))` with a Gaussian window of 11 x 11
    and sigma 1.5, C1 = 0.01^2, C2 = 0.03^2 (peak 1), population moments, and only windows that lie wholly inside.

    With a mask, each window's moments are taken over its masked pixels alone (the Gaussian weights renormalised), and
    windows whose centre is masked are averaged: what stands in the holes has no influence at all.

    Args:
        a: [..., C, H, W], in [0, 1], H and W at least 11.
        b: the same shape.
        mask: [H, W], [1, H, W] or [..., 1, H, W]: the pixels that count (true or > 0.5).

    Returns:
        float64 [...], at most 1; NaN where no centre is masked.

    Raises:
        InputError: the shapes do not fit, or the image is smaller than the window.
    """
    a, b, weight = _prepare(a, b, mask)
    if min(a.shape[-2:]) < _WINDOW:
        raise InputError(f"ssim needs images of at least {_WINDOW} x {_WINDOW}, got {a.shape[-1]} x {a.shape[-2]}")
    total = _blur(weight).clamp_min(1e-12)

    def mean(x: Tensor) -> Tensor:
        return _blur(x * weight) / total

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    centres = weight[..., BORDER:-BORDER, BORDER:-BORDER]
    return _average((luminance * structure).mean(dim=-3, keepdim=True), centres)


def sharpness_ratio(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean gradient magnitude of `a` over that of `b`: 1 = as sharp, below 1 = blurrier, above 1 = sharper or noisier.

    The gradient is the pair of forward differences, `sqrt((I(x+1,y) - I(x,y))^2 + (I(x,y+1) - I(x,y))^2)`, averaged
    over channels and over pixels that are masked together with their right and lower neighbours.

    Args:
        a: [..., C, H, W], in [0, 1], H and W at least 2.
        b: the same shape: the reference.
        mask: [H, W], [1, H, W] or [..., 1, H, W]: the pixels that count (true or > 0.5).

    Returns:
        float64 [...] >= 0; infinite or NaN where `b` is flat or the mask empty.

    Raises:
        InputError: the shapes do not fit, or the image has a single row or column.
    """
    a, b, weight = _prepare(a, b, mask)
    if min(a.shape[-2:]) < 2:
        raise InputError(f"sharpness_ratio needs at least 2 x 2 pixels, got {a.shape[-1]} x {a.shape[-2]}")
    both = weight[..., :-1, :-1] * weight[..., :-1, 1:] * weight[..., 1:, :-1]
    return _average(_gradient(a), both) / _average(_gradient(b), both)


def _prepare(a: Tensor, b: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Images as float64, 0 outside the mask, and the mask as weights 0 or 1 [..., 1, H, W]."""
    if a.ndim < 3 or a.shape != b.shape or 0 in a.shape:
        raise InputError(
            f"images have shapes {list(a.shape)} and {list(b.shape)}; both must be the same [..., C, H, W]"
        )
    if not (a.is_floating_point() and b.is_floating_point()):
        raise InputError(f"images hold {a.dtype} and {b.dtype}; give floats in [0, 1]")
    shape = (*a.shape[:-3], 1, *a.shape[-2:])
    if mask is None:
        return a.double(), b.double(), torch.ones(shape, dtype=torch.float64, device=a.device)
    if mask.ndim < 2 or mask.shape[-2:] != a.shape[-2:] or (mask.ndim > 2 and mask.shape[-3] != 1):
        raise InputError(
            f"mask has shape {list(mask.shape)}; it must be [H, W] or [..., 1, H, W] for images {list(shape)}"
        )
    try:
        weight = (mask > 0.5).double().expand(shape)
    except RuntimeError:
        raise InputError(f"mask has shape {list(mask.shape)}, which does not fit images {list(a.shape)}") from None
    weight = weight.to(a.device)
    zero = torch.zeros((), dtype=torch.float64, device=a.device)
    return torch.where(weight > 0, a.double(), zero), torch.where(weight > 0, b.double(), zero), weight


def _average(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over [1, H, W]; NaN where all weights are 0."""
    return (values * weight).sum(dim=(-3, -2, -1)) / weight.sum(dim=(-3, -2, -1))


def _gradient(x: Tensor) -> Tensor:
    """Magnitude of forward differences, mean over channels: [..., C, H, W] -> [..., 1, H-1, W-1]."""
    here = x[..., :-1, :-1]
    return torch.hypot(x[..., :-1, 1:] - here, x[..., 1:, :-1] - here).mean(dim=-3, keepdim=True)


def _blur(x: Tensor) -> Tensor:
    """Separable Gaussian over windows wholly inside: [..., H, W] -> [..., H-10, W-10]."""
    offsets = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return flat.reshape(*x.shape[:-2], *flat.shape[-2:])
