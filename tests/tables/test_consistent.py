"""Weights from measured errors, against the exact denoiser."""

import pytest
import torch

from mvguide.diffusion.denoiser import Denoiser, GaussianDenoiser
from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.sampler import iterate
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.diffusion.solvers import Guided, Step
from mvguide.errors import InputError
from mvguide.tables.consistent import consistent_weights

STD = 0.8


def oracle_run(warp_errors: torch.Tensor, steps: int) -> tuple[SigmaSchedule, torch.Tensor]:
    """The weights that the truth tells, step by step along the run that they bend; frames of 200 000 numbers."""
    generator = torch.Generator().manual_seed(0)
    schedule = SigmaSchedule(karras_sigmas(steps, 0.02, 80.0, 7.0))
    shape = (1, len(warp_errors), 1, 400, 500)
    truth = STD * torch.randn(shape, generator=generator, dtype=torch.float64)
    error = torch.randn(shape, generator=generator, dtype=torch.float64)
    target = truth + warp_errors.sqrt().view(1, -1, 1, 1, 1) * error
    zero = torch.zeros((), dtype=torch.float64)
    denoiser = GaussianDenoiser(zero, zero + STD, VarianceExploding(80.0))
    rows = []

    def guide(denoiser: Denoiser, x: torch.Tensor, step: Step) -> Guided:
        denoised = denoiser(x, step.sigma)
        own, other = denoised - truth, target - truth
        a, b, c = ((u * v).mean((0, 2, 3, 4)) for u, v in ((own, own), (other, other), (own, other)))
        weights = ((a - c) / (a + b - 2 * c)).clamp(0, 1)
        rows.append(weights)
        return Guided(x, torch.lerp(denoised, target, weights.view(1, -1, 1, 1, 1)))

    x = schedule.sigmas[0] * torch.randn(shape, generator=generator, dtype=torch.float64)
    for _ in iterate(denoiser, x, schedule, guidance=guide):
        pass
    return schedule, torch.stack(rows)


@pytest.mark.parametrize("steps", [6, 25])
def test_the_weights_are_those_that_the_truth_tells_on_gaussian_data(steps: int) -> None:
    warp = torch.tensor([0.001, 0.02, 0.2, 1.0], dtype=torch.float64)
    schedule, best = oracle_run(warp, steps)
    levels = schedule.levels
    model = STD**2 * levels**2 / (STD**2 + levels**2)
    found = consistent_weights(schedule.sigmas, model, warp)
    assert found.shape == (steps, 4)
    torch.testing.assert_close(found, best, rtol=0.02, atol=0.004)
    assert best.max() > 0.9
    assert best.min() < 0.1, "the test covers both trust and distrust"


def test_errors_that_follow_the_warp_matter() -> None:
    """Counting the errors as independent trusts the warp too much once the run has followed it."""
    warp = torch.tensor([0.05], dtype=torch.float64)
    schedule, best = oracle_run(warp, 25)
    levels = schedule.levels
    model = STD**2 * levels**2 / (STD**2 + levels**2)
    naive = model / (model + warp)
    consistent = consistent_weights(schedule.sigmas, model, warp)[:, 0]
    assert (naive - best[:, 0]).abs().max() > 5 * (consistent - best[:, 0]).abs().max()


def test_limits() -> None:
    sigmas = SigmaSchedule(karras_sigmas(10, 0.02, 80.0, 7.0)).sigmas
    model = 0.3 * sigmas[:-1] ** 2 / (0.3 + sigmas[:-1] ** 2)
    assert (consistent_weights(sigmas, model, torch.zeros(2)) == 1).all(), "a perfect warp"
    assert consistent_weights(sigmas, model, torch.full((2,), 1e6)).max() < 1e-3, "a useless one"
    by_frame = consistent_weights(sigmas, model[:, None].expand(-1, 3), torch.tensor([0.01, 0.1, 1.0]))
    assert (by_frame[:, :-1] >= by_frame[:, 1:]).all(), "the worse the warp, the less it counts"


def test_what_cannot_be_used() -> None:
    sigmas = torch.tensor([2.0, 1.0, 0.0])
    for arguments, message in (
        ((sigmas, torch.ones(3), torch.ones(2)), "do not fit 2 steps"),
        ((sigmas, torch.ones(2), -torch.ones(2)), "warp errors hold values below 0"),
        ((sigmas, torch.full((2,), torch.nan), torch.ones(2)), "model errors hold"),
        ((sigmas, torch.ones(2), torch.ones(2), torch.ones(1)), "gain has 1 rows"),
    ):
        with pytest.raises(InputError, match=message):
            consistent_weights(*arguments)
