"""Training losses: score matching with its weight gamma, and the DDPM epsilon loss, which is one of its cases."""

from collections.abc import Callable

from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.path import NoisePath, expand

Gamma = Callable[[NoisePath, Tensor], Tensor]
"""Weight of the score error: ``gamma(path, sigma)``, of sigma's shape."""


def gamma_epsilon(path: NoisePath, sigma: Tensor) -> Tensor:
    """``sigma^2``: turns the score error into the error of the predicted noise (DDPM's loss)."""
    return sigma**2


def gamma_v(path: NoisePath, sigma: Tensor) -> Tensor:
    """``sigma^2 (alpha^2 + sigma^2) / alpha^2``: turns the score error into the error of the v-prediction (SVD's loss).

    On VE this is EDM's weight ``(sigma^2 + 1) / sigma^2`` of the denoised error (Karras et al. 2022, with unit data).
    """
    alpha = path.alpha(sigma)
    return sigma**2 * (alpha**2 + sigma**2) / alpha**2


def gamma_denoised(path: NoisePath, sigma: Tensor) -> Tensor:
    """``sigma^4 / alpha^2``: turns the score error into the plain error of the clean estimate."""
    return sigma**4 / path.alpha(sigma) ** 2


def score_matching_loss(denoiser: Denoiser, x0: Tensor, noise: Tensor, sigma: Tensor, gamma: Gamma) -> Tensor:
    """Denoising score matching ``gamma(t) ||S_theta(x_t) - score(x_t | x_0)||^2`` (seed equation 3; Vincent 2011).

    With ``S_theta = (alpha D - x)/sigma^2`` and ``score = -noise/sigma`` the difference of scores is
    ``alpha (D - x0) / sigma^2``; it is evaluated in that form, which does not cancel.

    Args:
        denoiser: network under training, with its path.
        x0: clean latents ``[B, ...]``.
        noise: standard normal, of x0's shape.
        sigma: ``[B]``, > 0 and with alpha(sigma) > 0.
        gamma: weight, for example :func:`gamma_v`.

    Returns:
        Mean over the elements of each sample, ``[B]``.
    """
    path = denoiser.path
    x = path.add_noise(x0, noise, sigma)
    denoised = denoiser(x, sigma)
    level = expand(sigma, x0)
    # One factor for the squared error: gamma alpha^2 / sigma^4 stays finite where the two scores alone would overflow.
    weight = gamma(path, level) * (path.alpha(level) / level**2) ** 2
    return (weight * (denoised - x0) ** 2).flatten(1).mean(1)


def epsilon_loss(denoiser: Denoiser, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``||noise - noise_theta||^2``, ``noise_theta = (x - alpha D)/sigma`` (DDPM, Ho et al. 2020, eq. 14); ``[B]``.

    Equal to :func:`score_matching_loss` with :func:`gamma_epsilon`, and computed without it.
    """
    x = denoiser.path.add_noise(x0, noise, sigma)
    predicted = denoiser.path.from_denoised(denoiser(x, sigma), x, sigma, "epsilon")
    return ((noise - predicted) ** 2).flatten(1).mean(1)
