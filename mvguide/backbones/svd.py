"""Stable Video Diffusion on stock diffusers classes, unmodified: UNet, VAE and image encoder of one pipeline object."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.video_processor import VideoProcessor
from torch import Tensor
from torch.nn.functional import pad

from mvguide.backbones.base import Conditioning, ConditioningOptions, FrameByFrame, KnownFrames, ModelNotes
from mvguide.backbones.native_size import NativeSize, native_size
from mvguide.backbones.offload import check_gradient, free_networks
from mvguide.backbones.recompute import recomputed
from mvguide.diffusion.denoiser import mix_guidance
from mvguide.diffusion.path import NoisePath, Prediction, VarianceExploding
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import ConfigError, InputError, ModelError, NumericalError

PREDICTIONS: dict[str, Prediction] = {"v_prediction": "v", "epsilon": "epsilon", "sample": "denoised"}
SVD_MOTION_BUCKET = 127.0
SVD_GUIDANCE_SCALE = (1.0, 3.0)
UNET_BLOCKS = (SpatioTemporalResBlock, BasicTransformerBlock, TemporalBasicTransformerBlock)
"""Parts of the UNet that gradient checkpointing computes again."""


class SvdBackbone(FrameByFrame):
    """A Stable Video Diffusion model: VE path, v-prediction, ``c_in = 1/sqrt(sigma^2 + 1)``, timestep ``log(sigma)/4``.

    The conditioning image is concatenated as unscaled latents and embedded by CLIP; both are zero in the
    unconditional half of classifier-free guidance.

    Args:
        pipe: a stock StableVideoDiffusionPipeline; stays usable on its own, and takes offload and checkpointing
            settings as usual.
        name: for reports.
        notes: what is known of the model beyond its weights.

    Raises:
        ModelError: when the pipeline's scheduler config is not one that SVD's network understands.
    """

    PIPELINE = "StableVideoDiffusionPipeline"
    NETWORKS: ClassVar[dict[str, str]] = {
        "unet": "UNetSpatioTemporalConditionModel",
        "vae": "AutoencoderKLTemporalDecoder",
        "image_encoder": "CLIPVisionModelWithProjection",
    }
    DTYPE = torch.float16
    DTYPES: ClassVar[dict[str, torch.dtype]] = {}
    TOKENIZERS: ClassVar[dict[str, str]] = {}
    default_table = "search"

    def __init__(self, pipe: Any, name: str, notes: ModelNotes | None = None) -> None:
        # Any: diffusers sets the modules of a pipeline by name at run time, which a type checker cannot see.
        self.pipe = pipe
        config = self.pipe.scheduler.config
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS or config.get("timestep_type", "discrete") != "continuous":
            raise ModelError(
                f"model {name} has a scheduler with prediction_type {prediction!r} and timestep_type "
                f"{config.get('timestep_type')!r}; SVD needs EulerDiscreteScheduler with timestep_type 'continuous'"
            )
        for module in (self.pipe.unet, self.pipe.vae, self.pipe.image_encoder):
            module.eval().requires_grad_(False)
        self.name = name
        self.notes = notes or ModelNotes()
        self.prediction = PREDICTIONS[prediction]
        self.path = VarianceExploding(t_max=float(config.get("sigma_max") or 700.0))
        self.vae_scale_factor = int(self.pipe.vae_scale_factor)
        self._processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor)

    @cached_property
    def fingerprint(self) -> str:
        """Name, number format, and a digest of the sums of every weight."""
        digest = hashlib.sha256()
        for module in (self.pipe.unet, self.pipe.vae, self.pipe.image_encoder):
            for key, weight in module.state_dict().items():
                digest.update(f"{key} {float(weight.double().sum())} {float(weight.double().abs().sum())}".encode())
        return f"{self.name} {self.dtype} {digest.hexdigest()[:16]}"

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the UNet."""
        return self.pipe.unet.dtype

    @property
    def device(self) -> torch.device:
        """Where the pipeline executes (with offload: the accelerator, not where the weights rest)."""
        return self.pipe._execution_device

    @property
    def native_size(self) -> NativeSize:
        """Frames and sizes that the model was trained for."""
        return native_size(self.pipe.unet.config, self.pipe.vae.config, self.name)

    def with_defaults(self, options: ConditioningOptions, flow: float | None = None) -> ConditioningOptions:
        """The options with nothing left None; a motion bucket made from the flow lies in [1, 255].

        Raises:
            ConfigError: words, which this model cannot read.
        """
        if options.prompt or options.negative_prompt or options.embedded_guidance is not None:
            raise ConfigError(
                f"model {self.name} is conditioned on an image alone; leave prompt, negative_prompt and "
                "embedded_guidance out"
            )
        bucket, per_width = options.motion_bucket_id, self.notes.motion_bucket_per_width
        if bucket is None:
            bucket = SVD_MOTION_BUCKET if flow is None or per_width is None else min(255.0, max(1.0, per_width * flow))
        low, high = self.notes.guidance_scale or SVD_GUIDANCE_SCALE
        return replace(
            options,
            motion_bucket_id=bucket,
            cfg_min=low if options.cfg_min is None else options.cfg_min,
            cfg_max=high if options.cfg_max is None else options.cfg_max,
        )

    def schedule(self, num_steps: int, shape: tuple[int, ...] | None = None) -> SigmaSchedule:
        """Sigmas that the model's own scheduler gives for this number of steps."""
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        scheduler.set_timesteps(num_steps)
        return SigmaSchedule(scheduler.sigmas, name=f"{self.name} scheduler")

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
        """``[1, F, C, h, w]``. Raises InputError for a size that the VAE does not divide, or fewer than 2 frames."""
        if num_frames < 2:
            raise InputError(f"num_frames is {num_frames}; a video needs at least 2 frames")
        factor = self.vae_scale_factor
        if height < 1 or width < 1 or height % factor or width % factor:
            nearest = [max(1, round(size / factor)) * factor for size in (width, height)]
            raise InputError(
                f"video size {width} x {height} (width x height) is not divisible by the VAE factor {factor} of "
                f"model {self.name}; use {nearest[0]} x {nearest[1]}"
            )
        return 1, num_frames, int(self.pipe.unet.config.out_channels), height // factor, width // factor

    @torch.no_grad()
    def prepare(
        self,
        picture: Tensor,
        options: ConditioningOptions,
        generator: torch.Generator | None = None,
        known: KnownFrames | None = None,
    ) -> Conditioning:
        """Embed and encode the conditioning image ``[3, H, W]`` in [0, 1].

        Draws the noise of ``noise_aug_strength`` from the generator exactly as the stock pipeline does.
        """
        pipe, device, options = self.pipe, self.device, self.with_defaults(options)
        assert options.cfg_min is not None  # with_defaults() leaves nothing unset
        assert options.cfg_max is not None
        dtype = pipe.unet.dtype
        pil = self._processor.numpy_to_pil(picture.permute(1, 2, 0)[None].cpu().numpy())
        embedding = pipe._encode_image(pil, device, 1, False)
        augmented = self._processor.normalize(picture[None].float().cpu())
        noise = torch.randn(augmented.shape, generator=generator)
        augmented = augmented + options.noise_aug_strength * noise
        with self._encoder_in_float32():
            latents = pipe._encode_vae_image(augmented, device, 1, False).to(dtype)
        # SVD was conditioned on fps - 1.
        motion, noise_level = options.motion_bucket_id, options.noise_aug_strength
        ids = pipe._get_add_time_ids(options.fps - 1, motion, noise_level, dtype, 1, 1, False)
        return Conditioning(
            tensors={
                "embedding": embedding.to(dtype),
                "latents": latents[:, None].expand(-1, options.num_frames, -1, -1, -1),
                "ids": ids.to(device),
            },
            scale=torch.linspace(options.cfg_min, options.cfg_max, options.num_frames),
            chunked=options.cfg_chunked,
        )

    @torch.no_grad()
    def encode(self, frames: Tensor, chunk: int = 8) -> Tensor:
        """Images ``[F, 3, H, W]`` in [0, 1] to float32 latents ``[F, C, h, w]``: ``mode() * scaling_factor``."""
        pipe = self.pipe
        latents = []
        with self._encoder_in_float32():
            for part in frames.split(chunk):
                pixels = self._processor.normalize(part).to(self.device, pipe.vae.dtype)
                latents.append(pipe.vae.encode(pixels).latent_dist.mode().float())
        return torch.cat(latents) * pipe.vae.config.scaling_factor

    def denoiser(self, conditioning: Conditioning) -> "SvdDenoiser":
        """The UNet with its conditioning."""
        return SvdDenoiser(self, conditioning)

    @torch.no_grad()
    def decode(self, x: Tensor, chunk: int = 8) -> Tensor:
        """Clean latents ``[1, F, C, h, w]`` to images ``[F, 3, H, W]`` in [0, 1], float32 on the CPU.

        The decoder mixes neighbouring frames of a chunk, as in the stock pipeline's ``decode_chunk_size``. It runs in
        the VAE's own number format, as there; a chunk that overflows in 16 bits is decoded again in float32.

        Raises:
            NumericalError: a chunk that is not finite in float32 either.
        """
        height, width = (side * self.vae_scale_factor for side in x.shape[-2:])
        video = torch.empty(x.shape[1], 3, height, width)  # once: a long video has no room for copies
        for part, room in zip(x.split(chunk, dim=1), video.split(chunk), strict=True):
            room.copy_(self._processor.denormalize(self._decode_chunk(part)).clamp(0, 1))
        return video

    def decode_bytes(self, height: int, width: int) -> float:
        """Bytes that decoding takes for each frame of a chunk: four feature maps of the widest block at full size.

        For the published decoder at 576 x 1024 that is 1.1 GiB in 16 bits, 2.25 GiB in float32.
        """
        channels = max(self.pipe.vae.config.block_out_channels[:2])  # what the last block is given, at full size
        return 4 * channels * height * width * self.pipe.vae.dtype.itemsize

    def free(self) -> None:
        """With offload, take every network off the GPU."""
        free_networks(self.pipe)

    def _decode_chunk(self, x: Tensor) -> Tensor:
        """Latents ``[1, n, C, h, w]`` to ``[n, 3, H, W]`` in [-1, 1], float32 on the CPU."""
        pipe, count = self.pipe, x.shape[1]
        video = pipe.decode_latents(x.to(pipe.vae.dtype), count, count)
        if pipe.vae.dtype != torch.float32 and not bool(video.isfinite().all()):
            with _in_float32(pipe.vae):
                video = pipe.decode_latents(x.float(), count, count)
        if not bool(video.isfinite().all()):
            raise NumericalError(f"decoded frames of model {self.name} are not finite, in float32 either")
        return video[0].permute(1, 0, 2, 3).cpu()

    def _encoder_in_float32(self) -> AbstractContextManager[None]:
        """SVD's encoder overflows in float16 (``force_upcast``): the stock pipeline, too, runs it in float32.

        Its decoder stays in float16 there, and here.
        """
        vae = self.pipe.vae
        return _in_float32(vae) if vae.dtype == torch.float16 and vae.config.force_upcast else nullcontext()


