"""Tables and pictures of the bench."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from mvguide.files.atomic import atomic_path
from tools.quality.scenes import METRICS, REGIONS

Row = dict[str, str | int | float]
KEY = ("seed", "method")
COLUMNS = [f"{metric} {region}" for metric in METRICS for region in REGIONS]


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier table; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [
            {"seed": int(row["seed"]), "method": row["method"], **{name: float(row[name]) for name in COLUMNS}}
            for row in csv.DictReader(stream)
        ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """All rows as CSV, one for each scene and method."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*KEY, *COLUMNS])
        writer.writeheader()
        writer.writerows(rows)


def mean_and_error(values: list[float]) -> str:
    """``mean ± standard error`` over scenes, those without the region left out."""
    kept = torch.tensor([value for value in values if math.isfinite(value)], dtype=torch.float64)
    if len(kept) < 2:
        return "-" if len(kept) == 0 else f"{kept[0]:.2f}"
    return f"{kept.mean():.2f} ± {kept.std() / math.sqrt(len(kept)):.2f}"


def markdown(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """The table of the page: a row for each method. Sharpness of parts of a picture is left to the CSV."""
    columns = [column for column in COLUMNS if not column.startswith("sharpness") or column.endswith("whole")]
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        cells = [mean_and_error([float(row[column]) for row in mine]) for column in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
