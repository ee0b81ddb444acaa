"""Resampling: go back to the same noise level and denoise again, so that holes and seen parts grow together."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mvguide.diffusion.path import NoisePath
from mvguide.diffusion.solvers import Evaluate, Noise, Solver, Step
from mvguide.errors import ConfigError

UNTIL = 0.5
"""Share of the steps that are repeated by default: after it the layout is settled, and noise would only cost detail."""


@dataclass(frozen=True)
class Resampling:
    """Any solver with its steps repeated: step to ``sigma_next``, add noise back to ``sigma``, and step again.

    This is RePaint's resampling (Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1) with a jump of one step, annealed
    as in ViewExtrapolator (Liu et al. 2024, arXiv 2411.14208): only in the first part of the schedule. The way back is
    the forward SDE's transition (:meth:`NoisePath.renoise`), which keeps x's marginal on any path; noising the estimate
    itself would shrink it, since D is a mean and not a sample. After noise was added a multistep solver starts afresh:
    its memory belongs to the trajectory that was left. While steps are repeated it is first order.

    Args:
        solver: takes the steps.
        repeats: R >= 0 further rounds for each step, each as expensive as the step itself.
        until: share of the steps that are repeated, in [0, 1], from the noisy end.

    Raises:
        ConfigError: for numbers out of range.
    """

    solver: Solver
    repeats: int
    until: float = UNTIL

    def __post_init__(self) -> None:
        """Check the numbers."""
        if isinstance(self.repeats, bool) or self.repeats < 0:
            raise ConfigError(f"resample is {self.repeats}; it is a number of rounds, 0 or more")
        if not 0 <= self.until <= 1:
            raise ConfigError(f"resample_until is {self.until:g}; it is a share of the steps, between 0 and 1")

    @property
    def order(self) -> int:
        """Order of the solver."""
        return self.solver.order

    @property
    def evaluations(self) -> int:
        """Network evaluations of a step that is repeated."""
        return (self.repeats + 1) * self.solver.evaluations

    def init(self) -> Any:
        """State of the solver."""
        return self.solver.init()

    def step(
        self, evaluate: Evaluate, x: Tensor, step: Step, path: NoisePath, state: Any, noise: Noise
    ) -> tuple[Tensor, Any, Tensor]:
        """The solver's step, after the rounds that repeat it."""
        if step.index < self.until * step.num_steps:
            for _ in range(self.repeats):
                down, _, _ = self.solver.step(evaluate, x, step, path, state, noise)
                x, state = path.renoise(down, noise(), step.sigma_next, step.sigma), self.solver.init()
        return self.solver.step(evaluate, x, step, path, state, noise)

    def pack(self, state: Any) -> dict[str, Tensor]:
        """State of the solver."""
        return self.solver.pack(state)

    def unpack(self, tensors: dict[str, Tensor], device: torch.device) -> Any:
        """State of the solver."""
        return self.solver.unpack(tensors, device)
