"""Guides that trust the target less where it disagrees with the model, to see whether they earn a place in mvguide.

Both are :class:`mvguide.guidance.guides.Blend` with the weight of a cell, or of a channel, made from what the step
itself shows. They see no truth.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.solvers import Guided, Step
from mvguide.guidance.targets import HoleWeight, Targets, hole_row
from mvguide.tables.table import LambdaTable

_WINDOW = 5
_STIFF = 1e-3  # share of the mean squared gradient that keeps flows of flat windows small


@dataclass(frozen=True)
class AgreementBlend:
    """The weight of a cell times ``1/(1 + r^2/(k m^2))``: r^2 is the mean square of D - X around it, m^2 the frame's.

    Args:
        tolerance: k.
        hole_weight: pull of unseen cells.
    """

    tolerance: float = 4.0
    hole_weight: HoleWeight = 0.0

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets, table: LambdaTable) -> Guided:
        """Blended estimate, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        target = targets.latents.expand_as(denoised)
        seen = targets.visible[None, :, 0]
        square = (denoised - target).square().mean(2) * seen
        around = avg_pool2d(square, 3, 1, 1) / avg_pool2d(seen, 3, 1, 1).clamp(min=1e-6)
        mean = square.sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1e-6)
        trust = 1 / (1 + around / (self.tolerance * mean).clamp(min=1e-12))
        return Guided(x, _blend(denoised, targets, table, trust[:, :, None], step, self.hole_weight))


@dataclass(frozen=True)
class FlowGatedBlend:
    """Channels whose motion in X is not that of D are left to the model (the idea of WorldForge, arXiv 2509.15130).

    The motion of a channel from frame to frame is the flow of Lucas and Kanade in windows of 5 x 5 cells. A channel of
    a frame is gated when the mean distance of its two flows over the seen cells is more than ``spread`` standard
    deviations above the mean of the frame's channels.

    Args:
        spread: how far from the mean a channel may be.
        hole_weight: pull of unseen cells.
    """

    spread: float = 1.0
    hole_weight: HoleWeight = 0.0

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets, table: LambdaTable) -> Guided:
        """Blended estimate, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        target = targets.latents.expand_as(denoised)
        seen = targets.visible[None, 1:]
        apart = (channel_flow(denoised) - channel_flow(target)).square().sum(-1).sqrt()  # [B, F-1, C, h, w]
        apart = (apart * seen).sum((3, 4)) / seen.sum((3, 4)).clamp(min=1e-6)
        limit = apart.mean(2, keepdim=True) + self.spread * apart.std(2, keepdim=True, correction=0)
        trust = torch.ones(*denoised.shape[:3], 1, 1).to(denoised)
        trust[:, 1:, :, 0, 0] = (apart <= limit).to(denoised)
        return Guided(x, _blend(denoised, targets, table, trust, step, self.hole_weight))


def channel_flow(latents: Tensor) -> Tensor:
    """Flow of each channel from frame to frame: ``[B, F, C, h, w]`` -> ``[B, F-1, C, h, w, 2]``, in cells (u, v)."""
    before, after = latents[:, :-1], latents[:, 1:]
    middle = (before + after) / 2
    along, down = torch.gradient(middle, dim=(-1, -2))
    change = after - before

    def window(values: Tensor) -> Tensor:
        flat = values.flatten(0, 2)[:, None]
        return avg_pool2d(flat, _WINDOW, 1, _WINDOW // 2).view(values.shape)

    xx, yy, xy = window(along**2), window(down**2), window(along * down)
    xt, yt = window(along * change), window(down * change)
    stiff = _STIFF * (xx + yy).mean((-2, -1), keepdim=True) + 1e-12
    xx, yy = xx + stiff, yy + stiff
    determinant = xx * yy - xy**2
    return torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=-1) / determinant[..., None]


def _blend(
    denoised: Tensor, targets: Targets, table: LambdaTable, trust: Tensor, step: Step, hole_weight: HoleWeight
) -> Tensor:
    """Blend by the table's weights times ``trust``, but for frames that are input views."""
    own = targets.weights(table.row(step.sigma))
    own = torch.where(targets.pinned.view(-1, 1, 1, 1), own, own * trust)
    holes = targets.hole_weights(hole_row(hole_weight, step.sigma, denoised.shape[1]))
    return torch.lerp(denoised, targets.latents.expand_as(denoised), own + holes)
