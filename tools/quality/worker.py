"""What one process of the bench does: it keeps the model, and makes and scores the videos of one scene at a time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mvguide.drawing.sheets import mark_holes
from mvguide.errors import ConfigError
from mvguide.pipeline.pipeline import MultiViewPipeline
from tools.quality.figures import strip_file, write_strip
from tools.quality.methods import make_methods, oracle_file, walk
from tools.quality.report import SECONDS, Row
from tools.quality.scenes import Scene


@dataclass(frozen=True)
class Setup:
    """How a process starts.

    Args:
        model, device: see ``MultiViewPipeline.from_pretrained``.
        steps: of methods that do not say their own.
        seed: of the noise.
        size: pixels along a side of a scene; None = what the model was trained for.
        threads: of torch; 0 = its own choice.
        compiled: torch.compile the network: minutes at the start, then a third faster on a CPU.
        oracles, strips: folders for the oracle's tables and the shown frames.
    """

    model: str
    device: str
    steps: int
    seed: int
    size: int | None
    threads: int
    compiled: bool
    oracles: Path
    strips: Path


def scene_shape(pipe: MultiViewPipeline, size: int | None) -> tuple[int, int]:
    """Pixels along a side and frames of the scenes: ``size``, or else what the model was trained for."""
    native = pipe.backbone.native_size
    usual = native.default_size(1, 1)[0]
    if size is not None and size < 1:
        raise ConfigError(f"size is {size}; give the pixels along a side of a scene, such as {usual}")
    return size or usual, native.frames


class Worker:
    """The model and the methods."""

    def __init__(self, setup: Setup) -> None:
        if setup.threads:
            torch.set_num_threads(setup.threads)
        self.setup = setup
        self.pipe = MultiViewPipeline.from_pretrained(setup.model, device=setup.device)
        self.size, self.frames = scene_shape(self.pipe, setup.size)
        if setup.compiled:
            unet = self.pipe.backbone.pipe.unet  # type: ignore[attr-defined]
            unet.forward = torch.compile(unet.forward)
        setup.oracles.mkdir(parents=True, exist_ok=True)
        self.methods = make_methods(self.pipe, setup.steps, setup.seed, setup.oracles)

    def scene(self, condition: str, seed: int) -> Scene:
        """A scene of this worker's size and length."""
        return Scene(seed, self.size, self.frames, condition)

    @torch.no_grad()
    def run(self, condition: str, seed: int, names: Sequence[str], shown: bool) -> list[Row]:
        """A row for each method, with the seconds it took; the frames that a sheet shows are kept if asked for."""
        scene = self.scene(condition, seed)
        rows: list[Row] = []
        for name in names:
            started = time.perf_counter()
            video = self.methods[name](scene)
            seconds = round(time.perf_counter() - started, 2)
            rows.append({"condition": condition, "seed": seed, "method": name, SECONDS: seconds, **scene.score(video)})
            if shown:
                write_strip(strip_file(self.setup.strips, condition, seed, name), video)
        if shown:
            warp = mark_holes(scene.warps.image, scene.warps.visible)
            for name, video in (("truth", scene.truth), ("warp", warp)):
                write_strip(strip_file(self.setup.strips, condition, seed, name), video)
        return rows

    @torch.no_grad()
    def calibrate(self, condition: str, seed: int, folder: Path) -> Path:
        """Walk a scene with the oracle and keep its moments."""
        scene = self.scene(condition, seed)
        _, moments = walk(self.pipe, scene, self.setup.steps, self.setup.seed)
        folder.mkdir(parents=True, exist_ok=True)
        moments.save(oracle_file(folder, scene))
        return oracle_file(folder, scene)


_worker: Worker


def start(setup: Setup) -> None:
    """Start a process of the pool."""
    global _worker  # a process of the pool has no other place to keep its model
    _worker = Worker(setup)


def run(condition: str, seed: int, names: Sequence[str], shown: bool) -> list[Row]:
    """:meth:`Worker.run` in a process of the pool."""
    return _worker.run(condition, seed, names, shown)


def calibrate(condition: str, seed: int, folder: Path) -> Path:
    """:meth:`Worker.calibrate` in a process of the pool."""
    return _worker.calibrate(condition, seed, folder)
