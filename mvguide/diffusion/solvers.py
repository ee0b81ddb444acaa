"""Solvers: one step from sigma to sigma_next. State goes in and comes out; nothing is remembered on the object.

All are written for any noise path in terms of the clean estimate D and ``n = (x - alpha D)/sigma``. Primes mark the
next level. ``order`` is the order of convergence of the deterministic solver, measured in the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from mvguide.diffusion.path import NoisePath
from mvguide.errors import ConfigError


@dataclass(frozen=True)
class Step:
    """Where a run is: step ``index`` of ``num_steps``, from ``sigma`` to ``sigma_next`` (0-d float64 on the CPU)."""

    index: int
    num_steps: int
    sigma: Tensor
    sigma_next: Tensor

    @property
    def corrects(self) -> bool:
        """Whether this is the second evaluation of a step, at its far end (Heun).

        It only improves the slope of a step that the first one has begun: a guide that moves x does so at the first
        evaluation alone, or the two slopes would belong to two different x.
        """
        return bool(self.sigma <= self.sigma_next)


@dataclass(frozen=True)
class Guided:
    """What one evaluation gives: x (a guide may have moved it) and the guided clean estimate, ``[B, F, C, h, w]``."""

    x: Tensor
    denoised: Tensor


Evaluate = Callable[[Tensor, Tensor], Guided]
"""``evaluate(x, sigma)``: the guided network at a noise level."""

Noise = Callable[[], Tensor]
"""Gives standard normal noise of x's shape, from the run's generator."""


class Solver(Protocol):
    """``init() -> state``; ``step(...) -> (x, state, denoised)``; ``pack`` and ``unpack`` for a state in a file."""

    @property
    def order(self) -> int:
        """Order of convergence."""
        ...

    @property
    def evaluations(self) -> int:
        """Network evaluations of a step (the last step to sigma 0 needs one)."""
        ...

    def init(self) -> Any:
        """State before the first step."""
        ...

    def step(
        self, evaluate: Evaluate, x: Tensor, step: Step, path: NoisePath, state: Any, noise: Noise
    ) -> tuple[Tensor, Any, Tensor]:
        """Advance x from ``step.sigma`` to ``step.sigma_next``; the last element is D, for watching."""
        ...

    def pack(self, state: Any) -> dict[str, Tensor]:
        """The state as tensors by name."""
        ...

    def unpack(self, tensors: dict[str, Tensor], device: torch.device) -> Any:
        """The state that :meth:`pack` took apart; ``tensors`` are on the CPU, those of x's shape go to ``device``."""
        ...


