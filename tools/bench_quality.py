"""How good are the videos: methods against the truth on held-out scenes with exact depth.

    python -m tools.bench_quality --scenes 32 --out out/quality

Writes ``table.csv`` (one row for each scene and method), ``table.md`` (means and standard errors) and ``sheet.png``
(rows of methods, columns of frames, for the first scenes). Seen and holes are told apart by the warp's mask; frame 0,
which every method is given, does not count.
"""

import argparse
import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mvguide.backbones import Backbone
from mvguide.backbones.base import Conditioning
from mvguide.depth.files import Depth
from mvguide.evaluation.metrics import psnr, sharpness_ratio, ssim
from mvguide.evaluation.pictures import mark_holes, video_sheet
from mvguide.files.images import write_png
from mvguide.geometry.camera import Camera
from mvguide.geometry.masks import push_pull_fill
from mvguide.guidance.search import RuleName
from mvguide.guidance.table import LambdaTable
from mvguide.pipeline import MultiViewPipeline
from mvguide.targets import Warps, warp_view
from mvguide.view import View
from tools.scenes import HELD_OUT, render_scenes

FRAMES, SIZE, SKY = 8, 64, 100.0
METRICS = ("psnr", "ssim", "sharpness")
REGIONS = ("whole", "seen", "holes")
SHEETS = 4

Method = Callable[["Scene"], Tensor]


class Scene:
    """A held-out scene: its true video, its first view with exact depth, its cameras and warps."""

    def __init__(self, seed: int) -> None:
        found = render_scenes([seed], size=SIZE, frames=FRAMES, with_depth=True)
        assert found.depth is not None  # it was asked for
        self.seed = seed
        self.truth = found.video[0]
        # Of the sky only the direction is known: put it far away rather than leave it a hole.
        depth = torch.nan_to_num(found.depth[0, 0], posinf=SKY).clamp(max=SKY)
        self.cameras = Camera(found.intrinsics[0].double(), found.world_to_camera[0].double(), SIZE, SIZE)
        known = torch.ones(SIZE, SIZE, dtype=torch.bool)
        self.view = View(self.truth[0], self.cameras[0], Depth(depth, known, True), f"scene {seed}")
        self.warps: Warps = warp_view(self.view, self.cameras)


def through_vae(backbone: Backbone, frames: Tensor) -> Tensor:
    """Encode and decode: what the VAE alone costs."""
    return backbone.decode(backbone.encode(frames)[None])


def guided(pipe: MultiViewPipeline, steps: int, seed: int, **settings: object) -> Method:
    """The pipeline with some settings; ``weight`` makes a constant table, ``rule`` a searched one."""

    def run(scene: Scene) -> Tensor:
        schedule = pipe.backbone.schedule(steps)
        options = dict(settings)
        weight, rule = options.pop("weight", None), cast(RuleName | None, options.pop("rule", None))
        table: object = None
        if weight is not None:
            table = LambdaTable.constant(float(weight), schedule, FRAMES)  # type: ignore[arg-type]
        elif rule is not None:
            table = lambda s, w: pipe.search_table(s, w, rule=rule, by_frame=rule == "released")  # noqa: E731
        return pipe(
            [scene.view],
            scene.cameras,
            schedule=schedule,
            table=table,  # type: ignore[arg-type]
            size=(SIZE, SIZE),
            conditioning=Conditioning(FRAMES),
            generator=torch.Generator().manual_seed(seed),
            **options,  # type: ignore[arg-type]
        ).frames

    return run


def methods(pipe: MultiViewPipeline, steps: int, seed: int) -> dict[str, Method]:
    """Every method by name."""

    def filled(scene: Scene) -> Tensor:
        return push_pull_fill(scene.warps.image, scene.warps.visible)

    return {
        "first frame repeated": lambda scene: scene.truth[:1].expand_as(scene.truth),
        "unguided": guided(pipe, steps, seed, guidance="none"),
        "released table": guided(pipe, steps, seed, rule="released"),
        "model's own table (default)": guided(pipe, steps, seed, rule="exact"),
        "constant 0.5": guided(pipe, steps, seed, weight=0.5),
        "constant 0.8": guided(pipe, steps, seed, weight=0.8),
        "constant 1": guided(pipe, steps, seed, weight=1.0),
        "constant 1, whole cells": guided(pipe, steps, seed, weight=1.0, cell_share=1.0),
        "warp + fill": filled,
        "warp + fill through the VAE": lambda scene: through_vae(pipe.backbone, filled(scene)),
        "truth through the VAE": lambda scene: through_vae(pipe.backbone, scene.truth),
    }


def score(frames: Tensor, scene: Scene) -> dict[str, float]:
    """Metrics by ``metric region``, over all frames but the first; NaN where a region is empty."""
    truth, found = scene.truth[1:], frames[1:]
    masks = {"whole": None, "seen": scene.warps.visible[1:], "holes": 1 - scene.warps.visible[1:]}
    functions = {"psnr": psnr, "ssim": ssim, "sharpness": sharpness_ratio}
    return {
        f"{metric} {region}": float(values[torch.isfinite(values)].mean())
        for region, mask in masks.items()
        for metric in METRICS
        for values in [functions[metric](found, truth, mask)]
    }


def mean_and_error(values: list[float]) -> str:
    """``mean +- standard error`` over scenes, those without the region left out."""
    kept = torch.tensor([value for value in values if math.isfinite(value)], dtype=torch.float64)
    if len(kept) < 2:
        return "-" if len(kept) == 0 else f"{kept[0]:.2f}"
    return f"{kept.mean():.2f} ± {kept.std() / math.sqrt(len(kept)):.2f}"


def markdown(rows: list[dict[str, object]], names: list[str]) -> str:
    """The table of the page: a row for each method."""
    columns = [f"{metric} {region}" for metric in METRICS for region in REGIONS]
    columns = [column for column in columns if not column.startswith("sharpness") or column.endswith("whole")]
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        mine = [row for row in rows if row["method"] == name]
        cells = [mean_and_error([float(row[column]) for row in mine]) for column in columns]  # type: ignore[arg-type]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of methods; all by default")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    arguments = parser.parse_args()
    pipe = MultiViewPipeline.from_pretrained(arguments.model, device=arguments.device)
    chosen = methods(pipe, arguments.steps, arguments.seed)
    if arguments.only:
        chosen = {name: chosen[name] for name in arguments.only}
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    sheets = []
    for index in range(arguments.scenes):
        scene = Scene(HELD_OUT.start + index)
        videos, started = {}, time.perf_counter()
        for name, method in chosen.items():
            with torch.no_grad():
                videos[name] = method(scene)
            rows.append({"seed": scene.seed, "method": name, **score(videos[name], scene)})
        print(f"scene {index + 1} of {arguments.scenes}: {time.perf_counter() - started:.0f} s", flush=True)
        if index < SHEETS:
            warp = mark_holes(scene.warps.image, scene.warps.visible)
            sheets.append(video_sheet({"truth": scene.truth, "warp": warp, **{n[:11]: v for n, v in videos.items()}}))
            write_png(arguments.out / "sheet.png", torch.cat(sheets, dim=1))
        with (arguments.out / "table.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (arguments.out / "table.md").write_text(markdown(rows, list(chosen)))
    print(markdown(rows, list(chosen)))


if __name__ == "__main__":
    main()
