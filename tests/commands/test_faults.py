"""Disks that are full or read-only, places that cannot be written, two runs into one folder, an encoder that dies."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mvguide.cli import main
from mvguide.errors import OutputError
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.pipeline.preview import write_preview
from mvguide.scenes import packaged_scene

SMALL = ["--width", "32", "--height", "32", "--num_frames", "3", "--quiet"]
COMMANDS = {
    "render": ["render", "--scene", "marbles", *SMALL],
    "preview": ["preview", "--scene", "marbles", *SMALL],
    "evaluate": ["evaluate", "result", "--truth", "truth"],
    "evaluate --scene": ["evaluate", "--scene", "marbles", "--truth", "truth", *SMALL],
    "compare": ["compare", "result", "result"],
    "demo": ["demo", "--quiet"],
}
Save = Callable[[Path], object]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits, mounts and locks of Linux")


def saves() -> dict[str, Save]:
    """What writes a result folder: a preview, and a render."""
    view, trajectory = packaged_scene("marbles").load(3)
    rendered = MultiViewPipeline.from_pretrained("tiny")([view], trajectory, size=(32, 32), schedule=2)
    preview = partial(write_preview, views=[view], trajectory=trajectory, size=(32, 32))
    return {"preview": preview, "render": lambda folder: rendered.save(folder, keep_latents=True)}


@pytest.fixture(scope="module")
def written() -> dict[str, Save]:
    return saves()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def check_refused(save: Save, place: Path, what: str) -> bool:
    """Save over an older result: it is replaced (True), or stays as it is, and a sentence says so."""
    out = place / "out"
    before = contents(place)
    try:
        save(out)
    except OutputError as error:
        assert str(error).count(str(out)) >= 1, f"{what}: {error}"
        assert str(error).count("\n") == 0, f"{what}: {error}"
        assert not re.search(r"/\.out\.[0-9a-f]{8}", str(error)), f"{what}: the hidden name is shown: {error}"
        assert contents(place) == before, f"{what}: the older result changed, or something was left behind"
        return False
    assert not [file for file in place.rglob(".*") if file.name != ".keep"], f"{what}: something was left behind"
    return True


def older(place: Path) -> Path:
    """An older result: a video, a file of the user's own, a folder."""
    out = place / "out"
    (out / "mine").mkdir(parents=True)
    for name in ("warps.mp4", "notes.txt", "mine/a.txt"):
        (out / name).write_text("older")
    return out


_FULL: list[Callable[[str, Any], None]] = []


@contextmanager
def full_at(number: int, place: Path) -> Iterator[list[str]]:
    """A disk that is full once so many things were made in a folder. Gives what was made."""
    made: list[str] = []

    def see(event: str, arguments: Any) -> None:
        path = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
        writes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if isinstance(path, str | os.PathLike) and writes and str(Path(path).absolute()).startswith(str(place)):
            made.append(f"{event} {path}")
            if len(made) > number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not hasattr(sys, "_mvguide_hook"):  # a hook stays for ever: there is one
        sys.addaudithook(lambda event, arguments: _FULL[0](event, arguments) if _FULL and event in _MADE else None)
        sys._mvguide_hook = True  # type: ignore[attr-defined]
    _FULL.append(see)
    try:
        yield made
    finally:
        _FULL.clear()


_MADE = {"open", "os.mkdir", "os.rename", "os.link"}


def sweep_opens(save: Save, tmp_path: Path, numbers: range) -> None:
    older(tmp_path)
    done = 0
    for number in numbers:
        with full_at(number, tmp_path) as made:
            done += check_refused(save, tmp_path, f"full after {number}")
        if done:
            assert len(made) <= number
            return


