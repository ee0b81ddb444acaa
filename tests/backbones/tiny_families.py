"""Random pipelines of every family at tiny size: the real classes, with the published schedulers and config switches.

``build`` makes one, ``run`` calls it as a user would, ``save`` writes it in diffusers layout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mvguide.backbones.pretrained import BACKBONES
from tests.backbones.tiny_cogvideox import build_cogvideox, build_cogvideox15
from tests.backbones.tiny_hunyuan import build_hunyuan, build_hunyuan15
from tests.backbones.tiny_ltx import build_ltx
from tests.backbones.tiny_wan import (
    build_wan21,
    build_wan21_last_image,
    build_wan22_5b,
    build_wan22_a14b,
    build_wan_vace,
)

HEIGHT, WIDTH = 32, 64
PROMPT = "The camera moves slowly to the left."
STEPS = 4
"""Divides 1000: CogVideoX then ends at sigma 0."""


def picture(seed: int = 0) -> Image.Image:
    """An image with large shapes and fine noise."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    shapes = np.stack([rows * 6, columns * 3, (rows // 8 + columns // 8 + seed) % 2 * 180], axis=-1)
    noise = np.random.default_rng(seed).integers(0, 60, (HEIGHT, WIDTH, 3))
    return Image.fromarray((shapes + noise).astype(np.uint8))


def _image_to_video(frames: int) -> dict[str, Any]:
    return {
        "image": picture(),
        "prompt": PROMPT,
        "negative_prompt": "blurred",
        "guidance_scale": 3.0,
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": frames,
    }


def _first_and_last(frames: int) -> dict[str, Any]:
    return _image_to_video(frames) | {"last_image": picture(1)}


