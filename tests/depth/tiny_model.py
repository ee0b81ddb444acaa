"""A Depth Anything of a few thousand weights, saved and loaded as the published ones are."""

from pathlib import Path
from typing import Any

import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessorPil


def processor() -> DPTImageProcessorPil:
    return DPTImageProcessorPil(size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14)


def network(kind: str) -> DepthAnythingForDepthEstimation:
    torch.manual_seed(0)
    taken: dict[str, Any] = {"out_indices": [1, 2, 3, 4]}  # an option that the signature does not name
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        reshape_hidden_states=False,
        apply_layernorm=True,
        **taken,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    model = DepthAnythingForDepthEstimation(config).eval()
    with torch.no_grad():
        # Random weights put out nearly a constant: let the last layers tell pixels apart, and keep all above 0.
        for parameter in model.parameters():
            parameter.mul_(4.0)
        model.head.conv3.weight.abs_()
        model.head.conv3.bias.fill_(0.01)
    return model


def save_model(folder: Path, kind: str = "relative") -> Path:
    """The network and its processor in a folder."""
    network(kind).save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder
