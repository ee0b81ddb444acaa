"""Windows: a video longer than the model's own, denoised as overlapping pieces whose estimates are cross-faded.

There is one loop over all latent frames, and the network sees a window of them at a time. So every solver and guide
works as on a short video, and the network's memory is that of one window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.path import NoisePath
from mvguide.diffusion.time_grid import TimeGrid
from mvguide.errors import ConfigError

OVERLAP = 0.25
"""Share of a window that it has in common with the next."""
LongName = Literal["windows", "anchors"]


@dataclass
class LongOptions:
    """How a video is made that is longer than the model's own; a shorter one is denoised as a whole.

    Args:
        long: windows denoises overlapping windows of the model's length and cross-fades the estimates; anchors first
            renders a video of the model's length along the whole path, and its frames are views for the windows.
        window: frames of a window; those that the model was trained on if unset.
        window_overlap: share of a window that it has in common with the next, in [0, 0.5].

    Raises:
        ConfigError: for values out of range.
    """

    heading: ClassVar[str] = "path"

    long: LongName = "windows"
    window: int | None = None
    window_overlap: float = OVERLAP

    def __post_init__(self) -> None:
        """Check what does not depend on the model."""
        if self.long not in get_args(LongName):
            raise ConfigError(f"long is {self.long!r}; use one of {', '.join(get_args(LongName))}")
        if self.window is not None and (isinstance(self.window, bool) or self.window < 2):
            raise ConfigError(f"window is {self.window!r}; it is a number of frames, at least 2")
        _check_overlap(self.window_overlap)

    def windows(self, grid: TimeGrid, num_frames: int, native_frames: int) -> list["Window"]:
        """Windows of latent frames of a video of F frames; one where the model takes them all.

        Args:
            grid: which frames are one latent frame.
            num_frames: F.
            native_frames: of a window where none is set.

        Raises:
            InputError: a number of frames that the grid does not hold.
            ConfigError: a window so short that it leads nowhere.
        """
        length, size = grid.latent_frames(num_frames), grid.latent_frames(self.window or native_frames, "window")
        unused = 0 if grid.ratio == 1 else grid.lead + 1
        return make_windows(length, size, self.window_overlap, unused)


@dataclass(frozen=True)
class Window:
    """Some neighbouring latent frames, and how much each counts, ``[n]`` in [0, 1].

    Over all windows the weights of a latent frame sum to 1.
    """

    latent_frames: slice
    weight: Tensor


@dataclass(frozen=True)
class WindowDenoiser:
    """Denoisers of windows as one denoiser of the whole video: ``D = sum of weight x D of the window``.

    Args:
        windows: that cover the video, in order.
        denoisers: of these latent frames, one for each window.

    Raises:
        ConfigError: a network that keeps a cache from step to step: it would find that of another window.
    """

    windows: Sequence[Window]
    denoisers: Sequence[Denoiser]

    def __post_init__(self) -> None:
        """Refuse what remembers the evaluation before."""
        if any(getattr(denoiser, "is_stateful", False) for denoiser in self.denoisers):
            raise ConfigError(
                "the network keeps a cache from step to step, which the windows of a long video would mix up; leave "
                "out the cache, or render as many frames as the model takes at once"
            )

    @property
    def path(self) -> NoisePath:
        """Noise path of the model."""
        return self.denoisers[0].path

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Cross-faded estimate for x ``[B, L, C, h, w]``; where the windows agree, their estimate bit for bit.

        With gradients, a window keeps only its x, and is evaluated again on the way back.
        """
        with_gradient = torch.is_grad_enabled() and x.requires_grad
        total = x.new_zeros(x.shape[1])
        denoised = x[:, :0]
        for window, denoiser in zip(self.windows, self.denoisers, strict=True):
            inside, weight = window.latent_frames, window.weight.to(x)
            part = x[:, inside]
            found = checkpoint(denoiser, part, sigma, use_reentrant=False) if with_gradient else denoiser(part, sigma)
            total[inside] += weight
            known = denoised.shape[1] - inside.start
            share = (weight / total[inside].clamp(min=1e-12))[:known].view(-1, 1, 1, 1)
            # Faded from what is there: a mean of equal numbers is that number.
            faded = torch.lerp(denoised[:, inside.start :], found[:, :known], share)
            denoised = torch.cat([denoised[:, : inside.start], faded, found[:, known:]], dim=1)
        return denoised

    def for_gradient(self, checkpointing: bool = True) -> "WindowDenoiser":
        """Each window's own, where its denoiser has one."""
        inner = []
        for denoiser in self.denoisers:
            own = getattr(denoiser, "for_gradient", None)
            inner.append(own(checkpointing) if own else denoiser)
        return WindowDenoiser(self.windows, inner)

    def window(self, rows: slice, columns: slice) -> "WindowDenoiser":
        """Denoiser of a part of the latent cells.

        Raises:
            ConfigError: a model that cannot be cut into tiles.
        """
        inner = []
        for denoiser in self.denoisers:
            if not hasattr(denoiser, "window"):
                raise ConfigError("this model cannot be cut into tiles; give tiles 1")
            inner.append(denoiser.window(rows, columns))
        return WindowDenoiser(self.windows, inner)


