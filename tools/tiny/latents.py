"""Latents of the training scenes, with the conditions that the UNet is told."""

import time
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from safetensors.torch import load_file
from torch import Tensor

from tools.tiny.compute import Compute
from tools.tiny.data import load_shards, render_shard, save_shard, shard_path
from tools.tiny.settings import Settings


@torch.no_grad()
def encode_frames(vae: Any, video: Tensor, chunk: int = 16) -> Tensor:
    """Raw latents ``mode()`` of ``[B, F, 3, H, W]`` uint8 frames, ``[B, F, 4, h, w]``."""
    frames = video.flatten(0, 1).float() / 127.5 - 1
    parts = [vae.encode(part).latent_dist.mode() for part in frames.split(chunk)]
    return torch.cat(parts).unflatten(0, video.shape[:2])


@torch.no_grad()
def embed_pictures(pipe: Any, pictures: Tensor) -> Tensor:
    """Image embeddings ``[B, C]`` of ``[B, 3, H, W]`` uint8 images.

    The pipeline's own preprocessing (``_encode_image``), but on tensors where they are, without a turn through PIL.
    """
    processor = pipe.feature_extractor
    mean, std = (
        torch.tensor(v, device=pictures.device)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    resized = _resize_with_antialiasing(pictures.float() / 127.5 - 1, (224, 224)) / 2 + 0.5
    return pipe.image_encoder((resized - mean) / std).image_embeds


def encode_shards(pipe: Any, settings: Settings, rank: int, world: int) -> None:
    """Make every ``world``-th shard of latents that is not there yet, from stored videos or from scenes rendered now.

    The first and the last frame are embedded, so that a video can also be learned backwards. Latents of 128 x 128
    pixels take a twelfth of the images' room: images that only this stage needs are not kept.
    """
    compute = Compute.of(settings)
    pipe.vae.to(compute.device), pipe.image_encoder.to(compute.device)
    for index in range(rank, settings.shards, world):
        path, pictures = shard_path(settings.root / "latents", index), shard_path(settings.root / "videos", index)
        if path.exists():
            continue
        started = time.perf_counter()
        shard = load_file(pictures) if pictures.exists() else render_shard(settings, index)
        with compute.autocast():
            data = encode_scenes(pipe, *compute.move(shard["video"], shard["bucket"]))
        latents, embeddings, bucket = (data[name].cpu() for name in ("latents", "embeddings", "bucket"))
        save_shard(path, {"latents": latents.half(), "embeddings": embeddings.float(), "bucket": bucket})
        print(f"latents of shard {index}: {time.perf_counter() - started:.0f} s", flush=True)


def encode_scenes(pipe: Any, video: Tensor, bucket: Tensor) -> dict[str, Tensor]:
    """Videos ``[B, F, 3, S, S]`` uint8 as the UNet's data."""
    ends = torch.stack([embed_pictures(pipe, video[:, end]) for end in (0, -1)], dim=1)
    return {"latents": encode_frames(pipe.vae, video), "embeddings": ends, "bucket": bucket}


def load_latents(folder: Path) -> dict[str, Tensor]:
    """All latents, embeddings and buckets of a folder."""
    return load_shards(folder, ("latents", "embeddings", "bucket"))
