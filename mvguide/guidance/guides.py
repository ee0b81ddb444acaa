"""Guides: edits of the clean estimate towards the target, weighted by the lambda table.

A guide is a frozen dataclass. Its fields are its options: they are the settings of a Python call, the options of the
command line and the entries of the report. To add one, write the class and enter it in :data:`GUIDES`.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.sampler import Guidance
from mvguide.diffusion.solvers import Guided, Step
from mvguide.errors import ConfigError
from mvguide.guidance.gradient import PosteriorGradient
from mvguide.guidance.targets import HoleWeight, Targets, check_floor, closest_elements, hole_row, read_hole_weight
from mvguide.tables.table import LambdaTable

__all__ = ["GUIDES", "Blend", "Guide", "NoGuidance", "PosteriorGradient", "TopShare", "bind", "make_guide", "report"]


@runtime_checkable
class Guide(Protocol):
    """``guide(denoiser, x, step, targets, table) -> Guided``: evaluate the denoiser, edit x, the estimate, or both.

    Args:
        denoiser: the network with its conditioning.
        x: noisy latents ``[B, F, C, h, w]`` at ``step.sigma``.
        step: where the run is.
        targets: the encoded warps and their masks.
        table: weights ``[N, F]``.
    """

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets, table: LambdaTable) -> Guided:
        """Guided estimate at ``step.sigma``."""
        ...


@dataclass(frozen=True)
class NoGuidance:
    """Leave the model alone: the stock image-to-video result."""

    def __call__(
        self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets | None = None, table: object = None
    ) -> Guided:
        """The denoiser's own estimate, x ``[B, F, C, h, w]``."""
        return Guided(x, denoiser(x, step.sigma))


@dataclass(frozen=True)
class Blend:
    """``D~ = D + w M (X - D)`` (NVS-Solver, arXiv 2405.15364, eq. 12): pull by the weight, where the target is seen.

    With a hole weight v the pull is ``w M + v (1 - M)``: towards the fill where nothing is seen.

    Args:
        hole_weight: pull of unseen cells towards the fill, in [0, 1]; or a table of such weights, or its .npz file.
    """

    hole_weight: HoleWeight = 0.0

    def __post_init__(self) -> None:
        """Check the hole weight; a file is read."""
        object.__setattr__(self, "hole_weight", read_hole_weight(self.hole_weight))

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets, table: LambdaTable) -> Guided:
        """Blended estimate, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        holes = hole_row(self.hole_weight, step.sigma, denoised.shape[1])
        weights = targets.weights(table.row(step.sigma), holes)
        return Guided(x, torch.lerp(denoised, targets.latents.expand_as(denoised), weights))


@dataclass(frozen=True)
class TopShare:
    """Replace by the target where the two agree best (the released code's "DGS").

    Of the seen latent elements of a frame (all channels together), the share ``max(w, floor)`` with the smallest
    ``|D - X|`` becomes X; the rest stays D, except for the pull of the hole weight. The count is rounded down. A cell
    counts as seen when its mask is above 0.5.

    Args:
        floor: smallest share of the seen elements, in [0, 1] (the released ``weight_clamp``).
        count_holes: miscount holes as the released code does, see :func:`mvguide.guidance.targets.closest_elements`.
        hole_weight: pull of unseen cells towards the fill, in [0, 1]; or a table of such weights, or its .npz file.
    """

    floor: float = 0.0
    count_holes: bool = False
    hole_weight: HoleWeight = 0.0

    def __post_init__(self) -> None:
        """Check the numbers; a file is read."""
        check_floor(self.floor)
        object.__setattr__(self, "hole_weight", read_hole_weight(self.hole_weight))

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets, table: LambdaTable) -> Guided:
        """Estimate with the best-agreeing elements replaced, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        target = targets.latents.expand_as(denoised)
        share = table.row(step.sigma).clamp(min=self.floor)
        replaced = closest_elements((denoised - target).abs(), targets, share, count_holes=self.count_holes)
        holes = targets.hole_weights(hole_row(self.hole_weight, step.sigma, denoised.shape[1]))
        return Guided(x, torch.where(replaced, target, torch.lerp(denoised, target, holes.expand_as(denoised))))


GUIDES: dict[str, type[Any]] = {
    "blend": Blend,
    "top_share": TopShare,
    "posterior_gradient": PosteriorGradient,
    "none": NoGuidance,
}
"""Guides by the names that the command line uses."""


def make_guide(guide: str | Guide, **options: Any) -> Guide:
    """Guide by name, or the object itself.

    Args:
        guide: a name in :data:`GUIDES`, or a guide.
        options: of any guide; those that the named one lacks are left out.

    Raises:
        ConfigError: an unknown name, or an option out of range.
    """
    if not isinstance(guide, str):
        if not callable(guide):
            raise ConfigError(f"guidance is {guide!r}; give a name ({', '.join(GUIDES)}) or a guide")
        return guide
    if guide not in GUIDES:
        raise ConfigError(f"guidance {guide!r} is not known; use one of {', '.join(GUIDES)}")
    names = {field.name for field in fields(GUIDES[guide])}
    return GUIDES[guide](**{name: value for name, value in options.items() if name in names})


def bind(guide: Guide, targets: Targets, table: LambdaTable) -> Guidance:
    """The guide with its targets and table, as the denoising loop calls it."""

    def guidance(denoiser: Denoiser, x: Tensor, step: Step) -> Guided:
        return guide(denoiser, x, step, targets, table)

    return guidance


def report(guide: Guide) -> dict[str, Any]:
    """Name of the guide as ``guidance``, and its options as plain values; a table is named by its source."""
    name = next((name for name, known in GUIDES.items() if type(guide) is known), None)
    if name is None or not is_dataclass(guide):
        return {"guidance": repr(guide)}
    options = {
        option: f"table: {value.source}" if isinstance(value, LambdaTable) else value
        for option, value in ((field.name, getattr(guide, field.name)) for field in fields(guide))
    }
    return {"guidance": name, **options}
