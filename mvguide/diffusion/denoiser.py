"""Denoisers: functions from a noisy latent and its noise level to the clean estimate."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mvguide.diffusion.path import NoisePath, expand
from mvguide.errors import InputError


class Denoiser(Protocol):
    """``denoiser(x, sigma) -> denoised``: x and denoised ``[B, F, C, h, w]``, sigma ``[]`` (or ``[B]`` in training).

    For guides that differentiate through the network a denoiser may also have
    ``for_gradient(checkpointing) -> Denoiser`` (without classifier-free guidance, activations recomputed on the way
    back if asked) and ``window(rows, columns) -> Denoiser`` (for that part of the latent cells).

    A denoiser whose answer depends on earlier calls, such as one with a cache from step to step, says so by
    ``is_stateful = True``: a run with it cannot go on from a checkpoint.
    """

    @property
    def path(self) -> NoisePath:
        """Noise path that the network was trained on."""
        ...

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Clean estimate (mu_t, the posterior mean of x0 given x) at noise level sigma."""
        ...


@dataclass(frozen=True)
class GaussianDenoiser:
    """Exact posterior mean for data ``x0 ~ N(mean, std^2)``, elementwise: the oracle of tests and docs.

    ``D(x) = mean + alpha std^2 / (alpha^2 std^2 + sigma^2) (x - alpha mean)``.

    Args:
        mean: broadcastable to x.
        std: broadcastable to x, > 0.
        path: noise path of x.
    """

    mean: Tensor
    std: Tensor
    path: NoisePath

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Posterior mean, of x's shape."""
        sigma = expand(sigma, x)
        alpha = self.path.alpha(sigma)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x - alpha * self.mean)

    def window(self, rows: slice, columns: slice) -> "GaussianDenoiser":
        """Denoiser of a part of the cells."""
        return GaussianDenoiser(crop(self.mean, rows, columns), crop(self.std, rows, columns), self.path)


@dataclass(frozen=True)
class CfgDenoiser:
    """Classifier-free guidance (Ho and Salimans 2022): ``D = D_u + scale (D_c - D_u)``, one scale for each frame.

    Two network calls; a backbone that can batch the two does so itself.

    Args:
        conditional: denoiser with the condition.
        unconditional: denoiser without it, on the same path.
        scale: ``[F]``, 1 = conditional alone.
    """

    conditional: Denoiser
    unconditional: Denoiser
    scale: Tensor

    @property
    def path(self) -> NoisePath:
        """Path of the conditional denoiser."""
        return self.conditional.path

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Guided estimate for x ``[B, F, C, h, w]``. Raises InputError when F differs from the number of scales."""
        return mix_guidance(self.conditional(x, sigma), self.unconditional(x, sigma), self.scale)

    def for_gradient(self, checkpointing: bool = True) -> Denoiser:
        """The conditional half."""
        inner = getattr(self.conditional, "for_gradient", None)
        return inner(checkpointing) if inner else self.conditional


def crop(values: Tensor, rows: slice, columns: slice) -> Tensor:
    """Part of the last two axes; those of length 1 stay, since they stand for any length."""
    if values.ndim >= 2 and values.shape[-2] > 1:
        values = values[..., rows, :]
    return values[..., columns] if values.ndim >= 1 and values.shape[-1] > 1 else values


def mix_guidance(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """``unconditional + scale (conditional - unconditional)`` for ``[B, F, C, h, w]`` and a scale ``[F]``."""
    if scale.shape != conditional.shape[1:2]:
        raise InputError(
            f"guidance scale has shape {tuple(scale.shape)} for {conditional.shape[1]} frames; give one scale a frame"
        )
    return unconditional + scale.to(conditional).view(-1, 1, 1, 1) * (conditional - unconditional)
