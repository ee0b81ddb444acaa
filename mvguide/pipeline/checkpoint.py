"""Where a run stands, in one safetensors file: written whole or not at all, and refused where it is damaged."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mvguide.decoding import check_readable, decoding, is_file
from mvguide.diffusion.sampler import Progress
from mvguide.diffusion.solvers import Solver
from mvguide.errors import ConfigError, FileError
from mvguide.files.atomic import atomic_path
from mvguide.files.locks import names_like
from mvguide.files.stopping import note_resumable
from mvguide.memory import check_memory

CHECKPOINT = "checkpoint.safetensors"
"""File of a result folder that holds the state of a run; the finished result replaces it."""
CHECKPOINTS = ("checkpoint.safetensors", "checkpoint.[0-9]*.safetensors")
"""Patterns of the files of all segments."""
ADVICE = "remove it to start from the beginning"
_FORMAT = "mvguide checkpoint 1"
_SOLVER = "solver."


@dataclass(frozen=True)
class SavedRun:
    """What a checkpoint file holds.

    Args:
        index: steps done, 0 to ``num_steps``.
        num_steps: N.
        segment: of a long video.
        settings: what the run depends on, see ``run_settings``.
        environment: what its last digits depend on, see :func:`environment`.
        x: latents ``[B, L, C, h, w]`` after these steps.
        random: state of the generator; None for a loop without one.
        solver: state of the solver, as its ``pack`` gives it.
    """

    index: int
    num_steps: int
    segment: int
    settings: dict[str, Any]
    environment: dict[str, Any]
    x: Tensor
    random: Tensor | None
    solver: dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a run is kept, how often, and whether the run goes on from it.

    The state is written after every so many steps and after the last one; also when Ctrl-C, a signal or an error of the
    system ends the loop. A file is written whole or not at all, and is on the disk before it takes its name.

    Args:
        path: the file, which ends in ``.safetensors``.
        every: steps from one state to the next, at least 1; None writes only where the loop is ended.
        resume: go on from the file; start from the beginning if it is not there.
        segment: of a video that is made of several runs, one after the other: each has a file of its own, and that of a
            finished one holds its last latents, so that going on only decodes them again.

    Raises:
        ConfigError: a number out of range, or a name with another ending.
    """

    path: str | Path
    every: int | None = None
    resume: bool = False
    segment: int = 0

    def __post_init__(self) -> None:
        """Check the numbers and the name."""
        if self.every is not None and self.every < 1:
            raise ConfigError(f"checkpoint_every is {self.every}; it is a number of steps, at least 1")
        if self.segment < 0:
            raise ConfigError(f"segment is {self.segment}; segments are counted from 0")
        if Path(self.path).suffix != ".safetensors":
            raise ConfigError(f"checkpoint {self.path} must be written with a name that ends in .safetensors")

    @property
    def file(self) -> Path:
        """Where the state of this segment is."""
        path = Path(self.path)
        return path.with_suffix(f".{self.segment}.safetensors") if self.segment else path

    def saved(self) -> SavedRun | None:
        """What is in the file; None where it is not there. Raises FileError for a file that cannot be used."""
        return read_checkpoint(self.file) if is_file(self.file) else None

    def forget_later(self) -> None:
        """Remove the files of later segments: once this one begins anew they are of an older run."""
        path = Path(self.path)
        for found in names_like(path.parent, rf"{re.escape(path.stem)}\.\d+\.safetensors"):
            if int(found.suffixes[-2][1:]) > self.segment:
                found.unlink(missing_ok=True)

    def write(self, progress: Progress, settings: Mapping[str, Any], solver: Solver) -> None:
        """Write the state after a step of a run with these settings. Raises OutputError where that fails."""
        state, num_steps = progress.state, progress.step.num_steps
        tensors = {f"{_SOLVER}{name}": value for name, value in solver.pack(state.solver).items()}
        tensors |= {"x": state.x} | ({} if state.random is None else {"random": state.random})
        dense = {name: _dense(value) for name, value in tensors.items()}
        state_of = {
            "step": state.index,
            "steps": num_steps,
            "segment": self.segment,
            "axes": {name: axes for name, (_, axes) in dense.items()},
            "environment": environment(state.x.device),
        }
        metadata = {
            "format": _FORMAT,
            "settings": json.dumps(settings, sort_keys=True),
            "settings_hash": settings_hash(settings),
            "state": json.dumps(state_of, sort_keys=True),
        }
        stored = {name: value for name, (value, _) in dense.items()}
        metadata["digest"] = _content_digest(metadata, stored)
        with atomic_path(self.file, durable=True) as temporary:
            temporary.write_bytes(save(stored, metadata))
        note_resumable(self.file, f"step {state.index} of {num_steps}")


def read_checkpoint(path: str | Path) -> SavedRun:
    """Read a checkpoint file, all of it: a file that is damaged anywhere is refused.

    Raises:
        FileError: missing, damaged, or of another program or version.
    """
    file = check_readable(path, "checkpoint")
    check_memory(2 * file.stat().st_size, f"checkpoint {path}", ADVICE)
    with decoding(file, "checkpoint", ADVICE), safe_open(file, framework="pt") as stored:
        metadata = stored.metadata() or {}
        if metadata.get("format") != _FORMAT:
            known = f"its format is {metadata.get('format')!r:.60}, and this version reads {_FORMAT!r}"
            raise FileError(f"checkpoint {path} cannot be read: {known}; {ADVICE}")
        tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
        if metadata.pop("digest", "") != _content_digest(metadata, tensors):
            raise FileError(f"checkpoint {path} is damaged: its content is not what was written; {ADVICE}")
        state = json.loads(metadata["state"])
        tensors = {name: value.permute(_inverse(state["axes"][name])) for name, value in tensors.items()}
        found = SavedRun(
            index=int(state["step"]),
            num_steps=int(state["steps"]),
            segment=int(state["segment"]),
            settings=dict(json.loads(metadata["settings"])),
            environment=dict(state["environment"]),
            x=tensors.pop("x"),
            random=tensors.pop("random", None),
            solver={name.removeprefix(_SOLVER): value for name, value in tensors.items()},
        )
        if found.random is not None:
            torch.Generator().set_state(found.random)
        if not 0 <= found.index <= found.num_steps or found.x.ndim != 5:
            raise FileError(f"checkpoint {path} holds no state of a run; {ADVICE}")
    return found


def environment(device: torch.device) -> dict[str, Any]:
    """What the last digits of a run depend on besides its settings: device, threads and versions."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("mvguide", "torch", "diffusers")},
    }


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Short name of settings; equal for equal ones."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _content_digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _dense(tensor: Tensor) -> tuple[Tensor, list[int]]:
    """A copy on the CPU with its axes in the order that they have in memory, and that order.

    Some kernels add in the order of the memory: the last digit would show that it had been another.
    """
    axes = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    return tensor.detach().cpu().permute(axes).clone(memory_format=torch.contiguous_format), axes


def _inverse(axes: list[int]) -> list[int]:
    return [axes.index(axis) for axis in range(len(axes))]
