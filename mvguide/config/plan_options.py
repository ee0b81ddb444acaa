"""Settings of ``mvguide plan``."""

from dataclasses import dataclass
from typing import Literal

from mvguide.guidance.guides import GUIDES


@dataclass
class PlanConfig:
    """Predict the memory that a render takes on a GPU, and which settings fit; no weights are loaded.

    Args:
        model: tiny, a folder in diffusers layout, a hub id, or a published model: svd-xt, svd, wan2.1-14b, wan2.2-a14b,
            wan2.2-5b, wan2.1-vace-1.3b, wan2.1-vace-14b, cogvideox-5b, cogvideox-1.5-5b, ltx-video, hunyuanvideo,
            hunyuanvideo-33ch, hunyuanvideo-1.5.
        num_frames: frames of the video; the model's own number if unset.
        width: of the video; the model's own size if unset.
        height: of the video.
        dtype: auto (that of the published weights), float32, float16, bfloat16.
        guidance: blend, top_share, posterior_gradient or none; the gradient needs most.
        vram: memory of the GPU in GiB; that of this machine's GPU if unset.
    """

    model: str = "tiny"
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    guidance: Literal[tuple(GUIDES)] = "blend"  # type: ignore[valid-type]
    vram: float | None = None
