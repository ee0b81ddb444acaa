"""A random, very small StableVideoDiffusionPipeline of the real classes, for tests of loading and equality."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tools.tiny.models import build_pipeline as assemble


def build_pipeline(levels: int = 2, seed: int = 0) -> Any:
    """``levels`` blocks in the VAE and in the UNet: VAE factor and UNet multiple are both ``2 ** (levels - 1)``."""
    torch.manual_seed(seed)
    down = ("CrossAttnDownBlockSpatioTemporal",) * (levels - 1) + ("DownBlockSpatioTemporal",)
    up = ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * (levels - 1)
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32,) * levels,
        layers_per_block=1,
        sample_size=8,
        in_channels=8,
        out_channels=4,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=16,
        num_attention_heads=4,
        projection_class_embeddings_input_dim=24,
        addition_time_embed_dim=8,
        num_frames=4,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32,) * levels,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        latent_channels=4,
    )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16,
            projection_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=224,
            intermediate_size=16,
            patch_size=56,
        )
    )
    return assemble(vae, unet, encoder)
