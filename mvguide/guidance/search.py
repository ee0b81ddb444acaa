"""search_hypers: the lambda table in closed form from distances and sigmas, its three parameters found by counting.

The error of ``w X + (1 - w) D`` is at most ``w E_I + (1 - w) E_D`` with the model's error ``E_D = v2 sigma_n``
(sigma_n = sigma / largest sigma) and the warp's error ``E_I = v3 dp`` at camera distance dp in [0, 1]. With
``lambda = w/(1-w)``, the regulariser ``v1 |log lambda|`` and ``Q = v3 dp - v2 sigma_n`` the best lambda depends on
``q = Q/v1`` alone (NVS-Solver, You et al. 2025, arXiv 2405.15364, section 3.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import ConfigError, InputError
from mvguide.guidance.table import LambdaTable

Array = NDArray[np.float64]
RuleName = Literal["released", "exact"]


@dataclass(frozen=True)
class Rule:
    """How lambda follows from q = Q/v1.

    Args:
        lambda_of: q of any shape -> lambda of that shape; NaN where the rule has no answer.
        favours_target: the weight exceeds 0.5 when ``q <= favours_target`` (``<`` and ``<=`` differ in no table found).
        favours_model: the rule has no answer for q strictly between the two bounds.
    """

    lambda_of: Callable[[Array], Array]
    favours_target: float
    favours_model: float


def exact_lambda(q: Array) -> Array:
    """Minimiser of ``w Q + v1 |log lambda|``: 1 for ``|q| <= 4``, else the root of ``L^2 + (2 - |q|) L + 1`` above 1.

    For q > 4 its mirror image, ``lambda(q) = 1 / lambda(-q)``.
    """
    size = np.maximum(np.abs(q), 4.0)
    root = 0.5 * ((size - 2) + np.sqrt((size - 2) ** 2 - 4))
    return np.where(q < 0, root, 1 / root)


def released_lambda(q: Array) -> Array:
    """What the published script computes, to the last digit.

    It solves ``k v1 L^2 + (2 k v1 + k Q) L + (k v1 + b Q) = 0`` (k = 0.8, b = -0.2) with ``2 v1`` where the formula
    has ``2 k v1`` outside the root, tries the roots for +v1 wanting L > 1, then those for -v1 wanting 0 < L <= 1,
    and takes the first that fits. NaN where none does, which is the case for -5 < q < 5.0625.
    """
    k, b = 0.8, -0.2
    found = np.full(np.shape(q), np.nan)
    for sign, low, high in ((1.0, 1.0, np.inf), (-1.0, 0.0, 1.0)):
        scaled = sign * np.asarray(q, dtype=np.float64)
        square = (2 * k + k * scaled) ** 2 - 4 * k * (k + b * scaled)
        with np.errstate(invalid="ignore"):
            spread = sign * np.sqrt(square)
            for root in ((-(2 + k * scaled) + spread) / (2 * k), (-(2 + k * scaled) - spread) / (2 * k)):
                fits = np.isnan(found) & (root > low) & (root <= high)
                found = np.where(fits, root, found)
    return found


RULES: dict[str, Rule] = {
    "released": Rule(released_lambda, favours_target=-5.0, favours_model=5.0625),
    "exact": Rule(exact_lambda, favours_target=-4.0, favours_model=-4.0),
}

V1_GRID: tuple[float, ...] = tuple(np.linspace(0.001, 0.009, 9).tolist())
V2_GRID: tuple[float, ...] = tuple(np.arange(50.0, 1001.0, 50.0).tolist())
V3_GRID: tuple[float, ...] = tuple(np.arange(10.0, 101.0, 10.0).tolist())


@dataclass(frozen=True)
class SearchResult:
    """Outcome of :func:`search_hypers`: the table, the three parameters, and the share of cells with weight > 0.5."""

    table: LambdaTable
    v1: float
    v2: float
    v3: float
    score: float
    rule: str


def search_hypers(
    schedule: SigmaSchedule,
    *,
    num_frames: int | None = None,
    distances: Sequence[float] | Array | torch.Tensor | None = None,
    rule: RuleName = "released",
    v1: Sequence[float] = V1_GRID,
    v2: Sequence[float] = V2_GRID,
    v3: Sequence[float] = V3_GRID,
) -> SearchResult:
    """Find (v1, v2, v3) with the most cells of weight > 0.5, and the table they make.

    A triple is scored by counting: for one frame the weight exceeds 0.5 at the sigmas above a bound, so a binary
    search in the sigmas replaces the evaluation of all cells. Of equal triples the first in the nesting order
    v1, v2, v3 wins; a triple that leaves a cell without an answer (``released`` only) is dropped.

    Args:
        schedule: N steps.
        num_frames: F >= 2; distances then grow evenly with the frame number, as in the published single-view table.
        distances: ``[F]`` >= 0 instead, from ``geometry.frame_distances``; divided by their largest. A frame at
            distance 0 is an input view: its weight is 1.
        rule: ``released`` (the published script) or ``exact`` (the closed form).
        v1: grid of the regulariser's weight, positive.
        v2: grid of the model's error at the largest sigma, positive.
        v3: grid of the warp's error at the largest distance, positive.

    Raises:
        InputError: for distances or grids that cannot be used, or when every triple of the grids is dropped.
        ConfigError: for an unknown rule.
    """
    if rule not in RULES:
        raise ConfigError(f"rule {rule!r} is not known; use one of {', '.join(get_args(RuleName))}")
    share = _normalised_distances(num_frames, distances)
    grids = _grid(v1, "v1"), _grid(v2, "v2"), _grid(v3, "v3")
    levels = schedule.levels.numpy()
    normalised = levels / levels[0]
    moving = share > 0

    counts = _count_cells(np.sort(normalised), share[moving], grids, RULES[rule])
    best = np.unravel_index(int(counts.argmax()), counts.shape)
    if counts[best] < 0:
        raise InputError(
            f"no (v1, v2, v3) of the grids gives every cell of a table of {len(levels)} sigmas x {len(share)} frames "
            f"an answer under rule {rule!r}; use rule 'exact', which always has one, or pass smaller v1 values"
        )
    best_v1, best_v2, best_v3 = (float(grid[i]) for grid, i in zip(grids, best, strict=True))
    lambda_ = RULES[rule].lambda_of((best_v3 * share[None, :] - best_v2 * normalised[:, None]) / best_v1)
    weights = np.where(moving[None, :], lambda_ / (1 + lambda_), 1.0)
    table = LambdaTable(
        torch.from_numpy(weights),
        schedule.levels,
        source=f"search_hypers {rule} v1={best_v1:g} v2={best_v2:g} v3={best_v3:g}",
    )
    cells = len(levels) * int(moving.sum())
    return SearchResult(table, best_v1, best_v2, best_v3, float(counts[best] / cells) if cells else 1.0, rule)


def _count_cells(ascending: Array, share: Array, grids: tuple[Array, Array, Array], rule: Rule) -> NDArray[np.int64]:
    """Cells of weight > 0.5 for every triple, ``[len(v1), len(v2), len(v3)]``; -1 where a cell has no answer.

    ``q <= bound`` means ``sigma_n >= (v3 dp - bound v1) / v2``.
    """
    v1, v2, v3 = grids
    scaled = v3[:, None] * share  # [V3, F]

    def above(bound: float, side: Literal["left", "right"]) -> NDArray[np.int64]:
        limits = (scaled - bound * v1[:, None, None, None]) / v2[:, None, None]  # [V1, V2, V3, F]
        return (len(ascending) - np.searchsorted(ascending, limits, side=side)).sum(axis=-1)

    counts = above(rule.favours_target, "left")
    unanswered = above(rule.favours_model, "right") - counts
    return np.where(unanswered > 0, -1, counts)


def _normalised_distances(num_frames: int | None, distances: Sequence[float] | Array | torch.Tensor | None) -> Array:
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


def _grid(values: Sequence[float], name: str) -> Array:
    grid = np.asarray(values, dtype=np.float64)
    if grid.ndim != 1 or len(grid) == 0 or not np.isfinite(grid).all() or (grid <= 0).any():
        raise InputError(f"the grid of {name} is {list(values)}; give at least one finite value above 0")
    return grid
