"""Settings of ``mvguide plan``."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mvguide.guidance.guides import GUIDES


@dataclass
class PlanConfig:
    """Predict the memory that a render takes on a GPU, and which settings fit; no weights are loaded.

    Args:
        model: model to plan for: tiny, a folder in diffusers layout, a hub id, or a published model: svd-xt, svd,
            wan2.1-14b, wan2.2-a14b, wan2.2-5b, wan2.1-vace-1.3b, wan2.1-vace-14b, cogvideox-5b, cogvideox-1.5-5b,
            ltx-video, hunyuanvideo, hunyuanvideo-33ch, hunyuanvideo-1.5.
        num_frames: number of frames of the video; the model's own if unset.
        width: width of the video in pixels; the model's own if unset.
        height: height of the video in pixels, given together with width.
        dtype: number type of the networks: auto (that of the published weights), float32, float16, bfloat16.
        guidance: kind of guidance: blend, top_share, posterior_gradient or none; the gradient needs most.
        vram: memory of the GPU in GiB; that of this machine's GPU if unset.
    """

    heading: ClassVar[str] = "model"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide plan --model svd-xt --vram 12",
        "mvguide plan --model wan2.1-14b --guidance posterior_gradient --vram 80",
    )

    model: str = "tiny"
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    guidance: Literal[tuple(GUIDES)] = "blend"  # type: ignore[valid-type]
    vram: float | None = None
