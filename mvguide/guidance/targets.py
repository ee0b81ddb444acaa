"""Targets of guidance: encoded warps, how much each of their cells counts, and which elements agree best."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from mvguide.errors import ConfigError, InputError
from mvguide.tables.table import LambdaTable, check_weight

MaskName = Literal["hard", "soft"]


@dataclass(frozen=True)
class MaskOptions:
    """How much a latent cell counts, by how much of it is seen; see :func:`mvguide.pipeline.encoding.cell_weights`.

    Args:
        mask: mask of the latent cells: hard counts a cell whole or not at all, by cell_coverage; soft (default) by the
            share of its pixels that are seen.
        cell_coverage: share of a latent cell's pixels, in (0, 1], that must be seen for it to be guided; makes the mask
            hard; 0.5 with a hard mask if unset.
        ramp: number of cells over which the weight rises with the distance to a hole; 0 = no ramp.
        confidence: exponent of the warp's confidence, which scales what a cell counts; 0 = not at all.

    Raises:
        ConfigError: for values out of range.
    """

    mask: MaskName | None = None
    cell_coverage: float | None = None
    ramp: float = 0.0
    confidence: float = 0.0

    def __post_init__(self) -> None:
        """Check everything that does not depend on the image, before anything slow."""
        if self.mask is not None and self.mask not in get_args(MaskName):
            raise ConfigError(f"mask {self.mask!r} is not known; use one of {', '.join(get_args(MaskName))}")
        if self.cell_coverage is not None and not 0 < self.cell_coverage <= 1:
            raise ConfigError(f"cell_coverage is {self.cell_coverage:g}; it is a share of a cell, in (0, 1]")
        for name in ("ramp", "confidence"):
            if not 0 <= getattr(self, name) < torch.inf:
                raise ConfigError(f"{name} is {getattr(self, name):g}; it must be a finite number, 0 or more")

    @property
    def is_hard(self) -> bool:
        """Whether cells count whole or not at all."""
        return self.mask == "hard" or (self.mask is None and self.cell_coverage is not None)


@dataclass(frozen=True)
class Targets:
    """What each latent frame should be, where that is known.

    Args:
        latents: ``[F, C, h, w]`` encoded warps, in the units of the denoiser's x; holes hold the fill around them.
        visible: ``[F, 1, h, w]`` in [0, 1]: how far a cell is to be believed; 1 = seen, 0 = hole.
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

    @property
    def mask(self) -> Tensor:
        """``visible``, and 1 everywhere in a pinned frame: M, ``[F, 1, h, w]``."""
        return torch.where(self.pinned.view(-1, 1, 1, 1), torch.ones_like(self.visible), self.visible)

    @property
    def seen(self) -> Tensor:
        """Cells that count as seen where it is all or nothing: M above 0.5; bool ``[F, 1, h, w]``."""
        return self.mask > 0.5

    def weights(self, row: Tensor, hole_row: Tensor | None = None) -> Tensor:
        """Weight of every cell, ``w M + v (1 - M)``, ``[F, 1, h, w]``; 1 in a pinned frame.

        Args:
            row: ``[F]``: w, where the target is seen.
            hole_row: ``[F]``: v, towards the fill where it is not; 0 if not given.
        """
        weights = _per_frame(row, self.visible) * self.visible
        if hole_row is not None:
            weights = weights + self.hole_weights(hole_row)
        return torch.where(self.pinned.view(-1, 1, 1, 1), torch.ones_like(weights), weights)

    def hole_weights(self, hole_row: Tensor) -> Tensor:
        """``v (1 - M)``, ``[F, 1, h, w]``."""
        return _per_frame(hole_row, self.visible) * (1 - self.mask)


HoleWeight = float | str | LambdaTable
"""How strongly unseen cells are drawn towards the fill that the targets hold there: a number in [0, 1] (0 = the model
alone), a table of its own, or the .npz file of one."""


def read_hole_weight(weight: HoleWeight) -> float | LambdaTable:
    """The number or table; a file is read.

    Raises:
        InputError: a number outside [0, 1].
        FileError: a file that is no table.
    """
    if isinstance(weight, LambdaTable):
        return weight
    if isinstance(weight, str):
        return LambdaTable.load(weight)
    check_weight(weight)
    return float(weight)


def hole_row(weight: HoleWeight, sigma: Tensor, num_frames: int) -> Tensor:
    """Hole weights ``[F]`` at a noise level; ``weight`` is what :func:`read_hole_weight` returned."""
    if isinstance(weight, LambdaTable):
        return weight.row(sigma)
    return torch.full((num_frames,), float(weight), dtype=torch.float64)


def check_floor(floor: float) -> None:
    """Raise ConfigError for a floor outside [0, 1]."""
    if not 0 <= floor <= 1:
        raise ConfigError(f"floor is {floor:g}; it is a share of the seen elements, between 0 and 1")


def closest_elements(distance: Tensor, targets: Targets, share: Tensor, *, count_holes: bool = False) -> Tensor:
    """Of a frame's seen elements (all channels together), the share with the smallest distance; bool as ``distance``.

    The count is rounded down. In a pinned frame all are taken.

    Args:
        distance: ``[B, F, C, h, w]``, between the estimate and the target.
        targets: say which cells are seen.
        share: ``[F]`` in [0, 1].
        count_holes: miscount as the released code does: of ``N`` elements with ``n`` unseen cells it takes
            ``share (N - n) - (C - 1) n``, since it counts holes in one channel but sorts those of all. It agrees with
            the right count, ``share (N - C n)``, where nothing is hidden or the share is 1.
    """
    channels = distance.shape[2]
    seen = targets.seen.expand_as(distance[0]).expand_as(distance).flatten(2)
    share = torch.where(targets.pinned.cpu(), torch.ones_like(share), share).to(seen.device)
    number = seen.sum(-1)  # [B, F]
    if count_holes:
        holes = (seen.shape[-1] - number) // channels
        quota = (share * (number + (channels - 1) * holes)).floor() - (channels - 1) * holes
    else:
        quota = (share * number).floor()
    order = distance.flatten(2).masked_fill(~seen, torch.inf).argsort(dim=-1, stable=True)
    taken = torch.arange(order.shape[-1], device=order.device) < quota.unsqueeze(-1)
    return torch.zeros_like(taken).scatter(-1, order, taken).view_as(distance)


def _per_frame(row: Tensor, like: Tensor) -> Tensor:
    return row.to(like).view(-1, 1, 1, 1)
