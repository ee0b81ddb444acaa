"""The lambda table: how strongly the target pulls, for each noise level and each frame."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvguide.decoding import decoding, is_file
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import FileError, InputError

_SEARCHED = re.compile(r"search_hypers (?P<rule>exact|released)(?: (?P<objective>calibrated|score))? (?P<hypers>v1=.*)")
_RULES = {"exact": "the exact rule", "released": "the rule of the published script"}
_OBJECTIVES = {
    "": "",
    "calibrated": ", as near as it comes to the errors measured on this input",
    "score": ", with the parameters that scored best on other scenes",
}


def lambda_to_weight(lambda_: Tensor) -> Tensor:
    """``w = lambda / (1 + lambda)``: from [0, inf] to [0, 1]."""
    return torch.where(torch.isinf(lambda_), torch.ones_like(lambda_), lambda_ / (1 + lambda_))


def weight_to_lambda(weight: Tensor) -> Tensor:
    """``lambda = w / (1 - w)``: from [0, 1] to [0, inf]."""
    return weight / (1 - weight)


def check_weight(weight: float) -> None:
    """Raise InputError for a weight outside [0, 1]."""
    if not 0 <= weight <= 1:
        raise InputError(f"weight is {weight:g}; a weight is between 0 (model alone) and 1 (target alone)")


@dataclass(frozen=True, repr=False)
class LambdaTable:
    """Weights ``w = lambda/(1+lambda)`` for N noise levels x F frames, with the levels they belong to.

    Args:
        weights: ``[N, F]`` in [0, 1]; 1 = the target replaces the estimate, 0 = the model is left alone.
        sigmas: ``[N]`` strictly decreasing, > 0: the noise level of each row.
        source: how the table was made, for reports.

    Raises:
        InputError: for shapes or values that are not a table.
    """

    weights: Tensor
    sigmas: Tensor
    source: str = ""

    def __post_init__(self) -> None:
        """Check shapes and ranges once."""
        weights = torch.as_tensor(self.weights).detach().to("cpu", torch.float64)
        sigmas = torch.as_tensor(self.sigmas).detach().to("cpu", torch.float64)
        if weights.ndim != 2 or 0 in weights.shape:
            raise InputError(f"lambda table has shape {tuple(weights.shape)}; it needs noise levels x frames")
        if sigmas.shape != weights.shape[:1]:
            raise InputError(
                f"lambda table has {weights.shape[0]} rows but {tuple(sigmas.shape)} sigmas; give one for each row"
            )
        if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()) or bool((weights > 1).any()):
            raise InputError("lambda table has weights outside [0, 1]; store w = lambda/(1+lambda), not lambda")
        if not bool(torch.isfinite(sigmas).all()) or bool((sigmas <= 0).any()) or bool((sigmas.diff() >= 0).any()):
            raise InputError("the sigmas of a lambda table must be positive and strictly decreasing")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "sigmas", sigmas)

    def __repr__(self) -> str:
        """One line: size, range of sigma, and how it was made."""
        rows, columns = self.weights.shape
        levels = f"sigma {self.sigmas[0]:.3g} to {self.sigmas[-1]:.3g}"
        return f"LambdaTable({rows} levels x {columns} frames, {levels}, {self.source or 'no source'})"

    def _repr_png_(self) -> bytes:
        """A plot of the weights, for notebooks."""
        from mvguide.drawing.notebook import plot_png
        from mvguide.drawing.table_plot import plot_table

        return plot_png(lambda path: plot_table(self, path))

    @property
    def made_by(self) -> str:
        """How the table was made, in words, for people."""
        if self.source.startswith("constant "):
            return f"the same weight, {self.source.split()[1]}, in every cell; 1 in the first frame, which is given"
        if self.source.startswith("calibrated"):
            return "computed from the errors of model and warp, measured on this input"
        searched = _SEARCHED.fullmatch(self.source)
        if searched is None:
            return self.source or "of unknown origin"
        how = _RULES[searched["rule"]] + _OBJECTIVES[searched["objective"] or ""]
        return f"found by search_hypers: {how}; {searched['hypers'].replace('=', ' = ').replace(' v', ', v')}"

    @classmethod
    def constant(cls, weight: float, schedule: SigmaSchedule, num_frames: int) -> "LambdaTable":
        """One weight everywhere, and 1 for the first frame, which is the input view itself."""
        check_weight(weight)
        weights = torch.full((len(schedule), num_frames), float(weight), dtype=torch.float64)
        weights[:, 0] = 1
        return cls(weights, schedule.levels, source=f"constant {weight:g}")

    @property
    def num_frames(self) -> int:
        """Number of columns F."""
        return self.weights.shape[1]

    def row(self, sigma: Tensor) -> Tensor:
        """Weights ``[F]`` at a noise level: the row whose sigma is nearest on a log scale.

        Looked up by value rather than by counting steps, so that every evaluation of a two-evaluation solver finds
        the row of its own level. Sigma 0 gives the last row.
        """
        level = torch.as_tensor(sigma, dtype=torch.float64).clamp(min=1e-30).log()
        return self.weights[int((self.sigmas.log() - level).abs().argmin())]

    def check(self, schedule: SigmaSchedule, num_frames: int) -> None:
        """Raise InputError unless the table was made for this schedule and this number of frames."""
        rows, columns = self.weights.shape
        if rows != len(schedule) or columns != num_frames:
            raise InputError(
                f"lambda table has {rows} rows x {columns} columns, but the schedule has {len(schedule)} steps and "
                f"the video {num_frames} frames; run search_hypers with num_frames={num_frames}"
            )
        if not torch.allclose(self.sigmas, schedule.levels, rtol=1e-4, atol=0):
            raise InputError(
                f"lambda table was made for sigmas {self.sigmas[0]:g} to {self.sigmas[-1]:g}, but the schedule goes "
                f"from {schedule.levels[0]:g} to {schedule.levels[-1]:g}; run search_hypers with this schedule"
            )

    def save(self, path: str | Path) -> None:
        """Write ``weights``, ``sigmas`` and ``source`` to a ``.npz`` file."""
        with Path(path).open("wb") as stream:
            np.savez(stream, weights=self.weights.numpy(), sigmas=self.sigmas.numpy(), source=np.array(self.source))

    @classmethod
    def load(cls, path: str | Path) -> "LambdaTable":
        """Read a table written by :meth:`save`. Raises FileError for anything else; pickles are never opened."""
        path = Path(path)
        if not is_file(path):
            raise FileError(f"no lambda table at {path}; make one with: mvguide search-hypers --out {path}")
        advice = "it needs the arrays 'weights' and 'sigmas' in a .npz file, as LambdaTable.save writes them"
        with decoding(path, "lambda table", advice), np.load(path, allow_pickle=False) as stored:
            weights, sigmas = np.asarray(stored["weights"]), np.asarray(stored["sigmas"])
            source = str(stored["source"]) if "source" in stored else ""
        if weights.dtype.kind not in "fiu" or sigmas.dtype.kind not in "fiu":
            raise FileError(
                f"lambda table {path} holds {weights.dtype} weights and {sigmas.dtype} sigmas; both must be numbers"
            )
        return cls(torch.from_numpy(weights.astype(np.float64)), torch.from_numpy(sigmas.astype(np.float64)), source)
