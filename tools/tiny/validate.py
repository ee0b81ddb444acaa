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

from tools.scenes import HELD_OUT, render_scenes
from tools.tiny.latents import encode_scenes
from tools.tiny.unet import v_errors


@torch.no_grad()
def vae_psnr(vae: Any, video: Tensor, latents: Tensor) -> Tensor:
    """PSNR through the VAE of each video ``[B, F, 3, H, W]`` (uint8), colours clamped as in an image: dB ``[B]``."""
    truth = video.float() / 255
    decoded = torch.cat([vae.decode(one, num_frames=len(one)).sample for one in latents])
    picture = (decoded / 2 + 0.5).clamp(0, 1).view_as(truth)
    return -10 * torch.log10((picture - truth).square().flatten(1).mean(1))


def validate(model: Path, count: int) -> dict[str, Any]:
    """All figures of a model folder on the first ``count`` held-out scenes."""
    pipe = StableVideoDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    size = pipe.unet.config.sample_size * 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    scenes = render_scenes(HELD_OUT[:count], size=size, frames=pipe.unet.config.num_frames)
    video = (scenes.video * 255).round().to(torch.uint8)
    data = encode_scenes(pipe, video, scenes.bucket)
    psnr = vae_psnr(pipe.vae, video, data["latents"])
    factor = pipe.vae.config.scaling_factor
    scaled = data["latents"] * factor
    errors = v_errors(pipe.unet, data, factor)
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
