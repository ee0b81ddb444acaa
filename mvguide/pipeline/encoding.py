"""From warps to targets: fill the holes, encode, and say how much each latent cell counts."""

from torch import Tensor

from mvguide.backbones.base import Backbone
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.geometry.masks import cell_means, hole_ramp, latent_visible
from mvguide.guidance.targets import MaskOptions
from mvguide.views.warps import Warps

CELL_COVERAGE = 0.5
"""With a hard mask, a latent cell is guided when at least this share of its pixels is seen; the rest is filled.

Asking for every pixel throws away what is seen along each hole (docs/results.md has the price).
"""


def encode_warps(backbone: Backbone, warps: Warps, chunk: int = 8) -> Tensor:
    """Latents ``[F, C, h, w]`` of the warps on the backbone's device, their holes filled from the farther side.

    Holes are filled before encoding, because a black hole would bleed into neighbouring latent cells; the mask keeps
    cells that are mostly invented out of the guidance. What a move uncovers mostly continues what lies behind.
    """
    filled = push_pull_fill(warps.image, warps.visible, warps.depth)
    return backbone.encode(filled, chunk).to(backbone.device)


def cell_weights(warps: Warps, vae_scale_factor: int, options: MaskOptions | None = None) -> Tensor:
    """How much each latent cell counts: ``seen * ramp * confidence``.

    With a soft mask, seen is the share of the cell's pixels that are visible; with a hard mask it is 1 where that
    share reaches the cell coverage, else 0. The ramp rises linearly with the distance to the nearest hole
    (:func:`mvguide.geometry.masks.hole_ramp`). The confidence is the mean of ``confidence^p`` over the seen pixels.

    Args:
        warps: F frames ``[F, 3, H, W]``.
        vae_scale_factor: pixels of a latent cell along one side; divides H and W.
        options: mask, cell coverage, ramp and confidence exponent; soft by default.

    Returns:
        ``[F, 1, h, w]`` in [0, 1].

    Raises:
        InputError: a scale factor that does not divide the size.
    """
    options = options or MaskOptions()
    visible = cell_means(warps.visible, vae_scale_factor)
    if options.is_hard:
        seen = latent_visible(warps.visible, vae_scale_factor, options.cell_coverage or CELL_COVERAGE)
    else:
        seen = visible.clamp(0, 1)
    if options.ramp:
        seen = seen * hole_ramp(seen, options.ramp)
    if options.confidence:
        trusted = cell_means(warps.visible * warps.confidence.clamp(0, 1) ** options.confidence, vae_scale_factor)
        seen = seen * (trusted / visible.clamp(min=1e-6)).clamp(max=1)
    return seen
