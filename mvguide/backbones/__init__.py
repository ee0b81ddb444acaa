"""Backbones: pretrained video diffusion models behind one small protocol."""

from mvguide.backbones.base import Backbone, Conditioning
from mvguide.backbones.pretrained import EMBEDDED, load_backbone

__all__ = ["EMBEDDED", "Backbone", "Conditioning", "load_backbone"]
