"""Pictures of the bench: a sheet for each condition, and who wins where."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mvguide.evaluation.pictures import video_sheet
from mvguide.files.atomic import atomic_path
from mvguide.files.images import read_image, write_png
from tools.quality.report import Row, differences, of_method
from tools.quality.scenes import REGIONS

SHOWN = (1, 3, 5, 7)
"""Frames of the sheet."""
_LIMIT = 3.0
"""Decibels at which the colours of the heat map end."""


def strip_file(folder: Path, condition: str, seed: int, name: str) -> Path:
    """Where the shown frames of a video are kept, side by side."""
    return folder / f"{condition}_{seed}" / (re.sub(r"[^a-z0-9.+]+", "_", name.lower()) + ".png")


def write_strip(path: Path, video: Tensor) -> None:
    """Keep the shown frames of a video ``[F, 3, H, W]``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, torch.cat([video[frame] for frame in SHOWN if frame < len(video)], dim=2))


def _read_strip(path: Path) -> Tensor:
    """The shown frames in their places of a video whose other frames are black."""
    strip = read_image(path)
    shown = torch.stack(strip.split(strip.shape[1], dim=2))
    video = torch.zeros(SHOWN[-1] + 1, *shown.shape[1:])
    video[list(SHOWN[: len(shown)])] = shown
    return video


def write_sheet(out: Path, folder: Path, condition: str, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Truth, warp and methods below each other, scenes side by side, of all strips that are there."""
    files = {
        seed: {name: strip_file(folder, condition, seed, name) for name in ("truth", "warp", *names)} for seed in seeds
    }
    kept = {seed: {name: path for name, path in found.items() if path.exists()} for seed, found in files.items()}
    parts = []
    for found in kept.values():
        if found:
            frames = read_image(found["truth"]).shape[2] // read_image(found["truth"]).shape[1]
            videos = {name: _read_strip(path) for name, path in found.items()}
            parts.append(video_sheet(videos, columns=SHOWN[:frames], tile=128))
    if parts:
        height = max(part.shape[1] for part in parts)
        padded = [torch.nn.functional.pad(part, (0, 0, 0, height - part.shape[1]), value=0.98) for part in parts]
        write_png(out, torch.cat(padded, dim=2))


def plot_gains(
    path: Path, rows: Sequence[Row], conditions: Sequence[str], methods: Sequence[str], baseline: str
) -> None:
    """Heat map: mean PSNR of each method minus the baseline's, paired by scene, for each condition and region.

    The baseline's own PSNR stands under each condition's name; two standard errors decide what is printed bold.
    """
    from matplotlib.figure import Figure  # here, because it takes a second to import

    shown = [name for name in methods if name != baseline]
    regions = ("whole", *(region for region in REGIONS if region != "whole"))
    figure = Figure(
        figsize=(3.2 + len(regions) * (0.9 + 0.62 * len(conditions)), 1.6 + 0.26 * len(shown)), layout="constrained"
    )
    axes = figure.subplots(1, len(regions), squeeze=False, sharey=True)[0]
    for panel, region in zip(axes, regions, strict=True):
        column = f"psnr {region}"
        values = torch.full((len(shown), len(conditions)), torch.nan)
        labels = []
        for across, condition in enumerate(conditions):
            base = of_method(rows, condition, baseline)
            labels.append(f"{condition}\n{_mean([float(row[column]) for row in base.values()]):.1f} dB")
            for down, method in enumerate(shown):
                change = [
                    value
                    for value in differences(of_method(rows, condition, method), base, column)
                    if math.isfinite(value)
                ]
                if not change:
                    continue
                mean, error = _mean(change), _error(change)
                values[down, across] = mean
                weight = "bold" if abs(mean) > 2 * error else "normal"
                colour = "white" if abs(mean) > 0.75 * _LIMIT else "black"
                panel.text(across, down, f"{mean:+.2f}", ha="center", va="center", size=7, weight=weight, color=colour)
        image = panel.imshow(values, cmap="RdBu", vmin=-_LIMIT, vmax=_LIMIT, aspect="auto")
        panel.set_xticks(range(len(conditions)), labels, rotation=60, ha="right", rotation_mode="anchor", size=7)
        panel.set_yticks(range(len(shown)), shown, size=8)
        panel.set_title(f"PSNR {region}", size=10)
    figure.colorbar(image, ax=axes, label=f"dB above '{baseline}'", shrink=0.8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if math.isfinite(value)]
    return sum(kept) / len(kept) if kept else math.nan


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean; infinite for a single value."""
    if len(values) < 2:
        return math.inf
    return float(torch.tensor(values, dtype=torch.float64).std()) / math.sqrt(len(values))
