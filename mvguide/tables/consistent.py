"""Weights from measured errors: the best ones along a trajectory that they themselves have bent.

At one level of noise the best weight between the model's estimate D and the target X, for the truth z, is

    w* = (a - c) / (a + b - 2c),   a = E|D - z|^2,   b = E|X - z|^2,   c = E (D - z)(X - z).

Were the two errors independent, c would be 0 and w = a / (a + b). They are not: x has been steered towards X, and D is
an estimate from that x. So the errors are followed along the run. Write x = z + sigma n + d, with d what x carries
besides the truth and its noise. A denoiser answers to d with a gain G (it cannot tell small structured errors from
structure), and by itself errs by e:

    D - z = G d + e,   E e^2 = E_D^2(sigma).

For a posterior mean, G = E_D^2 / sigma^2 (Tweedie's formula and Stein's lemma), and e is made of the part of the noise
that is kept and the part of the image that is lost:

    e = G sigma n - (1 - G) u,   u of variance E_D^2 / (1 - G).

That is exact for Gaussian data. Euler's step x' = r x + (1 - r) D~, r = sigma' / sigma, with
D~ - z = (1 - w)(D - z) + w (X - z), keeps d a sum of multiples of X - z, n and u:

    d = p (X - z) + g n + h u,   each x' = r * + (1 - r) ((1 - w) (D's share) + [w for p]),

from which a, b, c and the next w* follow in closed form. The run starts from noise alone: d = -u.
"""

import torch
from torch import Tensor

from mvguide.errors import InputError


def consistent_weights(sigmas: Tensor, model_error: Tensor, warp_error: Tensor, gain: Tensor | None = None) -> Tensor:
    """Best weights of a guided Euler run on a VE path, from the errors of model and warp; see the module.

    Args:
        sigmas: ``[N + 1]`` noise levels, strictly decreasing, the last may be 0.
        model_error: ``[N]`` or ``[N, F]`` mean square of D - z when x is truth and noise alone, at the first N levels.
        warp_error: ``[F]`` mean square of X - z.
        gain: how much of an error in x comes out in D, in [0, 1], shaped as ``model_error``; by default that of a
            posterior mean.

    Returns:
        ``[N, F]`` float64 in [0, 1].

    Raises:
        InputError: unlike lengths, or errors that are negative or not finite.
    """
    sigmas, model, warp = (torch.as_tensor(values).double() for values in (sigmas, model_error, warp_error))
    model = model[:, None] if model.ndim == 1 else model
    given = None if gain is None else torch.as_tensor(gain).double()
    _check(sigmas, model, warp, given)
    levels = sigmas[:-1, None]
    model = torch.minimum(model, (1 - 1e-6) * levels**2).clamp(
        min=1e-12
    )  # more error than noise: x itself would be better
    kept = model / levels**2
    gains = kept if given is None else (given[:, None] if given.ndim == 1 else given)
    lost = model / (1 - kept)  # variance of u
    toward, noise, missing = torch.zeros_like(warp), torch.zeros_like(warp), -torch.ones_like(warp)
    rows = []
    for n in range(len(levels)):
        sigma, ratio = sigmas[n], sigmas[n + 1] / sigmas[n]
        # What of X - z, of n and of u is in D - z.
        of_warp = gains[n] * toward
        of_noise = gains[n] * noise + kept[n] * sigma
        of_missing = gains[n] * missing - (1 - kept[n])
        square = of_warp**2 * warp + of_noise**2 + of_missing**2 * lost[n]
        cross = of_warp * warp
        weight = ((square - cross) / (square + warp - 2 * cross).clamp(min=1e-300)).clamp(0, 1)
        rows.append(weight)
        toward = ratio * toward + (1 - ratio) * ((1 - weight) * of_warp + weight)
        noise = ratio * noise + (1 - ratio) * (1 - weight) * of_noise
        missing = ratio * missing + (1 - ratio) * (1 - weight) * of_missing
    return torch.stack(rows)


def _check(sigmas: Tensor, model: Tensor, warp: Tensor, gain: Tensor | None) -> None:
    steps, frames = len(sigmas) - 1, len(warp)
    if sigmas.ndim != 1 or warp.ndim != 1 or model.shape not in ((steps, 1), (steps, frames)):
        raise InputError(
            f"model errors of shape {tuple(model.shape)} and warp errors of {tuple(warp.shape)} do not fit "
            f"{steps} steps; give [N] or [N, F] and [F]"
        )
    if gain is not None and gain.shape[:1] != (steps,):
        raise InputError(f"gain has {len(gain)} rows, but the schedule has {steps} steps; give one for each")
    for name, values in (("model", model), ("warp", warp)):
        if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
            raise InputError(f"{name} errors hold values below 0 or not finite; give mean squares of measured errors")
