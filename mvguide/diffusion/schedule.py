"""Sigma schedules: N noise levels and a final 0."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvguide.decoding import decoding, is_file, packaged_folder
from mvguide.diffusion.path import NoisePath, VarianceExploding
from mvguide.errors import FileError, InputError


@dataclass(frozen=True, repr=False)
class SigmaSchedule:
    """Noise levels of a sampling run: ``len(schedule)`` steps lead from ``sigmas[0]`` to ``sigmas[-1] == 0``.

    Args:
        sigmas: ``[N + 1]`` finite, strictly decreasing, last 0, N >= 1; kept as float64 on the CPU.
        name: where it came from, for messages and reports.

    Raises:
        InputError: for anything else.
    """

    sigmas: Tensor
    name: str = "sigmas"

    def __post_init__(self) -> None:
        """Check once, here, what every user of a schedule relies on."""
        sigmas = torch.as_tensor(self.sigmas).detach().to("cpu", torch.float64)
        if sigmas.ndim != 1:
            raise InputError(f"{self.name} has shape {tuple(sigmas.shape)}; a schedule is one row of noise levels")
        if len(sigmas) < 2:
            raise InputError(f"{self.name} has {len(sigmas)} value(s); a schedule needs at least one level and a 0")
        if not bool(torch.isfinite(sigmas).all()):
            raise InputError(f"{self.name} contains NaN or infinite values; noise levels are finite numbers")
        step = int((sigmas.diff() >= 0).long().argmax())
        if bool((sigmas.diff() >= 0).any()):
            raise InputError(
                f"{self.name} must decrease strictly, but value {step + 1} ({sigmas[step + 1]:g}) follows "
                f"{sigmas[step]:g}; sort it from noisy to clean and drop repeated values"
            )
        if sigmas[-1] != 0:
            raise InputError(f"{self.name} ends with {sigmas[-1]:g}; the last noise level must be 0")
        object.__setattr__(self, "sigmas", sigmas)

    def __len__(self) -> int:
        """Number of steps N: one less than the number of values."""
        return len(self.sigmas) - 1

    def __repr__(self) -> str:
        """One line: name, number of steps, and range of sigma."""
        count = "1 step" if len(self) == 1 else f"{len(self)} steps"
        return f"SigmaSchedule({self.name}, {count}, sigma {self.sigmas[0]:.3g} to {self.sigmas[-2]:.3g}, then 0)"

    def _repr_png_(self) -> bytes:
        """A plot of the noise levels, for notebooks."""
        from mvguide.drawing.notebook import plot_png
        from mvguide.drawing.table_plot import plot_sigmas

        return plot_png(lambda path: plot_sigmas(self.sigmas, path, self.name))

    @cached_property
    def levels(self) -> Tensor:
        """The N levels at which the network is called (without the final 0)."""
        return self.sigmas[:-1]


def check_levels(schedule: SigmaSchedule, path: NoisePath) -> None:
    """Raise InputError for a schedule above the last level of its noise path, which only VE paths do not have."""
    first, most = float(schedule.sigmas[0]), float(path.sigma(torch.tensor(path.t_max, dtype=torch.float64)))
    if first > most * (1 + 1e-6) and not isinstance(path, VarianceExploding):
        raise InputError(
            f"{schedule.name} starts at sigma {first:g}, but the noise of this model ends at {most:g}; "
            "leave sigmas out for the model's own schedule"
        )


def karras_sigmas(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 700.0, rho: float = 7.0) -> Tensor:
    """Levels of Karras et al. 2022 (arXiv 2206.00364, eq. 5) and a final 0.

    ``sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``, float64 ``[N + 1]``.
    Raises InputError unless ``num_steps >= 1``, ``0 < sigma_min < sigma_max`` and ``rho > 0``.
    """
    if num_steps < 1:
        raise InputError(f"num_steps is {num_steps}; a schedule needs at least 1 step")
    if not (0 < sigma_min < sigma_max < float("inf")) or not 0 < rho < float("inf"):
        raise InputError(
            f"sigma_min {sigma_min:g}, sigma_max {sigma_max:g}, rho {rho:g} cannot make a schedule; "
            "it needs 0 < sigma_min < sigma_max and rho > 0"
        )
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


def flow_sigmas(num_steps: int, shift: float = 1.0) -> Tensor:
    """Levels of a flow-matching model: ``s u / (1 + (s - 1) u)`` for u evenly from 1 to 1/N, and a final 0.

    The shift s moves levels towards noise (Esser et al. 2024, arXiv 2403.03206, eq. 23). float64 ``[N + 1]``, first 1.
    """
    if num_steps < 1 or not 0 < shift < float("inf"):
        raise InputError(f"num_steps {num_steps} and shift {shift:g} cannot make a schedule; both must be above 0")
    u = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return shift * u / (1 + (shift - 1) * u)


def packaged_schedules() -> dict[str, Path]:
    """Names and files of the schedules that come with mvguide."""
    return {path.stem: path for path in sorted(packaged_folder("sigmas").glob("*.npy"))}


def load_sigmas(name_or_path: str | Path) -> SigmaSchedule:
    """Read a schedule by its packaged name (``sigmas_25``, ``_50``, ``_100``) or from a ``.npy`` file.

    A file of N levels without the final 0 gets it. Raises FileError when there is no such file or it is not a numpy
    array of numbers (pickles are never opened), and InputError when its values are not a schedule.
    """
    packaged = packaged_schedules()
    path = Path(name_or_path)
    if str(name_or_path) in packaged:
        path = packaged[str(name_or_path)]
    elif not is_file(path):
        raise FileError(
            f"no sigma schedule {str(name_or_path)!r}: it is neither a file nor one of {', '.join(packaged)}; "
            "make one with: mvguide sigmas make --steps 30 --out sigmas.npy"
        )
    with decoding(path, "sigma schedule", "save it as a plain array with numpy.save"), path.open("rb") as stream:
        values = np.lib.format.read_array(stream, allow_pickle=False)
    if values.dtype.kind not in "fiu":
        raise FileError(f"sigma schedule {path} holds values of type {values.dtype}; a schedule is an array of numbers")
    values = values.astype(np.float64)
    if values.ndim == 1 and len(values) >= 1 and values[-1] > 0:
        values = np.append(values, 0.0)
    return SigmaSchedule(torch.from_numpy(values), name=str(name_or_path))


def save_sigmas(path: str | Path, schedule: SigmaSchedule) -> None:
    """Write the N + 1 values as a float32 ``.npy`` file, as the published schedules are stored."""
    values = schedule.sigmas.numpy().astype(np.float32)
    with Path(path).open("wb") as stream:
        np.lib.format.write_array(stream, values, allow_pickle=False)
