"""From warps to targets: fill the holes, encode, and say how much each latent cell counts."""

import torch
from torch import Tensor

from mvguide.backbones.base import Backbone
from mvguide.backbones.chunks import encode_frames
from mvguide.diffusion.time_grid import TimeGrid
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.geometry.masks import cell_means, covered, hole_ramp
from mvguide.guidance.targets import MaskOptions
from mvguide.views.warps import Warps

BLOCK = 32
"""Frames whose holes are filled at a time; there may be hundreds."""
CELL_COVERAGE = 0.5
"""With a hard mask, a latent cell is guided when at least this share of its pixels is seen; the rest is filled.

Asking for every pixel throws away what is seen along each hole (docs/results.md has the price).
"""


def fill_holes(warps: Warps) -> Tensor:
    """The warps ``[F, 3, H, W]``, their holes filled from the farther side.

    Holes are filled before encoding, because a black hole would bleed into neighbouring latent cells; the mask keeps
    cells that are mostly invented out of the guidance. What a move uncovers mostly continues what lies behind.
    """
    blocks = (warps[first : first + BLOCK] for first in range(0, len(warps.image), BLOCK))
    return torch.cat([push_pull_fill(block.image, block.visible, block.depth) for block in blocks])


def encode_warps(backbone: Backbone, warps: Warps, chunk: int | None) -> Tensor:
    """The warps with their holes filled, as latents ``[L, C, h, w]``; a block at a time where the VAE allows it.

    Args:
        backbone: the model.
        warps: F frames.
        chunk: see :func:`mvguide.backbones.chunks.encode_frames`.
    """
    if backbone.grid.ratio > 1:  # what precedes a frame changes its latents
        return encode_frames(backbone, fill_holes(warps), chunk)
    size = BLOCK * (chunk or 1)  # so that chunks are cut as they are in one piece
    blocks = (warps[first : first + size] for first in range(0, len(warps.image), size))
    return torch.cat([encode_frames(backbone, fill_holes(block), chunk) for block in blocks])


def encode_each(backbone: Backbone, pictures: Tensor, chunk: int | None = None) -> Tensor:
    """Images that are no video, ``[P, 3, H, W]``, to one latent frame each, ``[P, C, h, w]``.

    Where the VAE packs frames, an image is a video of its own: what precedes a frame changes its latents.
    """
    if backbone.grid.ratio == 1:
        return encode_frames(backbone, pictures, chunk)
    return torch.cat([encode_frames(backbone, picture[None], chunk)[-1:] for picture in pictures])


def cell_weights(
    warps: Warps, vae_scale_factor: int, options: MaskOptions | None = None, grid: TimeGrid | None = None
) -> Tensor:
    """How much each latent cell counts: ``seen * ramp * confidence``.

    With a soft mask, seen is the share of the cell's pixels that are visible; with a hard mask it is 1 where that
    share reaches the cell coverage, else 0. The ramp rises linearly with the distance to the nearest hole
    (:func:`mvguide.geometry.masks.hole_ramp`). The confidence is the mean of ``confidence^p`` over the seen pixels.

    Args:
        warps: F frames ``[F, 3, H, W]``.
        vae_scale_factor: pixels of a latent cell along one side; divides H and W.
        options: mask, cell coverage, ramp and confidence exponent; soft by default.
        grid: which frames are one latent frame; its share is the mean over them. By default each is one.

    Returns:
        ``[L, 1, h, w]`` in [0, 1].

    Raises:
        InputError: a scale factor that does not divide the size.
    """
    options, grid = options or MaskOptions(), grid or TimeGrid()
    visible = grid.mean(cell_means(warps.visible, vae_scale_factor))
    if options.is_hard:
        seen = covered(visible, vae_scale_factor**2 * grid.ratio, options.cell_coverage or CELL_COVERAGE)
    else:
        seen = visible.clamp(0, 1)
    if options.ramp:
        seen = seen * hole_ramp(seen, options.ramp)
    if options.confidence:
        trusted = warps.visible * warps.confidence.clamp(0, 1) ** options.confidence
        trusted = grid.mean(cell_means(trusted, vae_scale_factor))
        seen = seen * (trusted / visible.clamp(min=1e-6)).clamp(max=1)
    return seen
