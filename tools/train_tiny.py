"""Train the embedded model: rendered scenes -> VAE -> latents -> UNet -> a folder in diffusers layout.

    python -m tools.train_tiny --stage all
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m tools.train_tiny --stage unet --resume

One process or several (torchrun), CPU or CUDA: the settings say, and "auto" takes what there is. Checkpoints in the
run's folder hold weights, optimiser, average, random numbers and step; ``--resume`` continues from the last one.
``--init_from MODEL`` (or the YAML's) starts from an exported model instead of from nothing.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

# Run as a script, Python looks for modules beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.tiny.averages import best_average
from tools.tiny.compute import Compute, join_processes, rank_and_world
from tools.tiny.curves import plot_losses
from tools.tiny.data import load_shards, render_shards
from tools.tiny.latents import embed_pictures, encode_frames, encode_shards
from tools.tiny.models import (
    build_image_encoder,
    build_pipeline,
    build_unet,
    build_vae,
    grow_unet,
    restart_variance,
    save_pipeline,
    whiten,
)
from tools.tiny.settings import Settings, load_settings
from tools.tiny.sources import RenderedVideos
from tools.tiny.unet import train_unet
from tools.tiny.vae import train_vae

STAGES = ("videos", "vae", "latents", "unet", "export")
BUCKET_PER_WIDTH = 16.0 * 64
"""motion_bucket_id for a mean flow of one image width per frame: 16 for a pixel of 64; see tools/scenes."""

HYPERS = [0.001, 1000.0, 0.1]
"""(v1, v2, v3) of the exact rule for this model; see docs/results.md."""

GUIDANCE_SCALE = [1.0, 1.0]
"""No classifier-free guidance: it doubles the time, and guided videos are no better for it; see docs/results.md."""


def make_vae(settings: Settings) -> Any:
    """The finished VAE of the run, or one to train."""
    folder = settings.root / "vae"
    if not folder.exists():
        if settings.init_from is None:
            return build_vae()
        folder = Path(settings.init_from) / "vae"
    return AutoencoderKLTemporalDecoder.from_pretrained(folder, dtype=torch.float32)


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
        old = UNetSpatioTemporalConditionModel.from_pretrained(Path(settings.init_from) / "unet", dtype=torch.float32)
        return grow_unet(old, settings.frames, settings.size // 4)
    return build_unet(settings.frames, settings.size // 4)


def some_videos(settings: Settings, count: int) -> Tensor:
    """``count`` training videos, uint8, on the CPU; the same ones in every process."""
    compute = Compute.of(settings)
    if not compute.rendered:
        return load_shards(settings.root / "videos", ("video",))["video"][:count]
    return torch.cat([RenderedVideos(settings, compute).render(step, 32)[0].cpu() for step in range(count // 32)])


def stage_vae(settings: Settings) -> None:
    torch.manual_seed(settings.seed)  # all processes start from the same weights
    vae = make_vae(settings)
    latents_may_change = settings.vae_part == "all"
    if settings.init_from and latents_may_change:
        restart_variance(vae)
    train_vae(vae, settings)
    if rank_and_world()[0] == 0:
        vae.cpu()
        if latents_may_change:
            whiten(vae, encode_frames(vae, some_videos(settings, 128)).flatten(0, 1))
        vae.save_pretrained(settings.root / "vae")


def make_conditioner(settings: Settings) -> Any:
    """Pipeline with the finished VAE and image encoder, and a UNet that does not matter."""
    encoder_folder = settings.root / "image_encoder"
    pipe = build_pipeline(make_vae(settings), make_unet(settings), make_encoder(settings))
    if not encoder_folder.exists() and not settings.init_from:
        if rank_and_world()[0] == 0:
            embeddings = embed_pictures(pipe, some_videos(settings, 256)[:, 0])
            with torch.no_grad():  # a random encoder says nearly the same of all images: spread what differs
                pipe.image_encoder.visual_projection.weight /= embeddings.std(0).mean()
            pipe.image_encoder.save_pretrained(encoder_folder)
        if dist.is_initialized():
            dist.barrier()
        pipe.image_encoder = make_encoder(settings)
    return pipe


def stage_latents(settings: Settings) -> None:
    rank, world = rank_and_world()
    encode_shards(make_conditioner(settings), settings, rank, world)


def stage_unet(settings: Settings) -> None:
    torch.manual_seed(settings.seed)
    train_unet(make_unet(settings), make_conditioner(settings), settings)


def stage_export(settings: Settings, out: Path) -> None:
    """The best of the averaged weights of the last checkpoint, half precision, diffusers layout."""
    unet = make_unet(settings).eval()
    pipe = make_conditioner(settings)
    best_average(unet, pipe, settings)
    pipe = build_pipeline(make_vae(settings), unet, make_encoder(settings))
    save_pipeline(pipe.to(torch.float16), out)
    (out / "mvguide.json").write_text(
        json.dumps({"motion_bucket_per_width": BUCKET_PER_WIDTH, "hypers": HYPERS, "guidance_scale": GUIDANCE_SCALE})
        + "\n"
    )
    logs = [settings.root / f"{name}.csv" for name in ("vae", "unet", "unet_held_out")]
    plot_losses(logs, settings.root / "curves.png")
    print(f"wrote {out}; curves in {settings.root / 'curves.png'}")


def check_resume(settings: Settings, stages: tuple[str, ...], resume: bool) -> None:
    """Raise SystemExit where a run would continue, or be written over, without having been asked to."""
    for name in ("vae", "unet"):
        found = settings.root / f"{name}.rank0.safetensors"
        if name in stages and found.exists() and not resume:
            raise SystemExit(f"{found} is a checkpoint of an earlier run; continue it with --resume, or move it away")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/train_tiny.yaml"))
    parser.add_argument("--stage", choices=[*STAGES, "all"], required=True)
    parser.add_argument("--resume", action="store_true", help="continue from the run's checkpoint, if it has one")
    parser.add_argument("--init_from", default=None, help="an exported model to start from")
    parser.add_argument("--out", type=Path, default=Path("mvguide/backbones/assets/tiny"))
    arguments = parser.parse_args()
    changes = {"init_from": arguments.init_from} if arguments.init_from else {}
    stages: tuple[str, ...] = STAGES if arguments.stage == "all" else (arguments.stage,)
    try:
        settings = load_settings(arguments.config, **changes)
        if arguments.stage == "all" and Compute.of(settings).rendered:
            stages = tuple(stage for stage in stages if stage not in ("videos", "latents"))
        check_resume(settings, stages, arguments.resume)
    except SystemExit as stop:
        parser.error(str(stop))  # one sentence, and exit code 2
    join_processes()
    rank, world = rank_and_world()
    for stage in stages:
        if stage == "videos":
            render_shards(settings, settings.video_shards, rank, world)
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
