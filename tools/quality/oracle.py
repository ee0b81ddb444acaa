"""The oracle table: weights that only the truth can tell, the yardstick for every table.

At each step and frame of a guided trajectory, with the model's estimate D, the target X and the truth z, the weight of
``D + w (X - D)`` that minimises the squared error over the guided cells is

    w* = (a - c) / (a + b - 2c),   a = E|D - z|^2,  b = E|X - z|^2,  c = E (D - z)(X - z),

clamped to [0, 1] (docs/design.md, section 4). It is the best for each step by itself, not for the whole run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import Guided, Step
from mvguide.files.atomic import atomic_path
from mvguide.guidance.guides import Targets
from mvguide.tables.table import LambdaTable


def oracle_weight(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """``w* = (a - c)/(a + b - 2c)`` clamped to [0, 1], of any shape; NaN where D equals X and every weight is best.

    Args:
        a: mean square of D - z.
        b: mean square of X - z.
        c: mean of (D - z)(X - z).
    """
    weight = (a - c) / (a + b - 2 * c)
    return torch.where(torch.isfinite(weight), weight.clamp(0, 1), torch.nan)


@dataclass(frozen=True)
class ErrorMoments:
    """Second moments of the two errors over the guided cells, float64: NaN in frames without such cells.

    Args:
        sigmas: ``[N]`` decreasing.
        a, b, c: ``[N, F]``, see :func:`oracle_weight`.
        cells: ``[F]`` number of guided cells.
    """

    sigmas: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    cells: Tensor

    @property
    def weights(self) -> Tensor:
        """``[N, F]``: the oracle's weights of this scene; NaN where no weight matters."""
        return oracle_weight(self.a, self.b, self.c)

    def save(self, path: Path) -> None:
        """Write the arrays to a ``.npz`` file."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **{name: getattr(self, name).numpy() for name in ("sigmas", "a", "b", "c", "cells")})

    @classmethod
    def load(cls, path: Path) -> "ErrorMoments":
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(*[torch.from_numpy(stored[name]) for name in ("sigmas", "a", "b", "c", "cells")])


def pooled_table(scenes: Sequence[ErrorMoments], source: str) -> LambdaTable:
    """One table for several scenes: the weights with the least summed error over the guided cells of all of them.

    ``w = sum n (a - c) / sum n (a + b - 2c)`` with n the cells of a scene's frame; 1 where no scene has any.
    """
    total = {}
    for name in ("a", "b", "c"):
        parts = [torch.nan_to_num(getattr(scene, name)) * scene.cells for scene in scenes]
        total[name] = torch.stack(parts).sum(0)
    weights = oracle_weight(total["a"], total["b"], total["c"])
    return LambdaTable(torch.nan_to_num(weights, nan=1.0), scenes[0].sigmas, source)


@dataclass(frozen=True)
class OracleBlend:
    """:class:`mvguide.guidance.guides.Blend` with w* in place of a table's weight; keeps the moments of what it saw.

    A cell counts as guided when its mask is above 0 and its frame is not pinned.

    Args:
        truth: ``[F, C, h, w]``, the encoded true video.
    """

    truth: Tensor
    seen: dict[float, tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, denoiser: Denoiser, x: Tensor, step: Step, targets: Targets, table: LambdaTable) -> Guided:
        """Blended estimate, x ``[B, F, C, h, w]``."""
        denoised = denoiser(x, step.sigma)
        target = targets.latents.expand_as(denoised)
        guided = (targets.visible > 0) & ~targets.pinned.view(-1, 1, 1, 1)  # [F, 1, h, w]
        # Where a soft mask lets only a part of the target through, w scales that part.
        whole = torch.lerp(denoised, target, targets.visible)
        own, other = (denoised - self.truth).double(), (whole - self.truth).double()
        a, b, c = (_mean(errors, guided) for errors in (own * own, other * other, own * other))
        self.seen[float(step.sigma)] = (a, b, c, guided.sum(dim=(1, 2, 3)).double().cpu())
        weights = targets.weights(torch.nan_to_num(oracle_weight(a, b, c), nan=1.0))
        return Guided(x, torch.lerp(denoised, target, weights))

    def moments(self, schedule: SigmaSchedule) -> ErrorMoments:
        """What was seen at each level of the schedule; of a level seen twice, the last time.

        Raises KeyError for a level that the run has not come to.
        """
        rows = [self.seen[float(sigma)] for sigma in schedule.levels]
        a, b, c, cells = (torch.stack(column) for column in zip(*rows, strict=True))
        return ErrorMoments(schedule.levels, a, b, c, cells[0])


def _mean(values: Tensor, guided: Tensor) -> Tensor:
    """Mean over the guided cells of each frame, ``[F]`` on the CPU."""
    chosen = guided.expand_as(values)
    frames = torch.where(chosen, values, 0.0).sum(dim=(0, 2, 3, 4)) / chosen.sum(dim=(0, 2, 3, 4))
    return frames.cpu()


def describe(scenes: Sequence[ErrorMoments], rows: Iterable[int] | None = None) -> str:
    """Mean oracle weights as a Markdown table: a row for each noise level, a column for each frame but the given.

    The columns before tell the rms errors of model and warp, pooled over scenes and frames.
    """
    frames = [frame for frame in range(len(scenes[0].cells)) if any(scene.cells[frame] > 0 for scene in scenes)]
    lines = ["| sigma | model's rms error | warp's | " + " | ".join(f"frame {frame}" for frame in frames) + " | mean |"]
    lines.append("|---" * (len(frames) + 4) + "|")
    weights = torch.stack([scene.weights for scene in scenes])
    total = torch.stack([scene.cells for scene in scenes]).sum()
    for row in range(len(scenes[0].sigmas)) if rows is None else rows:
        errors = [
            torch.sqrt(sum((torch.nan_to_num(moment[row]) * scene.cells).sum() for scene, moment in pairs) / total)
            for pairs in ([(s, s.a) for s in scenes], [(s, s.b) for s in scenes])
        ]
        cells = [f"{float(scenes[0].sigmas[row]):.3g}", *(f"{float(error):.3f}" for error in errors)]
        cells += [f"{float(weights[:, row, frame].nanmean()):.2f}" for frame in frames]
        lines.append("| " + " | ".join([*cells, f"{float(weights[:, row][:, frames].nanmean()):.2f}"]) + " |")
    return "\n".join(lines) + "\n"