class Stateless:
    """What solvers have in common that keep nothing between steps: their state is None."""

    def init(self) -> None:
        """No state is kept between steps."""

    def pack(self, state: None) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def unpack(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Nothing."""


def first_order(
    path: NoisePath, guided: Guided, sigma: Tensor, sigma_next: Tensor, eta: float = 0.0, noise: Noise | None = None
) -> Tensor:
    """``x' = alpha' D + sqrt(sigma'^2 - s^2) (x - alpha D)/sigma + s eps``.

    ``s^2 = eta^2 (sigma'^2/sigma^2) (sigma^2 - (alpha/alpha')^2 sigma'^2)`` is the variance of the fresh noise: eta = 0
    is the probability-flow ODE to first order (Euler on VE, DDIM on VP, flow-matching Euler), eta = 1 ancestral
    sampling and DDPM (DDIM paper, Song et al. 2021, eq. 16, for any path).
    """
    alpha, alpha_next = path.alpha(sigma), path.alpha(sigma_next)
    fresh = eta**2 * (sigma_next / sigma) ** 2 * (sigma**2 - (alpha / alpha_next * sigma_next) ** 2)
    direction = (guided.x - alpha * guided.denoised) / sigma
    x = alpha_next * guided.denoised + (sigma_next**2 - fresh).clamp(min=0).sqrt() * direction
    if noise is not None and fresh > 0:
        x = x + fresh.sqrt() * noise()
    return x


@dataclass(frozen=True)
class FirstOrder(Stateless):
    """Euler = DDIM = the VE ODE's first-order step (eta 0); ancestral and DDPM (eta 1). See :func:`first_order`."""

    eta: float = 0.0
    order: int = field(default=1, init=False)
    evaluations: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        """Refuse an eta for which the formula would need negative variance."""
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"eta is {self.eta:g}; it is a share of fresh noise between 0 (none) and 1 (ancestral)")

    def step(
        self, evaluate: Evaluate, x: Tensor, step: Step, path: NoisePath, state: None, noise: Noise
    ) -> tuple[Tensor, None, Tensor]:
        """One evaluation, one update."""
        guided = evaluate(x, step.sigma)
        x = first_order(path, guided, step.sigma, step.sigma_next, self.eta, noise)
        return x, None, guided.denoised


@dataclass(frozen=True)
class Heun(Stateless):
    """Second order by the trapezoid rule on n, in VE coordinates (Karras et al. 2022, algorithm 1 without churn).

    ``d(x/alpha) = n d(sigma/alpha)``, so with n from a first-order guess at the next level
    ``x' = alpha' [x/alpha + (sigma'/alpha' - sigma/alpha) (n + n')/2]``. First order where alpha = 0 or sigma' = 0.
    """

    order: int = field(default=2, init=False)
    evaluations: int = field(default=2, init=False)

    def step(
        self, evaluate: Evaluate, x: Tensor, step: Step, path: NoisePath, state: None, noise: Noise
    ) -> tuple[Tensor, None, Tensor]:
        """Two evaluations, one at each end of the step."""
        sigma, sigma_next = step.sigma, step.sigma_next
        alpha, alpha_next = path.alpha(sigma), path.alpha(sigma_next)
        start = evaluate(x, sigma)
        guess = first_order(path, start, sigma, sigma_next)
        if sigma_next == 0 or alpha == 0:
            return guess, None, start.denoised
        end = evaluate(guess, sigma_next)
        slope = (start.x - alpha * start.denoised) / sigma
        slope_next = (end.x - alpha_next * end.denoised) / sigma_next
        x = alpha_next / alpha * start.x + (sigma_next - alpha_next / alpha * sigma) * 0.5 * (slope + slope_next)
        return x, None, start.denoised


@dataclass(frozen=True)
class DpmPp2M:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2), in ``l = log(alpha / sigma)``.

    ``x' = (sigma'/sigma) x - alpha' (e^{-h} - 1) [(1 + 1/(2r)) D - 1/(2r) D_last]``, ``h = l' - l``,
    ``r = (l - l_last) / h``. The state is the last estimate and its l. The first and the last step are first order;
    starting at alpha = 0 (l = -infinity) makes the first two steps first order by itself.
    """

    order: int = field(default=2, init=False)
    evaluations: int = field(default=1, init=False)

    def init(self) -> tuple[Tensor, Tensor] | None:
        """Nothing is known before the first step."""
        return None

    def step(
        self,
        evaluate: Evaluate,
        x: Tensor,
        step: Step,
        path: NoisePath,
        state: tuple[Tensor, Tensor] | None,
        noise: Noise,
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """One evaluation; the last estimate gives the slope."""
        sigma, sigma_next = step.sigma, step.sigma_next
        guided = evaluate(x, sigma)
        log_ratio = torch.log(path.alpha(sigma) / sigma)
        denoised = guided.denoised
        if state is not None and sigma_next > 0:
            last, last_ratio = state
            h = torch.log(path.alpha(sigma_next) / sigma_next) - log_ratio
            half_inverse_r = 0.5 * h / (log_ratio - last_ratio)
            if torch.isfinite(half_inverse_r) and half_inverse_r > 0:
                denoised = (1 + half_inverse_r) * denoised - half_inverse_r * last
        x = first_order(path, Guided(guided.x, denoised), sigma, sigma_next)
        return x, (guided.denoised, log_ratio), guided.denoised

    def pack(self, state: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
        """The last estimate and its l."""
        return {} if state is None else {"denoised": state[0], "log_ratio": state[1]}

    def unpack(self, tensors: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor] | None:
        """The same again."""
        return (tensors["denoised"].to(device), tensors["log_ratio"]) if tensors else None


SOLVERS: dict[str, Callable[..., Solver]] = {
    "euler": FirstOrder,
    "ancestral": lambda: FirstOrder(eta=1.0),
    "heun": Heun,
    "dpmpp_2m": DpmPp2M,
}
"""Solvers by the names that the command line uses."""


def make_solver(solver: "str | Solver") -> Solver:
    """Solver by name, or the object itself. Raises ConfigError for an unknown name."""
    if not isinstance(solver, str):
        return solver
    if solver not in SOLVERS:
        raise ConfigError(f"solver {solver!r} is not known; use one of {', '.join(SOLVERS)}")
    return SOLVERS[solver]()
