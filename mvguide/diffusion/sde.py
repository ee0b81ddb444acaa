"""The differential equations of a noise path: forward SDE, its reverse, and the probability-flow ODE.

The sampler does not integrate these in t: it uses their exact solutions in sigma (see ``solvers``). They are here
because they define what the solvers solve, and because tests hold the closed forms to them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mvguide.diffusion.path import NoisePath

Field = Callable[[Tensor, Tensor], Tensor]
"""A function of (x, t), t of shape ``[]``, giving a tensor of x's shape (or a scalar tensor)."""


def forward_sde(path: NoisePath) -> tuple[Field, Field]:
    """Drift and noise factor of ``dx = f(t) x dt + g(t) dw`` (seed equation 1)."""
    return lambda x, t: path.drift(t) * x, lambda x, t: path.diffusion(t)


def reverse_sde(path: NoisePath, score: Field) -> tuple[Field, Field]:
    """Drift and noise factor of ``dx = [f x - g^2 score] dt + g dw``, run with dt < 0 (Anderson 1982)."""
    return lambda x, t: path.drift(t) * x - path.diffusion(t) ** 2 * score(x, t), lambda x, t: path.diffusion(t)


def probability_flow(path: NoisePath, score: Field) -> Field:
    """``dx/dt = f x - g^2/2 score`` (seed equation 2): same marginals as both SDEs, no noise."""
    return lambda x, t: path.drift(t) * x - 0.5 * path.diffusion(t) ** 2 * score(x, t)


def score_of(path: NoisePath, denoiser: Callable[[Tensor, Tensor], Tensor]) -> Field:
    """Score ``(alpha D - x) / sigma^2`` of a denoiser (seed equation 5), as a function of x and t."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        sigma = path.sigma(t)
        return path.from_denoised(denoiser(x, sigma), x, sigma, "score")

    return score


def integrate(
    x: Tensor, times: Tensor, drift: Field, factor: Field | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Euler-Maruyama along ``times`` ``[T]`` (Euler when ``factor`` is None); times may run forward or back.

    ``x_{k+1} = x_k + drift dt + factor sqrt(|dt|) n``; returns x at the last time.
    """
    for t, dt in zip(times[:-1], times.diff(), strict=True):
        change = drift(x, t) * dt
        if factor is not None:
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            change = change + factor(x, t) * dt.abs().sqrt() * noise
        x = x + change
    return x
