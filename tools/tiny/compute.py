"""Where and how the trainer computes: device, precision, compilation, and the processes that share the work."""

import os
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


@dataclass(frozen=True)
class Compute:
    """What "auto" in the settings comes to on this machine.

    Args:
        device: of this process.
        bfloat16: compute in bfloat16 where autocast finds it safe; weights and optimiser stay float32.
        compiled: torch.compile the networks and the ray tracer.
        rendered: draw every scene anew and train on it once, instead of reading stored shards.
    """

    device: torch.device
    bfloat16: bool
    compiled: bool
    rendered: bool

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
            bfloat16=settings.precision == "bfloat16" or (settings.precision == "auto" and cuda),
            compiled=settings.compile == "always" or (settings.compile == "auto" and cuda),
            rendered=settings.scenes == "rendered" or (settings.scenes == "auto" and cuda),
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
