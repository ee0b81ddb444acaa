"""Runs that are killed, stopped, or started twice: a result folder holds the older result or the new one, whole."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mvguide.errors import OutputError
from mvguide.files.atomic import atomic_path, claim_folder, output_folder

# Versions alternate between 9 and 4 frames, so that a mixture of two shows in numbers and in contents.
WRITER = """
import os, sys
from pathlib import Path
from mvguide.files import replacing
from mvguide.files.atomic import output_folder
target, mode = Path(sys.argv[1]), sys.argv[2]
if mode == "two renames":
    replacing._exchange = lambda one, other: False
if mode == "one by one":
    os.chdir(target)
if mode == "mounted":
    Path.is_mount = lambda path: path == target
print("ready", flush=True)
for version in range(int(sys.argv[3]), int(sys.argv[3]) + int(sys.argv[4])):
    with output_folder(target, stale=["frames/[0-9].png"]) as folder:
        (folder / "frames").mkdir()
        (folder / "deep" / "er").mkdir(parents=True)
        names = [f"frames/{k}.png" for k in range(9 if version % 2 else 4)]
        for name in [*names, "report.json", "deep/er/x.txt"]:
            (folder / name).write_text(str(version))
"""
MINE = {"notes.txt": "mine", "frames/notes.txt": "mine too", "calibration.npz": "measured", "render/video.mp4": "film"}


def write(target: Path, mode: str, first: int, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(target), mode, str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def version_of(target: Path) -> int:
    """The version of a result folder; fails where it is not one version, whole, with the user's own files."""
    found = {
        str(file.relative_to(target)): file.read_text()
        for file in target.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(target).parts)
    }
    for name, text in MINE.items():
        assert found.pop(name) == text
    versions = set(found.values())
    assert len(versions) == 1, f"a mixture: {found}"
    version = int(versions.pop())
    frames = {f"frames/{k}.png" for k in range(9 if version % 2 else 4)}
    assert set(found) == frames | {"report.json", "deep/er/x.txt"}
    return version


def strays(place: Path) -> list[str]:
    return [str(file) for file in place.rglob(".*")]


@pytest.mark.parametrize("mode", ["exchange", "two renames", "one by one", "mounted"])
def test_a_result_that_is_replaced_is_never_a_mixture(tmp_path: Path, mode: str) -> None:
    target = tmp_path / "place" / "out"
    target.mkdir(parents=True)
    for name, text in MINE.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text(text)
    assert write(target, "exchange", 0, 1).wait() == 0
    chance, seen = random.Random(1), {0}
    for kill in range(24):
        writer = write(target, mode, 1000 * kill + 1, 900)
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
        time.sleep(chance.uniform(0, 0.03))
        writer.kill()
        assert writer.wait() == -signal.SIGKILL, writer.stderr.read()
        if mode != "exchange":  # the next run mends what was cut between two steps
            with claim_folder(target):
                pass
        seen.add(version_of(target))
    assert len(seen) > 12, "most kills came after a replacement"
    last = write(target, mode, 50_001, 1)
    assert last.stderr is not None
    assert last.wait() == 0, last.stderr.read()
    assert version_of(target) == 50_001
    assert strays(tmp_path) == []


def test_the_folder_is_replaced_in_one_rename_here(tmp_path: Path) -> None:
    """A reader that opened the older folder keeps it whole; the new one is another folder."""
    target = tmp_path / "out"
    target.mkdir(mode=0o750)
    (target / "a.txt").write_text("old")
    before = target.stat().st_ino
    with output_folder(target) as folder:
        (folder / "a.txt").write_text("new")
    assert target.stat().st_ino != before
    assert target.stat().st_mode & 0o777 == 0o750


def test_what_is_carried_over_is_not_copied_and_links_stay_links(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "render" / "empty").mkdir(parents=True)
    (target / "render" / "big.mp4").write_text("film")
    (target / "link").symlink_to("render/big.mp4")
    before = (target / "render" / "big.mp4").stat().st_ino
    with output_folder(target) as folder:
        (folder / "a.txt").write_text("new")
    assert (target / "render" / "big.mp4").stat().st_ino == before
    assert (target / "render" / "big.mp4").stat().st_nlink == 1
    assert (target / "render" / "empty").is_dir()
    assert os.readlink(target / "link") == "render/big.mp4"  # noqa: PTH115


def test_a_link_to_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "disk" / "out").mkdir(parents=True)
    (tmp_path / "out").symlink_to("disk/out")
    with output_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "out" / "a.txt").read_text() == "new"
    assert strays(tmp_path) == []


