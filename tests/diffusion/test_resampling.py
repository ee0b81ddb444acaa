"""Resampling: it keeps the marginals, anneals, repeats by seed, and leaves a second evaluation alone."""

import pytest
import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser, GaussianDenoiser
from mvguide.diffusion.path import CosineVP, FlowMatching, NoisePath, VarianceExploding
from mvguide.diffusion.sampler import sample
from mvguide.diffusion.schedule import SigmaSchedule, flow_sigmas, karras_sigmas
from mvguide.diffusion.solvers import Guided, Heun, Step
from mvguide.errors import ConfigError
from mvguide.guidance.guides import Blend, GuidanceSettings, NoGuidance, make_guidance
from mvguide.guidance.resample import Resample
from mvguide.guidance.targets import Targets
from mvguide.tables.table import LambdaTable

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
    clean, noise = torch.randn(2, 1, 4, 1, 200, 250, generator=generator, dtype=torch.float64).unbind(0)
    x = path.add_noise(MEAN + STD * clean, noise, sigma)
    guide = Resample(NoGuidance(), repeats, 1.0, generator)
    again = guide(gaussian(path), x, Step(0, 4, sigma, sigma_next))
    alpha = path.alpha(sigma)
    spread = float((alpha**2 * STD**2 + sigma**2).sqrt())
    assert float(again.x.mean()) == pytest.approx(float(alpha) * MEAN, abs=0.01)
    assert float(again.x.std()) == pytest.approx(spread, rel=0.01)
    assert (again.x - x).std() > 0.1 * spread, "but it is another draw"
    torch.testing.assert_close(again.denoised, gaussian(path)(again.x, sigma))


@pytest.mark.parametrize("name", PATHS)
def test_samples_of_a_whole_run_have_the_data_s_spread(name: str) -> None:
    path = PATHS[name]
    schedule = SigmaSchedule(karras_sigmas(60, 0.002, 80)) if name == "VE" else SigmaSchedule(flow_sigmas(60) * 0.999)
    generator = seeded(2)
    x = path.prior_scale(schedule.sigmas[0]) * torch.randn(1, 2, 1, 100, 100, generator=generator, dtype=torch.float64)
    found = sample(gaussian(path), x, schedule, guidance=Resample(NoGuidance(), 2, 0.8, generator))
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.std()) == pytest.approx(STD, rel=0.05)


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
        sample(gaussian(PATHS["VE"]), torch.randn(SHAPE), SCHEDULE, guidance=Resample(counting, 2, until))
        indices = [step.index for step in counting.steps]
        assert [indices.count(index) for index in range(8)] == rounds


def test_the_second_evaluation_of_heun_is_not_repeated() -> None:
    counting = Counting()
    guide = Resample(counting, 2, 1.0, seeded())
    x = torch.randn(SHAPE)
    end = Step(3, 8, SCHEDULE.sigmas[4], SCHEDULE.sigmas[4])
    assert guide(gaussian(PATHS["VE"]), x, end).x is x
    assert len(counting.steps) == 1
    sample(gaussian(PATHS["VE"]), x, SCHEDULE, Heun(), guide)
    firsts = [step for step in counting.steps[1:] if not step.corrects]
    assert len(firsts) == 8 * 3
    assert len(counting.steps) - 1 - len(firsts) == 7, "one correction for each step but the last"
    # The result still has the data's spread: the slopes of a step belong to one x.
    generator = seeded(4)
    noise = 80 * torch.randn(1, 2, 1, 100, 100, generator=generator, dtype=torch.float64)
    schedule = SigmaSchedule(karras_sigmas(40, 0.002, 80))
    found = sample(gaussian(PATHS["VE"]), noise, schedule, Heun(), Resample(NoGuidance(), 2, 0.8, generator))
    assert float(found.std()) == pytest.approx(STD, rel=0.05)


def test_the_seed_decides_and_no_rounds_are_the_guide_alone() -> None:
    targets = Targets(torch.randn(SHAPE[1:]), torch.ones(2, 1, 6, 8), torch.zeros(2, dtype=torch.bool))
    blend = Blend(targets, LambdaTable.constant(0.3, SCHEDULE, 2))
    denoiser, x = gaussian(PATHS["VE"]), 700 * torch.randn(SHAPE)

    def run(guide) -> Tensor:
        return sample(denoiser, x, SCHEDULE, guidance=guide)

    once = run(Resample(blend, 2, 0.5, seeded(7)))
    assert torch.equal(once, run(Resample(blend, 2, 0.5, seeded(7))))
    assert not torch.equal(once, run(Resample(blend, 2, 0.5, seeded(8))))
    assert torch.equal(run(Resample(blend, 0, 0.5, seeded(7))), run(blend))
    assert torch.equal(run(Resample(blend, 2, 0.0, seeded(7))), run(blend))
    made = make_guidance(GuidanceSettings(resample=2), targets, blend.table, seeded(7))
    assert torch.equal(run(made), once)
    assert make_guidance(GuidanceSettings(), targets, blend.table) == blend


@pytest.mark.parametrize(("repeats", "until"), [(-1, 0.5), (1, 1.5), (1, float("nan"))])
def test_numbers_out_of_range_are_refused(repeats: int, until: float) -> None:
    with pytest.raises(ConfigError, match="resample"):
        Resample(NoGuidance(), repeats, until)
    with pytest.raises(ConfigError, match="resample"):
        GuidanceSettings(resample=repeats, resample_until=until)
