"""Guides: edits of the clean estimate towards the target, by the weights of the lambda table; any of them by name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.sampler import Guidance
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import Guided, Step
from mvguide.errors import ConfigError
from mvguide.guidance.gradient import STEP_SIZE, PosteriorGradient, check_floor
from mvguide.guidance.resample import UNTIL, Resample
from mvguide.guidance.targets import HolePull, Targets, closest_elements
from mvguide.guidance.tiles import OVERLAP, check_tiles
from mvguide.tables.table import LambdaTable

__all__ = [
    "Blend",
    "GuidanceName",
    "GuidanceSettings",
    "MaskName",
    "NoGuidance",
    "PosteriorGradient",
    "Resample",
    "Targets",
    "TopShare",
    "make_guidance",
]

GuidanceName = Literal["none", "blend", "top_share", "posterior_gradient"]
MaskName = Literal["hard", "soft"]
MakeGuide = Callable[[Targets, LambdaTable], Guidance]


@dataclass(frozen=True)
class NoGuidance:
    """Leave the model alone: the stock image-to-video result."""

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """The denoiser's own estimate."""
        return Guided(x, denoiser(x, step.sigma))


@dataclass(frozen=True)
class Blend:
    """``D~ = D + w M (X - D)`` (NVS-Solver, arXiv 2405.15364, eq. 12): pull by the weight, where the target is seen.

    With a hole weight v the pull is ``w M + v (1 - M)``: towards the fill where nothing is seen.

    Args:
        targets: the encoded warps and M.
        table: w.
        holes: v.
    """

    targets: Targets
    table: LambdaTable
    holes: HolePull = field(default_factory=HolePull)

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """Blended estimate, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        hole_row = self.holes.row(step.sigma, denoised.shape[1])
        weights = self.targets.weights(self.table.row(step.sigma), hole_row)
        return Guided(x, torch.lerp(denoised, self.targets.latents.expand_as(denoised), weights))


@dataclass(frozen=True)
class TopShare:
    """Replace by the target where the two agree best (the released code's "DGS").

    Of the seen latent elements of a frame (all channels together), the share ``max(w, floor)`` with the smallest
    ``|D - X|`` becomes X; the rest stays D, but for the hole weight's pull. The count is rounded down.

    Args:
        targets: the encoded warps; a cell counts as seen when its mask is above 0.5.
        table: weights.
        floor: smallest share, in [0, 1] (the released ``weight_clamp``).
        holes: pull of unseen cells towards the fill.
        count_holes: miscount holes as the released code does, see :func:`mvguide.guidance.targets.closest_elements`; on fully
            seen frames both agree.
    """

    targets: Targets
    table: LambdaTable
    floor: float = 0.0
    holes: HolePull = field(default_factory=HolePull)
    count_holes: bool = False

    def __post_init__(self) -> None:
        """Check the floor."""
        check_floor(self.floor)

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        """Estimate with the best-agreeing elements replaced, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        target = self.targets.latents.expand_as(denoised)
        share = self.table.row(step.sigma).clamp(min=self.floor)
        replaced = closest_elements((denoised - target).abs(), self.targets, share, count_holes=self.count_holes)
        holes = self.targets.hole_weights(self.holes.row(step.sigma, denoised.shape[1]))
        return Guided(x, torch.where(replaced, target, torch.lerp(denoised, target, holes.expand_as(denoised))))


@dataclass(frozen=True)
class GuidanceSettings:
    """Everything about guidance but the weights of the table.

    Args:
        kind: blend, top_share, posterior_gradient or none.
        floor: top_share, posterior_gradient: smallest share of the seen elements, in [0, 1].
        count_holes: top_share, posterior_gradient: miscount holes as the released code does.
        step_size: posterior_gradient: length of the move of x, >= 0.
        through_network: posterior_gradient: False leaves the network out of the derivative, as the released scripts do.
        checkpointing: posterior_gradient: recompute activations on the way back: less memory, more time.
        tiles: posterior_gradient: number of overlapping tiles that the gradient is computed on: less memory, more time.
        tile_overlap: posterior_gradient: share of a tile's side that overlaps the next, in [0, 0.5].
        resample: rounds that a step is repeated, >= 0; see :class:`Resample`.
        resample_until: share of the steps that are repeated, in [0, 1].
        mask: hard counts a latent cell whole or not at all, by cell_coverage; soft by the share of it that is seen. None =
            soft, but hard where a cell_coverage is given.
        cell_coverage: hard mask: a cell is seen when at least this share of its pixels is, in (0, 1]; None = 0.5.
        ramp: cells next to a hole count less, rising with the distance to it over so many cells; 0 = no ramp.
        confidence: exponent of the warps' confidence, which scales what a cell counts; 0 = not at all.
        hole_weight: pull of unseen cells towards the fill: a number in [0, 1], or a table of its own.
        own: makes a guide of one's own from targets and table, in place of ``kind``.

    Raises:
        ConfigError, InputError: for settings that no picture could be rendered with.
    """

    kind: GuidanceName = "blend"
    floor: float = 0.0
    count_holes: bool = False
    step_size: float = STEP_SIZE
    through_network: bool = True
    checkpointing: bool = True
    tiles: int = 1
    tile_overlap: float = OVERLAP
    resample: int = 0
    resample_until: float = UNTIL
    mask: MaskName | None = None
    cell_coverage: float | None = None
    ramp: float = 0.0
    confidence: float = 0.0
    hole_weight: float | LambdaTable = 0.0
    own: MakeGuide | None = None

    def __post_init__(self) -> None:
        """Check everything that does not depend on the picture, before anything slow."""
        if self.kind not in get_args(GuidanceName):
            raise ConfigError(f"guidance {self.kind!r} is not known; use one of {', '.join(get_args(GuidanceName))}")
        if self.mask is None:
            object.__setattr__(self, "mask", "soft" if self.cell_coverage is None else "hard")
        if self.mask not in get_args(MaskName):
            raise ConfigError(f"mask {self.mask!r} is not known; use one of {', '.join(get_args(MaskName))}")
        check_floor(self.floor)
        if not 0 <= self.step_size < torch.inf:
            raise ConfigError(f"step_size is {self.step_size:g}; it must be a finite number, 0 or more")
        if self.cell_coverage is not None and not 0 < self.cell_coverage <= 1:
            raise ConfigError(
                f"cell_coverage is {self.cell_coverage:g}; it is a share of a cell, above 0 and at most 1"
            )
        for name in ("ramp", "confidence"):
            if not 0 <= getattr(self, name) < torch.inf:
                raise ConfigError(f"{name} is {getattr(self, name):g}; it must be a finite number, 0 or more")
        check_tiles(self.tiles, self.tile_overlap)
        Resample(NoGuidance(), self.resample, self.resample_until)
        HolePull(self.hole_weight)

    def check(self, schedule: SigmaSchedule, num_frames: int) -> None:
        """Raise InputError when a table for holes is not for this schedule and number of frames."""
        if isinstance(self.hole_weight, LambdaTable):
            self.hole_weight.check(schedule, num_frames)

    def report(self) -> dict[str, Any]:
        """Plain values by name, the kind as ``guidance``; a table is named by its source."""
        values = {name: value for name, value in vars(self).items() if name not in ("kind", "own")}
        if isinstance(self.hole_weight, LambdaTable):
            values["hole_weight"] = f"table: {self.hole_weight.source}"
        return {"guidance": self.kind if self.own is None else repr(self.own), **values}


def make_guidance(
    settings: str | GuidanceSettings | MakeGuide,
    targets: Targets | None,
    table: LambdaTable | None,
    generator: torch.Generator | None = None,
) -> Guidance:
    """Guide from settings, or by name with the defaults.

    Args:
        settings: what to make.
        targets: the encoded warps; not needed for ``none``.
        table: weights; not needed for ``none``.
        generator: CPU generator of resampling.

    Raises:
        ConfigError: an unknown name, or one that needs targets when there are none.
    """
    told = as_settings(settings)
    guide = _plain_guide(told, targets, table)
    return Resample(guide, told.resample, told.resample_until, generator) if told.resample else guide


def as_settings(settings: str | GuidanceSettings | MakeGuide) -> GuidanceSettings:
    """The settings, or the defaults for a kind of guidance or a guide of one's own."""
    if isinstance(settings, GuidanceSettings):
        return settings
    if callable(settings):
        return GuidanceSettings(own=settings)
    return replace(GuidanceSettings(), kind=settings)  # type: ignore[arg-type]  # checked when made


def _plain_guide(told: GuidanceSettings, targets: Targets | None, table: LambdaTable | None) -> Guidance:
    if told.kind == "none":
        return NoGuidance()
    if targets is None or table is None:
        raise ConfigError(f"guidance {told.kind!r} needs targets and a lambda table; use 'none' to sample without them")
    if told.own is not None:
        return told.own(targets, table)
    holes = HolePull(told.hole_weight)
    if told.kind == "blend":
        return Blend(targets, table, holes)
    if told.kind == "top_share":
        return TopShare(targets, table, told.floor, holes, told.count_holes)
    return PosteriorGradient(
        targets,
        table,
        floor=told.floor,
        step_size=told.step_size,
        holes=holes,
        count_holes=told.count_holes,
        through_network=told.through_network,
        checkpointing=told.checkpointing,
        tiles=told.tiles,
        tile_overlap=told.tile_overlap,
    )
