"""The protocol of a backbone: encode images, denoise latents, decode them."""

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.backbones.native_size import NativeSize
from mvguide.backbones.step_cache import Magnitudes
from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.path import NoisePath
from mvguide.diffusion.sampler import initial_noise
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import FirstOrder, Solver
from mvguide.diffusion.time_grid import TimeGrid

_SAMPLED = 1024  # values of a tensor that its digest looks at, at least


@dataclass(frozen=True)
class ConditioningOptions:
    """Settings of the conditioning.

    A backbone ignores numbers that its model is not conditioned on, and refuses words that it cannot read.

    Args:
        num_frames: F, at least 2.
        motion_bucket_id: amount of motion that the model was conditioned on; None = the model's own default.
        fps: frames per second, as the model is conditioned on it.
        noise_aug_strength: noise added to the conditioning image.
        cfg_min: classifier-free guidance of the first frame, linear to the last; 1 = off, None = the model's own.
        cfg_max: classifier-free guidance of the last frame.
        cfg_chunked: evaluate the conditional and the unconditional half one after the other: the same result with about
            half the memory of activations.
        prompt: text of what the video shows, for models that read text.
        negative_prompt: text of what it should not show.
        embedded_guidance: guidance scale that a distilled model takes as an input.
        warp_condition: give the warped video to a model that takes one natively.
    """

    num_frames: int
    motion_bucket_id: float | None = None
    fps: int = 7
    noise_aug_strength: float = 0.02
    cfg_min: float | None = None
    cfg_max: float | None = None
    cfg_chunked: bool = False
    prompt: str | None = None
    negative_prompt: str | None = None
    embedded_guidance: float | None = None
    warp_condition: bool = True


@dataclass(frozen=True)
class KnownFrames:
    """What is known of the video before denoising, for models that are conditioned on more than one image.

    Args:
        video: ``[F, 3, H, W]`` in [0, 1]: the warps with their holes filled.
        visible: ``[F, 1, H, W]``: 1 where a view shows it, 0 in a hole.
        pinned: ``[F]`` bool: frames that are an input view itself.
    """

    video: Tensor
    visible: Tensor
    pinned: Tensor


@dataclass(frozen=True)
class ModelNotes:
    """What was measured of a model beyond its weights; ``mvguide.json`` in its folder.

    Args:
        motion_bucket_per_width: motion bucket for a mean optical flow of one image width per frame, if the model was
            trained on such a scale.
        hypers: (v1, v2, v3) of the exact rule that suit the model, if they were measured.
        guidance_scale: classifier-free guidance (first frame, last frame) that suits the model, if it was measured.
    """

    motion_bucket_per_width: float | None = None
    hypers: tuple[float, float, float] | None = None
    guidance_scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Conditioning:
    """The network's conditioning, encoded: opaque to everything but the backbone that made it, which may add to it.

    Args:
        tensors: the encoded inputs by name.
        scale: ``[L]`` classifier-free guidance scale of each latent frame.
        chunked: evaluate the two halves of classifier-free guidance one after the other.
    """

    tensors: dict[str, Tensor]
    scale: Tensor
    chunked: bool = False


