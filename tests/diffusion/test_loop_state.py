"""The loop goes on from a state as if it had never stopped, with every solver and after every step."""

from collections.abc import Callable

import pytest
import torch

from mvguide.diffusion.denoiser import Denoiser, GaussianDenoiser
from mvguide.diffusion.path import FlowMatching, NoisePath, VarianceExploding
from mvguide.diffusion.resampling import Resampling
from mvguide.diffusion.sampler import LoopState, iterate, sample
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.diffusion.solvers import SOLVERS, Guided, Solver, Step

SHAPE = (1, 2, 3, 4, 4)
STEPS = 6
PATHS: dict[str, tuple[NoisePath, SigmaSchedule]] = {
    "ve": (VarianceExploding(), SigmaSchedule(karras_sigmas(STEPS, 0.02, 80.0))),
    "flow": (FlowMatching(), SigmaSchedule(torch.linspace(1, 0, STEPS + 1))),
}


def oracle(path: NoisePath) -> GaussianDenoiser:
    return GaussianDenoiser(torch.linspace(-1, 1, 96).view(SHAPE), torch.tensor(0.7), path)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def move(denoiser: Denoiser, x: torch.Tensor, step: Step) -> Guided:
    """Moves x, as the posterior gradient does, and the estimate."""
    x = x if step.corrects else x + 0.1 * step.sigma.float()
    return Guided(x, denoiser(x, step.sigma) + 0.01)


def through_tensors(solver: Solver, state: LoopState) -> LoopState:
    """The state as another process would have it: made of tensors, and of nothing that it shared."""
    packed = {name: value.clone() for name, value in solver.pack(state.solver).items()}
    assert state.random is not None
    unpacked = solver.unpack(packed, torch.device("cpu"))
    return LoopState(state.index, state.x.clone(), unpacked, state.random.clone())


@pytest.mark.parametrize("repeats", [0, 2])
@pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("path", PATHS)
def test_every_state_leads_to_the_same_end(path: str, make: Callable[[], Solver], repeats: int) -> None:
    noise_path, schedule = PATHS[path]
    denoiser, solver = oracle(noise_path), Resampling(make(), repeats)
    x = torch.randn(SHAPE, generator=seeded(0)) * noise_path.prior_scale(schedule.sigmas[0])
    states = [progress.state for progress in iterate(denoiser, x, schedule, solver, move, seeded(1))]
    end = states[-1].x
    assert [state.index for state in states] == [1, 2, 3, 4, 5, 6]
    for state in states:
        resumed = sample(denoiser, through_tensors(solver, state), schedule, solver, move, seeded(99))
        assert torch.equal(resumed, end), f"after step {state.index}"


def test_a_state_that_lacks_the_solvers_memory_leads_elsewhere() -> None:
    """So the test above tests something."""
    path, schedule = PATHS["ve"]
    denoiser, solver = oracle(path), SOLVERS["dpmpp_2m"]()
    x = torch.randn(SHAPE, generator=seeded(0)) * schedule.sigmas[0]
    states = [progress.state for progress in iterate(denoiser, x.float(), schedule, solver)]
    forgetful = LoopState(3, states[2].x, solver.init())
    assert not torch.equal(sample(denoiser, forgetful, schedule, solver), states[-1].x)


def test_a_finished_state_takes_no_step() -> None:
    path, schedule = PATHS["ve"]
    x = torch.randn(SHAPE, generator=seeded(0))

    def never(progress: object) -> bool:
        raise AssertionError("a step was taken")

    assert sample(oracle(path), LoopState(STEPS, x, None), schedule, watch=never) is x


def test_a_state_brings_its_random_numbers_where_no_generator_is_given() -> None:
    path, schedule = PATHS["ve"]
    denoiser, solver = oracle(path), SOLVERS["ancestral"]()
    x = torch.randn(SHAPE, generator=seeded(0)) * schedule.sigmas[0].float()
    states = [progress.state for progress in iterate(denoiser, x, schedule, solver, generator=seeded(1))]
    assert torch.equal(sample(denoiser, states[1], schedule, solver), states[-1].x)
