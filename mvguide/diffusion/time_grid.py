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
            for frame 0 as well (CogVideoX 1.5: 1 where the number of latent frames is odd; HunyuanVideo: 1).
        pairs: the number of latent frames, lead included, is a multiple of this; the lead grows until it is.
    """

    ratio: int = 1
    lead: int = 0
    pairs: int = 1

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames L of a video of F frames, the lead among them.

        Raises:
            InputError: a number that the grid does not hold: it must be ``ratio k + 1``, at least 1.
        """
        if num_frames < 1 or (num_frames - 1) % self.ratio:
            below = max(0, num_frames - 1) // self.ratio * self.ratio + 1
            nearest = f"{below} or {below + self.ratio}" if below > 1 else f"{below + self.ratio}"
            raise InputError(
                f"num_frames is {num_frames}, but the model packs {self.ratio} frames into one latent frame, after the "
                f"first, which stands alone; use {nearest}"
            )
        return self.leading(num_frames) + (num_frames - 1) // self.ratio + 1

    def leading(self, num_frames: int) -> int:
        """Latent frames that the decoded video leaves out."""
        return self.lead + -(self.lead + (num_frames - 1) // self.ratio + 1) % self.pairs

    def most_frames(self, latent_frames: int) -> int:
        """Frames of the longest video that is this number of latent frames."""
        return (latent_frames - self.lead - 1) * self.ratio + 1

    def frames(self, latent_frames: slice, num_frames: int) -> slice:
        """Frames of a window: the video of its own that these latent frames of a video of F frames are.

        Its latent frames before the first whole one stand for a single frame, the last of those that they hold in the
        long video: the frames after it are then grouped as they are there.

        Args:
            latent_frames: of the window; the whole video's are ``slice(0, L)``.
            num_frames: F.
        """
        last = latent_frames.stop - self.leading(num_frames) - 1
        return slice(latent_frames.start * self.ratio, last * self.ratio + 1)

    def group(self, values: Tensor) -> Tensor:
        """Values of the frames of each latent frame: ``[F, ...]`` to ``[L, ratio, ...]``; frame 0 fills its group.

        Raises:
            InputError: as :meth:`latent_frames`.
        """
        self.latent_frames(len(values))
        first = values[:1].expand(self.ratio, *values.shape[1:])[None]
        rest = values[1:].unflatten(0, (-1, self.ratio))
        return torch.cat([first.expand(self.leading(len(values)) + 1, *first.shape[1:]), rest])

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the frames of each latent frame, ``[F, ...]`` to ``[L, ...]``."""
        return self.group(values).mean(dim=1)

    def all(self, flags: Tensor) -> Tensor:
        """Whether all frames of a latent frame are so, bool ``[F]`` to ``[L]``.

        A latent frame is pinned only if all its frames are: one pinned last view must not pin the three before it.
        """
        return self.group(flags).all(dim=1)