def make_windows(length: int, size: int, overlap: float, unused: int = 0) -> list[Window]:
    """Cover a video by evenly spread windows of one size; one window where it holds all.

    Args:
        length: L, latent frames of the video.
        size: latent frames of a window.
        overlap: share of a window that it has in common with the next, in [0, 0.5]; at least one latent frame.
        unused: first latent frames of each window but the first that count nothing: they come on top of the overlap.
            They are those of an image that stands alone, which in the middle of a video no latent frame is.

    Raises:
        ConfigError: an overlap out of range, or a window so short that it leads nowhere.
    """
    _check_overlap(overlap)
    if length <= size:
        return [Window(slice(0, length), torch.ones(length))]
    shared = unused + max(1, round(overlap * (size - unused)))
    if shared >= size:
        raise ConfigError(
            f"a window of {size} latent frames is too short: {shared} of them overlap the one before; "
            f"use one of at least {shared + 1} latent frames"
        )
    count = ceil((length - shared) / (size - shared))
    return [Window(*piece) for piece in overlapping_pieces(length, size, count, unused)]


def spread_frames(num_frames: int, count: int) -> list[int]:
    """So many frames of a video, evenly spread from its first to its last; both counts at least 2."""
    return [round(index * (num_frames - 1) / (count - 1)) for index in range(count)]


def overlapping_pieces(length: int, size: int, count: int, unused: int = 0) -> list[tuple[slice, Tensor]]:
    """Evenly spread pieces of a line with their weights, which sum to 1 in every cell.

    Args:
        length: cells of the line.
        size: cells of a piece.
        count: of the pieces; large enough that they cover the line.
        unused: first cells of each piece but the first that get weight 0.
    """
    starts = [round(i * (length - size) / max(1, count - 1)) for i in range(count)]
    total = torch.zeros(length)
    pieces = []
    for start in starts:
        cell = torch.arange(size) + 0.5
        weight = torch.ones(size)
        # Soft on the inner sides only: at the ends of the line there is nobody to share with.
        soft = max(1.0, size - unused - (length - size) / max(1, count - 1))
        if start > 0:
            weight = weight * _rise((cell - unused) / soft)
        if start + size < length:
            weight = weight * _rise((size - cell) / soft)
        pieces.append((slice(start, start + size), weight))
        total[start : start + size] += weight
    return [(piece, weight / total[piece]) for piece, weight in pieces]


def _check_overlap(overlap: float) -> None:
    if not 0 <= overlap <= 0.5:
        raise ConfigError(f"window_overlap is {overlap:g}; it is a share of a window, between 0 and 0.5")


def _rise(share: Tensor) -> Tensor:
    """From 0 to 1 without a kink, 1 beyond."""
    return torch.sin(share.clamp(0, 1) * (pi / 2)) ** 2
