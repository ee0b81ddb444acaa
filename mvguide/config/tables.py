"""Settings of the commands that make tables of numbers: ``mvguide search-hypers`` and ``mvguide sigmas``."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class SearchConfig:
    """Find a lambda table without rendering.

    Args:
        sigmas: sigma schedule by name (sigmas_25, sigmas_50, sigmas_100) or .npy file.
        num_frames: frames of the table, evenly spaced; 25 if distances are not given either.
        distances: camera distance of each frame instead, 0 for input views: a list.
        rule: released (the published script, to the last digit) or exact (the closed form).
        v1: grid of the regulariser's weight; the published grid if unset.
        v2: grid of the model's error.
        v3: grid of the warp's error.
        out: .npz file to write.
        plot: .png file to draw the table into.
        quiet: print nothing but errors.
    """

    sigmas: str = "sigmas_25"
    num_frames: int | None = None
    distances: list[float] | None = None
    rule: Literal["released", "exact"] = "released"
    v1: list[float] | None = None
    v2: list[float] | None = None
    v3: list[float] | None = None
    out: str = "lambda_table.npz"
    plot: str | None = None
    quiet: bool = False


@dataclass
class SigmasMakeConfig:
    """Make a Karras sigma schedule.

    Args:
        steps: number of steps N; the file has N + 1 values, the last 0.
        sigma_min: smallest level above 0.
        sigma_max: largest level.
        rho: how strongly the levels crowd at the clean end.
        out: .npy file to write.
    """

    steps: int = 25
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    out: str = "sigmas.npy"


@dataclass
class SigmasShowConfig:
    """Check a sigma schedule and print it.

    Args:
        sigmas: name (sigmas_25, sigmas_50, sigmas_100) or .npy file.
    """

    sigmas: str
