"""The methods that are compared: each makes the video of a scene."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from mvguide.backbones import Backbone
from mvguide.backbones.base import Conditioning
from mvguide.evaluation.metrics import psnr
from mvguide.geometry.masks import push_pull_fill
from mvguide.guidance.search import RuleName, search_hypers
from mvguide.guidance.table import LambdaTable
from mvguide.pipeline import MultiViewPipeline
from tools.quality.scenes import Scene

Method = Callable[[Scene], Tensor]
SEEDS = 4
"""Seeds that the best unguided video is chosen from."""


def through_vae(backbone: Backbone, frames: Tensor) -> Tensor:
    """Encode and decode: what the VAE alone costs."""
    return backbone.decode(backbone.encode(frames)[None])


def guided(pipe: MultiViewPipeline, steps: int, seed: int, **settings: object) -> Method:
    """The pipeline with some settings; ``weight`` makes a constant table, ``rule`` one searched on published grids.

    ``cfg_max`` switches classifier-free guidance on, from 1 in the first frame; by default it is the model's own.
    """
    options = dict(settings)
    cfg_max = cast(float | None, options.pop("cfg_max", None))
    cfg_min = None if cfg_max is None else 1.0
    weight, rule = cast(float | None, options.pop("weight", None)), cast(RuleName | None, options.pop("rule", None))

    def run(scene: Scene) -> Tensor:
        schedule, frames = pipe.backbone.schedule(steps), len(scene.truth)
        table: LambdaTable | None = None
        if weight is not None:
            table = LambdaTable.constant(weight, schedule, frames)
        elif rule == "released":
            table = search_hypers(schedule, num_frames=frames, rule=rule).table
        elif rule == "exact":
            table = search_hypers(schedule, distances=scene.warps.distances, rule=rule).table
        return pipe(
            [scene.view],
            scene.cameras,
            schedule=schedule,
            table=table,
            size=(scene.truth.shape[-1], scene.truth.shape[-2]),
            conditioning=Conditioning(frames, cfg_min=cfg_min, cfg_max=cfg_max),
            generator=torch.Generator().manual_seed(seed),
            **options,  # type: ignore[arg-type]
        ).frames

    return run


def best_of(makers: list[Method]) -> Method:
    """The video with the highest PSNR: a choice that needs the truth, so an upper bound for one lucky draw."""

    def run(scene: Scene) -> Tensor:
        videos = [make(scene) for make in makers]
        return max(videos, key=lambda video: float(psnr(video[1:], scene.truth[1:]).mean()))

    return run


EXTRA = ("unguided, CFG to 3", "constant 1, CFG to 3")
"""Methods that run only when they are named."""


def make_methods(pipe: MultiViewPipeline, steps: int, seed: int) -> dict[str, Method]:
    """Every method by name."""

    def filled(scene: Scene) -> Tensor:
        return push_pull_fill(scene.warps.image, scene.warps.visible)

    def run(**settings: object) -> Method:
        return guided(pipe, steps, seed, **settings)

    return {
        "first frame repeated": lambda scene: scene.truth[:1].expand_as(scene.truth),
        "unguided": run(guidance="none"),
        f"unguided, best of {SEEDS}": best_of(
            [guided(pipe, steps, seed + draw, guidance="none") for draw in range(SEEDS)]
        ),
        "released table": run(rule="released"),
        "exact, published grids": run(rule="exact"),
        "model's own (default)": run(),
        "constant 0.5": run(weight=0.5),
        "constant 0.8": run(weight=0.8),
        "constant 1": run(weight=1.0),
        "constant 1, whole cells": run(weight=1.0, cell_share=1.0),
        "unguided, CFG to 3": run(guidance="none", cfg_max=3.0),
        "constant 1, CFG to 3": run(weight=1.0, cfg_max=3.0),
        "warp + fill": filled,
        "warp + fill, VAE": lambda scene: through_vae(pipe.backbone, filled(scene)),
        "truth, VAE": lambda scene: through_vae(pipe.backbone, scene.truth),
    }
