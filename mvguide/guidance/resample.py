"""Resampling: go back to the same noise level and denoise again, so that holes and seen parts grow together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.sampler import Guidance
from mvguide.diffusion.solvers import Guided, Step, first_order
from mvguide.errors import ConfigError

UNTIL = 0.5
"""Share of the steps that are repeated by default: after it the layout is settled, and noise would only cost detail."""


@dataclass(frozen=True)
class Resample:
    """Any guide, repeated within a step: step to ``sigma_next``, noise back to ``sigma``, and guide again.

    This is RePaint's resampling (Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1) with a jump of one step, annealed
    as in ViewExtrapolator (Liu et al. 2024, arXiv 2411.14208): only in the first part of the schedule. The step down is
    the first-order one and the way back the forward SDE's transition (:meth:`NoisePath.renoise`), which keep x's
    marginal on any path; noising the estimate itself would shrink it, since D is a mean and not a sample.

    At the second evaluation of a step (Heun) nothing is repeated: x must stay where the first one put it, or the two
    slopes would belong to two different noises.

    Args:
        guide: what is repeated.
        repeats: R >= 0 rounds more, each as dear as the guide itself; 0 = the guide alone.
        until: share of the steps that are repeated, in [0, 1], from the noisy end.
        generator: CPU generator of the fresh noise, so that a seed means the same on any device.

    Raises:
        ConfigError: for numbers out of range.
    """

    guide: Guidance
    repeats: int
    until: float = UNTIL
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if isinstance(self.repeats, bool) or self.repeats < 0:
            raise ConfigError(f"resample is {self.repeats}; it is a number of rounds, 0 or more")
        if not 0 <= self.until <= 1:
            raise ConfigError(f"resample_until is {self.until:g}; it is a share of the steps, between 0 and 1")

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """The guide's answer in the last round, with the x that it belongs to; x ``[B, F, C, h, w]``."""
        guided = self.guide(denoiser, x, step)
        if step.corrects or step.index >= self.until * step.num_steps:
            return guided
        for _ in range(self.repeats):
            down = first_order(denoiser.path, guided, step.sigma, step.sigma_next)
            noise = torch.randn(x.shape, generator=self.generator, dtype=x.dtype).to(x.device)
            guided = self.guide(denoiser, denoiser.path.renoise(down, noise, step.sigma_next, step.sigma), step)
        return guided
