"""Figures of an exported model on held-out scenes: the VAE's PSNR, and the UNet's error of v at a few noise levels.

python -m tools.tiny.validate --model mvguide/backbones/assets/tiny --scenes 32
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from mvguide.diffusion.training import gamma_v, score_matching_loss
from tools.scenes import HELD_OUT, render_scenes
from tools.tiny.latents import embed_pictures, encode_frames
from tools.tiny.stages import ConditionedUnet

SIGMAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 300.0)


@torch.no_grad()
def vae_psnr(vae: Any, video: Tensor, latents: Tensor) -> Tensor:
    """PSNR through the VAE of each video ``[B, F, 3, H, W]`` (uint8), colours clamped as in a picture: dB ``[B]``."""
    truth = video.float() / 255
    decoded = torch.cat([vae.decode(one, num_frames=len(one)).sample for one in latents])
    picture = (decoded / 2 + 0.5).clamp(0, 1).view_as(truth)
    return -10 * torch.log10((picture - truth).square().flatten(1).mean(1))


@torch.no_grad()
def v_errors(
    unet: Any, latents: Tensor, embeddings: Tensor, buckets: Tensor, scaling_factor: float
) -> dict[float, float]:
    """Mean squared error of v at each of SIGMAS, with one fixed noise; latents as ``mode()`` gives them."""
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    found: dict[float, float] = {}
    for level in SIGMAS:
        total = 0.0
        for rows in torch.arange(len(latents)).split(4):
            denoiser = ConditionedUnet(unet, latents[rows, 0], embeddings[rows], buckets[rows])
            sigma = torch.full((len(rows),), level)
            loss = score_matching_loss(denoiser, latents[rows] * scaling_factor, noise[rows], sigma, gamma_v)
            total += float(loss.sum())
        found[level] = total / len(latents)
    return found


def validate(model: Path, count: int, size: int = 64, frames: int = 8) -> dict[str, Any]:
    """All figures of a model folder on the first ``count`` held-out scenes."""
    pipe = StableVideoDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    scenes = render_scenes(HELD_OUT[:count], size=size, frames=frames)
    video = (scenes.video * 255).round().to(torch.uint8)
    latents = encode_frames(pipe.vae, video)
    psnr = vae_psnr(pipe.vae, video, latents)
    factor = pipe.vae.config.scaling_factor
    scaled = latents * factor
    errors = v_errors(pipe.unet, latents, embed_pictures(pipe, video[:, 0]), scenes.bucket, factor)
    return {
        "scenes": count,
        "vae_psnr_db": round(float(psnr.mean()), 2),
        "vae_psnr_standard_error": round(float(psnr.std() / count**0.5), 2),
        "latent_mean": [round(float(v), 3) for v in scaled.mean((0, 1, 3, 4))],
        "latent_std": [round(float(v), 3) for v in scaled.transpose(0, 2).flatten(1).std(1)],
        "v_mse": {f"{level:g}": round(error, 4) for level, error in errors.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("mvguide/backbones/assets/tiny"))
    parser.add_argument("--scenes", type=int, default=32)
    arguments = parser.parse_args()
    print(json.dumps(validate(arguments.model, arguments.scenes), indent=2))


if __name__ == "__main__":
    main()
