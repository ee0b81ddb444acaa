"""Images of the bench: a sheet for each condition, and who wins where."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mvguide.drawing.sheets import video_sheet
from mvguide.files.atomic import atomic_path
from mvguide.files.images import read_image, write_png
from tools.quality.report import Row, differences, of_method
from tools.quality.scenes import REGIONS

SHOWN = (1, 3, 5, 7)
"""Frames of the sheet."""
_LIMIT = 2.0
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


def gains(
    rows: Sequence[Row], conditions: Sequence[str], methods: Sequence[str], baseline: str, column: str
) -> tuple[Tensor, Tensor]:
    """Mean of method minus baseline, paired by scene, and its standard error: ``[methods, conditions]`` each.

    Scenes without the region are left out; NaN where none is left, and an infinite error where one is.
    """
    mean = torch.full((len(methods), len(conditions)), torch.nan, dtype=torch.float64)
    error = torch.full_like(mean, torch.inf)
    for across, condition in enumerate(conditions):
        base = of_method(rows, condition, baseline)
        for down, method in enumerate(methods):
            found = torch.tensor(differences(of_method(rows, condition, method), base, column), dtype=torch.float64)
            found = found[torch.isfinite(found)]
            if len(found):
                mean[down, across] = found.mean()
            if len(found) > 1:
                error[down, across] = found.std() / math.sqrt(len(found))
    return mean, error


def plot_gains(
    path: Path, rows: Sequence[Row], conditions: Sequence[str], methods: Sequence[str], baseline: str
) -> None:
    """Heat map of :func:`gains` in PSNR for each region, the value written in each cell.

    The baseline's own PSNR stands under each condition's name; what exceeds two standard errors is bold.
    """
    from matplotlib.figure import Figure  # here, because it takes a second to import

    shown = [name for name in methods if name != baseline]
    size = 3.2 + len(REGIONS) * (0.9 + 0.62 * len(conditions)), 2.1 + 0.26 * len(shown)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(REGIONS), squeeze=False, sharey=True)[0]
    for panel, region in zip(axes, REGIONS, strict=True):
        column = f"psnr {region}"
        mean, error = gains(rows, conditions, shown, baseline, column)
        for down, across in torch.isfinite(mean).nonzero().tolist():
            value = float(mean[down, across])
            weight = "bold" if abs(value) > 2 * error[down, across] else "normal"
            colour = "white" if abs(value) > 0.75 * _LIMIT else "black"
            panel.text(across, down, f"{value:+.2f}", ha="center", va="center", size=7, weight=weight, color=colour)
        own = [_mean([float(row[column]) for row in of_method(rows, name, baseline).values()]) for name in conditions]
        labels = [f"{name}\n{value:.1f} dB" for name, value in zip(conditions, own, strict=True)]
        image = panel.imshow(mean, cmap="RdBu", vmin=-_LIMIT, vmax=_LIMIT, aspect="auto")
        panel.set_xticks(range(len(conditions)), labels, rotation=60, ha="right", rotation_mode="anchor", size=7)
        panel.set_yticks(range(len(shown)), shown, size=8)
        panel.set_title(region, size=10)
    figure.colorbar(image, ax=axes, label="dB")
    title = f"PSNR minus that of '{baseline}' (below each condition), scene by scene; bold: beyond two standard errors"
    figure.suptitle(title, size=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if math.isfinite(value)]
    return sum(kept) / len(kept) if kept else math.nan
