"""Going on from a checkpoint: what a run depends on, and the watch that keeps its state while it denoises.

Everything before the denoising loop is computed again, the same way; the file holds what only the loop knows.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from mvguide.decoding import decoding
from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.sampler import LoopState, Progress, Watch
from mvguide.diffusion.solvers import Solver
from mvguide.errors import ConfigError, MvguideError
from mvguide.files.stopping import note_resumable, undisturbed
from mvguide.guidance.guides import Guide
from mvguide.pipeline.checkpoint import ADVICE, Checkpoint
from mvguide.pipeline.prepare import Context
from mvguide.tables.table import LambdaTable

CACHED = (
    "the network keeps a cache from step to step, which a checkpoint does not hold: a run that goes on from it would "
    "end otherwise; leave out the cache, or checkpoint_every and resume"
)
_DIGEST = "sha256:"
_NO_SETTINGS = ("model", "views", "schedule", "device", "dtype", "threads", "conditioning")
"""Of a report: what the model's fingerprint, the digests of the inputs and the environment say better."""


@contextmanager
def keep_state(
    checkpoint: Checkpoint | None,
    settings: Mapping[str, Any],
    denoiser: Denoiser,
    solver: Solver,
    device: torch.device,
    watch: Watch | None = None,
) -> Iterator[tuple[LoopState | None, Watch | None]]:
    """Context of a loop whose state is kept.

    Args:
        checkpoint: where; None keeps nothing.
        settings: of this run, from :func:`run_settings`.
        denoiser: of this run.
        solver: of this run.
        device: where the latents go.
        watch: what the run is watched by otherwise.

    Returns:
        The state to go on from (None: start from the beginning), and the ``watch`` of the loop.

    Raises:
        ConfigError: the file is of another run, or denoiser or solver remember what cannot be written.
        FileError: the file cannot be used.
        OutputError: a state cannot be written.
    """
    if checkpoint is None:
        yield None, watch
        return
    start = _start(checkpoint, settings, denoiser, solver, device)
    unsaved: Progress | None = None
    is_first = start is None

    def keep() -> None:
        nonlocal unsaved, is_first
        if unsaved is not None:
            if is_first:
                checkpoint.forget_later()
                is_first = False
            checkpoint.write(unsaved, settings, solver)
            unsaved = None

    def see(progress: Progress) -> bool | None:
        nonlocal unsaved
        _check_stateless(denoiser)  # a cache may be there only while the run lasts
        unsaved, done = progress, progress.state.index
        if checkpoint.every is not None and (done % checkpoint.every == 0 or done == progress.step.num_steps):
            keep()
        return None if watch is None else watch(progress)

    try:
        yield start, see
    except MvguideError:  # going on would lead there again
        raise
    except BaseException:
        with undisturbed(), suppress(Exception):  # the older state stays, and the reason to stop counts
            keep()
        raise


def _start(
    checkpoint: Checkpoint, settings: Mapping[str, Any], denoiser: Denoiser, solver: Solver, device: torch.device
) -> LoopState | None:
    """The state to go on from, or None; what could not go on later is refused."""
    _check_stateless(denoiser)
    try:
        solver.pack(solver.init())
    except AttributeError as error:
        raise ConfigError(
            f"solver {type(solver).__name__} does not say how its state is written; give it pack and unpack (or "
            "derive it from mvguide.diffusion.solvers.Stateless), or leave out the checkpoint"
        ) from error
    found = checkpoint.saved() if checkpoint.resume else None
    if found is None:
        return None
    here = {**settings, "segment": checkpoint.segment}
    differing = differences({**found.settings, "segment": found.segment}, here)
    if differing:
        raise ConfigError(
            f"checkpoint {checkpoint.file} is of another run, which differs in {', '.join(differing)}; give the "
            "settings and inputs of that run, or leave out resume to start from the beginning"
        )
    with decoding(checkpoint.file, "checkpoint", ADVICE):
        state = solver.unpack(found.solver, device)
    note_resumable(checkpoint.file, f"step {found.index} of {found.num_steps}")
    return LoopState(found.index, found.x.to(device), state, found.random)


def _check_stateless(denoiser: Denoiser) -> None:
    if getattr(denoiser, "is_stateful", False):
        raise ConfigError(CACHED)


def run_settings(
    context: Context, report: Mapping[str, Any], guide: Guide, table: LambdaTable | None, random: Tensor
) -> dict[str, Any]:
    """What the latents of a run depend on: its settings as plain values, and digests of its inputs.

    Args:
        context: of the run.
        report: settings of the run for its report.
        guide: of the run.
        table: weights of the run.
        random: state of the generator before the run draws from it.
    """
    views, trajectory, moments = context.views, context.trajectory, context.moments
    depths = [view.require_depth() for view in views]
    tables = [option for option in getattr(guide, "__dict__", {}).values() if isinstance(option, LambdaTable)]
    settings = {
        "model": context.backbone.fingerprint,
        **{name: value for name, value in report.items() if name not in _NO_SETTINGS},
        **report["conditioning"],
        "chunk": context.chunk,
        "images": _digest(*(view.image for view in views)),
        "depth": _digest(*(part for depth in depths for part in (depth.values, depth.valid))),
        "confidence of the depth": _digest(*(view.confidence for view in views)),
        "background": _digest(*(view.background for view in views)),
        "cameras": _digest(*(part for view in views for part in (view.camera.intrinsics, view.camera.world_to_camera))),
        "moments": None if moments is None else _digest(moments.shows, moments.fills),
        "trajectory": _digest(trajectory.intrinsics, trajectory.world_to_camera),
        "sigmas": _digest(context.schedule.sigmas),
        "lambda table": None if table is None else _digest(table.weights, table.sigmas),
        "table of hole_weight": _digest(*(part for one in tables for part in (one.weights, one.sigmas))),
        "noise": _digest(random),
    }
    # An object of the user's own may print its address, which is another one in each process.
    return json.loads(re.sub(r" at 0x[0-9a-f]+", "", json.dumps(settings)))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what differs between two settings or environments, with both values where they are short."""
    shown: list[str] = []
    hidden: list[str] = []
    for name in {**now, **before}:
        was, is_now = (str(values.get(name, "not set")) for values in (before, now))
        if was == is_now:
            continue
        short = not (was + is_now).count(_DIGEST) and max(len(was), len(is_now)) <= 80
        (shown if short else hidden).append(f"{name} ({was} there, {is_now} here)" if short else name)
    return shown + hidden


def _digest(*tensors: Tensor | None) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(b"none")
    return f"{_DIGEST}{digest.hexdigest()[:16]}"
