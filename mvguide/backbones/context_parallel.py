"""Several processes that torchrun has started share each evaluation of one network: context parallelism.

Every process does the whole render, with the same numbers, and holds the whole network; of each evaluation it does its
share of the tokens (Ulysses: attention of its share of the heads). The first process alone speaks and writes.
"""

import atexit
import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from mvguide.errors import ConfigError, InputError, MvguideError


def check_ranks(count: int, device: torch.device) -> None:
    """Raise ConfigError unless torchrun has started ``count`` processes, with a GPU for each of this machine."""
    if isinstance(count, bool) or count < 1:
        raise ConfigError(f"context_parallel is {count}; it is a number of GPUs, 1 or more")
    if count == 1:
        return
    started = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if started != count:
        raise ConfigError(
            f"context_parallel is {count}, but {started} process{'es run' if started > 1 else ' runs'}; start it with "
            f"torchrun --nproc-per-node {count} -m mvguide render ... --context_parallel {count}"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    if device.type == "cuda" and torch.cuda.device_count() < here:
        raise ConfigError(
            f"context_parallel has {here} processes on this machine, but it has {torch.cuda.device_count()} GPUs; "
            "start one for each GPU"
        )


def join_ranks(count: int, device: torch.device) -> torch.device:
    """Join the other processes, unless there is one alone.

    Args:
        count: of processes; see :func:`check_ranks`.
        device: that was asked for.

    Returns:
        The device of this process: its own GPU, or the CPU.
    """
    if count == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    return device


def leads(count: int) -> bool:
    """Whether this process speaks and writes: the first of ``count``."""
    return count == 1 or int(os.environ.get("RANK", "0")) == 0


@contextmanager
def one_voice(count: int) -> Iterator[None]:
    """Within this context, what stops all processes before they join is said by the first of ``count`` alone."""
    try:
        yield
    except MvguideError:
        if leads(count) or distributed.is_initialized():  # later, a process may fail alone
            raise
        raise SystemExit(2) from None


def split_network(network: Any, count: int, device: torch.device) -> None:
    """Share the evaluations of a diffusers transformer between ``count`` processes that have joined.

    Raises:
        ConfigError: its attention backend, or its number of heads, cannot be shared.
    """
    from diffusers import ContextParallelConfig

    heads = network.config.num_attention_heads
    if heads % count:
        ways = [str(ways) for ways in range(2, heads + 1) if heads % ways == 0]
        raise ConfigError(f"context_parallel is {count}, but the model has {heads} heads; use {', '.join(ways)}")
    mesh = distributed.device_mesh.init_device_mesh(device.type, (1, count), mesh_dim_names=("ring", "ulysses"))
    config = ContextParallelConfig(ulysses_degree=count, mesh=mesh)
    counted = torch.accelerator.device_count
    try:
        if device.type == "cpu":  # diffusers divides by the number of GPUs, and then needs none
            torch.accelerator.device_count = lambda: count
        network.enable_parallelism(config=config)
    except ValueError as error:
        raise ConfigError(f"context_parallel and this attention do not go together: {error}") from error
    finally:
        torch.accelerator.device_count = counted


def hush_splitting() -> None:
    """For the rest of the process, without diffusers' and torch's warnings of how they split a network."""
    # Wan 2.1 has one timestep for all tokens: nothing to split, and nothing to warn of.
    logging.getLogger("diffusers.hooks.context_parallel").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers.hooks.context_parallel")


def check_tokens(frames: int, rows: int, columns: int, unit: int, count: int) -> None:
    """Raise InputError where ``count`` processes cannot share the tokens of a video evenly.

    Args:
        frames: tokens along the latent frames.
        rows: along the height.
        columns: along the width.
        unit: pixels along a token.
        count: of processes.
    """
    if frames * rows * columns % count:
        step = count // math.gcd(count, frames * rows)
        nearest = max(1, round(columns / step)) * step * unit
        raise InputError(
            f"{count} processes cannot share {frames} x {rows} x {columns} tokens (latent frames, rows, columns) "
            f"evenly; use width {nearest}, or another number of frames"
        )


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
