"""Families of video transformers: what differs between their stock pipelines."""

from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mvguide.backbones.base import ConditioningOptions, KnownFrames, ModelNotes
from mvguide.backbones.stock import StockBackbone, StockConditioning
from mvguide.backbones.stock_call import Call, replaced
from mvguide.errors import ConfigError, InputError, ModelError


class WanBackbone(StockBackbone):
    """Wan 2.1 and 2.2, image to video: the 14B models, the two experts of A14B, and TI2V-5B.

    A14B hands over from one network to the other at ``boundary_ratio``. TI2V-5B is given the first latent frame clean,
    with timestep 0 for its tokens. Models that know a last image get the last frame where it is an input view.
    """

    PIPELINE = "WanImageToVideoPipeline"
    NETWORKS: ClassVar[dict[str, str]] = {
        "transformer": "WanTransformer3DModel",
        "transformer_2": "WanTransformer3DModel",
        "vae": "AutoencoderKLWan",
        "text_encoder": "UMT5EncoderModel",
        "image_encoder": "CLIPVisionModel",
    }
    DTYPES: ClassVar[dict[str, torch.dtype]] = {"vae": torch.float32, "image_encoder": torch.float32}

    def __init__(self, pipe: Any, name: str, notes: ModelNotes | None = None) -> None:
        super().__init__(pipe, name, notes)
        check_ftfy(name)
        channels = pipe.transformer.config.in_channels
        if not pipe.config.expand_timesteps and channels == self._latent_channels():
            raise ModelError(f"model {name} makes videos from words alone; give an image-to-video (I2V or TI2V) model")

    @property
    def guidance_scale(self) -> float:  # type: ignore[override]
        """5, and 3.5 for A14B."""
        return 5.0 if self.pipe.config.boundary_ratio is None else 3.5

    def held_frames(self) -> int:
        """TI2V-5B: one."""
        return int(self.pipe.config.expand_timesteps)

    def arguments(self, options: ConditioningOptions, known: KnownFrames | None) -> Call:
        """With the last image, for models that were trained with one."""
        call = super().arguments(options, known)
        config = self.pipe.transformer.config
        between = config.pos_embed_seq_len is not None  # the first-last-frame model (FLF2V)
        if known is not None and bool(known.pinned[-1]):
            if between or (config.image_dim is None and not self.held_frames()):
                call["last_image"] = self._pil(known.video[-1])
        elif between:
            raise ConfigError(
                f"model {self.name} fills in between a first and a last image, but the path does not end at an input "
                "image; give two images and trajectory kind views, or an I2V model"
            )
        return call

    def network(self, sigma: Tensor) -> Any:
        """A14B: the second network below the boundary."""
        boundary = self.pipe.config.boundary_ratio
        if boundary is None or self.scheduler.timestep(sigma) >= boundary * self.scheduler.num_train_timesteps:
            return self.pipe.transformer
        return self.pipe.transformer_2

    def normalise(self, latents: Tensor) -> Tensor:
        """``(z - mean) / std`` for each channel."""
        mean, std = self._moments(latents)
        return (latents - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        """``z std + mean``."""
        mean, std = self._moments(latents)
        return latents * std + mean

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.pipe.vae.config
        mean, std = (torch.tensor(values).to(like) for values in (config.latents_mean, config.latents_std))
        return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


class WanVaceBackbone(WanBackbone):
    """WanVACE: takes the warped video and the mask of its holes natively, at the same time as the guidance or alone."""

    PIPELINE = "WanVACEPipeline"
    NETWORKS: ClassVar[dict[str, str]] = {
        "transformer": "WanVACETransformer3DModel",
        "transformer_2": "WanVACETransformer3DModel",
        "vae": "AutoencoderKLWan",
        "text_encoder": "UMT5EncoderModel",
    }

    def __init__(self, pipe: Any, name: str, notes: ModelNotes | None = None) -> None:
        StockBackbone.__init__(self, pipe, name, notes)
        check_ftfy(name)

    def held_frames(self) -> int:
        """None."""
        return 0

    def arguments(self, options: ConditioningOptions, known: KnownFrames | None) -> Call:
        """The warped video and a mask, white where the model is to paint; without it the first image alone."""
        if known is None:
            raise ConfigError(f"model {self.name} is conditioned on a video; prepare it with the warped frames")
        first = torch.arange(len(known.visible)) == 0
        whole, visible = (known.pinned, known.visible) if options.warp_condition else (first, 0 * known.visible)
        visible = torch.where(whole.view(-1, 1, 1, 1), 1.0, visible.float())
        # The published examples are gray where the model is to paint.
        video = torch.lerp(torch.full_like(known.video, 0.5), known.video, visible.to(known.video))
        return StockBackbone.arguments(self, options, known) | {
            "image": None,
            "video": [self._pil(frame) for frame in video],
            "mask": [self._pil((1 - frame).expand(3, -1, -1)) for frame in visible],
        }


class CogVideoXBackbone(StockBackbone):
    """CogVideoX and CogVideoX 1.5, image to video. Frames are 8 k + 1, or their VAE would make more of them.

    1.5 takes pairs of latent frames: one more is denoised first and left out in the end.
    """

    PIPELINE = "CogVideoXImageToVideoPipeline"
    NETWORKS: ClassVar[dict[str, str]] = {
        "transformer": "CogVideoXTransformer3DModel",
        "vae": "AutoencoderKLCogVideoX",
        "text_encoder": "T5EncoderModel",
    }
    channel_axis = 2
    guidance_scale = 6.0


class LtxBackbone(StockBackbone):
    """LTX-Video, image to video: latents are tokens, and the first latent frame is the image's own."""

    PIPELINE = "LTXImageToVideoPipeline"
    NETWORKS: ClassVar[dict[str, str]] = {
        "transformer": "LTXVideoTransformer3DModel",
        "vae": "AutoencoderKLLTXVideo",
        "text_encoder": "T5EncoderModel",
    }
    guidance_scale = 3.0

    def held_frames(self) -> int:
        """One."""
        return 1

    def timesteps(self, num_steps: int, shape: tuple[int, ...]) -> Call:
        """Even sigmas, shifted by the number of tokens. Raises InputError for a single step."""
        if num_steps < 2:
            raise InputError(f"num_steps is {num_steps}; the schedule of model {self.name} has at least 2 steps")
        config, tokens = self.pipe.scheduler.config, shape[1] * shape[3] * shape[4]
        least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return {
            "sigmas": np.linspace(1.0, 1 / num_steps, num_steps),
            "mu": low + (high - low) * (tokens - least) / (most - least),
        }

    def pack(self, x: Tensor) -> Tensor:
        """One token a cell."""
        return self.pipe._pack_latents(x.transpose(1, 2), *self._patch())

    def unpack(self, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Cells again."""
        return self.pipe._unpack_latents(packed, shape[1], shape[3], shape[4], *self._patch()).transpose(1, 2)

    def normalise(self, latents: Tensor) -> Tensor:
        """``(z - mean) scale / std`` for each channel."""
        vae = self.pipe.vae
        return self.pipe._normalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Inverse of :meth:`normalise`."""
        vae = self.pipe.vae
        return self.pipe._denormalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)

    def run_decoder(self, latents: Tensor) -> Tensor:
        """At noise 0, for decoders that are told how much noise is left."""
        vae = self.pipe.vae
        left = torch.zeros(1, device=latents.device, dtype=latents.dtype) if vae.config.timestep_conditioning else None
        return vae.decode(latents, left, return_dict=False)[0]

    def _patch(self) -> tuple[int, int]:
        return self.pipe.transformer_spatial_patch_size, self.pipe.transformer_temporal_patch_size


class HunyuanVideoBackbone(StockBackbone):
    """HunyuanVideo, image to video.

    ``latent_concat``: the image is concatenated, and the decoded video starts after the first latent frame, so one
    more is denoised. ``token_replace``: the first latent frame is the image's own.
    """

    PIPELINE = "HunyuanVideoImageToVideoPipeline"
    NETWORKS: ClassVar[dict[str, str]] = {
        "transformer": "HunyuanVideoTransformer3DModel",
        "vae": "AutoencoderKLHunyuanVideo",
        "text_encoder": "LlavaForConditionalGeneration",
        "text_encoder_2": "CLIPTextModel",
    }
    TOKENIZERS: ClassVar[dict[str, str]] = {"tokenizer": "AutoTokenizer"}
    guidance_scale = 1.0

    @property
    def _replaces(self) -> bool:
        return self.pipe.transformer.config.image_condition_type == "token_replace"

    def held_frames(self) -> int:
        """One with ``token_replace``."""
        return int(self._replaces)

    def with_defaults(self, options: ConditioningOptions, flow: float | None = None) -> ConditioningOptions:
        """The embedded scale is 6, as published, for models that have one."""
        if not self.pipe.transformer.config.guidance_embeds:
            return super().with_defaults(options, flow)
        told = options.embedded_guidance
        known = super().with_defaults(replace(options, embedded_guidance=None), flow)
        return replace(known, embedded_guidance=6.0 if told is None else told)

    def arguments(self, options: ConditioningOptions, known: KnownFrames | None) -> Call:
        """Classifier-free guidance is called true here, and needs a negative prompt."""
        return {
            "guidance_scale": options.embedded_guidance or 1.0,
            "true_cfg_scale": options.cfg_max,
            "negative_prompt": options.negative_prompt or "",
        }

    def timesteps(self, num_steps: int, shape: tuple[int, ...]) -> Call:
        """Even sigmas."""
        return even_sigmas(num_steps)

    def stock_frames(self, num_frames: int) -> int:
        """With the frames that are dropped."""
        return num_frames + self.grid.lead * self.grid.ratio

    def mix_start(self, noise: Tensor, conditioning: StockConditioning) -> Tensor:
        """0.999 of noise and 0.001 of the image in every latent frame."""
        hidden, channels = conditioning.calls[0]["hidden_states"], noise.shape[2]
        picture = hidden[:, :channels, :1] if self._replaces else hidden[:, channels : 2 * channels, :1]
        return 0.999 * noise + 0.001 * picture.transpose(1, 2).float().cpu()

    def encode_video(self, frames: Tensor) -> Tensor:
        """With ``latent_concat`` the leading latent frame is a real one: the video starts with frame 0 repeated."""
        pixels = torch.cat([frames[:1].expand(self.grid.lead * self.grid.ratio, -1, -1, -1), frames])
        video = self._processor.normalize(pixels).transpose(0, 1)[None]
        latents = self.pipe.vae.encode(video.to(self.device, self.pipe.vae.dtype)).latent_dist.mode()
        return self.normalise(latents.float()).transpose(1, 2)

    def decode_video(self, x: Tensor) -> Tensor:
        """All is decoded, and the repeated frames are left out."""
        latents = self.denormalise(x.transpose(1, 2)).to(self.pipe.vae.dtype)
        return self.run_decoder(latents)[0].transpose(0, 1)[self.grid.lead * self.grid.ratio :]


class HunyuanVideo15Backbone(StockBackbone):
    """HunyuanVideo 1.5, image to video: image and mask are concatenated."""

    PIPELINE = "HunyuanVideo15ImageToVideoPipeline"
    NETWORKS: ClassVar[dict[str, str]] = {
        "transformer": "HunyuanVideo15Transformer3DModel",
        "vae": "AutoencoderKLHunyuanVideo15",
        "text_encoder": "Qwen2_5_VLTextModel",
        "text_encoder_2": "T5EncoderModel",
        "image_encoder": "SiglipVisionModel",
    }
    guidance_scale = 6.0

    def __init__(self, pipe: Any, name: str, notes: ModelNotes | None = None) -> None:
        super().__init__(pipe, name, notes)
        if pipe.transformer.config.use_meanflow:
            raise ModelError(
                f"model {name} is a step-distilled one (use_meanflow), which is not supported; use another"
            )

    def timesteps(self, num_steps: int, shape: tuple[int, ...]) -> Call:
        """Even sigmas."""
        return even_sigmas(num_steps)

    def sized(self, height: int, width: int) -> AbstractContextManager[Any]:
        """The stock call chooses a size of its own from the image's shape; here it is the image's."""
        return replaced(self.pipe.video_processor, "calculate_default_height_width", lambda **_: (height, width))

    def arguments(self, options: ConditioningOptions, known: KnownFrames | None) -> Call:
        """Guidance is the pipeline's guider, which only says whether there is a negative prompt to encode."""
        return {"negative_prompt": options.negative_prompt or "", "height": None, "width": None}


def even_sigmas(num_steps: int) -> Call:
    """HunyuanVideo's: N levels from 1, before the scheduler shifts them."""
    return {"sigmas": np.linspace(1.0, 0.0, num_steps + 1)[:-1]}


def check_ftfy(name: str) -> None:
    """Raise ModelError where ftfy is missing: Wan's pipelines call it on every prompt."""
    if find_spec("ftfy") is None:
        raise ModelError(f"model {name} needs ftfy to read a prompt; install it with: pip install 'mvguide[models]'")
