"""Wan at tiny size: 2.1 (one image; first and last), 2.2 with two experts, 2.2 TI2V-5B and VACE."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, UMT5EncoderModel

from tests.backbones.tiny_text import WIDTH, t5_encoder, t5_tokenizer

IMAGE_WIDTH = 16
IMAGE_TOKENS = 1 + (224 // 56) ** 2


def build_wan21(euler: bool = False) -> Any:
    """Wan2.1-I2V-14B-480P: 4 mask and 16 image channels beside the latents, and a CLIP embedding."""
    return _image_to_video(_transformer(0, in_channels=36, **_image_width()), _scheduler(3.0, euler), **_clip())


def build_wan21_last_image() -> Any:
    """Wan2.1-FLF2V-14B-720P: its embedding of positions wants the CLIP tokens of two images, no more, no less."""
    transformer = _transformer(0, in_channels=36, pos_embed_seq_len=2 * IMAGE_TOKENS, **_image_width())
    return _image_to_video(transformer, _scheduler(5.0), **_clip())


def build_wan22_a14b(euler: bool = False) -> Any:
    """Wan2.2-I2V-A14B: two transformers, no CLIP."""
    return _image_to_video(
        _transformer(0, in_channels=36),
        _scheduler(3.0, euler),
        transformer_2=_transformer(1, in_channels=36),
        boundary_ratio=0.9,
    )


def build_wan22_5b(euler: bool = False) -> Any:
    """Wan2.2-TI2V-5B: a timestep for each token, and a VAE that halves the image by patches before its own factor."""
    vae = _vae(
        z_dim=48,
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_spatial=16,
        decoder_base_dim=12,
        latents_mean=torch.linspace(-0.3, 0.5, 48).tolist(),
        latents_std=torch.linspace(0.35, 1.7, 48).tolist(),
    )
    transformer = _transformer(0, in_channels=48, out_channels=48)
    return _image_to_video(transformer, _scheduler(5.0, euler), vae=vae, expand_timesteps=True)


def build_wan_vace(euler: bool = False) -> Any:
    """Wan2.1-VACE: 32 channels of video (kept and changed parts) and 64 of mask."""
    torch.manual_seed(0)
    transformer: Any = WanVACETransformer3DModel(
        **_transformer_config(in_channels=16), vace_layers=[0, 1], vace_in_channels=96
    )
    return WanVACEPipeline(
        tokenizer=t5_tokenizer(512),
        text_encoder=t5_encoder(UMT5EncoderModel),
        vae=_vae(),
        scheduler=_scheduler(3.0, euler),
        transformer=transformer.eval(),
    )


def _image_to_video(transformer: Any, scheduler: Any, vae: Any = None, **parts: Any) -> Any:
    return WanImageToVideoPipeline(
        tokenizer=t5_tokenizer(512),
        text_encoder=t5_encoder(UMT5EncoderModel),
        vae=vae or _vae(),
        scheduler=scheduler,
        transformer=transformer,
        **parts,
    )


def _vae(seed: int = 0, **config: Any) -> Any:
    torch.manual_seed(seed)
    vae: Any = AutoencoderKLWan(**{"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, **config})
    return vae.eval()


def _transformer_config(**config: Any) -> dict[str, Any]:
    return {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "out_channels": 16,
        "text_dim": WIDTH,
        "freq_dim": 64,
        "ffn_dim": 32,
        "num_layers": 2,
        **config,
    }


def _transformer(seed: int, **config: Any) -> Any:
    torch.manual_seed(seed)
    transformer: Any = WanTransformer3DModel(**_transformer_config(**config))
    return transformer.eval()


def _image_width() -> dict[str, int]:
    return {"image_dim": IMAGE_WIDTH, "added_kv_proj_dim": 24}


def _clip() -> dict[str, Any]:
    torch.manual_seed(0)
    encoder: Any = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=IMAGE_WIDTH,
            projection_dim=IMAGE_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=224,
            patch_size=56,
        )
    )
    processor = CLIPImageProcessor(size=224, crop_size=224)
    return {"image_encoder": encoder.eval(), "image_processor": processor}


def _scheduler(shift: float, euler: bool = False) -> Any:
    """The published UniPC, or the Euler scheduler that the pipeline's documentation offers for it."""
    if euler:
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=shift,
        num_train_timesteps=1000,
        solver_order=2,
        solver_type="bh2",
        predict_x0=True,
        lower_order_final=True,
        final_sigmas_type="zero",
        timestep_spacing="linspace",
    )
