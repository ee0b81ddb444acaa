"""Videos longer than the model's own, against ray-traced truth: windows, anchors, and chained segments.

    python -m tools.bench_long --scenes 8 --out out/long
    python -m tools.bench_long --degrees 360 --methods windows anchors --scenes 4 --out out/long_360

One picture of a still world with exact depth, and a level path around it. Chained segments are the recipe by hand: each
starts from the last frame of the one before, with the depth that anchors get. Writes ``table.csv`` (a row for each
scene and method), ``table.md`` (means, and differences to chained segments scene by scene) and ``sheet_METHOD.png``.
Rows are written as scenes end; ``--resume`` keeps them.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mvguide.diffusion.windows import LongOptions
from mvguide.drawing.sheets import mark_holes, video_sheet
from mvguide.errors import MvguideError
from mvguide.files.images import write_png
from mvguide.pipeline.anchors import make_anchors
from mvguide.pipeline.pipeline import MultiViewPipeline
from tools.quality.long_scenes import LongScene, read_rows, report, score, write_rows
from tools.scenes import BENCH, HELD_OUT
from tools.scenes.turns import turning_seeds

METHODS = ("windows", "anchors", "chained")
SEEDS = {"bench": BENCH, "held_out": HELD_OUT}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--seeds", choices=list(SEEDS), default="bench", help="held_out to choose, bench to report")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--degrees", type=float, default=90.0)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--overlap", type=float, default=LongOptions.window_overlap)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="keep the rows that --out already holds")
    parser.add_argument("--out", type=Path, default=Path("out/long"))
    return parser


def main() -> None:
    parser = build_parser()
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        bench(options)
    except MvguideError as error:
        parser.error(str(error))


@torch.no_grad()
def bench(options: argparse.Namespace) -> None:
    """Run what the options ask for; rows and sheets are written after every scene."""
    pipe = MultiViewPipeline.from_pretrained(options.model, device="cpu")
    side = pipe.backbone.native_size.default_size(1, 1)[0]
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    rows = read_rows(out / "table.csv") if options.resume else []
    done = {(row["seed"], row["method"]) for row in rows}
    for seed in turning_seeds(SEEDS[options.seeds], options.scenes, options.degrees):
        todo = [name for name in options.methods if (seed, name) not in done]
        if not todo:
            continue
        scene = LongScene(seed, side, options.frames, options.degrees)
        shown = {"truth": scene.truth, "seen": mark_holes(scene.warps.image, scene.warps.visible)}
        for name in todo:
            started = time.perf_counter()
            video, borders = make(pipe, scene, name, options.steps, options.overlap)
            found = score(scene, video, borders, pipe.backbone)
            row = {"seed": seed, "method": name, "seconds": round(time.perf_counter() - started, 1), **found}
            rows.append(row)
            shown[name] = video
            print(
                ", ".join(
                    f"{key} {value:.3f}" if isinstance(value, float) else f"{value}" for key, value in row.items()
                ),
                flush=True,
            )
            write_rows(out / "table.csv", rows)
        write_png(out / f"sheet_{seed}.png", video_sheet(shown, tile=side))
    (out / "table.md").write_text(report(rows, METHODS, METHODS[-1]))
    print((out / "table.md").read_text())


def make(pipe: MultiViewPipeline, scene: LongScene, name: str, steps: int, overlap: float) -> tuple[Tensor, list[int]]:
    """The video of a method, and the frames at which a window, a segment or an anchor begins or has ended."""
    if name == "chained":
        return chained(pipe, scene, steps)
    long = LongOptions(name, window_overlap=overlap)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    context = pipe.prepare([scene.view], scene.cameras, schedule=steps, size=scene.size, long=long, generator=generator)
    frames = pipe.sample(context, context.search_table()).frames
    borders = {end for window in context.windows for end in (window.latent_frames.start, window.latent_frames.stop)}
    borders |= {number + after for number in context.anchor_frames for after in (0, 1)}
    return frames, sorted(borders - {0, len(frames)})


def chained(pipe: MultiViewPipeline, scene: LongScene, steps: int) -> tuple[Tensor, list[int]]:
    """Segments of the model's own length, each from the last frame of the one before and its completed depth."""
    view, starts = scene.view, range(0, len(scene.truth) - 1, pipe.backbone.native_size.frames - 1)
    video: list[Tensor] = []
    for start in starts:
        numbers = range(start, min(start + pipe.backbone.native_size.frames, len(scene.truth)))
        context = pipe.prepare(
            [view],
            scene.cameras[list(numbers)],
            schedule=steps,
            size=scene.size,
            generator=torch.Generator().manual_seed(start),
        )
        frames = pipe.sample(context, context.search_table()).frames
        video.append(frames[min(start, 1) :])
        ends = [0, len(numbers) - 1]
        path = replace(context, trajectory=context.trajectory[ends], warps=context.warps[ends])
        view = make_anchors(frames[ends], path, ends).views[-1]
    return torch.cat(video), [start + 1 for start in starts[1:]]


if __name__ == "__main__":
    main()
