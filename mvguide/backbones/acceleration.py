"""What makes a model faster or smaller, and which models have it: the others refuse it with a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, get_args

import torch

from mvguide.backbones.context_parallel import check_ranks, split_network
from mvguide.errors import ConfigError
from mvguide.memory import is_out_of_memory

Cache = Literal["none", "first_block", "mag"]
Quantize = Literal["none", "float8", "8bit", "4bit"]
DENOISERS = ("transformer", "transformer_2", "unet")
"""Parts of a stock pipeline that denoise."""

_HAS = {
    "WanTransformer3DModel": ("vae_tiling", "attention", "compile", "cache", "context_parallel"),
    "WanVACETransformer3DModel": ("vae_tiling", "attention", "compile"),
    "CogVideoXTransformer3DModel": ("vae_tiling", "cache"),
    "LTXVideoTransformer3DModel": ("vae_tiling", "attention", "compile", "cache"),
    "HunyuanVideoTransformer3DModel": ("vae_tiling", "attention", "compile", "cache"),
    "HunyuanVideo15Transformer3DModel": ("vae_tiling", "attention", "compile"),
}
"""What networks have, by class, and so can be said before the weights are read; quantize is for all. The tests check
each entry: a backend that is not asked, or a cache that gives something else, would not raise an error by itself."""
_WHY_NOT = {
    "vae_tiling": "its VAE works frame by frame, without tiles; give a smaller chunk",
    "attention": "its attention has one backend; leave attention out",
    "compile": "diffusers names no blocks of it to compile; leave compile out",
    "cache": "step caches are right for Wan, CogVideoX, LTX and HunyuanVideo alone; leave cache out",
    "context_parallel": "diffusers splits Wan alone, image to video; leave context_parallel out",
}


@dataclass
class TilingOptions:
    """How the VAE works.

    Args:
        vae_tiling: encode and decode in overlapping tiles, for less memory; slower. Not for Stable Video Diffusion,
            where chunk does it.
    """

    heading: ClassVar[str] = "model"

    vae_tiling: bool = False


@dataclass
class AccelerationOptions(TilingOptions):
    """What makes denoising faster or smaller; see docs/speed.md for the models that have it.

    Args:
        attention: backend of diffusers that computes attention, such as _native_cudnn, flash or sage; some need a
            package.
        compile: compile the blocks of the network: the first step takes longer, the others less. Meant for a GPU; slow
            to start on a CPU.
        cache: reuse what blocks gave in the step before where it would hardly differ: first_block (compares what the
            first block gives), mag (by magnitudes of an earlier run, see cache_file), or none.
        cache_threshold: difference that cache takes for none: more skips more, and differs more (first_block 0.05, mag
            0.06 if unset).
        cache_file: .npz file of magnitudes for cache mag; where there is none, this run measures, skips nothing and
            writes it.
        quantize: number type that the network's weights are kept in: none (that of dtype), float8 (half of 16 bit; no
            package needed), or by bitsandbytes 8bit or 4bit; they are computed with in dtype.
        context_parallel: number of GPUs that share each step, as many as the processes that torchrun has started.
    """

    heading: ClassVar[str] = "model"

    attention: str | None = None
    compile: bool = False
    cache: Cache = "none"
    cache_threshold: float | None = None
    cache_file: str | None = None
    quantize: Quantize = "none"
    context_parallel: int = 1

    def given(self) -> dict[str, Any]:
        """What differs from the defaults, by name."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(AccelerationOptions)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def check(self, device: torch.device) -> None:
        """Check everything that can be checked without the model.

        Raises:
            ConfigError: values out of range, options that do not go together, or something that this machine lacks.
        """
        for name, known in (("cache", get_args(Cache)), ("quantize", get_args(Quantize))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(known)}")
        if self.cache == "none" and self.cache_threshold is not None:
            raise ConfigError("cache_threshold was given without a cache; give cache first_block or mag, or drop it")
        if self.cache_threshold is not None and not 0 < self.cache_threshold < float("inf"):
            raise ConfigError(f"cache_threshold is {self.cache_threshold:g}; it is a number above 0, such as 0.05")
        if (self.cache == "mag") != (self.cache_file is not None):
            raise ConfigError(
                f"cache is {self.cache!r} and cache_file {self.cache_file!r}; cache mag, and no other, needs a .npz "
                "file: the first run with it writes it, later ones skip by it"
            )
        if self.cache == "mag" and self.compile:
            raise ConfigError("cache 'mag' keeps blocks from being compiled; drop compile, or use cache first_block")
        if self.cache != "none" and self.context_parallel > 1:
            raise ConfigError(
                f"cache {self.cache!r} and context_parallel were given; each process would skip other steps, drop one"
            )
        self._check_quantize(device)
        check_ranks(self.context_parallel, device)

    def _check_quantize(self, device: torch.device) -> None:
        if self.quantize not in ("8bit", "4bit"):
            return
        if find_spec("bitsandbytes") is None:
            raise ConfigError(
                f"quantize {self.quantize!r} needs bitsandbytes, which is not installed; install it with pip install "
                "'bitsandbytes>=0.48', or use quantize float8, which needs no package"
            )
        if device.type != "cuda":
            raise ConfigError(
                f"quantize {self.quantize!r} needs a GPU, but the device is {device}; use quantize float8"
            )

    def check_model(self, model: str, network: str) -> None:
        """Raise ConfigError for what a model lacks; ``network`` is the class of its network."""
        for name in self.given():
            if name in _WHY_NOT and name not in _HAS.get(network, ()):
                raise ConfigError(f"{name} was asked for, but model {model} does not have it: {_WHY_NOT[name]}")

    def check_run(self, evaluations: int, gradient: bool, kept: bool = False) -> None:
        """Raise ConfigError for a loop that does not go with the options.

        Args:
            evaluations: of the network in a step of the solver.
            gradient: the guide looks at the network's derivative.
            kept: the state of the run is kept in a checkpoint.
        """
        if kept and self.context_parallel > 1:
            raise ConfigError(
                "context_parallel and a checkpoint were given, but a checkpoint is of one process; drop one of the two"
            )
        if self.cache != "none" and (evaluations > 1 or gradient):
            way = "guidance posterior_gradient evaluates" if gradient else "solver heun and resampling evaluate"
            raise ConfigError(
                f"cache {self.cache!r} compares each step with the one before, but {way} the network more than once in "
                "a step; drop one of the two"
            )
        if gradient and self.context_parallel > 1:
            raise ConfigError(
                "context_parallel has no derivative of a network that is split, which guidance posterior_gradient "
                "needs; drop one of the two"
            )

    def quantization(self, part: str, dtype: torch.dtype) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` for a part of the pipeline; encoders and VAE are left as they are."""
        if part not in DENOISERS or self.quantize not in ("8bit", "4bit"):
            return {}
        from diffusers import BitsAndBytesConfig

        if self.quantize == "8bit":
            return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
        return {"quantization_config": config}

    def apply(self, pipe: Any, device: torch.device) -> None:
        """Change a stock pipeline that is loaded and not yet moved to its device.

        Args:
            pipe: a diffusers pipeline; its model has passed :meth:`check_model`.
            device: where it will run.

        Raises:
            ConfigError: an attention backend that is not there, or no compiler.
        """
        if self.vae_tiling:
            pipe.vae.enable_tiling()
        for network in denoisers(pipe).values():
            if self.quantize == "float8":
                network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)
            if self.attention is not None:
                _set_attention(network, self.attention)
            if self.context_parallel > 1:
                split_network(network, self.context_parallel, device)
            if self.compile:
                _check_compiler(device)
                network.compile_repeated_blocks()


def denoisers(pipe: Any) -> dict[str, Any]:
    """Networks of a stock pipeline that denoise, by the name of the part."""
    parts = {part: getattr(pipe, part, None) for part in DENOISERS}
    return {part: network for part, network in parts.items() if network is not None}


def _set_attention(network: Any, backend: str) -> None:
    """Attention by a backend of diffusers, in this network alone."""
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry, attention_backend

    known = [str(name.value) for name in AttentionBackendName]
    if backend not in known:
        raise ConfigError(f"attention {backend!r} is not a backend of diffusers; use one of {', '.join(known)}")
    before = _AttentionBackendRegistry.get_active_backend()[0]
    try:
        with attention_backend(before):  # diffusers would make it that of every model of the process
            network.set_attention_backend(backend)
    except Exception as error:  # each backend raises what it likes
        raise ConfigError(f"attention {backend!r} cannot be used here: {' '.join(str(error).split())}") from error


@contextmanager
def explained(options: AccelerationOptions, model: str) -> Iterator[None]:
    """Within this context, an evaluation of the network: what an attention backend cannot do is one sentence."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if options.attention is None or is_out_of_memory(error):
            raise
        raise ConfigError(
            f"attention {options.attention!r} fails with model {model} on this machine "
            f"({' '.join(str(error).split())[:200]}); use another, or leave attention out"
        ) from error


def _check_compiler(device: torch.device) -> None:
    """Raise ConfigError where torch cannot compile: the first step of denoising is late for that."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler shows as one of many errors
        tools = "triton and a C compiler" if device.type == "cuda" else "a C++ compiler such as g++"
        raise ConfigError(
            f"torch cannot compile here ({type(error).__name__}); install {tools}, or leave compile out"
        ) from error
