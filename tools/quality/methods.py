"""The methods that are compared: each makes the video of a scene. Most are settings of the pipeline: a line each."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.backbones import Backbone
from mvguide.backbones.base import ConditioningOptions
from mvguide.diffusion.resampling import Resampling
from mvguide.diffusion.solvers import make_solver
from mvguide.errors import InputError
from mvguide.evaluation.metrics import psnr
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.guidance.guides import NoGuidance, make_guide
from mvguide.guidance.targets import MaskOptions
from mvguide.pipeline.calibration import calibrate
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.pipeline.prepare import Context
from mvguide.tables.search import search_hypers
from mvguide.tables.table import LambdaTable
from tools.quality.agreement import AgreementBlend, FlowGatedBlend
from tools.quality.oracle import ErrorMoments, OracleBlend
from tools.quality.scenes import Scene

Method = Callable[[Scene], Tensor]
Settings = Mapping[str, object]
SEEDS = 4
"""Seeds that the best unguided video is chosen from."""

MEAN_SEEDS = 8
"""Seeds that the mean of guided videos is taken over."""

PLAIN: Settings = {"mask": "hard"}

SETTINGS: dict[str, Settings] = {
    "unguided": {"guidance": "none"},
    "released table": {"rule": "released"},
    "exact, published grids": {"rule": "exact"},
    "model's own (default)": {},
    "constant 0.5": {"weight": 0.5},
    "constant 0.8": {"weight": 0.8},
    "constant 1": {"weight": 1.0},
    "calibrated": {"calibrated": True},
    "constant 1, soft mask": {"weight": 1.0, "mask": "soft"},
    "constant 1, hole pull 0.5": {"weight": 1.0, "hole_weight": 0.5},
    "constant 1, hole pull 1": {"weight": 1.0, "hole_weight": 1.0},
    "constant 1, confidence": {"weight": 1.0, "confidence": 1.0},
    "constant 1, resample 1": {"weight": 1.0, "resample": 1},
    "posterior gradient": {"weight": 1.0, "guidance": "posterior_gradient"},
    "calibrated, soft mask, hole pull 0.5": {"calibrated": True, "mask": "soft", "hole_weight": 0.5},
    "constant 1, soft mask, hole pull 0.5": {"weight": 1.0, "mask": "soft", "hole_weight": 0.5},
    "calibrated, soft mask, confidence": {"calibrated": True, "mask": "soft", "confidence": 1.0},
    "constant 1, agreement": {"weight": 1.0, "guidance": AgreementBlend()},
    "constant 1, flow-gated channels": {"weight": 1.0, "guidance": FlowGatedBlend()},
    "constant 1, whole cells": {"weight": 1.0, "cell_coverage": 1.0},
    "constant 1, hole radius 1": {"weight": 1.0, "hole_radius": 1},
    "released table, top share": {"rule": "released", "guidance": "top_share"},
    "constant 0.5, top share": {"weight": 0.5, "guidance": "top_share"},
    "constant 0.8, top share": {"weight": 0.8, "guidance": "top_share"},
    "constant 1, euler 10": {"weight": 1.0, "steps": 10},
    "constant 1, euler 100": {"weight": 1.0, "steps": 100},
    "constant 1, heun 13": {"weight": 1.0, "solver": "heun", "steps": 13},
    "constant 1, dpmpp_2m 10": {"weight": 1.0, "solver": "dpmpp_2m", "steps": 10},
    "constant 1, dpmpp_2m 15": {"weight": 1.0, "solver": "dpmpp_2m", "steps": 15},
    "constant 1, dpmpp_2m 25": {"weight": 1.0, "solver": "dpmpp_2m", "steps": 25},
    "unguided, CFG to 3": {"guidance": "none", "cfg_max": 3.0},
    "constant 1, CFG to 3": {"weight": 1.0, "cfg_max": 3.0},
}
"""Methods that are settings of :func:`guided`."""

BEST, ORACLE, MEAN_ORACLE = f"unguided, best of {SEEDS}", "oracle, this scene", "oracle, mean table"
MEAN = f"constant 1, mean of {MEAN_SEEDS} seeds"
EXTRA = (BEST, MEAN, "constant 1, euler 100", "unguided, CFG to 3", "constant 1, CFG to 3")
"""Methods that run only when they are named: they take twice to eight times as long."""


def guided(pipe: MultiViewPipeline, steps: int, seed: int, settings: Settings) -> Method:
    """The pipeline with some settings.

    Masks are hard unless the settings say otherwise; no settings at all are the pipeline's own defaults.

    Args:
        pipe: the model.
        steps: length of the model's own schedule.
        seed: of the noise.
        settings: ``guidance``: name of a guide, or a guide; options of guides and masks by their names; ``resample``:
            rounds; the table is one of ``weight`` (constant), ``rule`` (searched on the published grids, by the frame
            number for ``released``), ``hypers`` ((v1, v2, v3) of the exact rule), ``calibrated``, ``table``; ``steps``
            and ``solver``; ``hole_radius``; ``cfg_max``: classifier-free guidance from 1 in the first frame (by default
            the model's own).
    """
    options: dict[str, Any] = {**PLAIN, **settings} if settings else {}
    mask = MaskOptions(**{field.name: options[field.name] for field in fields(MaskOptions) if field.name in options})
    guide = make_guide(options.get("guidance", "blend"), **options)
    solver = make_solver(options.get("solver", "euler"))
    if "resample" in options:
        solver = Resampling(solver, options["resample"])
    cfg_max = options.get("cfg_max")
    schedule = pipe.backbone.schedule(options.get("steps", steps))

    def run(scene: Scene) -> Tensor:
        frames = len(scene.truth)
        context = pipe.prepare(
            scene.views,
            scene.cameras,
            schedule=schedule,
            size=(scene.truth.shape[-1], scene.truth.shape[-2]),
            conditioning=ConditioningOptions(frames, cfg_min=None if cfg_max is None else 1.0, cfg_max=cfg_max),
            hole_radius=options.get("hole_radius", 0),
            generator=torch.Generator().manual_seed(seed),
        )
        table = None if isinstance(guide, NoGuidance) else _table(context, options, mask)
        return pipe.sample(context, table, guidance=guide, mask=mask, solver=solver).frames

    return run


def _table(context: Context, options: Settings, mask: MaskOptions) -> LambdaTable:
    """The table that the settings of a method ask for; by default the pipeline's own."""
    given: Any = options.get("table")
    if given is not None:
        return given
    if "weight" in options:
        weight: Any = options["weight"]
        return LambdaTable.constant(weight, context.schedule, context.num_frames)
    if options.get("calibrated"):
        return calibrate(context, mask=mask)
    warps = context.warps
    if "hypers" in options:
        triple: Any = options["hypers"]
        v1, v2, v3 = ([value] for value in triple)
        return search_hypers(context.schedule, distances=warps.distances, rule="exact", v1=v1, v2=v2, v3=v3).table
    if "rule" in options:
        rule: Any = options["rule"]
        distances = frames_away(warps.pinned) if rule == "released" else warps.distances
        return search_hypers(context.schedule, distances=distances, rule=rule).table
    return context.search_table()


def frames_away(pinned: Tensor) -> Tensor:
    """Frames from each frame to the nearest given one, ``[F]``: what the published tables call distance."""
    given = pinned.nonzero()[:, 0]
    return (torch.arange(len(pinned))[:, None] - given).abs().amin(1).double()


def best_of(makers: list[Method]) -> Method:
    """The video with the highest PSNR: a choice that needs the truth, so an upper bound for one lucky draw."""

    def run(scene: Scene) -> Tensor:
        videos = [make(scene) for make in makers]
        return max(videos, key=lambda video: float(psnr(video[1:], scene.truth[1:]).mean()))

    return run


def mean_of(makers: list[Method]) -> Method:
    """The mean of several videos: an estimate of the mean of all that might be there, which has the least error.

    This is the fair opponent of a smooth fill: a single sample has up to twice its squared error.
    """

    def run(scene: Scene) -> Tensor:
        return torch.stack([make(scene) for make in makers]).mean(0)

    return run


def walk(pipe: MultiViewPipeline, scene: Scene, steps: int, seed: int) -> tuple[Tensor, ErrorMoments]:
    """The video that the oracle's weights make of a scene, and the moments that it saw on the way."""
    oracle = OracleBlend(pipe.backbone.encode(scene.truth))
    video = guided(pipe, steps, seed, {"weight": 1.0, "guidance": oracle})(scene)
    return video, oracle.moments(pipe.backbone.schedule(steps))


def oracle_file(folder: Path, scene: Scene) -> Path:
    """Where the moments of a scene are kept."""
    return folder / f"{scene.condition}_{scene.seed}.npz"


def mean_table_file(folder: Path, condition: str) -> Path:
    """Where the mean oracle table of a condition is kept."""
    return folder / f"mean_{condition}.npz"


def oracle(pipe: MultiViewPipeline, steps: int, seed: int, folder: Path | None) -> Method:
    """The oracle with the scene's own weights; its moments are kept in the folder."""

    def run(scene: Scene) -> Tensor:
        video, moments = walk(pipe, scene, steps, seed)
        if folder is not None:
            moments.save(oracle_file(folder, scene))
        return video

    return run


def mean_oracle(pipe: MultiViewPipeline, steps: int, seed: int, folder: Path | None) -> Method:
    """Blend with the table in the folder that calibration scenes of the same condition gave."""

    def run(scene: Scene) -> Tensor:
        path = None if folder is None else mean_table_file(folder, scene.condition)
        if path is None or not path.exists():
            raise InputError(f"the mean oracle table of {scene.condition!r} is not there; the bench makes it first")
        return guided(pipe, steps, seed, {"table": LambdaTable.load(path)})(scene)

    return run


def through_vae(backbone: Backbone, frames: Tensor) -> Tensor:
    """Encode and decode: what the VAE alone costs."""
    return backbone.decode(backbone.encode(frames)[None])


def make_methods(pipe: MultiViewPipeline, steps: int, seed: int, folder: Path | None = None) -> dict[str, Method]:
    """Every method by name; ``folder`` is for the tables of the oracle."""

    def filled(scene: Scene) -> Tensor:
        return push_pull_fill(scene.warps.image, scene.warps.visible, scene.warps.depth)

    draws = [guided(pipe, steps, seed + draw, {"guidance": "none"}) for draw in range(SEEDS)]
    samples = [guided(pipe, steps, seed + draw, SETTINGS["constant 1"]) for draw in range(MEAN_SEEDS)]
    return {
        "first frame repeated": lambda scene: scene.truth[:1].expand_as(scene.truth),
        "warp + fill": filled,
        "warp + fill, VAE": lambda scene: through_vae(pipe.backbone, filled(scene)),
        "truth, VAE": lambda scene: through_vae(pipe.backbone, scene.truth),
        BEST: best_of(draws),
        MEAN: mean_of(samples),
        **{name: guided(pipe, steps, seed, settings) for name, settings in SETTINGS.items()},
        ORACLE: oracle(pipe, steps, seed, folder),
        MEAN_ORACLE: mean_oracle(pipe, steps, seed, folder),
    }
