"""Tables of the bench."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mvguide.files.atomic import atomic_path
from tools.quality.conditions import CONDITIONS
from tools.quality.scenes import METRICS, REGIONS

Row = dict[str, str | int | float]
KEY = ("condition", "seed", "method")
COLUMNS = [f"{metric} {region}" for metric in METRICS for region in REGIONS]
SECONDS = "seconds"


def key_of(row: Row) -> tuple[str, int, str]:
    """What a row is of."""
    return str(row["condition"]), int(row["seed"]), str(row["method"])


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier table; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [
            {
                "condition": row["condition"],
                "seed": int(row["seed"]),
                "method": row["method"],
                **{name: float(row[name]) for name in (SECONDS, *COLUMNS)},
            }
            for row in csv.DictReader(stream)
        ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """All rows as CSV, one for each condition, scene and method."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*KEY, SECONDS, *COLUMNS])
        writer.writeheader()
        writer.writerows(rows)


def mean_and_error(values: Sequence[float], sign: str = "") -> str:
    """``mean ± standard error`` over scenes, those without the region left out; ``sign`` as in format strings."""
    kept = torch.tensor([value for value in values if math.isfinite(value)], dtype=torch.float64)
    if len(kept) < 2:
        return "-" if len(kept) == 0 else f"{kept[0]:{sign}.2f}"
    return f"{kept.mean():{sign}.2f} ± {kept.std() / math.sqrt(len(kept)):.2f}"


def of_method(rows: Sequence[Row], condition: str, method: str) -> dict[int, Row]:
    """Rows of a method under a condition, by seed."""
    return {int(row["seed"]): row for row in rows if (row["condition"], row["method"]) == (condition, method)}


def differences(mine: Mapping[int, Row], others: Mapping[int, Row], column: str) -> list[float]:
    """Mine minus others', scene by scene, where both have one."""
    return [float(mine[seed][column]) - float(others[seed][column]) for seed in mine if seed in others]


def _lines(title: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (title, ["---"] * len(title), *rows)]


def overview(rows: Sequence[Row], conditions: Sequence[str], methods: Sequence[str], baseline: str, column: str) -> str:
    """Differences to the baseline, paired by scene: a row for each method, a column for each condition.

    Behind each in brackets, from how many scenes; the baseline's own row has its means.
    """
    lines = []
    for method in methods:
        cells = []
        for condition in conditions:
            mine, base = of_method(rows, condition, method), of_method(rows, condition, baseline)
            own = method == baseline
            values = [float(row[column]) for row in mine.values()] if own else differences(mine, base, column)
            kept = [value for value in values if math.isfinite(value)]
            cells.append(f"{mean_and_error(kept, '' if own else '+')} ({len(kept)})" if kept else "-")
        lines.append([f"**{method}**" if method == baseline else method, *cells])
    title = f"### {column}, minus '{baseline}' (the row in bold has its own means)"
    return "\n".join([title, "", *_lines(["method", *conditions], lines), ""])


def markdown(rows: Sequence[Row], condition: str, methods: Sequence[str], baseline: str) -> str:
    """A condition's two tables: means over scenes, and differences to the baseline, paired by scene.

    Sharpness of parts of an image is left to the CSV.
    """
    columns = [column for column in COLUMNS if not column.startswith("sharpness") or column.endswith("whole")]
    found = {method: of_method(rows, condition, method) for method in methods}
    found = {method: mine for method, mine in found.items() if mine}
    counts = sorted({len(mine) for mine in found.values()})
    scenes = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    means = []
    for method, mine in found.items():
        scores = [mean_and_error([float(row[column]) for row in mine.values()]) for column in columns]
        means.append(
            [method, *scores, str(len(mine)), f"{sum(float(row[SECONDS]) for row in mine.values()) / len(mine):.1f}"]
        )
    lines = [f"### {condition}: {CONDITIONS[condition].about} ({scenes} scenes)", ""]
    lines += [*_lines(["method", *columns, "scenes", "s a scene"], means), ""]
    if baseline not in found:
        return "\n".join([*lines, f"No rows of the baseline {baseline!r}, so no differences.", ""])
    paired = [column for column in columns if not column.startswith("sharpness")]
    change = [
        [method, *(mean_and_error(differences(mine, found[baseline], column), "+") for column in paired)]
        for method, mine in found.items()
        if method != baseline
    ]
    lines += [f"Minus {baseline!r}, scene by scene:", "", *_lines(["method", *paired], change), ""]
    return "\n".join(lines)
