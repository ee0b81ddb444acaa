"""How good are the videos: methods against the truth on held-out scenes with exact depth.

    python -m tools.bench_quality --scenes 32 --out out/quality

Writes ``table.csv`` (a row for each scene and method), ``table.md`` (means and standard errors) and ``sheet.png``
(rows of methods, columns of frames, for the first 4 scenes). Frame 0, which every method is given, does not count.
The scenes are shared between processes of one thread each, which on a CPU is faster than the other way round.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from mvguide.errors import MvguideError
from mvguide.evaluation.pictures import mark_holes, video_sheet
from mvguide.files.images import read_image, write_png
from mvguide.pipeline import MultiViewPipeline
from tools.quality.methods import EXTRA, make_methods
from tools.quality.report import Row, markdown, read_rows, write_rows
from tools.quality.scenes import Scene
from tools.scenes import BENCH

SHEETS = 4
SHOWN = (1, 3, 5, 7)
"""Frames of the sheet."""


class Worker:
    """What one process keeps: the model and the methods."""

    def __init__(self, model: str, device: str, steps: int, seed: int, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.pipe = MultiViewPipeline.from_pretrained(model, device=device)
        self.methods = make_methods(self.pipe, steps, seed)

    @torch.no_grad()
    def run(self, seed: int, names: Sequence[str], sheet: Path | None) -> tuple[list[Row], float]:
        """Rows of a scene and the seconds they took; its part of the sheet is written to a file."""
        started = time.perf_counter()
        backbone = self.pipe.backbone
        scene = Scene(seed, backbone.format.default_size(64, 64)[0], backbone.format.frames)
        videos = {name: self.methods[name](scene) for name in names}
        rows: list[Row] = [{"seed": seed, "method": name, **scene.score(video)} for name, video in videos.items()]
        if sheet is not None:
            warp = mark_holes(scene.warps.image, scene.warps.visible)
            shown = [frame for frame in SHOWN if frame < len(scene.truth)]
            write_png(sheet, video_sheet({"truth": scene.truth, "warp": warp, **videos}, columns=shown, tile=128))
        return rows, time.perf_counter() - started


_worker: Worker


def _start_worker(*arguments: object) -> None:
    global _worker  # a process of the pool has no other place to keep its model
    _worker = Worker(*arguments)  # type: ignore[arg-type]


def _run(seed: int, names: Sequence[str], sheet: Path | None) -> tuple[list[Row], float]:
    return _worker.run(seed, names, sheet)


def join_sheets(parts: Sequence[Path], out: Path) -> None:
    """Scenes side by side."""
    pictures: list[Tensor] = [read_image(part) for part in parts if part.exists()]
    if pictures:
        write_png(out, torch.cat(pictures, dim=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of methods; by default all without classifier-free guidance")
    parser.add_argument("--processes", type=int, default=None, help="by default one for each core, one on a GPU")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --out already holds")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    options = parser.parse_args()
    try:
        bench(options)
    except MvguideError as error:
        parser.error(str(error))


def bench(options: argparse.Namespace) -> None:
    """Run what the options ask for and report after every scene."""
    on_gpu = torch.cuda.is_available() and options.device != "cpu"
    processes = options.processes or (1 if on_gpu else os.cpu_count() or 1)
    settings = {"model": options.model, "steps": options.steps, "seed": options.seed}
    pipe = MultiViewPipeline.from_pretrained(options.model, device="cpu")
    names = list(make_methods(pipe, options.steps, options.seed))
    unknown = [name for name in options.only or () if name not in names]
    if unknown:
        raise MvguideError(f"there is no method {unknown[0]!r}; use some of: {'; '.join(names)}")
    names = options.only or [name for name in names if name not in EXTRA]
    options.out.mkdir(parents=True, exist_ok=True)
    note = options.out / "settings.json"
    if options.resume and note.exists() and json.loads(note.read_text()) != settings:
        raise MvguideError(f"{note} is of other settings than {settings}; give another --out, or drop --resume")
    note.write_text(json.dumps(settings) + "\n")
    table, rows = options.out / "table.csv", read_rows(options.out / "table.csv") if options.resume else []
    seeds = BENCH[: options.scenes]
    sheets = {seed: options.out / f"scene_{seed}.png" for seed in seeds[:SHEETS]}
    done = {(row["seed"], row["method"]) for row in rows}
    jobs = {seed: [name for name in names if (seed, name) not in done] for seed in seeds}
    starting = (options.model, options.device, options.steps, options.seed, 0 if on_gpu else 1)
    with ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, starting) as pool:
        # A scene of the sheet is shown whole: its finished rows are made once more.
        running = {
            pool.submit(_run, seed, names if seed in sheets else todo, sheets.get(seed)): seed
            for seed, todo in jobs.items()
            if todo
        }
        for count, future in enumerate(as_completed(running), 1):
            found, seconds = future.result()
            fresh = {(row["seed"], row["method"]) for row in found}
            rows = sorted(
                [*(row for row in rows if (row["seed"], row["method"]) not in fresh), *found],
                key=lambda row: (row["seed"], names.index(str(row["method"])) if row["method"] in names else -1),
            )
            write_rows(table, rows)
            print(f"scene {count} of {len(running)}: {seconds:.0f} s", flush=True)
    join_sheets(list(sheets.values()), options.out / "sheet.png")
    text = markdown([row for row in rows if row["seed"] in seeds], names)
    (options.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
