"""Guides: edits of the clean estimate towards the target, by the weights of the lambda table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.sampler import Guidance
from mvguide.diffusion.solvers import Guided, Step
from mvguide.errors import ConfigError, InputError
from mvguide.guidance.table import LambdaTable

GuidanceName = Literal["none", "blend", "top_share"]


@dataclass(frozen=True)
class Targets:
    """What each latent frame should be, where that is known.

    Args:
        latents: ``[F, C, h, w]`` encoded warps, in the units of the denoiser's x.
        visible: ``[F, 1, h, w]`` in [0, 1]: 1 = the cell is seen, 0 = hole.
        pinned: ``[F]`` bool: frames that are an input view itself; they get weight 1 everywhere, mask or no mask.
    """

    latents: Tensor
    visible: Tensor
    pinned: Tensor

    def __post_init__(self) -> None:
        """Check that the three belong together."""
        frames, _, height, width = self.latents.shape
        if self.visible.shape != (frames, 1, height, width) or self.pinned.shape != (frames,):
            raise InputError(
                f"targets {tuple(self.latents.shape)} need a mask {(frames, 1, height, width)} and {frames} pins; "
                f"got {tuple(self.visible.shape)} and {tuple(self.pinned.shape)}"
            )

    def weights(self, row: Tensor) -> Tensor:
        """Weight of every cell ``[F, 1, h, w]``: the frame's weight times its mask, 1 for a pinned frame."""
        weights = row.to(self.visible).view(-1, 1, 1, 1) * self.visible
        return torch.where(self.pinned.view(-1, 1, 1, 1), torch.ones_like(weights), weights)


@dataclass(frozen=True)
class NoGuidance:
    """Leave the model alone: the stock image-to-video result."""

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """The denoiser's own estimate."""
        return Guided(x, denoiser(x, step.sigma))


@dataclass(frozen=True)
class Blend:
    """``D~ = D + w M (X - D)`` (NVS-Solver, arXiv 2405.15364, eq. 12): pull by the weight, where the target is seen."""

    targets: Targets
    table: LambdaTable

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """Blended estimate, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        weights = self.targets.weights(self.table.row(step.sigma))
        return Guided(x, torch.lerp(denoised, self.targets.latents.expand_as(denoised), weights))


@dataclass(frozen=True)
class TopShare:
    """Replace by the target where the two agree best (the released code's "DGS").

    Of the seen latent elements of a frame (all channels together), the share ``max(w, floor)`` with the smallest
    ``|D - X|`` becomes X; the rest stays D. The count is rounded down. The released code counts holes in one channel
    and sorts all of them; on fully seen frames both agree.

    Args:
        targets: the encoded warps; a cell counts as seen when its mask is above 0.5.
        table: weights.
        floor: smallest share, in [0, 1] (the released ``weight_clamp``).
    """

    targets: Targets
    table: LambdaTable
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the floor."""
        if not 0 <= self.floor <= 1:
            raise ConfigError(f"floor is {self.floor:g}; it is a share of the seen elements, between 0 and 1")

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """Estimate with the best-agreeing elements replaced, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        target = self.targets.latents.expand_as(denoised)
        pinned = self.targets.pinned.view(-1, 1, 1, 1)
        seen = ((self.targets.visible > 0.5) | pinned).expand_as(denoised).flatten(2)
        share = self.table.row(step.sigma).clamp(min=self.floor).to(seen.device)
        share = torch.where(self.targets.pinned, torch.ones_like(share), share)
        quota = (share * seen.sum(-1)).floor()  # [B, F]
        distance = (denoised - target).abs().flatten(2).masked_fill(~seen, torch.inf)
        order = distance.argsort(dim=-1, stable=True)
        taken = torch.arange(order.shape[-1], device=order.device) < quota.unsqueeze(-1)
        replace = torch.zeros_like(taken).scatter(-1, order, taken).view_as(denoised)
        return Guided(x, torch.where(replace, target, denoised))


GUIDES: dict[str, Callable[..., Guidance]] = {"blend": Blend, "top_share": TopShare}
"""Guides that need targets and a table, by the names that the command line uses."""


def make_guidance(name: str, targets: Targets | None, table: LambdaTable | None, floor: float = 0.0) -> Guidance:
    """Guide by name. Raises ConfigError for an unknown name, or one that needs targets when there are none."""
    if name == "none":
        return NoGuidance()
    if name not in GUIDES:
        raise ConfigError(f"guidance {name!r} is not known; use one of {', '.join(get_args(GuidanceName))}")
    if targets is None or table is None:
        raise ConfigError(f"guidance {name!r} needs targets and a lambda table; use 'none' to sample without them")
    return TopShare(targets, table, floor) if name == "top_share" else Blend(targets, table)
