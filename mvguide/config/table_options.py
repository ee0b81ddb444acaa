"""Settings of the commands that make tables of numbers: ``mvguide search-hypers`` and ``mvguide sigmas``."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class SearchConfig:
    """Find the parameters of a lambda table, and the table.

    Args:
        objective: coverage (most cells that trust the warp more; the published search), calibrated (as near as the
            exact rule comes to the weights of a measured input), or score (renders scenes with held-out pictures and
            compares; needs optuna).
        sigmas: sigma schedule by name (sigmas_25, sigmas_50, sigmas_100) or .npy file.
        num_frames: frames of the table, evenly spaced; 25 if distances are not given either.
        distances: camera distance of each frame instead, 0 for input views: a list.
        rule: released (the published script, to the last digit; default of coverage) or exact (the closed form).
        v1: coverage: grid of the regulariser's weight; the published grid if unset.
        v2: coverage: grid of the model's error.
        v3: coverage: grid of the warp's error.
        calibration: calibrated: the calibration.npz of a result folder that was rendered with guidance.table
            calibrated; its frames and distances are used.
        scenes: score: scene files or camera files with pictures to hold out, as mvguide evaluate takes them.
        trials: score: tables that are tried, those that are there already among them.
        study: score: file that keeps every trial; give it again to go on. Its plots are written beside it.
        model: score: model to search for.
        device: score: auto, cpu, cuda, cuda:1.
        dtype: score: auto, float32, float16, bfloat16.
        seed: score: of the noise and of the search.
        out: .npz file to write.
        plot: .png file to draw the table into.
        quiet: print nothing but errors.
    """

    objective: Literal["coverage", "calibrated", "score"] = "coverage"
    sigmas: str = "sigmas_25"
    num_frames: int | None = None
    distances: list[float] | None = None
    rule: Literal["released", "exact"] | None = None
    v1: list[float] | None = None
    v2: list[float] | None = None
    v3: list[float] | None = None
    calibration: str | None = None
    scenes: list[str] | None = None
    trials: int = 40
    study: str = "out/study/study.log"
    model: str = "tiny"
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    seed: int = 0
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

    sigmas: str = ""
