"""Training data: shards of rendered scenes, and of their latents, as safetensors."""

import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.scenes import TRAINING, render_scenes
from tools.tiny.compute import Compute
from tools.tiny.settings import Settings


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.safetensors"


def save_shard(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write under a temporary name, then rename: a reader never sees half a shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    part.replace(path)


def render_shard(settings: Settings, index: int) -> dict[str, Tensor]:
    """Videos ``[N, F, 3, S, S]`` uint8 of shard ``index``, with their motion buckets."""
    compute = Compute.of(settings)
    first = TRAINING.start + index * settings.scenes_per_shard
    scenes = render_scenes(
        range(first, first + settings.scenes_per_shard),
        size=settings.size,
        frames=settings.frames,
        device=compute.device,
        compiled=compute.compiled_scenes,
    )
    return {"video": (scenes.video * 255).round().to(torch.uint8).cpu(), "bucket": scenes.bucket.cpu()}


def render_shards(settings: Settings, count: int, rank: int, world: int) -> None:
    """Render shards ``0 .. count - 1`` that are not there yet, every ``world``-th of them in this process."""
    for index in range(rank, count, world):
        path = shard_path(settings.root / "videos", index)
        if path.exists():
            continue
        started = time.perf_counter()
        save_shard(path, render_shard(settings, index))
        print(f"shard {index}: {settings.scenes_per_shard} scenes in {time.perf_counter() - started:.0f} s", flush=True)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def load_shards(folder: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The named tensors of all shards of a folder, joined along the first axis. Raises FileNotFoundError when empty."""
    found = shards(folder)
    if not found:
        raise FileNotFoundError(f"{folder} holds no shard; run the stage that makes them first")
    loaded = [load_file(path) for path in found]
    return {name: torch.cat([part[name] for part in loaded]) for name in names}
