"""Figures of matplotlib, drawn to files: no window, and nothing of the caller's matplotlib or logging changed."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches; ``savefig`` to a PNG draws it with Agg, whatever backend is chosen.

    matplotlib is imported here, because it takes a second. Its warning about a home folder that cannot be written is
    kept back: it needs one only to start faster, and uses a temporary folder instead.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        from matplotlib.figure import Figure
    finally:
        log.setLevel(level)
    return Figure(figsize=(width, height), layout="constrained")
