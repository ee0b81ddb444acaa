"""Train the embedded model: rendered scenes -> VAE -> latents -> UNet -> a folder in diffusers layout.

    python tools/train_tiny.py --stage all
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m tools.train_tiny --stage unet

Each stage continues where it was stopped: checkpoints in the run's folder hold weights, optimiser, average and random
numbers. ``--init_from MODEL`` (or the YAML's) starts from an exported model instead of from nothing.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionModelWithProjection

# Run as a script, Python looks for modules beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.tiny.data import load_shards, render_shards
from tools.tiny.latents import encode_frames, encode_shards, load_latents
from tools.tiny.models import (
    build_image_encoder,
    build_pipeline,
    build_unet,
    build_vae,
    save_pipeline,
    whiten,
)
from tools.tiny.settings import Settings, load_settings
from tools.tiny.stages import plot_losses, rank_and_world, train_unet, train_vae

STAGES = ("videos", "vae", "latents", "unet", "export")
BUCKET_PER_WIDTH = 16.0 * 64
"""motion_bucket_id for a mean flow of one picture width per frame: 16 for a pixel of 64; see tools/scenes."""

HYPERS = [0.001, 1000.0, 0.1]
"""(v1, v2, v3) of the exact rule for this model; see docs/results.md."""


def make_vae(settings: Settings) -> Any:
    """The finished VAE of the run, or one to train."""
    if settings.init_from:
        return AutoencoderKLTemporalDecoder.from_pretrained(Path(settings.init_from) / "vae", dtype=torch.float32)
    folder = settings.root / "vae"
    return AutoencoderKLTemporalDecoder.from_pretrained(folder) if folder.exists() else build_vae()


def make_encoder(settings: Settings) -> Any:
    """Image encoder: random, from the seed alone, its embedding brought to unit spread by the latents stage."""
    folder = settings.root / "image_encoder"
    if settings.init_from:
        folder = Path(settings.init_from) / "image_encoder"
    if folder.exists():
        return CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(settings.seed)
    return build_image_encoder()


def make_unet(settings: Settings) -> Any:
    if settings.init_from:
        return UNetSpatioTemporalConditionModel.from_pretrained(Path(settings.init_from) / "unet", dtype=torch.float32)
    return build_unet(settings.frames, settings.size // 4)


def stage_vae(settings: Settings) -> None:
    vae = make_vae(settings)
    train_vae(vae, settings)
    if rank_and_world()[0] == 0:
        videos = load_shards(settings.root / "videos", ("video",))["video"][:128]
        whiten(vae, encode_frames(vae, videos).flatten(0, 1))
        vae.save_pretrained(settings.root / "vae")


def stage_latents(settings: Settings) -> None:
    rank, world = rank_and_world()
    encoder_folder = settings.root / "image_encoder"
    pipe = build_pipeline(make_vae(settings), make_unet(settings), make_encoder(settings))
    if not encoder_folder.exists() and rank == 0:
        from tools.tiny.latents import embed_pictures

        pictures = load_shards(settings.root / "videos", ("video",))["video"][:256, 0]
        embeddings = embed_pictures(pipe, pictures)
        with torch.no_grad():  # a random encoder says nearly the same of all pictures: spread what differs
            pipe.image_encoder.visual_projection.weight /= embeddings.std(0).mean()
        pipe.image_encoder.save_pretrained(encoder_folder)
    if world > 1:
        dist.barrier()
    pipe.image_encoder = make_encoder(settings)
    encode_shards(pipe, settings.root / "videos", settings.root / "latents", rank, world)


def stage_unet(settings: Settings) -> None:
    torch.manual_seed(settings.seed)
    train_unet(make_unet(settings), settings)


def stage_export(settings: Settings, out: Path) -> None:
    """Averaged weights of the last checkpoint, half precision, diffusers layout."""
    from safetensors.torch import load_file

    unet = make_unet(settings)
    stored = load_file(settings.root / "unet.rank0.safetensors")
    with torch.no_grad():
        for name, p in unet.named_parameters():
            p.copy_(stored[f"ema/{name}"])
    pipe = build_pipeline(make_vae(settings), unet, make_encoder(settings))
    save_pipeline(pipe.to(torch.float16), out)
    (out / "mvguide.json").write_text(
        json.dumps({"motion_bucket_per_width": BUCKET_PER_WIDTH, "hypers": HYPERS}) + "\n"
    )
    for name in ("vae", "unet"):
        log = settings.root / f"{name}.csv"
        if log.exists():
            plot_losses(log, settings.root / f"{name}.png")
    print(f"wrote {out} from {len(load_latents(settings.root / 'latents')['bucket'])} videos")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/train_tiny.yaml"))
    parser.add_argument("--stage", choices=[*STAGES, "all"], required=True)
    parser.add_argument("--init_from", default=None)
    parser.add_argument("--out", type=Path, default=Path("mvguide/backbones/assets/tiny"))
    arguments = parser.parse_args()
    changes = {"init_from": arguments.init_from} if arguments.init_from else {}
    settings = load_settings(arguments.config, **changes)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    rank, world = rank_and_world()
    for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
        if stage == "videos":
            render_shards(
                settings.root / "videos",
                count=settings.shards,
                size=settings.size,
                frames=settings.frames,
                per_shard=settings.scenes_per_shard,
                rank=rank,
                world=world,
            )
        elif stage == "vae":
            stage_vae(settings)
        elif stage == "latents":
            stage_latents(settings)
        elif stage == "unet":
            stage_unet(settings)
        elif rank == 0:
            stage_export(settings, arguments.out)
        if world > 1:
            dist.barrier()


if __name__ == "__main__":
    main()
