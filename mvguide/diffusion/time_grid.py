"""The time grid: which frames of a video are one latent frame."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mvguide.errors import InputError


@dataclass(frozen=True)
class TimeGrid:
    """How a VAE packs frames: frame 0 alone, then ``ratio`` frames to a latent frame.

    Args:
        ratio: frames of a latent frame; 1 where the VAE does not compress time (SVD), 4 or 8 in video transformers.
        lead: latent frames before that of frame 0 which the model denoises and the decoded video leaves out. They stand
            for frame 0 as well (one in CogVideoX 1.5, and in HunyuanVideo's first models).
        unit: the number of frames is ``unit k + 1``; a multiple of the ratio, the ratio itself if 0. CogVideoX decodes
            latent frames two by two: 8.
    """

    ratio: int = 1
    lead: int = 0
    unit: int = 0

    def latent_frames(self, num_frames: int, name: str = "num_frames") -> int:
        """Latent frames L of a video of F frames, the lead among them; ``name`` is what the number is called.

        Raises:
            InputError: a number that the grid does not hold: it must be ``unit k + 1``, at least 1.
        """
        unit = self.unit or self.ratio
        if num_frames < 1 or (num_frames - 1) % unit:
            below = max(0, num_frames - 1) // unit * unit + 1
            nearest = f"{below} or {below + unit}" if below > 1 else f"{below + unit}"
            raise InputError(
                f"{name} is {num_frames}, but the model packs frames into latent frames, the first alone and then "
                f"{unit} together; use {nearest}"
            )
        return self.lead + (num_frames - 1) // self.ratio + 1

    def num_frames(self, latent_frames: int) -> int:
        """Frames F of a video of L latent frames: the inverse of :meth:`latent_frames`."""
        return (latent_frames - self.lead - 1) * self.ratio + 1

    def frames(self, latent_frames: slice) -> slice:
        """Frames of a window: the video of its own that some neighbouring latent frames of a longer video are.

        What comes before its first whole latent frame stands for a single frame, the last of those that it stands for
        in the longer video: so the frames after it are grouped in the one as in the other.
        """
        last = latent_frames.stop - self.lead - 1
        return slice(latent_frames.start * self.ratio, last * self.ratio + 1)

    def group(self, values: Tensor) -> Tensor:
        """Values of the frames of each latent frame: ``[F, ...]`` to ``[L, ratio, ...]``; frame 0 fills its group.

        Raises:
            InputError: as :meth:`latent_frames`.
        """
        self.latent_frames(len(values))
        first = values[:1].expand(self.ratio, *values.shape[1:])[None]
        rest = values[1:].unflatten(0, (-1, self.ratio))
        return torch.cat([first.expand(self.lead + 1, *first.shape[1:]), rest])

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the frames of each latent frame, ``[F, ...]`` to ``[L, ...]``."""
        return self.group(values).mean(dim=1)

    def all(self, flags: Tensor) -> Tensor:
        """Whether all frames of a latent frame are so, bool ``[F]`` to ``[L]``.

        A latent frame is pinned only if all its frames are: one pinned last view must not pin the three before it.
        """
        return self.group(flags).all(dim=1)