def _video_and_mask(frames: int) -> dict[str, Any]:
    """The first frame is kept, and of the others the left half; white is what the model makes."""
    call = _image_to_video(frames)
    video = [call.pop("image"), *(picture(seed) for seed in range(1, frames))]
    half = Image.fromarray(np.tile(np.repeat(np.array([0, 255], np.uint8), WIDTH // 2), (HEIGHT, 1)))
    return call | {"video": video, "mask": [Image.new("L", (WIDTH, HEIGHT)), *[half] * (frames - 1)]}


def _embedded_guidance(frames: int) -> dict[str, Any]:
    """HunyuanVideo takes ``guidance_scale`` as an input of the network; two calls are ``true_cfg_scale``."""
    return _image_to_video(frames) | {"guidance_scale": 6.0, "negative_prompt": None}


def _true_cfg(frames: int) -> dict[str, Any]:
    return _image_to_video(frames) | {"guidance_scale": 1.0, "true_cfg_scale": 3.0}


def _own_size(frames: int) -> dict[str, Any]:
    """The size follows the image, the guidance scale is the guider's."""
    call = _image_to_video(frames)
    return {name: value for name, value in call.items() if name not in {"height", "width", "guidance_scale"}}


@dataclass(frozen=True)
class Family:
    """How to build one kind of pipeline, and what its VAE and its call are like.

    Args:
        build: makes the pipeline.
        ratio: frames of a latent frame.
        factor: pixels of a latent cell along a side.
        channels: latent channels.
        frames: frames of a tiny video.
        call: arguments of the call for a number of frames.
        time_first: ``scheduler.step`` sees ``[B, L, C, h, w]``, not ``[B, C, L, h, w]``.
        held: leading latent frames that ``scheduler.step`` does not see.
        padded: latent frames that it sees beyond those of the video.
        dropped: frames that the pipeline cuts off after decoding.
        published_class: what the published model_index.json names, where that is the text-to-video pipeline.
    """

    build: Callable[[], Any]
    ratio: int
    factor: int
    channels: int
    frames: int = 9
    call: Callable[[int], dict[str, Any]] = _image_to_video
    time_first: bool = False
    held: int = 0
    padded: int = 0
    dropped: int = 0
    published_class: str = ""

    @property
    def latent_frames(self) -> int:
        return (self.frames - 1) // self.ratio + 1


_cogvideox = partial(build_cogvideox, HEIGHT, WIDTH, 9)
FAMILIES = {
    "wan21": Family(build_wan21, 4, 8, 16),
    "wan21_euler": Family(partial(build_wan21, euler=True), 4, 8, 16),
    "wan21_last_image": Family(build_wan21_last_image, 4, 8, 16, call=_first_and_last),
    "wan22_a14b": Family(build_wan22_a14b, 4, 8, 16),
    "wan22_a14b_euler": Family(partial(build_wan22_a14b, euler=True), 4, 8, 16),
    "wan22_5b": Family(build_wan22_5b, 4, 16, 48, published_class="WanPipeline"),
    "wan22_5b_euler": Family(partial(build_wan22_5b, euler=True), 4, 16, 48, published_class="WanPipeline"),
    "wan_vace": Family(build_wan_vace, 4, 8, 16, call=_video_and_mask),
    "wan_vace_euler": Family(partial(build_wan_vace, euler=True), 4, 8, 16, call=_video_and_mask),
    "cogvideox": Family(_cogvideox, 4, 8, 16, time_first=True),
    "cogvideox_dpm": Family(partial(_cogvideox, dpm=True), 4, 8, 16, time_first=True),
    "cogvideox15": Family(build_cogvideox15, 4, 8, 16, time_first=True, padded=1),
    "cogvideox15_dpm": Family(partial(build_cogvideox15, dpm=True), 4, 8, 16, time_first=True, padded=1),
    "ltx": Family(build_ltx, 8, 32, 128, 17, held=1, published_class="LTXPipeline"),
    "ltx_noisy_decoder": Family(
        partial(build_ltx, noisy_decoder=True), 8, 32, 128, 17, held=1, published_class="LTXPipeline"
    ),
    "hunyuan_replace": Family(partial(build_hunyuan, token_replace=True), 4, 8, 16, call=_embedded_guidance, held=1),
    "hunyuan_concat": Family(partial(build_hunyuan, token_replace=False), 4, 8, 16, 13, _true_cfg, dropped=4),
    "hunyuan15": Family(partial(build_hunyuan15, target_size=45), 4, 16, 32, call=_own_size),  # 32 x 64 has 45 ** 2
}


def build(kind: str) -> Any:
    """A fresh pipeline of ``FAMILIES[kind]``: seeded, float32, in evaluation mode, without progress bar."""
    pipe = FAMILIES[kind].build()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_backbone(pipe: Any) -> Any:
    """Mvguide's backbone of a pipeline."""
    module, kind = str(BACKBONES[type(pipe).__name__]).split(":")
    return getattr(import_module(module), kind)(pipe, "tiny")


def run(kind: str, pipe: Any, seed: int = 7, output_type: str = "pt", **changes: Any) -> torch.Tensor:
    """What the stock pipeline makes: frames ``[F, 3, H, W]``, or its latents as they come with ``"latent"``."""
    family = FAMILIES[kind]
    call = family.call(family.frames) | {"num_inference_steps": STEPS, "output_type": output_type} | changes
    torch.manual_seed(seed)  # decoders of LTX draw noise that no generator reaches
    frames = pipe(**call, generator=torch.Generator().manual_seed(seed)).frames
    return frames if output_type == "latent" else frames[0]


def save(kind: str, pipe: Any, folder: Path, published: bool = False) -> Path:
    """Write in diffusers layout, as loaded by ``DiffusionPipeline.from_pretrained``.

    Args:
        kind: name in :data:`FAMILIES`.
        pipe: pipeline of that kind.
        folder: where to write.
        published: name the classes that the published model names, even where they are not the right ones: some name
            the text-to-video pipeline, HunyuanVideo a tokenizer that transformers 5 reads wrongly.
    """
    pipe.save_pretrained(folder)
    index = folder / "model_index.json"
    # transformers names its backend's class; the public name loads with any backend.
    content = index.read_text().replace("ImageProcessorPil", "ImageProcessor")
    if published:
        content = content.replace("TokenizersBackend", "LlamaTokenizerFast")
        if FAMILIES[kind].published_class:
            content = content.replace(type(pipe).__name__, FAMILIES[kind].published_class)
    index.write_text(content)
    return folder
