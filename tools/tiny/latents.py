"""Latents of the training scenes, with the conditions that the UNet is told."""

import time
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from safetensors.torch import load_file
from torch import Tensor

from tools.tiny.data import load_shards, save_shard, shard_path, shards


@torch.no_grad()
def encode_frames(vae: Any, video: Tensor, chunk: int = 16) -> Tensor:
    """Raw latents ``mode()`` of ``[B, F, 3, H, W]`` uint8 frames, ``[B, F, 4, h, w]``."""
    frames = video.flatten(0, 1).float() / 127.5 - 1
    parts = [vae.encode(part).latent_dist.mode() for part in frames.split(chunk)]
    return torch.cat(parts).unflatten(0, video.shape[:2])


@torch.no_grad()
def embed_pictures(pipe: Any, pictures: Tensor) -> Tensor:
    """Image embeddings ``[B, C]`` of ``[B, 3, H, W]`` uint8 pictures.

    The pipeline's own preprocessing (``_encode_image``), but on tensors where they are, without a turn through PIL.
    """
    processor = pipe.feature_extractor
    mean, std = (
        torch.tensor(v, device=pictures.device)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    resized = _resize_with_antialiasing(pictures.float() / 127.5 - 1, (224, 224)) / 2 + 0.5
    return pipe.image_encoder((resized - mean) / std).image_embeds


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
        loaded = load_file(found[index])
        video = loaded["video"]
        ends = torch.stack([embed_pictures(pipe, video[:, end]) for end in (0, -1)], dim=1)
        latents = encode_frames(pipe.vae, video)
        save_shard(path, {"latents": latents.half(), "embeddings": ends, "bucket": loaded["bucket"]})
        print(f"latents of shard {index}: {time.perf_counter() - started:.0f} s", flush=True)


def load_latents(folder: Path) -> dict[str, Tensor]:
    """All latents, embeddings and buckets of a folder."""
    return load_shards(folder, ("latents", "embeddings", "bucket"))
