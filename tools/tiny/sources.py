"""Where training videos come from: stored shards, or scenes rendered for each step."""

from typing import Any, Protocol

import torch
from torch import Tensor

from tools.scenes import TRAINING, render_scenes
from tools.tiny.compute import Compute, rank_and_world
from tools.tiny.data import load_shards, shards
from tools.tiny.latents import embed_pictures, encode_frames, load_latents
from tools.tiny.settings import Settings

Latents = dict[str, Tensor]
"""``latents`` [B, F, 4, h, w] as ``mode()`` gives them, ``embeddings`` [B, 2, C] of both ends, ``bucket`` [B]."""


class VideoSource(Protocol):
    """Gives videos ``[B, F, 3, S, S]`` uint8."""

    def draw(self, step: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` videos for a step."""
        ...


class LatentSource(Protocol):
    """Gives encoded videos with their conditions."""

    def draw(self, step: int, count: int, generator: torch.Generator) -> Latents:
        """``count`` videos for a step."""
        ...

    def refresh(self) -> None:
        """Look for data that has come since."""
        ...


class StoredVideos:
    """Videos of the run's shards, at random."""

    def __init__(self, settings: Settings) -> None:
        self.videos = load_shards(settings.root / "videos", ("video",))["video"]

    def draw(self, step: int, count: int, generator: torch.Generator) -> Tensor:
        return self.videos[torch.randint(len(self.videos), (count,), generator=generator)]


class RenderedVideos:
    """New scenes for each step and process; which ones follows from the step alone, so that a run can be continued."""

    def __init__(self, settings: Settings, compute: Compute) -> None:
        self.settings, self.compute = settings, compute

    def render(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Videos and their motion buckets."""
        rank, world = rank_and_world()
        first = TRAINING.start + (step * world + rank) * count
        found = render_scenes(
            range(first, first + count),
            size=self.settings.size,
            frames=self.settings.frames,
            device=self.compute.device,
            compiled=self.compute.compiled_scenes,
        )
        return (found.video * 255).round().to(torch.uint8), found.bucket

    def draw(self, step: int, count: int, generator: torch.Generator) -> Tensor:
        return self.render(step, count)[0]


class StoredLatents:
    """Latents of the run's shards, at random; shards may be added while the training runs."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.root / "latents"
        self.shards = shards(self.folder)
        self.data = load_latents(self.folder)

    def refresh(self) -> None:
        if shards(self.folder) != self.shards:
            self.shards, self.data = shards(self.folder), load_latents(self.folder)
            print(f"{len(self.data['latents'])} scenes", flush=True)

    def draw(self, step: int, count: int, generator: torch.Generator) -> Latents:
        picked = torch.randint(len(self.data["latents"]), (count,), generator=generator)
        return {name: tensor[picked] for name, tensor in self.data.items()}


class EncodedVideos:
    """Rendered videos, encoded on the way.

    Args:
        pipe: holds the finished VAE and image encoder.
    """

    def __init__(self, settings: Settings, compute: Compute, pipe: Any) -> None:
        self.videos, self.compute, self.pipe = RenderedVideos(settings, compute), compute, pipe
        compute.prepare(pipe.vae.encoder, pipe.image_encoder)

    def refresh(self) -> None:
        """Every scene is new."""

    @torch.no_grad()
    def draw(self, step: int, count: int, generator: torch.Generator) -> Latents:
        video, bucket = self.videos.render(step, count)
        with self.compute.autocast():
            latents = encode_frames(self.pipe.vae, video, chunk=video.shape[1] * count)
            ends = torch.stack([embed_pictures(self.pipe, video[:, end]) for end in (0, -1)], dim=1)
        return {"latents": latents.float(), "embeddings": ends.float(), "bucket": bucket}
