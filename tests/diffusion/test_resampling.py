"""Resampling: it keeps the marginals with any solver, anneals, and repeats by seed."""

import pytest
import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser, GaussianDenoiser
from mvguide.diffusion.path import CosineVP, FlowMatching, NoisePath, VarianceExploding
from mvguide.diffusion.resampling import Resampling
from mvguide.diffusion.sampler import sample
from mvguide.diffusion.schedule import SigmaSchedule, flow_sigmas, karras_sigmas
from mvguide.diffusion.solvers import DpmPp2M, FirstOrder, Guided, Heun, Solver, Step
from mvguide.errors import ConfigError

PATHS = {"VE": VarianceExploding(), "VP": CosineVP(), "flow": FlowMatching()}
SCHEDULE = SigmaSchedule(karras_sigmas(8))
SHAPE = (1, 2, 4, 6, 8)
MEAN, STD = 0.7, 0.6


def gaussian(path: NoisePath) -> GaussianDenoiser:
    return GaussianDenoiser(torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64), path)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_noising_on_has_the_marginal_of_the_level(path: NoisePath) -> None:
    start, level = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    generator = seeded()
    clean, first, second = torch.randn(3, 1, 100_000, generator=generator, dtype=torch.float64).unbind(0)
    clean = MEAN + STD * clean
    noisy = path.renoise(path.add_noise(clean, first, start), second, start, level)
    alpha = path.alpha(level)
    # Also how it depends on the clean value: the slope is alpha, and the rest has the level's variance.
    slope = ((noisy - noisy.mean()) * (clean - MEAN)).mean() / STD**2
    assert float(slope) == pytest.approx(float(alpha), abs=0.02)
    assert float((noisy - alpha * clean).std()) == pytest.approx(0.8, rel=0.01)
    zero = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(path.renoise(clean, first, zero, level), path.add_noise(clean, first, level))
    torch.testing.assert_close(path.renoise(clean, first, level, level), clean, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_the_marginal_stays_right(path: NoisePath, repeats: int) -> None:
    sigma, sigma_next = torch.tensor([0.7, 0.68], dtype=torch.float64)
    generator = seeded(1)
    clean, first = torch.randn(2, 1, 4, 1, 200, 250, generator=generator, dtype=torch.float64).unbind(0)
    x = path.add_noise(MEAN + STD * clean, first, sigma)
    seen: list[Tensor] = []

    def evaluate(x: Tensor, sigma: Tensor) -> Guided:
        seen.append(x)
        return Guided(x, gaussian(path)(x, sigma))

    def noise() -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    solver = Resampling(FirstOrder(), repeats, 1.0)
    _, _, denoised = solver.step(evaluate, x, Step(0, 4, sigma, sigma_next), path, solver.init(), noise)
    assert len(seen) == repeats + 1
    again, alpha = seen[-1], path.alpha(sigma)
    spread = float((alpha**2 * STD**2 + sigma**2).sqrt())
    assert float(again.mean()) == pytest.approx(float(alpha) * MEAN, abs=0.01)
    assert float(again.std()) == pytest.approx(spread, rel=0.01)
    assert (again - x).std() > 0.1 * spread, "but it is another draw"
    torch.testing.assert_close(denoised, gaussian(path)(again, sigma))


@pytest.mark.parametrize("name", PATHS)
def test_samples_of_a_whole_run_have_the_data_s_spread(name: str) -> None:
    path = PATHS[name]
    schedule = SigmaSchedule(karras_sigmas(60, 0.002, 80)) if name == "VE" else SigmaSchedule(flow_sigmas(60) * 0.999)
    generator = seeded(2)
    x = path.prior_scale(schedule.sigmas[0]) * torch.randn(1, 2, 1, 100, 100, generator=generator, dtype=torch.float64)
    found = sample(gaussian(path), x, schedule, Resampling(FirstOrder(), 2, 0.8), generator=generator)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.std()) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_inner_steps_are_those_of_the_solver(rounds: int) -> None:
    """With Euler's inner steps, Heun got worse with every round (0.481 for 0.500)."""
    schedule = SigmaSchedule(karras_sigmas(60, 0.002, 80))
    zero, half = torch.tensor([0.0, 0.5], dtype=torch.float64)
    noise = 80 * torch.randn(1, 2, 1, 150, 150, generator=seeded(4), dtype=torch.float64)

    def error(solver: Solver) -> float:
        denoiser = GaussianDenoiser(zero, half, PATHS["VE"])
        found = sample(denoiser, noise, schedule, Resampling(solver, rounds, 0.8), generator=seeded(5))
        return abs(float(found.std()) - 0.5)

    assert error(Heun()) < 0.006
    # A multistep solver has no memory while steps are repeated: it is no worse than Euler, and better after that.
    assert error(DpmPp2M()) < error(FirstOrder())


class Counting:
    """A guide that remembers where it was called."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        self.steps.append(step)
        return Guided(x, denoiser(x, step.sigma))


def test_it_stops_after_its_part_of_the_schedule() -> None:
    for until, rounds in (
        (0.5, [3, 3, 3, 3, 1, 1, 1, 1]),
        (0.3, [3, 3, 3, 1, 1, 1, 1, 1]),
        (0.0, [1] * 8),
        (1, [3] * 8),
    ):
        counting = Counting()
        solver = Resampling(FirstOrder(), 2, until)
        sample(gaussian(PATHS["VE"]), torch.randn(SHAPE), SCHEDULE, solver, counting)
        indices = [step.index for step in counting.steps]
        assert [indices.count(index) for index in range(8)] == rounds
    assert (solver.order, solver.evaluations) == (1, 3)


def test_the_seed_decides_and_no_rounds_are_the_solver_alone() -> None:
    denoiser, x = gaussian(PATHS["VE"]), 700 * torch.randn(SHAPE)

    def run(solver: Solver, seed: int = 7) -> Tensor:
        return sample(denoiser, x, SCHEDULE, solver, generator=seeded(seed))

    once = run(Resampling(FirstOrder(), 2, 0.5))
    assert torch.equal(once, run(Resampling(FirstOrder(), 2, 0.5)))
    assert not torch.equal(once, run(Resampling(FirstOrder(), 2, 0.5), seed=8))
    assert torch.equal(run(Resampling(FirstOrder(), 0, 0.5)), run(FirstOrder()))
    assert torch.equal(run(Resampling(FirstOrder(), 2, 0.0)), run(FirstOrder()))


@pytest.mark.parametrize(("repeats", "until"), [(-1, 0.5), (1, 1.5), (1, float("nan"))])
def test_numbers_out_of_range_are_refused(repeats: int, until: float) -> None:
    with pytest.raises(ConfigError, match="resample"):
        Resampling(FirstOrder(), repeats, until)
