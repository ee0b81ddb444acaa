"""Write a Stable Video Diffusion XT of the published size with random weights: to see a full-size model load and run.

``python -m tools.full_size FOLDER`` writes 4.2 GiB of fp16 safetensors; ``--variant fp16`` reads them.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tools.tiny.models import build_pipeline, save_pipeline

UNET: dict[str, Any] = {
    "addition_time_embed_dim": 256,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 1024,
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 3 + ("DownBlockSpatioTemporal",),
    "in_channels": 8,
    "layers_per_block": 2,
    "num_attention_heads": (5, 10, 20, 20),
    "num_frames": 25,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 768,
    "sample_size": 96,
    "transformer_layers_per_block": 1,
    "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 3,
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "force_upcast": True,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}
IMAGE_ENCODER: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "image_size": 224,
    "intermediate_size": 5120,
    "num_attention_heads": 16,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "projection_dim": 1024,
}
"""The configs of stabilityai/stable-video-diffusion-img2vid-xt."""


def build_networks(
    unet: dict[str, Any] = UNET, vae: dict[str, Any] = VAE, image_encoder: dict[str, Any] = IMAGE_ENCODER
) -> dict[str, Any]:
    """The networks of these configs, on the meta device: their shapes, and no weights."""
    with torch.device("meta"):
        return {
            "unet": UNetSpatioTemporalConditionModel(**unet),
            "vae": AutoencoderKLTemporalDecoder(**vae),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**image_encoder)),
        }


@torch.no_grad()
def with_random_weights(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """A network of the meta device in float16, whose layers keep the size of their inputs."""
    network = network.half().to_empty(device="cpu")
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            values = torch.randn(weight.shape, generator=generator) / math.sqrt(weight[0].numel())
            weight.copy_(values)
        else:
            weight.fill_(float(name.endswith("weight")))  # scales of normalisation are 1, biases and blends 0
    return network


def write_model(folder: Path, networks: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """Write a model folder in diffusers layout, with random weights in fp16 files."""
    generator = torch.Generator().manual_seed(seed)
    made = networks or build_networks()
    filled = {name: with_random_weights(made[name], generator) for name in ("vae", "unet", "image_encoder")}
    return save_pipeline(build_pipeline(filled["vae"], filled["unet"], filled["image_encoder"]), folder, variant="fp16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = write_model(parser.parse_args().folder)
    sizes = {path.parent.name: path.stat().st_size for path in sorted(folder.rglob("*.safetensors"))}
    print(json.dumps({name: f"{size / 2**30:.2f} GiB" for name, size in sizes.items()}))


if __name__ == "__main__":
    main()
