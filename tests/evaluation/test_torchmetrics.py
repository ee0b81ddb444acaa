"""Metrics agree with torchmetrics, where it has them."""

import pytest
import torch

from mvguide.evaluation.metrics import psnr, ssim

torchmetrics = pytest.importorskip("torchmetrics.functional.image")


def videos(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(4, 3, 40, 56, generator=generator, dtype=torch.float64)
    return a, (a + 0.2 * torch.randn(a.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def test_psnr() -> None:  # torchmetrics computes it in float32
    a, b = videos()
    wanted = torchmetrics.peak_signal_noise_ratio(a, b, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(a, b), wanted, rtol=1e-6, atol=0, check_dtype=False)


def test_ssim_with_the_gaussian_window() -> None:
    a, b = videos()
    whole, full = torchmetrics.structural_similarity_index_measure(
        a, b, gaussian_kernel=True, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    # It mirrors the image at its border and averages over that too; Wang's own code, and ours, take whole windows.
    inner = full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    torch.testing.assert_close(ssim(a, b), inner, rtol=1e-7, atol=1e-9)
    assert (whole - inner).abs().max() < 0.01


def test_psnr_of_a_masked_part_is_that_of_the_cut_out() -> None:
    a, b = videos()
    mask = torch.zeros(40, 56)
    mask[5:30, 10:50] = 1
    wanted = torchmetrics.peak_signal_noise_ratio(
        a[..., 5:30, 10:50], b[..., 5:30, 10:50], data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    torch.testing.assert_close(psnr(a, b, mask), wanted, rtol=1e-6, atol=0, check_dtype=False)
