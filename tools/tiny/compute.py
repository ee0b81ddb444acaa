"""Where and how the trainer computes: device, precision, compilation, and the processes that share the work."""

import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tools.tiny.settings import Settings


def rank_and_world() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join_processes() -> None:
    """Meet the other processes that torchrun started, if it did."""
    if "RANK" in os.environ:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def fast_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AMX, or AVX-512 with BF16)."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def keep_float32(module: torch.nn.Module) -> None:
    """Exempt a module from autocast.

    On a CPU, torch 2.13 writes outside its memory in the bfloat16 gradient of the VAE's last temporal convolution
    (3 channels) on images of 128 x 128: the process ends with a segmentation fault.
    """
    forward = module.forward

    def exact(x: Tensor) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    module.forward = exact


def has_compiler() -> bool:
    """Whether torch.compile finds the C++ compiler that it needs on a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


@dataclass(frozen=True)
class Compute:
    """What "auto" in the settings comes to on this machine.

    Args:
        device: of this process.
        bfloat16: compute in bfloat16 where autocast finds it safe; weights and optimiser stay float32.
        compiled: torch.compile the networks.
        rendered: draw every scene anew and train on it once, instead of reading stored shards.
        compiled_scenes: torch.compile the ray tracer, which makes it three times as fast on a CPU too.
    """

    device: torch.device
    bfloat16: bool
    compiled: bool
    rendered: bool
    compiled_scenes: bool

    @classmethod
    def of(cls, settings: Settings) -> "Compute":
        """A GPU, where there is one, is fast enough to render scenes as they are needed; a CPU reads them from disk.

        Raises SystemExit when CUDA is asked for and there is none.
        """
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("device: cuda was asked for, but this torch sees no CUDA device; use auto or cpu")
        cuda = settings.device != "cpu" and torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
            torch.set_float32_matmul_precision("high")
        return cls(
            device,
            bfloat16=settings.precision == "bfloat16" or (settings.precision == "auto" and (cuda or fast_bfloat16())),
            compiled=settings.compile == "always" or (settings.compile == "auto" and cuda),
            rendered=settings.scenes == "rendered" or (settings.scenes == "auto" and cuda),
            compiled_scenes=settings.compile == "always" or (settings.compile == "auto" and (cuda or has_compiler())),
        )

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def prepare(self, *modules: torch.nn.Module) -> None:
        """Move modules here, and compile their forward if wanted (their weights keep their names)."""
        for module in modules:
            module.to(self.device)
            if self.compiled:
                module.compile(dynamic=False)

    def move(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors on the device."""
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)