HOLDER = """
import sys, time
from mvguide.files.atomic import atomic_path, claim_folder
with claim_folder(sys.argv[1]) as folder, atomic_path(sys.argv[1] + ".npz") as file:
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has the folder `out` and writes `out.npz`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_into_the_folder_is_refused_and_the_first_is_named(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    words = rf"out is in use by another run \(process {holder.pid} on .* since 20\d\d-.*\); wait"
    for enter in (claim_folder, output_folder):
        with pytest.raises(OutputError, match=words), enter(tmp_path / "out"):
            pytest.fail("two runs in one folder")
    with atomic_path(tmp_path / "out.npz") as temporary:
        temporary.write_text("a single file may be written by two")
    assert len(list(tmp_path.glob(".out.*.npz"))) == 1, "what the other run writes stays"
    holder.kill()
    holder.wait()
    with output_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("x")
    with atomic_path(tmp_path / "out.npz") as temporary:
        temporary.write_text("x")
    assert strays(tmp_path) == []


def test_a_run_holds_its_folder_and_those_inside_it(tmp_path: Path) -> None:
    with claim_folder(tmp_path / "a" / "out") as out:
        assert not out.exists()
        for inner in (out / "render", out, out):
            with output_folder(inner) as folder:
                (folder / "a.txt").write_text("x")
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.txt")) == [
        "a/out/a.txt",
        "a/out/render/a.txt",
    ]
    assert strays(tmp_path) == []


def test_two_threads_of_one_process_are_two_runs(tmp_path: Path) -> None:
    def write() -> None:
        with output_folder(tmp_path / "out"):
            pytest.fail("two runs in one folder")

    words = rf"in use by another run \(process {os.getpid()} on "
    with claim_folder(tmp_path / "out"), ThreadPoolExecutor() as pool, pytest.raises(OutputError, match=words):
        pool.submit(write).result()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_without_a_result_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claim_folder(tmp_path / "new" / "deep" / "out"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_runs_go_and_other_hidden_files_stay(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (tmp_path / ".out.0123abcd.partial" / "images").mkdir(parents=True)
    (tmp_path / ".out.0123abcd.partial" / "images" / "0000.png").write_text("half")
    (target / ".out.0123abcd.partial").mkdir()
    (target / ".calibration.0123abcd.npz").write_text("half")
    (tmp_path / ".table.0123abcd.npz").write_text("half")
    (tmp_path / ".out.lock").write_text("process 1 on elsewhere since long ago")
    for name in (".output.0123abcd.partial", ".table.notours.npz", ".table.0123abcd.png", "out/.keep"):
        (tmp_path / name).write_text("not ours")
    with output_folder(target) as folder:
        (folder / "a.txt").write_text("x")
    with atomic_path(tmp_path / "table.npz") as temporary:
        temporary.write_text("x")
    assert sorted(Path(file).name for file in strays(tmp_path)) == [
        ".keep",
        ".output.0123abcd.partial",
        ".table.0123abcd.png",
        ".table.notours.npz",
    ]


def test_names_as_long_as_the_disk_allows(tmp_path: Path) -> None:
    target = tmp_path / ("\N{GRINNING FACE}" * 60)
    for text in ("old", "new"):
        with output_folder(target) as folder:
            (folder / "a.txt").write_text(text)
        with atomic_path(tmp_path / ("\N{GRINNING FACE}" * 60 + ".txt")) as temporary:
            temporary.write_text(text)
    assert (target / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2


STOPPED = """
import os, signal, sys
from pathlib import Path
from mvguide.files import atomic, replacing
from mvguide.files.stopping import stop_sentence, stoppable
where, number, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])

def stop():
    os.kill(os.getpid(), number)

if where == "replacing":
    swap = replacing._swap
    replacing._swap = lambda new, target: (stop(), swap(new, target))[1]
try:
    with stoppable() as written:
        if where == "second":
            with atomic.output_folder(out.with_name("first")) as folder:
                (folder / "a.txt").write_text("new")
        with atomic.output_folder(out) as folder:
            (folder / "a.txt").write_text("new")
            if where != "replacing":
                stop()
except KeyboardInterrupt as error:
    sentence, code = stop_sentence(error, written)
    print(sentence)
    sys.exit(code)
"""


@pytest.mark.parametrize("where", ["filling", "replacing", "second"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stopped_run_cleans_up_and_says_what_was_written(tmp_path: Path, where: str, name: str) -> None:
    number = int(getattr(signal, name))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")
    command = [sys.executable, "-c", STOPPED, where, str(number), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    word = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    done = {
        "filling": "nothing was written",
        "replacing": f"{tmp_path / 'out'} had been written, nothing else",
        "second": f"{tmp_path / 'first'} had been written, nothing else",
    }[where]
    assert run.stdout.strip() == f"{word}; {done}", run.stderr
    assert run.returncode == 128 + number
    assert (tmp_path / "out" / "a.txt").read_text() == ("new" if where == "replacing" else "old")
    assert strays(tmp_path) == []


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    from mvguide.files.stopping import stoppable

    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, previous)
