"""Curves of a training as an image."""

import csv
from pathlib import Path


def plot_losses(logs: list[Path], out: Path) -> None:
    """A panel for each log: every column after the step, the seconds and the gradient, on a log scale.

    Args:
        logs: CSV files of a run; one that is not there is left out.
        out: PNG.
    """
    from matplotlib.figure import Figure

    found = [log for log in logs if log.exists()]
    figure = Figure(figsize=(8 * len(found), 5), layout="constrained")
    for axes, log in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        with log.open() as stream:
            rows = list(csv.DictReader(stream))
        columns = [name for name in (rows[0] if rows else ()) if name not in ("step", "seconds", "gradient")]
        for column in columns:
            points = [(int(row["step"]), float(row[column])) for row in rows if row[column] not in ("", "nan")]
            if points:
                axes.plot(*zip(*points, strict=True), label=column.replace("_", " "), linewidth=1)
        axes.set_title(log.stem.replace("_", " "))
        axes.set_xlabel("step")
        axes.set_yscale("log")
        axes.legend(fontsize=7)
    figure.savefig(out, dpi=110)
