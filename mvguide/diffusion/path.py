"""Noise paths: how a clean latent turns into noise, and what a network's output says about the clean latent.

Every path has closed-form marginals ``x = alpha(sigma) * x0 + sigma * noise`` and is the solution of
``dx = f(t) x dt + g(t) dw`` (Song et al. 2021, arXiv 2011.13456, eq. 5). Sampling is written in sigma; time t only
appears in the differential equations.

Sigma may be a 0-d tensor (one level for all of x) or of shape ``[B]`` (one level for each sample of the batch).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from mvguide.errors import InputError

Prediction = Literal["denoised", "epsilon", "score", "v", "flow"]


def expand(level: Tensor | float, x: Tensor) -> Tensor:
    """Give a noise level of shape ``[]`` or ``[B]`` the trailing axes it needs to multiply x ``[B, ...]``.

    The result has the dtype and device of x, except that a 0-d level stays a float64 scalar on the CPU, so that the
    coefficients computed from it keep their precision.
    """
    level = torch.as_tensor(level, dtype=None if isinstance(level, Tensor) else torch.float64)
    if level.ndim == 0:
        return level.to("cpu", torch.float64)
    if level.shape != x.shape[:1]:
        raise InputError(
            f"sigma has shape {tuple(level.shape)} and x {tuple(x.shape)}; give one sigma, or one for each sample"
        )
    return level.to(x).view(-1, *[1] * (x.ndim - 1))


class NoisePath(ABC):
    """A family of marginals ``x = alpha x0 + sigma n`` and the stochastic differential equation that has them.

    Subclasses give alpha as a function of sigma, and sigma, f and g as functions of time t in [0, t_max].
    """

    t_max: float = 1.0
    """Time at which the data are noise (alpha / sigma at its smallest)."""

    @abstractmethod
    def alpha(self, sigma: Tensor) -> Tensor:
        """Signal factor at noise level sigma, in [0, 1], of sigma's shape."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise standard deviation at time t."""

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """Time at which the noise level is sigma: the inverse of :meth:`sigma`."""

    @abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """f(t) in ``dx = f(t) x dt + g(t) dw``; equals ``d log(alpha) / dt``."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t) in ``dx = f(t) x dt + g(t) dw``; ``g^2 = d(sigma^2)/dt - 2 f sigma^2``."""

    def noise_to_signal(self, sigma: Tensor) -> Tensor:
        """``sigma / alpha``: the level of the VE path that x / alpha is on; infinite where alpha = 0."""
        return sigma / self.alpha(sigma)

    @abstractmethod
    def at_noise_to_signal(self, ratio: Tensor) -> Tensor:
        """Sigma at which sigma / alpha is the ratio: the inverse of :meth:`noise_to_signal`."""

    def prior_scale(self, sigma: Tensor) -> Tensor:
        """Standard deviation of x at sigma for data of unit variance: what the first noise is multiplied with."""
        return (self.alpha(sigma) ** 2 + sigma**2).sqrt()

    def add_noise(self, denoised: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Draw from the marginal: ``alpha * denoised + sigma * noise`` (all of x's shape ``[B, ...]``)."""
        sigma = expand(sigma, denoised)
        return self.alpha(sigma) * denoised + sigma * noise

    def renoise(self, x: Tensor, noise: Tensor, start: Tensor, sigma: Tensor) -> Tensor:
        """Draw from the forward SDE's transition: x at level ``start``, noised on to the level ``sigma >= start``.

        ``r x + sqrt(sigma^2 - r^2 start^2) noise`` with ``r = alpha(sigma)/alpha(start)``: an x with the right marginal
        at ``start`` gets the right one at ``sigma``. From level 0 it is :meth:`add_noise`. Needs ``alpha(start) > 0``.
        """
        start, sigma = expand(start, x), expand(sigma, x)
        ratio = self.alpha(sigma) / self.alpha(start)
        return ratio * x + (sigma**2 - (ratio * start) ** 2).clamp(min=0).sqrt() * noise

    def to_denoised(self, output: Tensor, x: Tensor, sigma: Tensor, kind: Prediction) -> Tensor:
        """Clean estimate from a network output of the given kind, at x and sigma.

        * ``epsilon``: ``(x - sigma e) / alpha``
        * ``score``: ``(x + sigma^2 s) / alpha`` (Tweedie's formula)
        * ``v``: with ``r^2 = alpha^2 + sigma^2``, ``(alpha x - sigma r v) / r^2`` (Salimans and Ho 2022,
          arXiv 2202.00512, written for any path; on VE it is SVD's ``c_skip = 1/(sigma^2+1)``,
          ``c_out = -sigma/sqrt(sigma^2+1)``: mind the sign)
        * ``flow``: ``(x - sigma u) / (alpha + sigma)`` for the velocity ``u = noise - x0``

        Raises InputError for an unknown kind. ``epsilon`` and ``score`` do not determine the estimate where
        alpha = 0: the result is not finite there.
        """
        sigma = expand(sigma, x)
        alpha = self.alpha(sigma)
        if kind == "denoised":
            return output
        if kind == "epsilon":
            return (x - sigma * output) / alpha
        if kind == "score":
            return (x + sigma**2 * output) / alpha
        if kind == "v":
            square = alpha**2 + sigma**2
            return alpha / square * x - sigma / square.sqrt() * output
        if kind == "flow":
            return (x - sigma * output) / (alpha + sigma)
        raise InputError(f"prediction kind {kind!r} is not known; use one of {', '.join(get_args(Prediction))}")

    def from_denoised(self, denoised: Tensor, x: Tensor, sigma: Tensor, kind: Prediction) -> Tensor:
        """Inverse of :meth:`to_denoised`: what a network predicting ``kind`` would have said. Needs sigma > 0."""
        sigma = expand(sigma, x)
        alpha = self.alpha(sigma)
        if kind == "denoised":
            return denoised
        if kind == "epsilon":
            return (x - alpha * denoised) / sigma
        if kind == "score":
            return (alpha * denoised - x) / sigma**2
        if kind == "v":
            square = alpha**2 + sigma**2
            return (alpha / square * x - denoised) * (square.sqrt() / sigma)
        if kind == "flow":
            return (x - (alpha + sigma) * denoised) / sigma
        raise InputError(f"prediction kind {kind!r} is not known; use one of {', '.join(get_args(Prediction))}")


@dataclass(frozen=True)
class VarianceExploding(NoisePath):
    """``x = x0 + sigma n`` with ``sigma(t) = t`` (Karras et al. 2022, arXiv 2206.00364); f = 0, ``g^2 = 2 t``."""

    t_max: float = 700.0

    def alpha(self, sigma: Tensor) -> Tensor:
        """1: the signal is never scaled."""
        return torch.ones_like(sigma)

    def at_noise_to_signal(self, ratio: Tensor) -> Tensor:
        """The ratio itself."""
        return ratio

    def sigma(self, t: Tensor) -> Tensor:
        """The noise level is the time."""
        return t

    def time(self, sigma: Tensor) -> Tensor:
        """The time is the noise level."""
        return sigma

    def drift(self, t: Tensor) -> Tensor:
        """F = 0."""
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """``g = sqrt(2 t)``."""
        return (2 * t).sqrt()


class VariancePreserving(NoisePath):
    """``x = sqrt(1 - sigma^2) x0 + sigma n``, ``dx = -beta/2 x dt + sqrt(beta) dw`` for a rate ``beta(t) >= 0``."""

    def alpha(self, sigma: Tensor) -> Tensor:
        """``sqrt(1 - sigma^2)``, written so that it keeps its precision near sigma = 1."""
        return ((1 - sigma) * (1 + sigma)).clamp(min=0).sqrt()

    def at_noise_to_signal(self, ratio: Tensor) -> Tensor:
        """``s / sqrt(1 + s^2)``."""
        return ratio / (1 + ratio**2).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """``sqrt(1 - alpha(t)^2)``."""
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """``-1/2`` times the integral of beta from 0 to t."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Rate of noise at time t."""

    def drift(self, t: Tensor) -> Tensor:
        """``f = -beta / 2``."""
        return -0.5 * self.beta(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """``g = sqrt(beta)``."""
        return self.beta(t).sqrt()


@dataclass(frozen=True)
class LinearVP(VariancePreserving):
    """VP path with ``beta(t) = beta_min + (beta_max - beta_min) t`` (DDPM, in the continuous time of Song)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        """Rate, linear in t."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def log_alpha(self, t: Tensor) -> Tensor:
        """``-(beta_min t + (beta_max - beta_min) t^2 / 2) / 2``."""
        return -0.5 * (self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2)

    def time(self, sigma: Tensor) -> Tensor:
        """Positive root of the quadratic that log_alpha is in t."""
        slope = self.beta_max - self.beta_min
        integral = -torch.log((1 - sigma) * (1 + sigma))
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt())


@dataclass(frozen=True)
class CosineVP(VariancePreserving):
    """VP path with ``alpha(t) = cos(u(t)) / cos(u(0))``, ``u(t) = (t + s)/(1 + s) pi/2`` (Nichol and Dhariwal 2021).

    The rate has a pole at t = 1, where nothing of the signal is left; ``t_max`` stops just before it.
    """

    offset: float = 0.008
    t_max: float = 0.9946

    @property
    def _first_cosine(self) -> float:
        return math.cos(self.offset / (1 + self.offset) * math.pi / 2)

    def _angle(self, t: Tensor) -> Tensor:
        return (t + self.offset) / (1 + self.offset) * (math.pi / 2)

    def beta(self, t: Tensor) -> Tensor:
        """``pi / (1 + s) tan(u(t))``."""
        return math.pi / (1 + self.offset) * torch.tan(self._angle(t))

    def log_alpha(self, t: Tensor) -> Tensor:
        """``log cos u(t) - log cos u(0)``."""
        return torch.log(torch.cos(self._angle(t))) - math.log(self._first_cosine)

    def time(self, sigma: Tensor) -> Tensor:
        """``u^-1(arccos(alpha cos u(0)))``."""
        return torch.arccos(self.alpha(sigma) * self._first_cosine) * (2 / math.pi) * (1 + self.offset) - self.offset


@dataclass(frozen=True, eq=False, repr=False)
class DiscreteVP(VariancePreserving):
    """VP path of a model trained on T discrete levels, from its table of ``alpha^2`` (diffusers' ``alphas_cumprod``).

    Step k of the table is time ``(k + 1) / T``, and time 0 is clean. Between them alpha is linear in t: unlike log
    alpha it stays finite where the last level has no signal (zero terminal SNR). The table's own levels are exact.

    Args:
        alphas_cumprod: ``[T]`` strictly decreasing, in [0, 1); kept as float64 on the CPU.

    Raises:
        InputError: for anything else.
    """

    alphas_cumprod: Tensor

    def __post_init__(self) -> None:
        """Check the table once."""
        table = torch.as_tensor(self.alphas_cumprod).detach().to("cpu", torch.float64)
        if table.ndim != 1 or len(table) == 0 or not bool(((table >= 0) & (table < 1)).all()):
            raise InputError(f"alphas_cumprod {tuple(table.shape)} is not one row of values in [0, 1)")
        if bool((table.diff() >= 0).any()):
            raise InputError("alphas_cumprod must decrease strictly from the first level to the last")
        object.__setattr__(self, "alphas_cumprod", table)

    def __repr__(self) -> str:
        """Size of the table and its ends."""
        return f"DiscreteVP({len(self.alphas_cumprod)} levels, sigma {self.levels[0]:.3g} to {self.levels[-1]:.3g})"

    @cached_property
    def levels(self) -> Tensor:
        """Sigma of each step of the table, ``[T]``, rising."""
        return (1 - self.alphas_cumprod).sqrt()

    @cached_property
    def _alphas(self) -> Tensor:
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod.sqrt()])

    def _interval(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha at t, and its slope, in float64."""
        place = t.to("cpu", torch.float64) * (len(self._alphas) - 1)
        index = place.floor().clamp(0, len(self._alphas) - 2).long()
        step = self._alphas[index + 1] - self._alphas[index]
        return self._alphas[index] + (place - index) * step, step * (len(self._alphas) - 1)

    def log_alpha(self, t: Tensor) -> Tensor:
        """Logarithm of the interpolated alpha; -infinity at t = 1 if the last level has no signal."""
        return self._interval(t)[0].clamp(min=0).log().to(t)

    def beta(self, t: Tensor) -> Tensor:
        """``-2 alpha'(t) / alpha(t)``; infinite at t = 1 if the last level has no signal."""
        alpha, slope = self._interval(t)
        return (-2 * slope / alpha).to(t)

    def time(self, sigma: Tensor) -> Tensor:
        """Time at which alpha is ``sqrt(1 - sigma^2)``; levels beyond the table give 1."""
        alpha = self.alpha(sigma.to("cpu", torch.float64))
        rising = self._alphas.flip(0)
        high = torch.searchsorted(rising, alpha.contiguous()).clamp(1, len(rising) - 1)
        share = (alpha - rising[high - 1]) / (rising[high] - rising[high - 1])
        return ((len(rising) - high - share.clamp(0, 1)) / (len(rising) - 1)).to(sigma)


@dataclass(frozen=True)
class FlowMatching(NoisePath):
    """``x = (1 - sigma) x0 + sigma n``, sigma = t in [0, 1] (Lipman et al. 2023); ``f = -1/(1-t)``, ``g^2 = 2t/(1-t)``.

    f and g have a pole at t = 1; the sampler never evaluates them, and starts at alpha = 0 without harm.
    """

    def alpha(self, sigma: Tensor) -> Tensor:
        """``1 - sigma``."""
        return 1 - sigma

    def at_noise_to_signal(self, ratio: Tensor) -> Tensor:
        """``s / (1 + s)``."""
        return ratio / (1 + ratio)

    def sigma(self, t: Tensor) -> Tensor:
        """The noise level is the time."""
        return t

    def time(self, sigma: Tensor) -> Tensor:
        """The time is the noise level."""
        return sigma

    def drift(self, t: Tensor) -> Tensor:
        """``f = -1 / (1 - t)``."""
        return -1 / (1 - t)

    def diffusion(self, t: Tensor) -> Tensor:
        """``g = sqrt(2 t / (1 - t))``."""
        return (2 * t / (1 - t)).sqrt()