def sweep_sizes(save: Save, tmp_path: Path, sizes: list[int]) -> None:
    """Files of at most so many bytes: the write itself fails, also that of ffmpeg."""
    out = older(tmp_path)
    done = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in sizes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            done.append(check_refused(save, tmp_path, f"files of {size} bytes"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done == [False] * len(sizes)
    assert (out / "warps.mp4").read_text() == "older"


def sizes_of(save: Save, folder: Path) -> list[int]:
    """One byte less than each file has: the disk is full at another file each time."""
    save(folder)
    return sorted({file.stat().st_size - 1 for file in folder.rglob("*") if file.is_file()})


def test_a_disk_that_is_full_leaves_the_older_result(written: dict[str, Save], tmp_path: Path) -> None:
    """Some of the moments; ``make faults`` has all, and those of a render."""
    (tmp_path / "opens").mkdir()
    sweep_opens(written["preview"], tmp_path / "opens", range(0, 40, 3))
    (tmp_path / "sizes").mkdir()
    sizes = sizes_of(written["preview"], tmp_path / "whole")
    sweep_sizes(written["preview"], tmp_path / "sizes", [0, sizes[-1]])


@pytest.mark.faults
@pytest.mark.parametrize("name", ["preview", "render"])
def test_a_disk_that_is_full_at_any_write(written: dict[str, Save], tmp_path: Path, name: str) -> None:
    (tmp_path / "opens").mkdir()
    sweep_opens(written[name], tmp_path / "opens", range(1000))
    (tmp_path / "sizes").mkdir()
    sweep_sizes(written[name], tmp_path / "sizes", sizes_of(written[name], tmp_path / "whole"))


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """A disk in memory; skips the test where one may not be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["preview", "render"])
def test_a_small_disk(written: dict[str, Save], tmp_path: Path, name: str) -> None:
    """A real disk of 8, 16, ... KiB, until the result fits; then of ever more names."""
    sizes, names = ("size={}k", range(16, 10_000, 16)), ("size=20m,nr_inodes={}", range(7, 400, 2))
    for limit, (option, numbers) in {"sizes": sizes, "names": names}.items():
        done = []
        with small_disk(tmp_path / limit, option.format(numbers[0])) as place:
            older(place)
            for number in numbers:
                remount = ["mount", "-o", f"remount,{option.format(number)}", str(place)]
                subprocess.run(remount, check=True, capture_output=True)
                done.append(check_refused(written[name], place, option.format(number)))
                if done[-1]:
                    break
        assert done[-1]
        assert len(done) > 3, "the disk was full at several writes"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("link").symlink_to("file")
    Path("loop").symlink_to("loop")
    before = sorted(Path().rglob("*"))
    for out, words in {
        "": "the path of the output is empty; give a folder, or . for the current one",
        "file": "output folder file is an existing file; choose another",
        "link": "output folder link is an existing file; choose another",
        "loop": "output 'loop' cannot be written (",
        "file/deeper": "file is not a folder; choose another path",
        "/proc/new": "output /proc/new cannot be written: folder /proc refuses new files",
    }.items():
        assert main([*COMMANDS[name], "--out", out]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert words in said.err
        assert sorted(Path().rglob("*")) == before
    assert Path("file").read_text() == "mine"


def test_a_read_only_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk", "ro") as place:
        for out in (place, place / "new" / "deep"):
            assert main([*COMMANDS["preview"], "--out", str(out)]) == 2
            assert f"folder {place} refuses new files (Read-only file system)" in capsys.readouterr().err


HOLDER = """
import sys
from mvguide.files.atomic import claim_folder
with claim_folder(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_two_runs_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second is refused, whichever command it is, also where it reaches the folder through a link."""
    through = "link"
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("link").symlink_to("out")
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"ready\n"
        for name in ("render", "preview", "evaluate", "evaluate --scene", "demo"):
            assert main([*COMMANDS[name], "--out", through]) == 2
            assert f"{through} is in use by another run (process {first.pid} on " in capsys.readouterr().err
        first.kill()
    assert main([*COMMANDS["preview"], "--out", through]) == 0
    assert sorted(file.name for file in Path().iterdir()) == ["link", "out"]


def test_an_encoder_that_is_killed_leaves_the_older_result(
    written: dict[str, Save], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\nhead -c 1000 > "$last"\nkill -9 $$\n')
    program.chmod(0o755)
    (tmp_path / "place").mkdir()
    older(tmp_path / "place")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    for name, save in written.items():
        assert not check_refused(save, tmp_path / "place", name)
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    assert check_refused(written["preview"], tmp_path / "place", "the next run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["preview", "render"])
def test_a_signal_at_any_write(written: dict[str, Save], tmp_path: Path, name: str, number: int) -> None:
    """Ctrl-C and SIGTERM while files are made: the older result or the new one, and nothing left behind."""
    from mvguide.files.stopping import stoppable

    older(tmp_path)
    for count in (0, 1, 3, 5):
        before = contents(tmp_path)

        def stop(event: str, arguments: Any, left: list[int] = [count]) -> None:  # noqa: B006  counts down
            if event == "open" and str(tmp_path) in str(arguments[0]) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                left[0] -= 1
                if left[0] == -1:
                    os.kill(os.getpid(), number)

        with full_at(10**6, tmp_path), stoppable():
            _FULL[:] = [stop]
            with pytest.raises(KeyboardInterrupt):
                written[name](tmp_path / "out")
        assert contents(tmp_path) == before, f"{name}, {count}"


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")]
)
@pytest.mark.parametrize("name", ["render", "batch"])
def test_a_stop_that_a_library_takes_for_an_error_is_still_a_stop(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    number: int,
    code: int,
    word: str,
) -> None:
    """As torch does when it asks a storage for its length while the signal arrives."""

    def load(*_: Any) -> Any:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise ValueError("could not determine the shape of object type") from None

    monkeypatch.setattr("mvguide.backbones.pretrained._load_pipeline", load)
    monkeypatch.chdir(tmp_path)
    Path("jobs.yaml").write_text("shared: {steps: 2, num_frames: 2, width: 32, height: 32}\njobs: [{scene: marbles}]\n")
    words = {**COMMANDS, "batch": ["batch", "jobs.yaml", "--quiet"]}[name]
    assert main([*words, "--out", "out"]) == code
    assert capsys.readouterr().err.startswith(f"mvguide: {word}; ")
    assert not Path("out/marbles/error.txt").exists()


@pytest.mark.parametrize("room", ["config", "commands"])
def test_a_stop_while_modules_are_loaded_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], room: str
) -> None:
    from mvguide import cli

    load = cli._load

    def interrupted(where: str, place: str) -> Any:
        if where == room:
            os.kill(os.getpid(), signal.SIGINT)
        return load(where, place)

    monkeypatch.setattr(cli, "_load", interrupted)
    assert main(COMMANDS["preview"]) == 130
    assert capsys.readouterr().err == "mvguide: interrupted; nothing was written\n"
