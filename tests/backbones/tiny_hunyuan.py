"""HunyuanVideo image-to-video at tiny size: the two ways of 1.0 to take the image, and 1.5."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from transformers import CLIPImageProcessor, SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from tests.backbones import tiny_text
from tests.backbones.tiny_text import WIDTH

ATTENTION = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "rope_axes_dim": (2, 4, 10),  # time, height, width: together the head
    "num_refiner_layers": 1,
    "text_embed_dim": WIDTH,
}


def build_hunyuan(token_replace: bool) -> Any:
    """HunyuanVideo-I2V (``token_replace``, guidance embedded) or -I2V-33ch (``latent_concat``, not embedded)."""
    tokenizer, text_encoder = tiny_text.llava()
    tokenizer_2, text_encoder_2 = tiny_text.clip()
    torch.manual_seed(0)
    transformer: Any = HunyuanVideoTransformer3DModel(
        in_channels=16 if token_replace else 33,
        out_channels=16,
        image_condition_type="token_replace" if token_replace else "latent_concat",
        guidance_embeds=token_replace,
        num_layers=1,
        num_single_layers=1,
        pooled_projection_dim=WIDTH,
        **ATTENTION,
    )
    vae: Any = AutoencoderKLHunyuanVideo(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2, latent_channels=16
    )
    return HunyuanVideoImageToVideoPipeline(
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer.eval(),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        image_processor=CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    )


def build_hunyuan15(target_size: int) -> Any:
    """HunyuanVideo-1.5 480p_i2v. It chooses the size itself, of about ``target_size`` x ``target_size`` pixels."""
    tokenizer, text_encoder = tiny_text.qwen()
    tokenizer_2, text_encoder_2 = tiny_text.byt5()
    torch.manual_seed(0)
    transformer: Any = HunyuanVideo15Transformer3DModel(
        in_channels=65,
        out_channels=32,
        num_layers=2,
        text_embed_2_dim=WIDTH,
        image_embed_dim=16,
        target_size=target_size,
        task_type="i2v",
        use_meanflow=False,
        **ATTENTION,
    )
    vae: Any = AutoencoderKLHunyuanVideo15(
        latent_channels=32, block_out_channels=(16, 16, 32, 64, 64), layers_per_block=1
    )
    return HunyuanVideo15ImageToVideoPipeline(
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer.eval(),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
        image_encoder=SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=384,
                patch_size=14,  # 27 x 27 tokens: the pipeline counts on 729
            )
        ).eval(),
        feature_extractor=SiglipImageProcessor(size={"height": 384, "width": 384}),
    )
