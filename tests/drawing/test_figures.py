"""Figures are drawn quietly, and leave matplotlib as they found it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLOT = """
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.drawing.table_plot import plot_table
from mvguide.tables.table import LambdaTable

plot_table(LambdaTable.constant(0.3, SigmaSchedule(karras_sigmas(2)), 3), "table.png")
"""


def run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "MPLBACKEND")}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder, env={**kept, **variables}
    )


def test_a_home_that_cannot_be_written_is_not_talked_of(tmp_path: Path) -> None:
    nowhere = "/dev/null/home"
    done = run(PLOT, tmp_path, HOME=nowhere, XDG_CONFIG_HOME=nowhere, XDG_CACHE_HOME=nowhere)
    assert done.stdout + done.stderr == ""
    assert (tmp_path / "table.png").stat().st_size > 5000


@pytest.mark.parametrize("backend", ["pdf", "svg"])
def test_the_backend_and_the_log_of_the_caller_stay(tmp_path: Path, backend: str) -> None:
    before = f"import logging, matplotlib\nmatplotlib.use({backend!r})\n"
    after = "print(matplotlib.get_backend(), logging.getLogger('matplotlib').level)"
    assert run(before + PLOT + after, tmp_path).stdout.split() == [backend, "0"]
