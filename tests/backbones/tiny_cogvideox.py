"""CogVideoX image-to-video at tiny size: 5b and 1.5-5B."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
)

from tests.backbones.tiny_text import WIDTH, t5_encoder, t5_tokenizer

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}


def build_cogvideox(height: int, width: int, num_frames: int, dpm: bool = False) -> Any:
    """CogVideoX-5b-I2V. Its positions are learned, so that it works at one size only, which is given here."""
    return _pipeline(
        dpm,
        {"invert_scale_latents": False},
        {
            "sample_height": height // 8,
            "sample_width": width // 8,
            "sample_frames": num_frames,
            "use_learned_positional_embeddings": True,
        },
    )


def build_cogvideox15(dpm: bool = False) -> Any:
    """CogVideoX1.5-5B-I2V: patches of two latent frames, an offset embedding, image latents scaled the wrong way."""
    return _pipeline(
        dpm,
        {"invert_scale_latents": True},
        {
            "sample_height": 300,
            "sample_width": 300,
            "sample_frames": 81,
            "patch_size_t": 2,
            "patch_bias": False,
            "ofs_embed_dim": 8,
        },
    )


def _pipeline(dpm: bool, vae_config: dict[str, Any], transformer_config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    vae: Any = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=16,
        scaling_factor=0.7,
        **vae_config,
    )
    transformer: Any = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,  # a quarter of it is for time, three eighths for each of height and width
        in_channels=32,
        out_channels=16,
        time_embed_dim=8,
        text_embed_dim=WIDTH,
        num_layers=2,
        use_rotary_positional_embeddings=True,
        **transformer_config,
    )
    return CogVideoXImageToVideoPipeline(
        tokenizer=t5_tokenizer(226),
        text_encoder=t5_encoder(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=(CogVideoXDPMScheduler if dpm else CogVideoXDDIMScheduler)(**SCHEDULER),
    )
