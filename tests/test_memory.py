"""Memory is asked for before it is taken."""

import subprocess
import sys
from pathlib import Path

import pytest

from mvguide import memory
from mvguide.errors import InputError
from mvguide.memory import check_memory, free_memory, size_words


def test_more_than_is_free_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 3 * 2**30)
    with pytest.raises(InputError, match=r"^video a needs about 4\.8 GiB of memory, and 3\.0 GiB are free; cut it$"):
        check_memory(4.8 * 2**30, "video a", "cut it")
    check_memory(2.9 * 2**30, "video a", "cut it")
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    check_memory(1e30, "video a", "cut it")


def test_this_machine_says_what_is_free() -> None:
    free = free_memory()
    assert free is not None
    assert 2**24 < free < 2**50
    with pytest.raises(InputError, match=r"needs about 8882 PiB"):
        check_memory(1e19, "x", "y")


def test_words() -> None:
    assert [size_words(n) for n in (5e6, 350e6, 1.5 * 2**30, 120 * 2**30)] == ["5 MiB", "334 MiB", "1.5 GiB", "120 GiB"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_ulimit_counts() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from mvguide.memory import free_memory; print(free_memory())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**20 < int(run.stdout) < 2**30


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_containers_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    limit, taken, stat = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "cache 7\ntotal_inactive_file 1000000\n"),
        2: ("memory.max", "memory.current", "anon 7\ninactive_file 1000000\n"),
    }[version]
    group = tmp_path / ("memory" if version == 1 else "")
    group.mkdir(exist_ok=True)
    (group / limit).write_text("50000000\n")
    (group / taken).write_text("21000000\n")
    (group / "memory.stat").write_text(stat)
    assert memory._left_in(group) == 30_000_000
    (group / limit).write_text("max\n")
    assert memory._left_in(group) is None
