"""A stock scheduler as a solver equals the scheduler run by hand, converges, and is exact where the target is given."""

import inspect
from typing import Any

import pytest
import torch

from mvguide.backbones.stock_solver import StockState
from mvguide.diffusion.denoiser import Denoiser, GaussianDenoiser
from mvguide.diffusion.path import NoisePath
from mvguide.diffusion.resampling import Resampling
from mvguide.diffusion.sampler import LoopState, iterate, sample
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import FirstOrder, Guided, Step
from mvguide.errors import ConfigError

from .test_schedulers import CASES, each_case, known

SHAPE = (1, 2, 3, 4, 4)
STOCHASTIC: dict[str, dict[str, Any]] = {
    "flow": {"stochastic_sampling": True},
    "dpm flow": {"algorithm_type": "sde-dpmsolver++"},
    "cogvideox dpm": {},
}


def oracle(path: NoisePath, dtype: torch.dtype = torch.float32) -> GaussianDenoiser:
    mean = torch.linspace(-1, 1, 96, dtype=dtype).view(SHAPE)
    return GaussianDenoiser(mean, torch.full_like(mean, 0.7), path)


def first(path: NoisePath, schedule: SigmaSchedule, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return noise * path.prior_scale(schedule.sigmas[0])


def run_by_hand(case: str, num_steps: int, generator: torch.Generator, **changes: Any) -> torch.Tensor:
    """The stock scheduler, called as the stock pipelines do."""
    kind, config = CASES[case]
    scheduler = kind(**{**config, **changes})
    reader = known(case, **changes)
    levels = reader.schedule(num_steps).levels
    denoiser = oracle(reader.path)
    x = first(reader.path, reader.schedule(num_steps))
    scheduler.set_timesteps(num_steps)
    draws = "generator" in inspect.signature(scheduler.step).parameters
    arguments = {"generator": generator} if draws else {}
    before = None
    for index, timestep in enumerate(scheduler.timesteps):
        if case in ("svd", "euler"):
            scheduler.scale_model_input(x, timestep)
        output = reader.path.from_denoised(denoiser(x, levels[index]), x, levels[index], reader.prediction)
        if case == "cogvideox dpm":
            last = scheduler.timesteps[index - 1] if index else None
            x, before = scheduler.step(output, before, timestep, last, x, **arguments, return_dict=False)
        else:
            x = scheduler.step(output, timestep, x, **arguments, return_dict=False)[0]
    return x


@pytest.mark.parametrize("num_steps", [2, 10, 25])
@each_case
def test_equals_the_scheduler_run_by_hand(case: str, num_steps: int) -> None:
    reader = known(case)
    schedule = reader.schedule(num_steps)
    x = first(reader.path, schedule)
    ours = sample(
        oracle(reader.path), x, schedule, reader.stock_solver(schedule), generator=torch.Generator().manual_seed(1)
    )
    theirs = run_by_hand(case, num_steps, torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)


@pytest.mark.parametrize("case", STOCHASTIC)
def test_fresh_noise_is_the_runs_and_a_seed_means_what_it_means_to_the_stock_pipeline(case: str) -> None:
    changes = STOCHASTIC[case]
    reader = known(case, **changes)
    schedule = reader.schedule(10)
    x = first(reader.path, schedule)
    results = [
        sample(
            oracle(reader.path),
            x,
            schedule,
            reader.stock_solver(schedule),
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (1, 1, 2)
    ]
    theirs = run_by_hand(case, 10, torch.Generator().manual_seed(1), **changes)
    torch.testing.assert_close(results[0], theirs, atol=5e-6, rtol=0)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("case", ["euler", "flow", "unipc", "unipc flow", "dpm", "dpm flow", "cogvideox ddim"])
def test_measured_order_of_convergence(case: str) -> None:
    def error(num_steps: int) -> float:
        reader = known(case)
        schedule, path = reader.schedule(num_steps), reader.path
        denoiser, x = oracle(path, torch.float64), first(path, schedule, torch.float64)
        start = schedule.sigmas[0]
        for progress in iterate(denoiser, x, schedule, reader.stock_solver(schedule)):
            end = progress.step.sigma_next
            if end < 0.2:  # the last step is of first order by design
                break
        spread = [((path.alpha(level) * 0.7) ** 2 + level**2).sqrt() for level in (start, end)]
        exact = path.alpha(end) * denoiser.mean + spread[1] / spread[0] * (x - path.alpha(start) * denoiser.mean)
        return float((progress.x - exact).abs().max())

    reader = known(case)
    schedule = reader.schedule(1)
    order = reader.stock_solver(schedule).order
    coarse, fine = (100, 200) if "cogvideox" in case else (80, 160)  # divisors of 1000
    measured = torch.log2(torch.tensor(error(coarse) / error(fine)))
    assert float(measured) == pytest.approx(order, abs=0.3)


def to_target(target: torch.Tensor) -> Any:
    """Weight 1 everywhere."""

    def guidance(denoiser: Denoiser, x: torch.Tensor, step: Step) -> Guided:
        denoiser(x, step.sigma)
        return Guided(x, target)

    return guidance


@pytest.mark.parametrize("repeats", [0, 1])
@each_case
def test_weight_one_ends_exactly_at_the_target(case: str, repeats: int) -> None:
    reader = known(case)
    schedule = reader.schedule(5)
    target = torch.randn(SHAPE)
    solver = Resampling(reader.stock_solver(schedule), repeats)
    x = sample(oracle(reader.path), first(reader.path, schedule), schedule, solver, to_target(target))
    assert torch.equal(x, target)


@each_case
def test_resampling_keeps_the_distribution(case: str) -> None:
    reader = known(case)
    schedule = reader.schedule(50)
    denoiser = GaussianDenoiser(torch.tensor(1.0), torch.tensor(0.7), reader.path)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 1, 1, 1, 1, generator=generator) * reader.path.prior_scale(schedule.sigmas[0])
    x = sample(denoiser, x, schedule, Resampling(reader.stock_solver(schedule), 1), generator=generator)
    assert float(x.mean()) == pytest.approx(1, abs=0.03)
    assert float(x.std()) == pytest.approx(0.7, abs=0.08)  # 50 first-order steps


@each_case
def test_an_older_state_stays_valid(case: str) -> None:
    reader = known(case)
    schedule = reader.schedule(5)
    solver, denoiser = reader.stock_solver(schedule), oracle(reader.path)
    x, state = first(reader.path, schedule), solver.init()

    def evaluate(x: torch.Tensor, sigma: torch.Tensor) -> Guided:
        return Guided(x, denoiser(x, sigma))

    def step(index: int, x: torch.Tensor, state: StockState) -> tuple[torch.Tensor, StockState]:
        place = Step(index, 5, schedule.sigmas[index], schedule.sigmas[index + 1])
        x, state, _ = solver.step(evaluate, x, place, reader.path, state, lambda: torch.ones(SHAPE))
        return x, state

    for index in range(3):
        again, _ = step(index, x, state)
        following, after = step(index, x, state)
        assert torch.equal(again, following)
        x, state = following, after


@pytest.mark.parametrize("repeats", [0, 1])
@pytest.mark.parametrize("case", [*CASES, *(f"{case} stochastic" for case in STOCHASTIC)])
def test_the_loop_goes_on_from_any_state_in_another_process(case: str, repeats: int) -> None:
    name = case.removesuffix(" stochastic")
    changes = STOCHASTIC[name] if name != case else {}

    def parts() -> tuple[Any, SigmaSchedule, Resampling]:
        reader = known(name, **changes)
        schedule = reader.schedule(5)
        return reader, schedule, Resampling(reader.stock_solver(schedule), repeats)

    reader, schedule, solver = parts()
    x, denoiser = first(reader.path, schedule), oracle(reader.path)
    run = iterate(denoiser, x, schedule, solver, generator=torch.Generator().manual_seed(1))
    states = [progress.state for progress in run]
    for state in states:
        packed = {key: value.clone() for key, value in solver.pack(state.solver).items()}
        reader, schedule, other = parts()
        unpacked = other.unpack(packed, torch.device("cpu"))
        found = sample(denoiser, LoopState(state.index, state.x.clone(), unpacked, state.random), schedule, other)
        assert torch.equal(found, states[-1].x), f"after step {state.index}"


def test_what_a_scheduler_keeps_and_no_file_can_hold_is_refused() -> None:
    reader = known("unipc flow")
    solver = reader.stock_solver(reader.schedule(4))
    state = solver.init()
    state.scheduler.memory = {"a": 1}
    with pytest.raises(ConfigError, match=r"keeps tensor\.memory, which cannot be written.*euler, heun"):
        solver.pack(state)


def test_a_schedule_of_other_levels_is_refused() -> None:
    reader = known("unipc flow")
    schedule = reader.schedule(4)
    solver = reader.stock_solver(schedule)
    for other in (reader.schedule(5), SigmaSchedule(torch.tensor([1.0, 0.5, 0.4, 0.1, 0.0]))):
        with pytest.raises(ConfigError, match=r"4 levels.*euler, heun or dpmpp_2m"):
            sample(oracle(reader.path), torch.randn(SHAPE), other, solver)


def test_a_solver_is_for_a_schedule_that_was_made_here() -> None:
    reader = known("unipc flow")
    first_made = reader.schedule(4)
    reader.schedule(6)
    assert reader.solver(first_made).levels.equal(first_made.levels), "an earlier schedule stays valid"  # type: ignore[attr-defined]
    strange = SigmaSchedule(torch.tensor([0.9, 0.3, 0.0]), "mine")
    with pytest.raises(ConfigError, match="levels that it made itself, and mine has others"):
        reader.solver(strange)
    assert known("flow").solver(strange) == FirstOrder()


def test_unipc_would_undo_what_a_guide_moved() -> None:
    def move(denoiser: Denoiser, x: torch.Tensor, step: Step) -> Guided:
        return Guided(x + 0.1, denoiser(x, step.sigma))

    for case in ("unipc flow", "flow"):
        reader = known(case)
        schedule = reader.schedule(4)
        run = iterate(oracle(reader.path), first(reader.path, schedule), schedule, reader.stock_solver(schedule), move)
        if case == "flow":
            assert len(list(run)) == 4
        else:
            with pytest.raises(ConfigError, match="euler, heun or dpmpp_2m"):
                list(run)
