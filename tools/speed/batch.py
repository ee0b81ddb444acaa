"""A batch against as many command lines, and two workers against one."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tools.speed.timing import seconds

SCENES = ("marbles", "blocks", "courtyard", "gallery")
SMALL = {"num_frames": 4, "steps": 4, "width": 64, "height": 64}
JOBS, WORKERS_JOBS, RUNS = 20, 48, 3


def bench_batch() -> dict[str, Any]:
    """20 small renders in one process, against 20 processes."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = _manifest(Path(folder) / "jobs.yaml", SMALL, JOBS)
        lines = [
            [
                *_options(
                    {"scene": SCENES[number % len(SCENES)], "seed": number // len(SCENES), "model": "tiny", **SMALL}
                )
            ]
            for number in range(JOBS)
        ]
        for run in range(RUNS):
            ours.append(seconds(partial(_mvguide, "batch", str(manifest), "--out", f"{folder}/batch{run}")))

            def one_by_one(run: int = run) -> None:
                for number, line in enumerate(lines):
                    _mvguide("render", *line, "--out", f"{folder}/lines{run}/{number}")

            theirs.append(seconds(one_by_one))
    return _result(
        f"mvguide batch: {JOBS} renders of 4 frames of 64 x 64, 4 steps, embedded model, from start to end",
        f"{JOBS} times mvguide render",
        ours,
        theirs,
        "at most 0.25 times (4 times faster)",
        0.25,
    )


def bench_workers() -> dict[str, Any]:
    """Two workers against one, one thread each, with their start."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = _manifest(Path(folder) / "jobs.yaml", {"num_frames": 8, "steps": 25}, WORKERS_JOBS)
        for run in range(RUNS):
            for count, times in ((2, ours), (1, theirs)):
                words = ("batch", str(manifest), "--workers", str(count), "--out", f"{folder}/{count}_{run}")
                times.append(seconds(partial(_mvguide, *words)))
    return _result(
        f"{WORKERS_JOBS} renders of 8 frames of 128 x 128, 25 steps, by two workers of one thread, from start to end",
        "one worker of one thread",
        ours,
        theirs,
        "at most 0.588 times (1.7 times faster)",
        1 / 1.7,
    )


def _result(
    name: str, baseline: str, ours: list[float], theirs: list[float], asked: str, most: float
) -> dict[str, Any]:
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return {
        "name": name,
        "baseline": baseline,
        "ours_s": statistics.median(ours),
        "baseline_s": statistics.median(theirs),
        "ratio": ratio,
        "asked": asked,
        "reached": ratio <= most,
    }


def _manifest(path: Path, shared: dict[str, int], count: int) -> Path:
    grid = {"scene": list(SCENES), "seed": list(range(count // len(SCENES)))}
    path.write_text(json.dumps({"shared": {"model": "tiny", "device": "cpu", **shared}, "grid": grid}))
    return path


def _options(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))] + ["--device", "cpu"]


def _mvguide(*words: str) -> None:
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "mvguide", *words, "--quiet"], check=True, env=alone)
