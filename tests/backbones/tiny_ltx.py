"""LTX-Video image-to-video at tiny size."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXImageToVideoPipeline,
    LTXVideoTransformer3DModel,
)

from tests.backbones.tiny_text import WIDTH, t5_encoder, t5_tokenizer

LAYOUT_090 = {"decoder_block_out_channels": (8, 8, 8, 8), "decoder_layers_per_block": (1, 1, 1, 1, 1)}
LAYOUT_091 = {
    "timestep_conditioning": True,
    "decoder_block_out_channels": (8, 16, 32),  # each upsampling halves them
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (False, True, True, True),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
}


def build_ltx(noisy_decoder: bool = False) -> Any:
    """LTX-Video 0.9.0, or with the decoder of 0.9.1: it is told how much noise is left, and adds noise of its own."""
    torch.manual_seed(0)
    vae: Any = AutoencoderKLLTXVideo(
        latent_channels=128,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        **(LAYOUT_091 if noisy_decoder else LAYOUT_090),
    )
    for name, scale in vae.named_parameters():
        if "per_channel_scale" in name:
            torch.nn.init.normal_(scale, std=0.1)  # zero in a fresh module, not in a trained one
    vae.latents_mean.copy_(torch.linspace(-0.2, 0.3, 128))
    vae.latents_std.copy_(torch.linspace(0.4, 1.2, 128))
    transformer: Any = LTXVideoTransformer3DModel(
        in_channels=128,
        out_channels=128,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=WIDTH,
    )
    return LTXImageToVideoPipeline(
        tokenizer=t5_tokenizer(128),
        text_encoder=t5_encoder(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift=1.0,
            shift_terminal=0.1,
        ),
    )