class Backbone(Protocol):
    """A pretrained model family. Images are float32 ``[F, 3, H, W]`` in [0, 1]; latents ``[B, L, C, h, w]``.

    F frames are L latent frames by the model's time grid; L = F where the VAE does not compress time.
    """

    @property
    def name(self) -> str:
        """Model name or folder, for reports."""
        ...

    @property
    def path(self) -> NoisePath:
        """Noise path of the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and their number format, for what is kept from run to run."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the network."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        ...

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along one side; sizes must be multiples of it."""
        ...

    @property
    def native_size(self) -> NativeSize:
        """Frames and sizes that the model was trained for."""
        ...

    @property
    def grid(self) -> TimeGrid:
        """Which frames are one latent frame."""
        ...

    def solver(self, schedule: SigmaSchedule) -> Solver:
        """The solver of the model's own scheduler, as far as mvguide has it; else that scheduler itself."""
        ...

    @property
    def default_table(self) -> Literal["search", "calibrated"]:
        """Where the lambda table comes from unless asked: the published rule's numbers hold for SVD alone."""
        ...

    @property
    def notes(self) -> ModelNotes:
        """What was measured of the model."""
        ...

    acceleration: AccelerationOptions
    """What makes it faster or smaller."""

    def with_defaults(self, options: ConditioningOptions, flow: float | None = None) -> ConditioningOptions:
        """The options with nothing left None: the model's defaults, and its motion bucket for a mean flow.

        Args:
            options: what was asked for.
            flow: mean optical flow in image widths per frame; used where the model's scale of motion is known.
        """
        ...

    def schedule(self, num_steps: int, shape: tuple[int, ...] | None = None) -> SigmaSchedule:
        """The model's own schedule; some shift it by the shape ``[1, L, C, h, w]`` of x (None: the trained size)."""
        ...

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
        """Shape ``[1, L, C, h, w]`` of x for a video of that size."""
        ...

    def prepare(
        self,
        picture: Tensor,
        options: ConditioningOptions,
        generator: torch.Generator | None = None,
        known: KnownFrames | None = None,
    ) -> Conditioning:
        """Encode the conditioning image ``[3, H, W]``, and more of what is known where the model takes it."""
        ...

    def first_x(
        self,
        conditioning: Conditioning,
        shape: tuple[int, ...],
        schedule: SigmaSchedule,
        generator: torch.Generator,
    ) -> Tensor:
        """The first x, of this shape, float32 on the CPU: noise as the model's own pipeline starts from."""
        ...

    def encode(self, frames: Tensor, chunk: int = 8) -> Tensor:
        """Images ``[F, 3, H, W]`` of one video to latents ``[L, C, h, w]`` in the units of x."""
        ...

    def denoiser(self, conditioning: Conditioning) -> Denoiser:
        """The network with its conditioning."""
        ...

    def step_cache(
        self, schedule: SigmaSchedule, magnitudes: Magnitudes | None = None
    ) -> AbstractContextManager[Magnitudes]:
        """Context of one run over the schedule; see :func:`mvguide.backbones.step_cache.cached_steps`."""
        ...

    def decode(self, x: Tensor, chunk: int = 8) -> Tensor:
        """Clean latents ``[1, L, C, h, w]`` to images ``[F, 3, H, W]`` on the CPU."""
        ...

    def decode_bytes(self, height: int, width: int) -> float | None:
        """Bytes that decoding takes for each frame of a chunk, 0 if not known; None: the video is decoded whole."""
        ...

    def free(self) -> None:
        """With offload, take every network off the GPU; they come back when they are needed."""
        ...


class FrameByFrame:
    """Parts of a backbone whose VAE does not compress time, and whose run starts from plain noise, with Euler's steps.

    The class that has it gives the rest of the protocol.
    """

    path: NoisePath
    grid = TimeGrid()
    default_table: Literal["search", "calibrated"] = "calibrated"
    acceleration = AccelerationOptions()

    def solver(self, schedule: SigmaSchedule) -> Solver:
        """Euler."""
        return FirstOrder()

    def first_x(
        self, conditioning: Conditioning, shape: tuple[int, ...], schedule: SigmaSchedule, generator: torch.Generator
    ) -> Tensor:
        """Noise of the prior's scale."""
        return initial_noise(shape, self.path, schedule, generator)

    def step_cache(
        self, schedule: SigmaSchedule, magnitudes: Magnitudes | None = None
    ) -> AbstractContextManager[Magnitudes]:
        """None."""
        return nullcontext({})

    def decode_bytes(self, height: int, width: int) -> float | None:
        """Not known."""
        return 0.0

    def free(self) -> None:
        """Nothing is offloaded."""


def weights_digest(modules: Iterable[torch.nn.Module]) -> str:
    """Digest of what identifies weights: name, shape and a sample of the values of every tensor."""
    digest = hashlib.sha256()
    for module in modules:
        for key, weight in module.state_dict().items():
            values = weight.detach().flatten()
            sample = values[:: max(1, len(values) // _SAMPLED)].double().cpu().numpy()
            digest.update(f"{key} {tuple(weight.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]
