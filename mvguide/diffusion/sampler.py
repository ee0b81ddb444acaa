"""The denoising loop. There is one, it is a generator, and every mode of mvguide is a parameter of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.path import NoisePath
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import FirstOrder, Guided, Solver, Step
from mvguide.errors import NumericalError


class Guidance(Protocol):
    """``guidance(denoiser, x, step) -> Guided``: calls the denoiser and edits its estimate (or x, or both).

    ``step.sigma`` is the level of this evaluation: a two-evaluation solver calls once at each end of its step.
    """

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """Guided estimate at ``step.sigma``, x ``[B, F, C, h, w]``."""
        ...


@dataclass(frozen=True)
class LoopState:
    """Where the loop stands between two steps: from here it goes on as if it had never stopped.

    Args:
        index: steps done, 0 to N.
        x: ``[B, F, C, h, w]`` at ``schedule.sigmas[index]``.
        solver: state of the solver.
        random: state of the generator; None for a loop without one.
    """

    index: int
    x: Tensor
    solver: Any
    random: Tensor | None = None


@dataclass(frozen=True)
class Progress:
    """What the loop yields after each step: the step done, the state it led to, and the estimate D it used."""

    step: Step
    state: LoopState
    denoised: Tensor

    @property
    def x(self) -> Tensor:
        """``[B, F, C, h, w]`` at ``step.sigma_next``."""
        return self.state.x


Watch = Callable[[Progress], bool | None]
"""Hook of :func:`sample`: sees every step; returning True stops the run."""


def initial_noise(
    shape: tuple[int, ...], path: NoisePath, schedule: SigmaSchedule, generator: torch.Generator | None = None
) -> Tensor:
    """First x: float32 noise on the CPU times the path's prior scale at the first sigma, for any later device."""
    noise = torch.randn(shape, generator=generator, dtype=torch.float32)
    return noise * path.prior_scale(schedule.sigmas[0])


def iterate(
    denoiser: Denoiser,
    x: Tensor | LoopState,
    schedule: SigmaSchedule,
    solver: Solver | None = None,
    guidance: Guidance | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Progress]:
    """Denoise x along the schedule, yielding after every step; stop by not asking for more.

    Args:
        denoiser: network with its noise path.
        x: noise at ``schedule.sigmas[0]``, ``[B, F, C, h, w]``; kept in its dtype (float32, or float64 in tests). Or
            the state to go on from, of an equal loop: the steps before it are left out, and the generator is set to it.
        schedule: N steps.
        solver: default ``FirstOrder()`` (Euler).
        guidance: edits every evaluation; None leaves the denoiser alone.
        generator: CPU generator of the solver's fresh noise (eta > 0), so that a seed means the same on any device.

    Yields:
        Progress after each step; the last one has x at sigma 0. Nothing if the state has no step left.

    Raises:
        NumericalError: x is not finite after a step.
    """
    solver = solver or FirstOrder()
    start = x if isinstance(x, LoopState) else LoopState(0, x, solver.init())
    x, state = start.x, start.solver
    if start.random is not None:
        generator = generator or torch.Generator()
        generator.set_state(start.random)

    def noise() -> Tensor:
        return torch.randn(start.x.shape, generator=generator, dtype=start.x.dtype).to(start.x.device)

    for index in range(start.index, len(schedule)):
        step = Step(index, len(schedule), schedule.sigmas[index], schedule.sigmas[index + 1])

        def evaluate(x: Tensor, sigma: Tensor, step: Step = step) -> Guided:
            if guidance is None:
                return Guided(x, denoiser(x, sigma))
            return guidance(denoiser, x, replace(step, sigma=sigma))

        x, state, denoised = solver.step(evaluate, x, step, denoiser.path, state, noise)
        if not bool(torch.isfinite(x.sum())):  # one number for all: a sum is finite only if its parts are
            raise NumericalError(
                f"latents are not finite after step {index + 1} of {len(schedule)} (sigma {float(step.sigma):.3g}); "
                "the network overflowed: use dtype bfloat16 or float32, or with posterior_gradient a smaller step_size"
            )
        random = None if generator is None else generator.get_state()
        yield Progress(step, LoopState(index + 1, x, state, random), denoised)


def sample(
    denoiser: Denoiser,
    x: Tensor | LoopState,
    schedule: SigmaSchedule,
    solver: Solver | None = None,
    guidance: Guidance | None = None,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Run :func:`iterate` to its end, or until ``watch`` returns True, and return the last x."""
    last = x.x if isinstance(x, LoopState) else x
    for progress in iterate(denoiser, x, schedule, solver, guidance, generator):
        last = progress.x
        if watch is not None and watch(progress):
            break
    return last
