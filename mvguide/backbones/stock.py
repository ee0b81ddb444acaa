"""Video transformers, by their own stock pipelines: the pipeline prepares, the loop of mvguide denoises.

The stock call runs until its first ``scheduler.step``. By then it has encoded prompt and image, drawn the first
noise, and called its network; what the network was given is kept, and the call is stopped. Every later evaluation gives
the network the same again, with another x and timestep. So a family is little more than the layout of its latents.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from mvguide.backbones.acceleration import AccelerationOptions, denoisers, explained
from mvguide.backbones.base import Conditioning, ConditioningOptions, KnownFrames, ModelNotes, weights_digest
from mvguide.backbones.context_parallel import check_tokens
from mvguide.backbones.native_size import NativeSize, native_size
from mvguide.backbones.offload import check_gradient, free_networks, offload_of
from mvguide.backbones.schedulers import StockScheduler, stock_scheduler
from mvguide.backbones.step_cache import Magnitudes, cached_steps
from mvguide.backbones.stock_call import Call, by_condition, run_to_first_step
from mvguide.diffusion.denoiser import mix_guidance
from mvguide.diffusion.path import NoisePath
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import Solver
from mvguide.diffusion.time_grid import TimeGrid
from mvguide.errors import ConfigError

_ENCODERS = ("text_encoder", "text_encoder_2", "image_encoder")


@dataclass(frozen=True, kw_only=True)
class StockConditioning(Conditioning):
    """What the stock call gave its network.

    Args:
        calls: keyword arguments of the conditional call, and of the unconditional one if there was one.
        start: ``[1, L, C, h, w]``: its first x.
        state: of the generator afterwards.
        held: ``[1, H, C, h, w]``: latent frames that the model holds itself; H may be 0.
    """

    calls: tuple[Call, ...]
    start: Tensor
    state: Tensor
    held: Tensor


class StockBackbone:
    """A pretrained image-to-video transformer in its stock pipeline. Subclasses say what differs between families.

    Latents are ``[1, L, C, h, w]`` here and in the loop; networks see them with channels before time (``channel_axis``
    1) or after it (2).

    Args:
        pipe: a stock pipeline of the family; stays usable on its own.
        name: for reports.
        notes: what is known of the model beyond its weights.

    Raises:
        ModelError: a scheduler or a kind of model that mvguide does not know.
    """

    PIPELINE: ClassVar[str]
    """Image-to-video class of diffusers; some published models name the text-to-video one."""
    NETWORKS: ClassVar[dict[str, str]]
    """Classes of the pipeline's networks, in diffusers or transformers; those that a model lacks are left out."""
    DTYPE = torch.bfloat16
    """Number format on a GPU; that of the published weights."""
    DTYPES: ClassVar[dict[str, torch.dtype]] = {}
    """Networks that are never rounded to 16 bit."""
    TOKENIZERS: ClassVar[dict[str, str]] = {}
    """Tokenizers whose class in the published index reads them wrongly, and the class of transformers to use."""
    channel_axis = 1
    default_table: Literal["calibrated"] = "calibrated"
    acceleration = AccelerationOptions()

    def __init__(self, pipe: Any, name: str, notes: ModelNotes | None = None) -> None:
        # Any: diffusers sets the modules of a pipeline by name at run time, which a type checker cannot see.
        self.pipe, self.name, self.notes = pipe, name, notes or ModelNotes()
        self.device: torch.device = pipe._execution_device
        self.scheduler: StockScheduler = stock_scheduler(pipe.scheduler, name)
        self._processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor)
        for module in self._modules(*self.NETWORKS):
            module.eval().requires_grad_(False)

    # What a family may say otherwise.

    guidance_scale = 5.0
    """Classifier-free guidance of the published examples."""

    def held_frames(self) -> int:
        """Latent frames, the first ones, that the model holds itself: it is always given them clean."""
        return 0

    def arguments(self, options: ConditioningOptions, known: KnownFrames | None) -> Call:
        """Arguments of the stock call besides image, prompt, size, steps and generator."""
        return {"guidance_scale": options.cfg_max, "negative_prompt": options.negative_prompt}

    def timesteps(self, num_steps: int, shape: tuple[int, ...]) -> Call:
        """Arguments of the scheduler's ``set_timesteps``, as the stock call gives them."""
        return {}

    def pack(self, x: Tensor) -> Tensor:
        """Latents ``[1, L, C, h, w]`` as the network takes them."""
        return x.transpose(1, 2) if self.channel_axis == 1 else x

    def unpack(self, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What the network gives, or is given, as latents; ``shape`` is that of x."""
        return packed.transpose(1, 2) if self.channel_axis == 1 else packed

    def stock_frames(self, num_frames: int) -> int:
        """Number of frames to ask the stock call for."""
        return num_frames

    def sized(self, height: int, width: int) -> AbstractContextManager[Any]:
        """Context in which the stock call makes a video of this size."""
        return nullcontext()

    def mix_start(self, noise: Tensor, conditioning: StockConditioning) -> Tensor:
        """First x from noise."""
        return noise

    def network(self, sigma: Tensor) -> Any:
        """The network that denoises at this level."""
        return self.pipe.transformer

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents ``[1, C, L, h, w]`` of the VAE in the units of x."""
        return latents * self.pipe.vae.config.scaling_factor

    def denormalise(self, latents: Tensor) -> Tensor:
        """Inverse of :meth:`normalise`."""
        return latents / self.pipe.vae.config.scaling_factor

    def run_decoder(self, latents: Tensor) -> Tensor:
        """The VAE's video ``[1, 3, F, H, W]`` in [-1, 1]."""
        return self.pipe.vae.decode(latents, return_dict=False)[0]

    def encode_video(self, frames: Tensor) -> Tensor:
        """Latents ``[1, L, C, h, w]`` in the units of x of images ``[F, 3, H, W]`` in [0, 1], lead and all."""
        pixels = self._processor.normalize(frames).transpose(0, 1)[None]
        latents = self.pipe.vae.encode(pixels.to(self.device, self.pipe.vae.dtype)).latent_dist.mode()
        latents = self.normalise(latents.float()).transpose(1, 2)
        return torch.cat([latents[:, :1].expand(-1, self.grid.lead, -1, -1, -1), latents], dim=1)

    def decode_video(self, x: Tensor) -> Tensor:
        """Images ``[F, 3, H, W]`` in [-1, 1] of latents ``[1, L, C, h, w]``; the lead is left out."""
        latents = self.denormalise(x.transpose(1, 2)[:, :, self.grid.lead :])
        return self.run_decoder(latents.to(self.pipe.vae.dtype))[0].transpose(0, 1)

    # The protocol of a backbone.

    @cached_property
    def native_size(self) -> NativeSize:
        """Frames and sizes that the model was trained for."""
        return native_size(self.pipe.transformer.config, self.pipe.vae.config, self.name, self.PIPELINE)

    @property
    def grid(self) -> TimeGrid:
        """Which frames are one latent frame."""
        return self.native_size.grid

    @property
    def vae_scale_factor(self) -> int:
        """Pixels along a latent cell."""
        return self.native_size.vae_scale_factor

    @property
    def path(self) -> NoisePath:
        """Noise path of the model's scheduler."""
        return self.scheduler.path

    def solver(self, schedule: SigmaSchedule) -> Solver:
        """The model's own scheduler as a solver; Euler where that is the same."""
        return self.scheduler.solver(schedule)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the network."""
        return self.pipe.transformer.dtype

    @cached_property
    def fingerprint(self) -> str:
        """Name, number format, and a digest of the weights."""
        return f"{self.name} {self.dtype} {weights_digest(self._modules(*self.NETWORKS))}"

    def with_defaults(self, options: ConditioningOptions, flow: float | None = None) -> ConditioningOptions:
        """The options with nothing left None that the model knows; one scale of guidance for all frames by default.

        Raises:
            ConfigError: an embedded guidance scale for a model that has none.
        """
        if options.embedded_guidance is not None:
            raise ConfigError(f"model {self.name} has no embedded guidance; use cfg_max for classifier-free guidance")
        default = self.notes.guidance_scale[1] if self.notes.guidance_scale else self.guidance_scale
        most = default if options.cfg_max is None else options.cfg_max
        return replace(
            options,
            prompt=options.prompt or "",
            cfg_max=most,
            cfg_min=most if options.cfg_min is None else options.cfg_min,
        )

    def schedule(self, num_steps: int, shape: tuple[int, ...] | None = None) -> SigmaSchedule:
        """Levels that the model's own scheduler gives, as the stock call asks for them.

        Raises:
            InputError: a number of steps that the scheduler cannot take.
        """
        if shape is None:
            width, height = self.native_size.default_size(16, 9)
            shape = self.latent_shape(self.native_size.frames, height, width)
        return self.scheduler.schedule(num_steps, **self.timesteps(num_steps, shape))

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
        """``[1, L, C, h, w]``. Raises InputError for sizes or frames that VAE and network cannot take."""
        native = self.native_size
        native.check(self.name, num_frames, height, width)
        unit = native.vae_scale_factor * native.multiple
        latent_frames = self.grid.latent_frames(num_frames)
        check_tokens(latent_frames, height // unit, width // unit, unit, self.acceleration.context_parallel)
        channels, factor = int(self._latent_channels()), native.vae_scale_factor
        return 1, latent_frames, channels, height // factor, width // factor

    @torch.no_grad()
    def prepare(
        self,
        picture: Tensor,
        options: ConditioningOptions,
        generator: torch.Generator | None = None,
        known: KnownFrames | None = None,
    ) -> StockConditioning:
        """Run the stock call on the image ``[3, H, W]`` in [0, 1] until its first step, and keep what it made."""
        options, generator = self.with_defaults(options), generator or torch.Generator()
        height, width = picture.shape[-2:]
        shape = self.latent_shape(options.num_frames, height, width)
        call = {
            "image": self._pil(picture),
            "prompt": options.prompt,
            "height": height,
            "width": width,
            "num_frames": self.stock_frames(options.num_frames),
            "num_inference_steps": 4,  # the steps are ours; this many every scheduler takes
            "generator": generator,
            "output_type": "latent",
            **self.arguments(options, known),
        }
        call = {name: value for name, value in call.items() if value is not None}
        with self._encoders_here(), self.sized(height, width):
            calls, sample = run_to_first_step(self.pipe, call)
        calls = by_condition(calls)
        sample = sample.transpose(1, 2) if self.channel_axis == 1 else sample
        held = self.unpack(calls[0]["hidden_states"], shape)[:, : self.held_frames(), : shape[2]].float()
        start = torch.cat([held, sample[:, sample.shape[1] - shape[1] + held.shape[1] :].float()], dim=1)
        assert options.cfg_min is not None  # with_defaults() leaves nothing unset
        assert options.cfg_max is not None
        scale = torch.linspace(options.cfg_min, options.cfg_max, shape[1])
        state = generator.get_state()
        return StockConditioning(tensors={}, scale=scale, calls=tuple(calls), start=start.cpu(), state=state, held=held)

    def first_x(
        self,
        conditioning: StockConditioning,
        shape: tuple[int, ...],
        schedule: SigmaSchedule,
        generator: torch.Generator,
    ) -> Tensor:
        """The x that the stock call drew; new noise for a generator that is not where preparing left it."""
        if shape == conditioning.start.shape and torch.equal(generator.get_state(), conditioning.state):
            return conditioning.start
        noise = torch.randn(shape, generator=generator) * self.path.prior_scale(schedule.sigmas[0])
        return self.mix_start(noise, conditioning)

    @torch.no_grad()
    def encode(self, frames: Tensor, chunk: int = 8) -> Tensor:
        """Images ``[F, 3, H, W]`` in [0, 1] of one video to float32 latents ``[L, C, h, w]``, the mode of the VAE.

        Its frames depend on those before them, so they are encoded together; the VAE takes its own chunks.
        """
        return self.encode_video(frames)[0]

    def denoiser(self, conditioning: StockConditioning) -> "StockDenoiser":
        """The network with what the stock call gave it."""
        return StockDenoiser(self, conditioning)

    @torch.no_grad()
    def decode(self, x: Tensor, chunk: int = 8) -> Tensor:
        """Clean latents ``[1, L, C, h, w]`` to images ``[F, 3, H, W]`` in [0, 1], float32 on the CPU."""
        # Some decoders draw noise of their own, from the process's generator: the same video must look the same again.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)
            video = self.decode_video(x.to(self.device))
        return self._processor.denormalize(video.float()).clamp(0, 1).cpu()

    def decode_bytes(self, height: int, width: int) -> None:
        """The VAE takes the video as a whole, in chunks of its own."""
        return

    def free(self) -> None:
        """With offload, take every network off the GPU."""
        free_networks(self.pipe)

    def step_cache(
        self, schedule: SigmaSchedule, magnitudes: Magnitudes | None = None
    ) -> AbstractContextManager[Magnitudes]:
        """Context of one run over the schedule, in which the networks cache steps as the options say."""
        if self.acceleration.cache == "none":
            return nullcontext({})
        used = [self.network(sigma) for sigma in schedule.sigmas[:-1]]
        calls = {
            part: (network, sum(network is other for other in used)) for part, network in denoisers(self.pipe).items()
        }
        return cached_steps(calls, self.acceleration, magnitudes)

    # Inside.

    def _latent_channels(self) -> int:
        return self.pipe.vae.config.get("latent_channels") or self.pipe.vae.config.z_dim

    def _pil(self, picture: Tensor) -> Any:
        return self._processor.numpy_to_pil(picture.permute(1, 2, 0)[None].cpu().numpy())[0]

    def _modules(self, *names: str) -> list[Any]:
        found = [getattr(self.pipe, name, None) for name in names]
        return [module for module in found if isinstance(module, torch.nn.Module)]

    @contextmanager
    def _encoders_here(self) -> Iterator[None]:
        """With the encoders of prompt and image on the device; afterwards they leave its memory to the network."""
        moved = self.device.type != "cpu" and offload_of(self.pipe) == "none"
        encoders = self._modules(*_ENCODERS) if moved else []
        for module in encoders:
            module.to(self.device)
        try:
            yield
        finally:
            for module in encoders:
                module.to("cpu")
            self.free()


@dataclass(frozen=True)
class StockDenoiser:
    """The network at x and sigma, with what the stock call gave it otherwise, and classifier-free guidance."""

    backbone: StockBackbone
    conditioning: StockConditioning
    checkpointing: bool = False

    @property
    def path(self) -> NoisePath:
        """Of the model's scheduler."""
        return self.backbone.path

    @property
    def is_stateful(self) -> bool:
        """Whether a network keeps something from step to step (diffusers' ``enable_cache``)."""
        networks = (getattr(self.backbone.pipe, name, None) for name in ("transformer", "transformer_2"))
        return any(getattr(network, "is_cache_enabled", False) for network in networks)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Clean estimate for x ``[1, L, C, h, w]`` at a 0-d sigma; frames that the model holds are theirs."""
        backbone, held, scale = self.backbone, self.conditioning.held, self.conditioning.scale
        network = backbone.network(sigma)
        given = torch.cat([held, x[:, held.shape[1] :]], dim=1)
        guided = bool(scale.max() > 1) and len(self.conditioning.calls) > 1
        calls = self.conditioning.calls[: 2 if guided else 1]
        recompute = self.checkpointing and torch.is_grad_enabled()
        if x.requires_grad:
            check_gradient(network)
        with _checkpointed(network) if recompute else nullcontext():
            outputs = [
                self._evaluate(network, given, sigma, call, name)
                for call, name in zip(calls, ("cond", "uncond"), strict=False)
            ]
        output = mix_guidance(outputs[0], outputs[1], scale) if guided else outputs[0]
        denoised = self.path.to_denoised(output.to(x.dtype), x, sigma, backbone.scheduler.prediction)
        return torch.cat([held, denoised[:, held.shape[1] :]], dim=1)

    def _evaluate(self, network: Any, x: Tensor, sigma: Tensor, call: Call, name: str) -> Tensor:
        backbone, axis = self.backbone, self.backbone.channel_axis
        hidden, packed = call["hidden_states"], backbone.pack(x).to(call["hidden_states"].dtype)
        if hidden.ndim == packed.ndim == 5:  # channels after those of x are the condition
            packed = torch.cat(
                [packed, hidden.narrow(axis, packed.shape[axis], hidden.shape[axis] - packed.shape[axis])], axis
            )
        told, timestep = call["timestep"], backbone.scheduler.timestep(sigma).to(x.device)
        # Tokens that are clean are told timestep 0, at every level.
        timestep = torch.where(told == 0, torch.zeros_like(timestep), timestep)
        timestep = timestep.to(told.dtype) if told.is_floating_point() else timestep
        with network.cache_context(name), explained(backbone.acceleration, backbone.name):
            output = network(**{**call, "hidden_states": packed, "timestep": timestep})[0]
        return backbone.unpack(output, tuple(x.shape))

    def for_gradient(self, checkpointing: bool = True) -> "StockDenoiser":
        """The conditional half; with checkpointing, what blocks hold inside is recomputed on the way back."""
        conditioning = replace(self.conditioning, scale=torch.ones_like(self.conditioning.scale))
        return replace(self, conditioning=conditioning, checkpointing=checkpointing)


@contextmanager
def _checkpointed(network: Any) -> Iterator[None]:
    """With diffusers' own gradient checkpointing."""
    before = network.is_gradient_checkpointing
    network.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if not before:
            network.disable_gradient_checkpointing()
