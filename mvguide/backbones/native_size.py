"""Sizes that a model was trained for, known without loading it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from mvguide.decoding import is_folder
from mvguide.errors import ModelError


@dataclass(frozen=True)
class NativeSize:
    """What a model's config says about its videos.

    Args:
        frames: that the UNet was trained on.
        side: ``unet.config.sample_size``: the trained area is ``side ** 2`` latent cells (SVD: 96^2 = 72 x 128).
        vae_scale_factor: pixels along a latent cell.
        multiple: latent sizes that the UNet takes without padding are multiples of this.
    """

    frames: int
    side: int
    vae_scale_factor: int
    multiple: int

    def default_size(self, width: int, height: int) -> tuple[int, int]:
        """The trained area in the picture's shape, rounded to what VAE and UNet take without padding."""
        unit = self.vae_scale_factor * self.multiple
        scale = self.side * self.vae_scale_factor / math.sqrt(width * height)
        return max(1, round(width * scale / unit)) * unit, max(1, round(height * scale / unit)) * unit


SVD_XT = NativeSize(frames=25, side=96, vae_scale_factor=8, multiple=8)
"""Taken for models whose config is not at hand."""


def read_native_size(folder: Path) -> NativeSize:
    """Format of a model folder in diffusers layout; that of SVD-XT where there is no such folder (a hub id).

    Raises ModelError where the folder's configs cannot be read.
    """
    if not is_folder(folder):
        return SVD_XT
    try:
        unet = json.loads((folder / "unet" / "config.json").read_text())
        vae = json.loads((folder / "vae" / "config.json").read_text())
        return NativeSize(
            frames=int(unet["num_frames"]),
            side=int(unet["sample_size"]),
            vae_scale_factor=2 ** (len(vae["block_out_channels"]) - 1),
            multiple=2 ** (len(unet["block_out_channels"]) - 1),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"folder {folder} has no readable unet/config.json and vae/config.json ({type(error).__name__}: {error}); "
            "give a model folder in diffusers layout"
        ) from error
