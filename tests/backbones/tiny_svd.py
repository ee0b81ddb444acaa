"""A random, very small StableVideoDiffusionPipeline of the real classes, for tests of loading and equality."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection


def build_pipeline(levels: int = 2, seed: int = 0) -> StableVideoDiffusionPipeline:
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
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    pipe = StableVideoDiffusionPipeline(
        vae=vae.eval(),
        image_encoder=encoder.eval(),
        unet=unet.eval(),
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_pipeline(folder: Path, pipe: StableVideoDiffusionPipeline) -> Path:
    """``save_pretrained``, with the image processor's public class name in the index."""
    pipe.save_pretrained(folder)
    index = folder / "model_index.json"
    content = json.loads(index.read_text())
    content["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index.write_text(json.dumps(content, indent=2))
    return folder
