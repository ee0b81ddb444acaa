"""How good are the videos: methods against the truth on held-out scenes, under conditions that real inputs have.

    python -m tools.bench_quality --scenes 32 --out out/quality
    python -m tools.bench_quality --seeds held_out --conditions exact blurred --only "constant 1" "constant 0.8"

Writes ``table.csv`` (a row for each condition, scene and method), ``table.md`` (differences to a baseline scene by
scene, over all conditions, and means; with standard errors), ``gains.png`` (who wins where), ``sheet_CONDITION.png``
(the first 4 scenes), and where the oracle ran ``oracle.md`` (its mean weights) with its tables in ``oracle/``. Frames
that every method is given do not count. Rows are written after every scene: stop it, and go on with ``--resume``; with
it ``--conditions``, ``--only`` and ``--scenes`` divide the work, and each run reports all that is there.

The scenes are shared between processes of one thread each, which on a CPU is faster than the other way round.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from mvguide.errors import MvguideError
from mvguide.pipeline.pipeline import MultiViewPipeline
from tools.quality import worker
from tools.quality.conditions import CALIBRATION, CHOOSING, CONDITIONS
from tools.quality.figures import plot_gains, write_sheet
from tools.quality.methods import EXTRA, MEAN_ORACLE, make_methods, mean_table_file
from tools.quality.oracle import ErrorMoments, describe, pooled_table
from tools.quality.report import Row, key_of, markdown, overview, read_rows, write_rows
from tools.quality.scenes import REGIONS
from tools.scenes import BENCH

SHEETS = 4
SEEDS = {"bench": BENCH, "held_out": CHOOSING}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scenes", type=int, default=32, help="of each condition")
    parser.add_argument("--seeds", choices=list(SEEDS), default="bench", help="held_out to choose, bench to report")
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=None, help="pixels along a side; by default the model's own")
    parser.add_argument("--only", nargs="*", help=f"names of methods; by default all but: {'; '.join(EXTRA)}")
    parser.add_argument("--baseline", default="constant 1", help="method that differences are taken to")
    parser.add_argument("--calibration", type=int, default=8, help="scenes of each mean oracle table")
    parser.add_argument("--processes", type=int, default=None, help="by default one for each core, one on a GPU")
    parser.add_argument("--compile", action="store_true", help="torch.compile: slow to start, then a third faster")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --out already holds")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    return parser


def main() -> None:
    parser = build_parser()
    options = parser.parse_args()
    try:
        bench(options)
    except MvguideError as error:
        parser.error(str(error))


def bench(options: argparse.Namespace) -> None:
    """Run what the options ask for; rows are written after every scene, reports at the end."""
    on_gpu = torch.cuda.is_available() and options.device != "cpu"
    processes = options.processes or (1 if on_gpu else os.cpu_count() or 1)
    pipe = MultiViewPipeline.from_pretrained(options.model, device="cpu")
    every = list(make_methods(pipe, options.steps, options.seed))
    for name in (*(options.only or ()), options.baseline):
        if name not in every:
            raise MvguideError(f"there is no method {name!r}; use some of: {'; '.join(every)}")
    shape = worker.scene_shape(pipe, options.size)
    names = options.only or [name for name in every if name not in EXTRA]
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    _check_settings(options, out / "settings.json")
    rows = read_rows(out / "table.csv") if options.resume else []
    for old in () if options.resume else (out / "oracle").glob("*.npz"):
        old.unlink()
    seeds = {
        name: CONDITIONS[name].pick_seeds(SEEDS[options.seeds], options.scenes, *shape) for name in options.conditions
    }
    done = {key_of(row) for row in rows}
    jobs = {
        (condition, seed): todo
        for condition, own in seeds.items()
        for seed in own
        if (todo := [name for name in names if (condition, seed, name) not in done])
    }
    setup = worker.Setup(
        options.model,
        options.device,
        options.steps,
        options.seed,
        options.size,
        0 if on_gpu else 1,
        options.compile,
        out / "oracle",
        out / "strips",
    )
    with ProcessPoolExecutor(processes, get_context("spawn"), worker.start, (setup,)) as pool:
        needed = {condition for (condition, _), todo in jobs.items() if MEAN_ORACLE in todo}
        _make_mean_tables(pool, sorted(needed), options.calibration, shape, setup.oracles)
        # Scene by scene, not condition by condition: what is there when the bench is stopped can be compared.
        order = sorted(jobs, key=lambda job: (seeds[job[0]].index(job[1]), list(CONDITIONS).index(job[0])))
        running = {pool.submit(worker.run, *job, jobs[job], job[1] in seeds[job[0]][:SHEETS]): job for job in order}
        for job, future in _finished(running):
            rows = sorted([*rows, *future.result()], key=lambda row: (*key_of(row)[:2], every.index(key_of(row)[2])))
            write_rows(out / "table.csv", rows)
            print(f"  {job[0]}, scene {job[1]}", flush=True)
    report(rows, every, options.baseline, out)


def _check_settings(options: argparse.Namespace, note: Path) -> None:
    """Refuse to mix rows of different settings."""
    kept = ("model", "steps", "seed", "size", "seeds", "calibration")
    settings = {name: getattr(options, name) for name in kept}
    if options.resume and note.exists() and json.loads(note.read_text()) != settings:
        raise MvguideError(f"{note} is of other settings than {settings}; give another --out, or drop --resume")
    note.write_text(json.dumps(settings) + "\n")


def _finished(running: dict[Future[list[Row]], tuple[str, int]]) -> Iterator[tuple[tuple[str, int], Future[list[Row]]]]:
    """Jobs as they end, with the time that is left if the rest is like them."""
    started = time.perf_counter()
    for count, future in enumerate(as_completed(running), 1):
        spent = time.perf_counter() - started
        left = spent / count * (len(running) - count)
        print(f"{count} of {len(running)} after {spent:.0f} s, about {left / 60:.0f} minutes left:", end="", flush=True)
        yield running[future], future


def _make_mean_tables(
    pool: ProcessPoolExecutor, conditions: Sequence[str], count: int, shape: tuple[int, int], folder: Path
) -> None:
    """Walk calibration scenes with the oracle, and pool what they saw into a table for each condition."""
    walks = {
        condition: [
            pool.submit(worker.calibrate, condition, seed, folder / "calibration")
            for seed in CONDITIONS[condition].pick_seeds(CALIBRATION, count, *shape)
        ]
        for condition in conditions
        if not mean_table_file(folder, condition).exists()
    }
    for condition, futures in walks.items():
        scenes = [ErrorMoments.load(future.result()) for future in futures]
        pooled_table(scenes, f"oracle, mean of {count} scenes, {condition}").save(mean_table_file(folder, condition))
        print(f"mean oracle table of {condition} from {count} scenes", flush=True)


def report(rows: Sequence[Row], every: Sequence[str], baseline: str, out: Path) -> None:
    """Tables and images of all rows that are there."""
    present = [name for name in CONDITIONS if any(row["condition"] == name for row in rows)]
    methods = [name for name in every if any(row["method"] == name for row in rows)]
    seeds = {name: sorted({int(row["seed"]) for row in rows if row["condition"] == name}) for name in present}
    parts = []
    if baseline in methods and len(present) > 1:
        parts = [overview(rows, present, methods, baseline, f"psnr {region}") for region in REGIONS]
    text = "\n".join([*parts, *(markdown(rows, condition, methods, baseline) for condition in present)])
    (out / "table.md").write_text(text)
    for condition in present:
        write_sheet(out / f"sheet_{condition}.png", out / "strips", condition, seeds[condition][:SHEETS], methods)
    if baseline in methods and len(methods) > 1:
        plot_gains(out / "gains.png", rows, present, methods, baseline)
    walked = {
        condition: [
            ErrorMoments.load(path) for seed in own if (path := out / f"oracle/{condition}_{seed}.npz").exists()
        ]
        for condition, own in seeds.items()
    }
    moments = [f"### {name}, {len(scenes)} scenes\n\n{describe(scenes)}" for name, scenes in walked.items() if scenes]
    if moments:
        (out / "oracle.md").write_text("\n".join(moments))
    print(text)


if __name__ == "__main__":
    main()
