"""A background that is known: pixels that are infinitely far are warped along instead of being holes."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mvguide.depth.maps import Depth
from mvguide.errors import InputError
from mvguide.views.view import View

_TOLERANCE = 4 / 255  # what compression does to a flat colour
_OPAQUE = 1 / 255  # alpha below this is nothing


def check_background(kind: str | None) -> None:
    """Refuse what is no background: raises InputError unless it is None, white, #rrggbb, alpha or far."""
    if kind not in (None, "white", "alpha", "far") and not re.fullmatch("#[0-9a-fA-F]{6}", kind or ""):
        raise InputError(
            f"background is {kind!r}; give white or another colour as '#rrggbb', alpha (what is transparent), or far "
            "(all that has no depth)"
        )


def find_background(
    kind: str | None, image: Tensor, alpha: Tensor | None, depth: Depth | None, name: str
) -> Tensor | None:
    """Pixels of an image that are background by their colour or alpha.

    A pixel of the background's colour for which a file gives depth is no background: a highlight on a white thing.

    Args:
        kind: white, #rrggbb, alpha or far.
        image: ``[3, H, W]`` in [0, 1].
        alpha: ``[1, H, W]`` in [0, 1], of an image that has it.
        depth: of the image, from a file.
        name: of the image, for messages.

    Returns:
        ``[H, W]`` bool; None where the image does not tell: without `kind`, and for far.

    Raises:
        InputError: alpha was asked for, and the image has none.
    """
    if kind is None or kind == "far":
        return None
    if kind == "alpha":
        if alpha is None:
            raise InputError(f"background is 'alpha', but {name} has no transparency; give its colour, or far")
        return alpha[0] < _OPAQUE
    digits = "ffffff" if kind == "white" else kind[1:]
    colour = torch.tensor([int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]).view(3, 1, 1)
    mask = ((image - colour).abs() <= _TOLERANCE + 1e-6).all(0)
    return mask if depth is None else mask & ~depth.valid


def place_backgrounds(views: Sequence[View], kind: str | None) -> list[View]:
    """Views whose background has the depth of what is infinitely far, once all have depth.

    Args:
        views: their ``background`` from :func:`find_background`.
        kind: as there; far takes all that has no depth.

    Raises:
        InputError: an image that is background alone.
    """
    return list(views) if kind is None else [_place(view, kind) for view in views]


def _place(view: View, kind: str) -> View:
    if view.depth is None:
        return replace(view, background=None)
    mask = ~view.depth.valid if kind == "far" else view.background
    return replace(view, background=None) if mask is None or not mask.any() else view.with_background(mask)
