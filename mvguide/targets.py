"""From warps to what guidance aims at: encoded targets and the masks of their cells."""

from mvguide.backbones.base import Backbone
from mvguide.geometry.masks import latent_visible, push_pull_fill
from mvguide.guidance.guides import Targets
from mvguide.warps import Warps

CELL_SHARE = 0.5
"""A latent cell is guided when at least this share of its pixels is seen; the rest of it is filled from around.

Asking for every pixel throws away what is seen along each hole (docs/results.md has the price).
"""


def encode_targets(backbone: Backbone, warps: Warps, chunk: int = 8, cell_share: float = CELL_SHARE) -> Targets:
    """Encode warps into targets on the backbone's device.

    Holes are filled before encoding, because a black hole would bleed into neighbouring latent cells; the mask keeps
    cells that are mostly invented out of the guidance.
    """
    filled = push_pull_fill(warps.image, warps.visible)
    device = backbone.device
    return Targets(
        backbone.encode(filled, chunk).to(device),
        latent_visible(warps.visible, backbone.factor, cell_share).to(device),
        warps.pinned.to(device),
    )
