"""The posterior gradient: move x so that the estimate comes nearer to the target, then take an ordinary step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import EllipsisType

import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.solvers import Guided, Step
from mvguide.errors import ConfigError, NumericalError
from mvguide.guidance.targets import HoleWeight, Targets, check_floor, closest_elements, hole_row, read_hole_weight
from mvguide.guidance.tiles import OVERLAP, Tile, check_tiles, make_tiles
from mvguide.tables.table import LambdaTable

STEP_SIZE = 0.02
"""Step of the released code ("lr")."""


@dataclass(frozen=True)
class PosteriorGradient:
    """``x <- x - step_size sqrt(alpha sigma) g / std(g)``, g the gradient of ``sum m (D(x) - X)^2`` (paper: "POST").

    Of the seen elements of a frame the share ``max(w, floor)`` that agrees best counts, as in TopShare, each as much as
    its cell is seen: m is M there, and ``v (1 - M)`` more in holes for the hole weight v. A pinned frame counts whole.
    D is that of the network without classifier-free guidance. After the move x is denoised as usual, and the estimate
    is left alone (NVS-Solver, arXiv 2405.15364).

    Normalisation: std is over the whole of one video (all frames, channels and cells, Bessel's correction), after tiles
    are joined, so the length of the move does not depend on how large the error is, nor on the number of tiles. On VE
    alpha = 1; the factor is the same move of ``x/alpha`` at ``sigma/alpha`` on any path. Where no element counts, x
    stays.

    At the second evaluation of a step (Heun) x is not moved again: the move belongs to the step, not to the slope.

    Args:
        floor: smallest share of the seen elements, in [0, 1] (the released ``weight_clamp``).
        step_size: length of the move of x, >= 0 (the released ``lr``).
        hole_weight: pull of unseen cells towards the fill, in [0, 1]; or a table of such weights, or its .npz file.
        count_holes: miscount holes as the released code does, see :func:`mvguide.guidance.targets.closest_elements`.
        through_network: False leaves the network out of the derivative: ``g = m (D - X)``. That is what the released
            scripts do: they detach the network's input, and only the skip connection is left. No backward pass.
        checkpointing: recompute the network's activations on the way back instead of keeping them.
        tiles: number of overlapping tiles that the gradient is computed on, one after the other; for less memory.
        tile_overlap: share of a tile's side that overlaps the next, in [0, 0.5].

    Raises:
        ConfigError: for settings out of range.
    """

    floor: float = 0.0
    step_size: float = STEP_SIZE
    hole_weight: HoleWeight = 0.0
    count_holes: bool = False
    through_network: bool = True
    checkpointing: bool = True
    tiles: int = 1
    tile_overlap: float = OVERLAP

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_floor(self.floor)
        if not 0 <= self.step_size < torch.inf:
            raise ConfigError(f"step_size is {self.step_size:g}; it must be a finite number, 0 or more")
        check_tiles(self.tiles, self.tile_overlap)
        object.__setattr__(self, "hole_weight", read_hole_weight(self.hole_weight))

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets, table: LambdaTable) -> Guided:
        """X moved, and its plain estimate, x ``[B, F, C, h, w]``."""
        if self.step_size > 0 and not step.corrects:
            x = x - self.move(denoiser, x, step.sigma, targets, table)
        return Guided(x, denoiser(x, step.sigma))

    def move(self, denoiser: Denoiser, x: Tensor, sigma: Tensor, targets: Targets, table: LambdaTable) -> Tensor:
        """What is taken from x: ``step_size sqrt(alpha sigma) g / std(g)``, of x's shape."""
        gradient = self.gradient(denoiser, x, sigma, targets, table)
        spread = gradient.flatten(1).std(dim=1).view(-1, 1, 1, 1, 1)
        if not bool(torch.isfinite(spread).all()):  # one such value would switch the guidance off
            raise NumericalError(
                f"the posterior gradient is not finite at sigma {float(sigma):.3g}; use dtype bfloat16 or float32"
            )
        length = self.step_size * (denoiser.path.alpha(sigma) * sigma).sqrt()
        return torch.where(spread > 0, length * gradient / spread, torch.zeros_like(gradient))

    def gradient(self, denoiser: Denoiser, x: Tensor, sigma: Tensor, targets: Targets, table: LambdaTable) -> Tensor:
        """g, up to a factor, of x's shape; also where gradients are switched off around it."""
        importance = partial(self.importance, sigma=sigma, targets=targets, table=table)
        offered = getattr(denoiser, "for_gradient", None)
        network: Denoiser = offered(self.checkpointing) if offered else denoiser
        target = targets.latents.expand_as(x)
        if not self.through_network:
            with torch.no_grad():
                denoised = network(x, sigma)
                return importance(denoised) * (denoised - target)
        tiles = make_tiles(x.shape[-2], x.shape[-1], self.tiles, self.tile_overlap)
        if len(tiles) == 1:
            return _differentiate(network, x, sigma, target, importance)
        if not hasattr(network, "window"):
            raise ConfigError(f"tiles is {self.tiles}, but this model cannot be cut into tiles; give tiles 1")
        # Which elements agree best is a question about whole frames: it costs one more evaluation.
        with torch.no_grad():
            denoised = torch.zeros_like(x)
            for tile in tiles:
                part = network.window(tile.rows, tile.columns)
                denoised[_within(tile)] += tile.weight.to(x) * part(x[_within(tile)], sigma)
            whole = importance(denoised)
        gradient = torch.zeros_like(x)
        for tile in tiles:
            inside = _within(tile)
            part = network.window(tile.rows, tile.columns)
            piece = _differentiate(part, x[inside], sigma, target[inside], whole[inside])
            gradient[inside] += tile.weight.to(x) * piece
        return gradient

    def importance(self, denoised: Tensor, sigma: Tensor, targets: Targets, table: LambdaTable) -> Tensor:
        """m: how much each element of the squared error counts, ``[B, F, C, h, w]``."""
        share = table.row(sigma).clamp(min=self.floor)
        distance = (denoised - targets.latents).abs()
        taken = closest_elements(distance, targets, share, count_holes=self.count_holes)
        holes = targets.hole_weights(hole_row(self.hole_weight, sigma, denoised.shape[1]))
        return taken * targets.mask.to(denoised) + holes.to(denoised)


def _differentiate(
    network: Denoiser, x: Tensor, sigma: Tensor, target: Tensor, importance: Tensor | Callable[[Tensor], Tensor]
) -> Tensor:
    """Derivative of the weighted squared error with respect to x."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        denoised = network(leaf, sigma)
        weight = importance if isinstance(importance, Tensor) else importance(denoised.detach())
        # A sum, not a mean: half precision would lose what is divided by the number of elements.
        error = (weight * (denoised - target) ** 2).sum()
        return torch.autograd.grad(error, leaf)[0]


def _within(tile: Tile) -> tuple[EllipsisType, slice, slice]:
    """Index of a tile in a tensor ``[..., h, w]``."""
    return ..., tile.rows, tile.columns
