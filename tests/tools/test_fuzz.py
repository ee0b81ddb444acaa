"""2 000 damaged files for all readers (`make fuzz` has 20 000), and whether the fuzzer sees a bad reader."""

import gc
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mvguide.errors import FileError
from tools import fuzz
from tools.fuzzing.readers import Reader


def test_damaged_files_of_all_kinds_break_no_reader() -> None:
    command = [sys.executable, "-m", "tools.fuzz", "--cases", "2000", "--seed", "1"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(fuzz.__file__).parents[1])
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert "2000 cases, seed 1: 0 failed" in run.stdout


def no_memory(path: Path) -> None:
    try:
        raise MemoryError
    except MemoryError as error:
        raise FileError("camera file x cannot be read; give another") from error


def two_lines(path: Path) -> None:
    raise FileError("camera file x cannot be read\ngive another")


def slow(path: Path) -> list[int]:
    time.sleep(2.2)
    return [1]


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda path: dict[str, int]()["x"], "KeyError: 'x'"),
        (lambda path: [path.read_bytes()] * 2, "AssertionError: of one"),
        (lambda path: time.sleep(20), "did not come back in 4 s"),
        (slow, r"took [23]\.\d s"),
        (lambda path: [np.ones(2**24)], r"took \d+ MiB"),
        (lambda path: sys.exit(2), "SystemExit: 2"),
        (no_memory, "ran out of memory"),
        (two_lines, "not one sentence"),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_bad_reader_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], words: str
) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.txt").write_text("good")
    (tmp_path / "run" / "x").mkdir(parents=True)

    def of_one(found: list) -> None:
        assert len(found) == 1, "of one"

    reader = Reader(read, tmp_path / "samples", ["a.txt"], lambda path: path, of_one, 1, 2, 2**25)
    monkeypatch.setattr(fuzz, "make_readers", lambda folder: {"bad": reader})
    monkeypatch.setattr(fuzz, "_check_samples", lambda readers: [b"x"])
    monkeypatch.setattr(fuzz, "_limit_memory", lambda: None)
    gc.collect()  # what earlier tests left would be given back in the middle of the measurement
    failures = fuzz.run(range(1), 0, tmp_path / "run")
    assert len(failures) == 1
    assert re.search(words, failures[0])
