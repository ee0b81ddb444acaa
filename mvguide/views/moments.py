"""Which views show which frame's moment: all of them in a still scene, one after the other in a video."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvguide.errors import InputError


@dataclass(frozen=True)
class Moments:
    """Assignment of V views to F frames.

    Args:
        shows: ``[V, F]`` bool: the view shows the frame's moment; in every frame at least one does.
        fills: ``[V, F]`` bool: the view is of another moment, and may fill holes with what stood still.
    """

    shows: Tensor
    fills: Tensor

    @classmethod
    def all_alike(cls, num_views: int, num_frames: int) -> "Moments":
        """A still scene: every view shows every frame."""
        shows = torch.ones(num_views, num_frames, dtype=torch.bool)
        return cls(shows, torch.zeros_like(shows))

    @classmethod
    def footage(cls, num_views: int, num_frames: int, *, at: int | None = None, fill: int = 0) -> "Moments":
        """A video: its images are played over the frames, the first and the last at the ends.

        Args:
            num_views: V, images of the video.
            num_frames: F.
            at: stop time at this image instead ("bullet time"); negative counts from the end.
            fill: neighbouring images on each side that may fill holes where nothing moved, >= 0.

        Returns:
            the assignment of V views to F frames.

        Raises:
            InputError: a moment that the video does not have, or a negative fill.
        """
        if at is not None and not -num_views <= at < num_views:
            raise InputError(f"moment {at} was asked for, but the video has frames 0 to {num_views - 1}; give one")
        if fill < 0:
            raise InputError(f"fill is {fill}; give the number of neighbouring images on each side, 0 for none")
        if at is None:
            played = torch.from_numpy(np.rint(np.linspace(0, num_views - 1, num_frames)).astype(np.int64))
        else:
            played = torch.full((num_frames,), at % num_views)
        away = (torch.arange(num_views)[:, None] - played).abs()
        return cls(away == 0, (away > 0) & (away <= fill))

    def check(self, num_views: int, num_frames: int) -> None:
        """Raise InputError unless this is for so many views and frames, and every frame is shown."""
        if tuple(self.shows.shape) != (num_views, num_frames):
            raise InputError(
                f"moments are of {self.shows.shape[0]} views and {self.shows.shape[1]} frames, but there are "
                f"{num_views} views and {num_frames} frames; make them with Moments.footage({num_views}, {num_frames})"
            )
        if not bool(self.shows.any(0).all()):
            raise InputError(f"no view shows frame {int((~self.shows.any(0)).nonzero()[0])}; every frame needs one")
