"""Settings of the trainer, read from one YAML file."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Settings:
    """See ``configs/train_tiny.yaml`` for what each means."""

    folder: str
    size: int
    frames: int
    shards: int
    video_shards: int
    scenes_per_shard: int
    seed: int
    init_from: str | None
    device: str
    precision: str
    compile: str
    scenes: str
    vae_steps: int
    vae_batch: int
    vae_part: str
    vae_crop: int
    vae_textures: float
    texture_clips: int
    vae_lr: float
    vae_ema: float
    unet_steps: int
    unet_batch: int
    unet_lr: float
    unet_averages: list[float]
    condition_dropout: float
    sigma_mean: float
    sigma_std: float
    save_every: int
    held_out_every: int
    held_out_scenes: int

    @property
    def root(self) -> Path:
        return Path(self.folder)


CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "precision": ("auto", "float32", "bfloat16"),
    "compile": ("auto", "always", "never"),
    "scenes": ("auto", "stored", "rendered"),
    "vae_part": ("all", "decoder"),
}


def load_settings(path: Path, **changes: object) -> Settings:
    """Settings of a file, with changes. Raises SystemExit naming what is unknown, missing or not to be chosen."""
    values = {**yaml.safe_load(path.read_text()), **changes}
    known = {field.name for field in fields(Settings)}
    if set(values) != known:
        raise SystemExit(f"{path}: unknown or missing settings {sorted(set(values) ^ known)}")
    for name, allowed in CHOICES.items():
        if values[name] not in allowed:
            raise SystemExit(f"{path}: {name} is {values[name]!r}; use one of {', '.join(allowed)}")
    return Settings(**values)
