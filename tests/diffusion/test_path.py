"""Noise paths: conversions are inverses, coefficients match the marginals, simulated SDEs have the right moments."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvguide.diffusion.denoiser import CfgDenoiser, GaussianDenoiser
from mvguide.diffusion.path import (
    CosineVP,
    DiscreteVP,
    FlowMatching,
    LinearVP,
    NoisePath,
    Prediction,
    VarianceExploding,
)
from mvguide.diffusion.sde import forward_sde, integrate, probability_flow, reverse_sde, score_of
from mvguide.errors import InputError

DDPM = DiscreteVP(torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64), dim=0))
NO_SIGNAL = DiscreteVP(torch.linspace(1, 0, 101, dtype=torch.float64)[1:] ** 2)
PATHS = [VarianceExploding(), LinearVP(), CosineVP(), FlowMatching(), DDPM]
IDS = [type(path).__name__ for path in PATHS]
each_path = pytest.mark.parametrize("path", PATHS, ids=IDS)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@each_path
@pytest.mark.parametrize("kind", ["denoised", "epsilon", "score", "v", "flow"])
@settings(max_examples=30, deadline=None)
@given(level=st.floats(0.01, 0.98), seed=st.integers(0, 1000))
def test_conversions_are_inverse(path: NoisePath, kind: Prediction, level: float, seed: int) -> None:
    sigma = scalar(level * (100 if isinstance(path, VarianceExploding) else 1))
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    noise = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    x = path.add_noise(x0, noise, sigma)
    output = path.from_denoised(x0, x, sigma, kind)
    torch.testing.assert_close(path.to_denoised(output, x, sigma, kind), x0, atol=1e-9, rtol=1e-9)


@each_path
def test_kinds_mean_what_they_say(path: NoisePath) -> None:
    sigma = scalar(0.6)
    x0, noise = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    x = path.add_noise(x0, noise, sigma)
    torch.testing.assert_close(path.from_denoised(x0, x, sigma, "epsilon"), noise)
    torch.testing.assert_close(path.from_denoised(x0, x, sigma, "score"), -noise / sigma)
    torch.testing.assert_close(path.from_denoised(x0, x, sigma, "flow"), noise - x0)
    scale = path.prior_scale(sigma)
    torch.testing.assert_close(
        path.from_denoised(x0, x, sigma, "v"), (path.alpha(sigma) * noise - sigma * x0) / scale, atol=1e-12, rtol=1e-9
    )


def test_v_prediction_is_svds() -> None:
    sigma, x, v = scalar(3.0), torch.randn(2, 5), torch.randn(2, 5)
    expected = x / (3.0**2 + 1) - 3.0 / (3.0**2 + 1) ** 0.5 * v
    torch.testing.assert_close(VarianceExploding().to_denoised(v, x, sigma, "v"), expected)


@pytest.mark.parametrize("kind", ["v", "flow"])
def test_v_and_flow_are_finite_without_signal(kind: Prediction) -> None:
    for path in (FlowMatching(), LinearVP(), NO_SIGNAL):
        x = torch.randn(2, 5)
        assert torch.isfinite(path.to_denoised(torch.randn(2, 5), x, scalar(1.0), kind)).all()


@each_path
def test_coefficients_are_derivatives_of_the_marginal(path: NoisePath) -> None:
    t = torch.linspace(0.05, 0.9, 30, dtype=torch.float64, requires_grad=True)
    sigma = path.sigma(t)
    # "+ 0 t" keeps VE, whose alpha is constant, in the graph.
    (drift,) = torch.autograd.grad((path.alpha(sigma).log() + 0 * t).sum(), t, retain_graph=True)
    (variance_slope,) = torch.autograd.grad((sigma**2).sum(), t)
    torch.testing.assert_close(path.drift(t), drift, atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(path.diffusion(t) ** 2, variance_slope - 2 * drift * sigma**2, atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(path.time(path.sigma(t)), t, atol=1e-9, rtol=1e-9)


@each_path
def test_forward_sde_has_the_marginal(path: NoisePath) -> None:
    generator = torch.Generator().manual_seed(0)
    end = 0.8
    x0 = 1.5 + 0.5 * torch.randn(40_000, dtype=torch.float64, generator=generator)
    times = torch.linspace(0, end, 401, dtype=torch.float64)
    x = integrate(x0, times, *forward_sde(path), generator=generator)
    sigma = path.sigma(scalar(end))
    alpha = path.alpha(sigma)
    assert abs(x.mean() - alpha * 1.5) < 0.02
    assert abs(x.std() / (alpha**2 * 0.25 + sigma**2).sqrt() - 1) < 0.02


@each_path
@pytest.mark.parametrize("stochastic", [True, False], ids=["reverse SDE", "probability flow"])
def test_reverse_runs_end_at_the_data(path: NoisePath, stochastic: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    mean, std = scalar(1.5), scalar(0.5)
    score = score_of(path, GaussianDenoiser(mean, std, path))
    start = 3.0 if isinstance(path, VarianceExploding) else 0.9
    sigma = path.sigma(scalar(start))
    alpha = path.alpha(sigma)
    marginal = (alpha**2 * std**2 + sigma**2).sqrt()
    x = alpha * mean + marginal * torch.randn(40_000, dtype=torch.float64, generator=generator)
    times = torch.linspace(start, 1e-3, 1500, dtype=torch.float64)
    if stochastic:
        x = integrate(x, times, *reverse_sde(path, score), generator=generator)
    else:
        x = integrate(x, times, probability_flow(path, score))
    assert abs(x.mean() - mean) < 0.02
    assert abs(x.std() / std - 1) < 0.03


def test_one_sigma_for_each_sample() -> None:
    path, x0, noise = VarianceExploding(), torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    sigma = torch.tensor([0.1, 1.0, 10.0])
    together = path.add_noise(x0, noise, sigma)
    for i in range(3):
        torch.testing.assert_close(together[i], x0[i] + sigma[i] * noise[i])
    with pytest.raises(InputError, match=r"sigma has shape \(2,\)"):
        path.add_noise(x0, noise, sigma[:2])


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="prediction kind 'noise'"):
        FlowMatching().to_denoised(torch.zeros(1, 1), torch.zeros(1, 1), scalar(0.5), "noise")  # type: ignore[arg-type]


def test_guidance_scale_is_per_frame() -> None:
    path = VarianceExploding()
    one = GaussianDenoiser(scalar(1.0), scalar(1.0), path)
    zero = GaussianDenoiser(scalar(0.0), scalar(1.0), path)
    x = torch.randn(1, 3, 2, 4, 4)
    guided = CfgDenoiser(one, zero, torch.tensor([1.0, 0.0, 3.0]))(x, scalar(2.0))
    a, b = one(x, scalar(2.0)), zero(x, scalar(2.0))
    torch.testing.assert_close(guided[:, 0], a[:, 0])
    torch.testing.assert_close(guided[:, 1], b[:, 1])
    torch.testing.assert_close(guided[:, 2], b[:, 2] + 3 * (a[:, 2] - b[:, 2]))
    with pytest.raises(InputError, match="for 3 frames"):
        CfgDenoiser(one, zero, torch.ones(2))(x, scalar(2.0))


@pytest.mark.parametrize("path", [DDPM, NO_SIGNAL])
def test_a_discrete_path_has_the_levels_of_its_table(path: DiscreteVP) -> None:
    steps = len(path.alphas_cumprod)
    times = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    torch.testing.assert_close(path.levels, (1 - path.alphas_cumprod).sqrt(), atol=0, rtol=0)
    torch.testing.assert_close(path.time(path.levels), times, atol=1e-9, rtol=0)
    torch.testing.assert_close(path.sigma(times), path.levels, atol=1e-12, rtol=0)
    assert float(path.sigma(scalar(0.0))) == 0
    assert float(path.time(scalar(0.0))) == 0


def test_a_discrete_path_without_signal_at_its_end_is_finite_up_to_it() -> None:
    assert float(NO_SIGNAL.sigma(scalar(1.0))) == 1
    assert float(NO_SIGNAL.time(scalar(1.0))) == 1
    times = torch.linspace(0, 0.9999, 50, dtype=torch.float64)
    assert torch.isfinite(NO_SIGNAL.beta(times)).all()
    torch.testing.assert_close(NO_SIGNAL.log_alpha(times).exp(), 1 - times)  # alpha is linear between the levels


@pytest.mark.parametrize("table", [[0.5, 0.7], [0.5, 0.5], [1.0, 0.5], [0.5, -0.1], [[0.5]], [float("nan")], []])
def test_a_table_that_is_no_path_is_refused(table: list[float]) -> None:
    with pytest.raises(InputError, match="alphas_cumprod"):
        DiscreteVP(torch.tensor(table))