@contextmanager
def _in_float32(module: Any) -> Iterator[None]:
    """Context in which a module is float32."""
    dtype = module.dtype
    # Not the module's own `to`: diffusers' prints a warning of parts to be kept in float32, even where there are none.
    torch.nn.Module.to(module, torch.float32)
    try:
        yield
    finally:
        torch.nn.Module.to(module, dtype)


@dataclass(frozen=True)
class SvdDenoiser:
    """``denoised = to_denoised(UNet(c_in x, log(sigma)/4, conditioning))``, with classifier-free guidance per frame.

    x stays float32; the UNet runs in its own dtype. Latent sizes that the UNet's down-sampling does not divide are
    padded by repeating the border, and cut again, so that any size the VAE allows works.
    """

    backbone: SvdBackbone
    conditioning: Conditioning
    checkpointing: bool = False

    @property
    def path(self) -> NoisePath:
        """VE."""
        return self.backbone.path

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Clean estimate for x ``[1, F, C, h, w]`` at a 0-d sigma."""
        unet = self.backbone.pipe.unet
        tensors, scale = self.conditioning.tensors, self.conditioning.scale
        # Below a largest scale of 1 there is no guidance, as in the stock pipeline; scales below 1 are then unused.
        guided = bool(scale.max() > 1)
        scaled = (x / (sigma**2 + 1).sqrt()).to(unet.dtype)
        inputs = torch.cat([scaled, tensors["latents"]], dim=2)
        embedding, ids = tensors["embedding"], tensors["ids"]
        if guided:
            unconditional = torch.cat([scaled, torch.zeros_like(tensors["latents"])], dim=2)
            inputs = torch.cat([unconditional, inputs])
            embedding = torch.cat([torch.zeros_like(embedding), embedding])
            ids = torch.cat([ids, ids])
        timestep = (0.25 * sigma.log()).to(x.device, torch.float32)
        size = 1 if self.conditioning.chunked else len(inputs)
        parts = zip(inputs.split(size), embedding.split(size), ids.split(size), strict=True)
        recompute = self.checkpointing and torch.is_grad_enabled()
        if x.requires_grad:
            check_gradient(unet)
        with recomputed(unet, UNET_BLOCKS) if recompute else nullcontext():
            output = torch.cat([self._unet(unet, part, timestep, e, i) for part, e, i in parts])
        if guided:
            output = mix_guidance(output[1:], output[:1], scale)
        return self.path.to_denoised(output.to(x.dtype), x, sigma, self.backbone.prediction)

    def for_gradient(self, checkpointing: bool = True) -> "SvdDenoiser":
        """The conditional half; with checkpointing, what blocks hold inside is recomputed on the way back."""
        conditioning = replace(self.conditioning, scale=torch.ones_like(self.conditioning.scale))
        return replace(self, conditioning=conditioning, checkpointing=checkpointing)

    def window(self, rows: slice, columns: slice) -> "SvdDenoiser":
        """Denoiser of a part of the latent cells, with the same part of the conditioning latents."""
        tensors = {**self.conditioning.tensors, "latents": self.conditioning.tensors["latents"][..., rows, columns]}
        return replace(self, conditioning=replace(self.conditioning, tensors=tensors))

    def _unet(self, unet: torch.nn.Module, inputs: Tensor, timestep: Tensor, embedding: Tensor, ids: Tensor) -> Tensor:
        height, width = inputs.shape[-2:]
        multiple = self.backbone.native_size.multiple
        extra = (-width % multiple, -height % multiple)
        if any(extra):
            batch = inputs.shape[:2]
            inputs = pad(inputs.flatten(0, 1), (0, extra[0], 0, extra[1]), mode="replicate").unflatten(0, batch)
        output = unet(inputs, timestep, encoder_hidden_states=embedding, added_time_ids=ids, return_dict=False)[0]
        return output[..., :height, :width]
