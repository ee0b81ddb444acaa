"""Losses: score matching in its three disguises, and the minimiser is the exact denoiser."""

import pytest
import torch

from mvguide.diffusion.denoiser import GaussianDenoiser
from mvguide.diffusion.path import FlowMatching, LinearVP, NoisePath, VarianceExploding
from mvguide.diffusion.training import epsilon_loss, gamma_denoised, gamma_epsilon, gamma_v, score_matching_loss

PATHS = [VarianceExploding(), LinearVP(), FlowMatching()]
each_path = pytest.mark.parametrize("path", PATHS, ids=["VE", "VP", "flow"])


class Wrong:
    """A denoiser that is off on purpose."""

    def __init__(self, path: NoisePath) -> None:
        self.path = path

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * 0.9


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(4, 2, 3, dtype=torch.float64, generator=generator)
    noise = torch.randn(4, 2, 3, dtype=torch.float64, generator=generator)
    return x0, noise, torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64)


@each_path
def test_score_matching_is_the_weighted_distance_of_scores(path: NoisePath) -> None:
    x0, noise, sigma = batch()
    x = path.add_noise(x0, noise, sigma)
    score = path.from_denoised(Wrong(path)(x, sigma), x, sigma, "score")
    true_score = -noise / sigma.view(-1, 1, 1)
    expected = (0.7 * (score - true_score) ** 2).flatten(1).mean(1)
    loss = score_matching_loss(Wrong(path), x0, noise, sigma, lambda path, sigma: torch.full_like(sigma, 0.7))
    torch.testing.assert_close(loss, expected)


@each_path
def test_gammas_turn_it_into_the_other_losses(path: NoisePath) -> None:
    x0, noise, sigma = batch()
    denoiser = Wrong(path)
    x = path.add_noise(x0, noise, sigma)
    torch.testing.assert_close(
        score_matching_loss(denoiser, x0, noise, sigma, gamma_epsilon), epsilon_loss(denoiser, x0, noise, sigma)
    )
    error = ((denoiser(x, sigma) - x0) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(score_matching_loss(denoiser, x0, noise, sigma, gamma_denoised), error)
    v = path.from_denoised(denoiser(x, sigma), x, sigma, "v") - path.from_denoised(x0, x, sigma, "v")
    torch.testing.assert_close(
        score_matching_loss(denoiser, x0, noise, sigma, gamma_v), (v**2).flatten(1).mean(1), rtol=1e-6, atol=1e-9
    )


@each_path
def test_the_exact_denoiser_has_the_least_loss(path: NoisePath) -> None:
    generator = torch.Generator().manual_seed(1)
    x0 = 1.0 + 0.5 * torch.randn(200, 500, dtype=torch.float64, generator=generator)
    noise = torch.randn(200, 500, dtype=torch.float64, generator=generator)
    sigma = torch.full((200,), 0.5, dtype=torch.float64)

    def loss(mean: float, std: float) -> float:
        denoiser = GaussianDenoiser(torch.tensor(mean), torch.tensor(std, dtype=torch.float64), path)
        return float(score_matching_loss(denoiser, x0, noise, sigma, gamma_v).mean())

    best = loss(1.0, 0.5)
    assert best < min(loss(0.9, 0.5), loss(1.1, 0.5), loss(1.0, 0.4), loss(1.0, 0.62))
