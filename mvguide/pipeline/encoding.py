"""From warps to what guidance aims at: encoded targets and the masks of their cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mvguide.backbones.base import Backbone, Conditioning
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import ConfigError
from mvguide.geometry.camera import Camera
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.geometry.masks import cell_means, hole_ramp, latent_visible
from mvguide.guidance.targets import Targets
from mvguide.views.moments import Moments
from mvguide.views.view import View
from mvguide.views.warps import Warps

CELL_COVERAGE = 0.5
"""A latent cell is guided when at least this share of its pixels is seen; the rest of it is filled from around.

Asking for every pixel throws away what is seen along each hole (docs/results.md has the price).
"""


@dataclass(frozen=True)
class Context:
    """What is known before the first step: what a function that makes the table may look at.

    Args:
        backbone: the model.
        views: as given.
        trajectory: F cameras at the video's size.
        moments: which views show which frames; None: all of them all.
        schedule: noise levels of the run.
        warps: of the views into the trajectory.
        condition: what the model is told.
        targets: the encoded warps; None where nothing is guided.
        chunk: frames encoded at a time.
    """

    backbone: Backbone
    views: Sequence[View]
    trajectory: Camera
    moments: Moments | None
    schedule: SigmaSchedule
    warps: Warps
    condition: Conditioning
    targets: Targets | None
    chunk: int


def encode_targets(
    backbone: Backbone,
    warps: Warps,
    chunk: int = 8,
    cell_coverage: float = CELL_COVERAGE,
    *,
    mask: str = "hard",
    ramp: float = 0.0,
    confidence: float = 0.0,
) -> Targets:
    """Encode warps into targets on the backbone's device.

    Holes are filled before encoding, because a black hole would bleed into neighbouring latent cells; the mask keeps
    cells that are mostly invented out of the guidance.

    Args:
        backbone: encodes.
        warps: F frames.
        chunk: frames encoded at a time.
        cell_coverage: as in :func:`cell_weights`, which says what a cell counts.
        mask: likewise.
        ramp: likewise.
        confidence: likewise.
    """
    filled = push_pull_fill(warps.image, warps.visible)
    device = backbone.device
    visible = cell_weights(
        warps, backbone.vae_scale_factor, cell_coverage=cell_coverage, mask=mask, ramp=ramp, confidence=confidence
    )
    return Targets(backbone.encode(filled, chunk).to(device), visible.to(device), warps.pinned.to(device))


def cell_weights(
    warps: Warps,
    factor: int,
    *,
    cell_coverage: float = CELL_COVERAGE,
    mask: str = "hard",
    ramp: float = 0.0,
    confidence: float = 0.0,
) -> Tensor:
    """How far each latent cell is to be believed: ``seen * ramp * confidence``, ``[F, 1, h, w]`` in [0, 1].

    Args:
        warps: F frames.
        factor: pixels of a cell along one side.
        cell_coverage: hard mask: seen is 1 when at least this share of the cell's pixels is, else 0; in (0, 1].
        mask: ``hard``, or ``soft``: seen is the share of the cell's pixels that are.
        ramp: cells over which the weight rises linearly with the distance to the nearest hole (a cell of which nothing
            counts as seen); 0 = none. See :func:`mvguide.geometry.masks.hole_ramp`.
        confidence: exponent p: the mean of ``confidence^p`` over the seen pixels of the cell; 0 = 1 everywhere.

    Raises:
        ConfigError: for an unknown mask, or a confidence below 0.
        InputError: for a share or a ramp out of range, or a factor that does not divide the size.
    """
    if mask not in ("hard", "soft"):
        raise ConfigError(f"mask {mask!r} is not known; use one of hard, soft")
    if confidence < 0:
        raise ConfigError(f"confidence is {confidence:g}; it must be a finite number, 0 or more")
    share = cell_means(warps.visible, factor)
    seen = latent_visible(warps.visible, factor, cell_coverage) if mask == "hard" else share.clamp(0, 1)
    if ramp:
        seen = seen * hole_ramp(seen, ramp)
    if confidence:
        believed = cell_means(warps.visible * warps.confidence.clamp(0, 1) ** confidence, factor)
        seen = seen * (believed / share.clamp(min=1e-6)).clamp(max=1)
    return seen
