import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, gaussian_filter

from mvguide.errors import InputError
from mvguide.evaluation.metrics import psnr, sharpness_ratio, ssim

Metric = Callable[..., torch.Tensor]


def pair(shape: tuple[int, ...] = (3, 24, 31), noise: float = 0.1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(*shape, generator=generator, dtype=torch.float64)
    smooth = torch.from_numpy(gaussian_filter(smooth.numpy(), [0] * (len(shape) - 2) + [2, 2]))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return smooth, (smooth + noise * torch.randn(*shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def test_psnr_of_known_errors() -> None:
    a = torch.zeros(2, 3, 4, 5)
    b = a.clone()
    b[1] = 0.1
    assert psnr(a, b).tolist() == [math.inf, pytest.approx(20, abs=1e-5)]
    half = torch.zeros(3, 4, 4)
    half[:, :2] = 0.5
    assert float(psnr(torch.zeros(3, 4, 4), half)) == pytest.approx(-10 * math.log10(0.125))


def test_psnr_of_masked_pixels_only() -> None:
    a, b = pair()
    mask = torch.rand(24, 31, generator=torch.Generator().manual_seed(1)) > 0.4
    wanted = -10 * math.log10(float(((a - b) ** 2)[:, mask].mean()))
    for form in (mask, mask[None], mask.float()[None]):
        assert float(psnr(a, b, form)) == pytest.approx(wanted, rel=1e-12)
    batch = psnr(torch.stack([a, b]), torch.stack([b, b]), torch.stack([mask, mask])[:, None])
    assert batch[0] == pytest.approx(wanted, rel=1e-12)
    assert batch[1] == math.inf
    assert math.isnan(psnr(a, b, torch.zeros(24, 31)))


def plain_ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Wang et al. 2004 for one channel, window by window, nothing shared with the code under test."""
    mask = np.ones(a.shape) if mask is None else mask
    x = np.arange(11) - 5
    gaussian = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            if not mask[i + 5, j + 5]:
                continue
            window = gaussian * mask[i : i + 11, j : j + 11]
            window /= window.sum()
            p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
            cov = (window * (p - mean_p) * (q - mean_q)).sum()
            values.append(
                (2 * mean_p * mean_q + 1e-4)
                * (2 * cov + 9e-4)
                / ((mean_p**2 + mean_q**2 + 1e-4) * (var_p + var_q + 9e-4))
            )
    return float(np.mean(values))


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_is_the_standard_definition(noise: float) -> None:
    a, b = pair(noise=noise)
    wanted = np.mean([plain_ssim(p, q) for p, q in zip(a.numpy(), b.numpy(), strict=True)])
    assert float(ssim(a, b)) == pytest.approx(wanted, abs=1e-12)
    assert float(ssim(a.float(), b.float())) == pytest.approx(wanted, abs=1e-6)
    assert ssim(a.expand(2, 4, 3, 24, 31), b.expand(2, 4, 3, 24, 31)).shape == (2, 4)


def test_masked_ssim_is_the_definition_over_the_masked_pixels_of_each_window() -> None:
    a, b = pair()
    mask = torch.rand(24, 31, generator=torch.Generator().manual_seed(2)) > 0.3
    wanted = np.mean([plain_ssim(p, q, mask.numpy()) for p, q in zip(a.numpy(), b.numpy(), strict=True)])
    assert float(ssim(a, b, mask)) == pytest.approx(wanted, abs=1e-12)


def test_ssim_window_agrees_with_scipy() -> None:
    a, b = pair(shape=(1, 40, 40))
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets**2) / 4.5)
    kernel /= kernel.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(x, kernel, axis=0), kernel, axis=1)[5:-5, 5:-5]

    p, q = a[0].numpy(), b[0].numpy()
    mp, mq = blur(p), blur(q)
    vp, vq, c = blur(p * p) - mp**2, blur(q * q) - mq**2, blur(p * q) - mp * mq
    wanted = ((2 * mp * mq + 1e-4) * (2 * c + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))).mean()
    assert float(ssim(a, b)) == pytest.approx(wanted, abs=1e-12)


def test_ssim_limits_and_full_mask() -> None:
    a, b = pair()
    assert float(ssim(a, a)) == pytest.approx(1, abs=1e-12)
    assert float(ssim(a, 1 - a)) < 0.2
    assert float(ssim(a, b, torch.ones(24, 31))) == pytest.approx(float(ssim(a, b)), abs=1e-12)
    assert math.isnan(ssim(a, b, torch.zeros(24, 31)))


@pytest.mark.parametrize("metric", [psnr, ssim, sharpness_ratio])
def test_what_stands_in_the_holes_has_no_influence(metric: Metric) -> None:
    a, b = pair()
    mask = torch.ones(24, 31, dtype=torch.bool)
    mask[5:12, 8:20] = False
    mask[::7, ::5] = False
    spoiled = torch.where(mask, b, torch.tensor(float("nan"), dtype=b.dtype))
    other = torch.where(mask, a, torch.tensor(0.123, dtype=a.dtype))
    value = float(metric(a, b, mask))
    assert math.isfinite(value)
    assert float(metric(other, spoiled, mask)) == pytest.approx(value, rel=1e-12)
    assert value != pytest.approx(float(metric(a, b)), rel=1e-6)


def test_sharpness_falls_with_blur_and_scales_with_contrast() -> None:
    a, _ = pair(shape=(3, 40, 40))
    blurred = torch.from_numpy(gaussian_filter(a.numpy(), [0, 3, 3]))
    assert float(sharpness_ratio(a, a)) == 1
    assert float(sharpness_ratio(blurred, a)) < 0.6
    assert float(sharpness_ratio(a, blurred)) > 1.6
    assert float(sharpness_ratio(a * 0.25 + 0.3, a)) == pytest.approx(0.25)
    ramp = torch.arange(8.0).expand(1, 8, 8) / 8
    assert float(sharpness_ratio(ramp, ramp + 0.5 * ramp.mT)) == pytest.approx(1 / math.sqrt(1.25))
    assert float(sharpness_ratio(ramp, torch.zeros(1, 8, 8))) == math.inf


@pytest.mark.parametrize("metric", [psnr, ssim, sharpness_ratio])
@pytest.mark.parametrize(
    ("shapes", "mask", "words"),
    [
        (((3, 20, 20), (3, 20, 21)), None, "must be the same"),
        (((20, 20), (20, 20)), None, "must be the same"),
        (((3, 20, 20), (3, 20, 20)), (20, 21), "mask has shape"),
        (((3, 20, 20), (3, 20, 20)), (3, 20, 20), "mask has shape"),
        (((2, 3, 20, 20), (2, 3, 20, 20)), (5, 1, 20, 20), "does not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    metric: Metric, shapes: tuple[tuple[int, ...], tuple[int, ...]], mask: tuple[int, ...] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        metric(torch.zeros(shapes[0]), torch.zeros(shapes[1]), None if mask is None else torch.zeros(mask))


def test_other_bad_input() -> None:
    with pytest.raises(InputError, match="at least 11 x 11, got 12 x 10"):
        ssim(torch.zeros(3, 10, 12), torch.zeros(3, 10, 12))
    with pytest.raises(InputError, match="at least 2 x 2"):
        sharpness_ratio(torch.zeros(3, 1, 12), torch.zeros(3, 1, 12))
    with pytest.raises(InputError, match="uint8"):
        psnr(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4, dtype=torch.uint8))
