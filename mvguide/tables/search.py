"""search_hypers: the lambda table of a rule (mvguide.tables.rules), its three parameters found for a purpose.

``coverage`` counts, as the published script does; ``calibrated`` fits the exact rule to weights that were measured;
``score`` renders and looks (mvguide.tables.study). The rules know only the ratios v1/v2 and v3/v2, so the last two
keep v2 = 1: errors are then in units of the model's at the largest sigma.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import ConfigError, InputError
from mvguide.tables.fit import fit_exact
from mvguide.tables.rules import RULES, Array, Rule, RuleName
from mvguide.tables.study import Study
from mvguide.tables.table import LambdaTable

__all__ = ["Objective", "SearchResult", "search_hypers"]

Objective = Literal["coverage", "calibrated", "score"]

V1_GRID: tuple[float, ...] = tuple(np.linspace(0.001, 0.009, 9).tolist())
V2_GRID: tuple[float, ...] = tuple(np.arange(50.0, 1001.0, 50.0).tolist())
V3_GRID: tuple[float, ...] = tuple(np.arange(10.0, 101.0, 10.0).tolist())


@dataclass(frozen=True)
class SearchResult:
    """Outcome of :func:`search_hypers`.

    Args:
        table: the weights.
        v1: the weight of the regulariser.
        v2: the error of the model.
        v3: the error of the warp.
        coverage: share of the cells, without those of input views, with weight > 0.5.
        rule: its name.
        value: of the objective: the coverage; the rms difference to the measured weights; or the score, dB.
    """

    table: LambdaTable
    v1: float
    v2: float
    v3: float
    coverage: float
    rule: str
    value: float


def search_hypers(
    schedule: SigmaSchedule,
    *,
    num_frames: int | None = None,
    distances: Sequence[float] | Array | torch.Tensor | None = None,
    rule: RuleName | None = None,
    v1: Sequence[float] | None = None,
    v2: Sequence[float] | None = None,
    v3: Sequence[float] | None = None,
    objective: Objective = "coverage",
    measured: LambdaTable | None = None,
    study: Study | None = None,
) -> SearchResult:
    """Find (v1, v2, v3) for a purpose, and the table they make.

    Coverage takes the triple with the most cells of weight > 0.5, scored by counting: for one frame the weight exceeds
    0.5 at the sigmas above a bound, so a binary search in the sigmas replaces the evaluation of all cells. Of equal
    triples the first in the nesting order v1, v2, v3 wins; a triple that leaves a cell without an answer (``released``
    only) is dropped.

    Args:
        schedule: N steps.
        num_frames: F >= 2; distances then grow evenly with the frame number, as in the published single-view table.
        distances: ``[F]`` >= 0 instead, from ``geometry.frame_distances``; divided by their largest. A frame at
            distance 0 is an input view: its weight is 1.
        rule: ``released`` (the published script; the default of coverage) or ``exact`` (the closed form; all that the
            other objectives know).
        v1: coverage: grid of the regulariser's weight, positive; the published one by default.
        v2: coverage: grid of the model's error at the largest sigma, positive.
        v3: coverage: grid of the warp's error at the largest distance, positive.
        objective: ``coverage``, ``calibrated`` or ``score``.
        measured: calibrated: weights to come near to, of this schedule and these frames, such as those of
            :func:`mvguide.pipeline.calibration.calibrate`.
        study: score: what is tried, how often, and where it is kept.

    Raises:
        InputError: for distances, grids or weights that cannot be used, or when every triple of the grids is dropped.
        ConfigError: for an unknown rule or objective, and for arguments that the objective does not know.
    """
    name = _check(objective, rule, (v1, v2, v3), measured, study)
    distance = _normalise_distances(num_frames, distances)
    levels = schedule.levels.numpy()
    sigma_n = levels / levels[0]
    moving = distance > 0
    value: float | None = None
    if measured is not None:
        measured.check(schedule, len(distance))
        best, value = fit_exact(measured.weights.numpy(), sigma_n, distance)
    elif study is not None:
        best, value = study.run()
    else:
        grids = _grid(v1, V1_GRID, "v1"), _grid(v2, V2_GRID, "v2"), _grid(v3, V3_GRID, "v3")
        counts = _count_cells(np.sort(sigma_n), distance[moving], grids, RULES[name])
        index = np.unravel_index(int(counts.argmax()), counts.shape)
        if counts[index] < 0:
            raise InputError(
                f"no (v1, v2, v3) of the grids gives every cell of a table of {len(levels)} sigmas x {len(distance)} "
                f"frames an answer under rule {name!r}; use rule 'exact', which always has one, or pass smaller v1 "
                "values"
            )
        best = float(grids[0][index[0]]), float(grids[1][index[1]]), float(grids[2][index[2]])
    weights = RULES[name].weights(sigma_n, distance, *best)
    how = name if objective == "coverage" else f"{name} {objective}"
    source = f"search_hypers {how} v1={best[0]:g} v2={best[1]:g} v3={best[2]:g}"
    trusted = float((weights[:, moving] > 0.5).mean()) if moving.any() else 1.0
    table = LambdaTable(torch.from_numpy(weights), schedule.levels, source)
    return SearchResult(table, *best, trusted, name, trusted if value is None else value)


def _check(
    objective: str,
    rule: str | None,
    grids: tuple[Sequence[float] | None, ...],
    measured: LambdaTable | None,
    study: Study | None,
) -> RuleName:
    """The rule to use. Raises ConfigError for what does not go together."""
    for kind, known, argument in ((Objective, objective, "objective"), (RuleName, rule, "rule")):
        if known is not None and known not in get_args(kind):
            raise ConfigError(f"{argument} {known!r} is not known; use one of {', '.join(get_args(kind))}")
    for needed, there, name in (
        ("calibrated", measured is not None, "measured"),
        ("score", study is not None, "study"),
    ):
        if there != (objective == needed):
            raise ConfigError(f"objective {needed!r} and {name} belong together; give both or neither")
    if objective == "coverage":
        return "exact" if rule == "exact" else "released"
    if rule == "released" or any(grid is not None for grid in grids):
        given = "rule 'released'" if rule == "released" else "grids of v1, v2, v3"
        raise ConfigError(f"{given} and objective {objective!r} were given; only objective 'coverage' takes them")
    return "exact"


def _count_cells(ascending: Array, distance: Array, grids: tuple[Array, Array, Array], rule: Rule) -> NDArray[np.int64]:
    """Cells of weight > 0.5 for every triple, ``[len(v1), len(v2), len(v3)]``; -1 where a cell has no answer.

    ``q <= bound`` means ``sigma_n >= (v3 dp - bound v1) / v2``.
    """
    v1, v2, v3 = grids
    scaled = v3[:, None] * distance  # [V3, F]

    def above(bound: float, side: Literal["left", "right"]) -> NDArray[np.int64]:
        limits = (scaled - bound * v1[:, None, None, None]) / v2[:, None, None]  # [V1, V2, V3, F]
        return (len(ascending) - np.searchsorted(ascending, limits, side=side)).sum(axis=-1)

    counts = above(rule.favours_target, "left")
    unanswered = above(rule.favours_model, "right") - counts
    return np.where(unanswered > 0, -1, counts)


def _normalise_distances(num_frames: int | None, distances: Sequence[float] | Array | torch.Tensor | None) -> Array:
    """Distances of the frames divided by their largest, ``[F]`` in [0, 1]."""
    if (num_frames is None) == (distances is None):
        raise InputError("search_hypers needs either num_frames or distances, and not both")
    if num_frames is not None:
        if num_frames < 2:
            raise InputError(f"num_frames is {num_frames}; a camera move needs at least 2 frames")
        return np.arange(num_frames) / (num_frames - 1)
    values = np.asarray(distances, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            f"distances have shape {values.shape} and range {values.min(initial=0):g} to {values.max(initial=0):g}; "
            "give one finite distance >= 0 for each of at least 2 frames"
        )
    return values / max(values.max(), np.finfo(np.float64).tiny)


def _grid(values: Sequence[float] | None, published: Sequence[float], name: str) -> Array:
    grid = np.asarray(published if values is None else values, dtype=np.float64)
    if grid.ndim != 1 or len(grid) == 0 or not np.isfinite(grid).all() or (grid <= 0).any():
        raise InputError(f"the grid of {name} is {grid.tolist()}; give at least one finite value above 0")
    return grid
