"""Latents of the training scenes, with the conditions that the UNet is told."""

import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tools.tiny.data import load_shards, save_shard, shard_path, shards


@torch.no_grad()
def encode_frames(vae: Any, video: Tensor) -> Tensor:
    """Raw latents ``mode()`` of ``[B, F, 3, H, W]`` uint8 frames, ``[B, F, 4, h, w]``."""
    frames = video.flatten(0, 1).float() / 127.5 - 1
    return torch.cat([vae.encode(part).latent_dist.mode() for part in frames.split(16)]).unflatten(0, video.shape[:2])


@torch.no_grad()
def embed_pictures(pipe: Any, pictures: Tensor) -> Tensor:
    """Image embeddings ``[B, C]`` of ``[B, 3, H, W]`` uint8 pictures, through the pipeline's own preprocessing."""
    images = [Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()) for picture in pictures]
    return pipe._encode_image(images, "cpu", 1, False)[:, 0]


def encode_shards(pipe: Any, videos: Path, out: Path, rank: int, world: int) -> None:
    """Encode every ``world``-th shard that has no latents yet.

    The first and the last frame are embedded, so that a video can also be learned backwards.
    """
    found = shards(videos)
    for index in range(rank, len(found), world):
        path = shard_path(out, index)
        if path.exists():
            continue
        started = time.perf_counter()
        loaded = load_one(found[index])
        video = loaded["video"]
        ends = torch.stack([embed_pictures(pipe, video[:, end]) for end in (0, -1)], dim=1)
        latents = encode_frames(pipe.vae, video)
        save_shard(path, {"latents": latents.half(), "embeddings": ends, "bucket": loaded["bucket"]})
        print(f"latents of shard {index}: {time.perf_counter() - started:.0f} s", flush=True)


def load_one(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def load_latents(folder: Path) -> dict[str, Tensor]:
    """All latents, embeddings and buckets of a folder."""
    return load_shards(folder, ("latents", "embeddings", "bucket"))
