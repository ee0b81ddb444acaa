"""Settings of the commands that make tables of numbers: ``mvguide search-hypers`` and ``mvguide sigmas``."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass
class SearchConfig:
    """Find the parameters of a lambda table, and the table.

    Args:
        objective: aim of the search: coverage (most cells that trust the warp more; the published search), calibrated
            (as near as the exact rule comes to the weights of a measured input), or score (renders scenes with
            held-out images and compares; needs optuna).
        sigmas: sigma schedule by name (sigmas_25, sigmas_50, sigmas_100) or .npy file.
        num_frames: number of frames of the table, evenly spaced; 25 if distances are not given either.
        distances: camera distance of each frame, 0 for input views, instead of num_frames.
        rule: rule of the weights: released (the published script, to the last digit; default of coverage) or exact
            (the closed form).
        v1: grid of the regulariser's weight, for objective coverage; the published grid if unset.
        v2: grid of the model's error, for objective coverage; the published grid if unset.
        v3: grid of the warp's error, for objective coverage; the published grid if unset.
        calibration: calibration.npz of a result folder that was rendered with guidance.table calibrated, for objective
            calibrated; its frames and distances are used.
        scenes: scene files or camera files with images to hold out, as mvguide evaluate takes them, for objective
            score.
        trials: number of tables that objective score tries, those of an earlier study among them.
        study: file that keeps every trial of objective score; give it again to go on. Its plots are written beside it.
        model: model that objective score searches for: tiny, a folder in diffusers layout, or a hub id.
        device: device that the model runs on: auto, cpu, cuda, cuda:1.
        dtype: number type of the networks: auto, float32, float16, bfloat16.
        seed: random seed for the noise and for the search.
        out: .npz file for the table.
        plot: .png file for a plot of the table; none if unset.
        quiet: print nothing but errors.
    """

    heading: ClassVar[str] = "search"
    first: ClassVar[str] = "objective sigmas num_frames distances rule calibration scenes trials out plot"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide search-hypers --sigmas sigmas_25 --num_frames 25 --rule released --plot table.png",
        "mvguide search-hypers --objective calibrated --calibration out/render/calibration.npz",
    )

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
        sigma_min: smallest noise level above 0.
        sigma_max: largest noise level.
        rho: exponent of the spacing; the larger, the closer the levels are at the clean end.
        out: .npy file for the schedule.
    """

    heading: ClassVar[str] = "output"
    examples: ClassVar[tuple[str, ...]] = ("mvguide sigmas make --steps 30 --rho 7 --out sigmas.npy",)

    steps: int = 25
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    out: str = "sigmas.npy"


@dataclass
class SigmasShowConfig:
    """Check a sigma schedule and print it.

    Args:
        sigmas: name of a schedule (sigmas_25, sigmas_50, sigmas_100) or .npy file.
    """

    heading: ClassVar[str] = "output"
    examples: ClassVar[tuple[str, ...]] = ("mvguide sigmas show sigmas_25",)

    sigmas: str = ""
