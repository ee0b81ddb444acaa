"""Renders that are stopped, killed, or run out of disk, and go on: the same result, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mvguide.cli import main
from mvguide.commands.speaking import JobBar
from mvguide.diffusion.sampler import Progress
from mvguide.pipeline.checkpoint import CHECKPOINT, read_checkpoint

STEPS = 12
RENDER = ["render", "--scene", "marbles", "--steps", str(STEPS), "--num_frames", "3", "--width", "32", "--height", "32"]
KEPT = ["--checkpoint_every", "5"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result that was never stopped, nor kept."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    assert main([*RENDER, "--quiet", "--out", str(out)]) == 0
    return out


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("out")


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a result but its reports, which have times."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.stem != "report"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def check_same(out: Path, unbroken: Path) -> None:
    assert contents(out) == contents(unbroken), "the same files, byte by byte, and no checkpoint"
    assert [file.name for file in out.absolute().parent.iterdir()] == [out.name], "nothing beside it"


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Do something once when a step is done."""
    watch = JobBar.watch

    def watch_and_act(self: JobBar, progress: Progress) -> None:
        watch(self, progress)
        if progress.state.index == step:
            monkeypatch.setattr(JobBar, "watch", watch)
            act()

    monkeypatch.setattr(JobBar, "watch", watch_and_act)


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_states_that_are_kept_change_nothing_and_go_with_the_result(out: Path, unbroken: Path) -> None:
    assert main([*RENDER, *KEPT, "--quiet", "--out", str(out)]) == 0
    check_same(out, unbroken)
    assert "resumed_after" not in json.loads((out / "report.json").read_text())["settings"]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
)
def test_a_stopped_render_says_how_to_go_on_and_does(
    out: Path,
    unbroken: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    code: int,
    word: str,
) -> None:
    at_step(monkeypatch, 7, send(number))
    assert main([*RENDER, *KEPT, "--quiet", "--out", str(out)]) == code
    said = f"mvguide: {word}; out/{CHECKPOINT} had been written, nothing else; "
    assert capsys.readouterr().err == f"{said}the same command with --resume goes on after step 7 of {STEPS}\n"
    assert [str(file) for file in Path().rglob("*")] == ["out", f"out/{CHECKPOINT}"]
    # Stopped again before a step of its own was kept, and once more after the last.
    at_step(monkeypatch, 8, send(number))
    assert main([*RENDER, "--resume", "--quiet", "--out", str(out)]) == code
    assert capsys.readouterr().err.endswith(f"goes on after step 8 of {STEPS}\n")
    at_step(monkeypatch, STEPS, send(number))
    assert main([*RENDER, *KEPT, "--resume", "--quiet", "--out", str(out)]) == code
    assert capsys.readouterr().err.endswith(f"goes on after step {STEPS} of {STEPS}\n")
    assert main([*RENDER, *KEPT, "--resume", "--out", str(out)]) == 0
    assert f"going on after step {STEPS} of {STEPS}" in capsys.readouterr().err
    check_same(out, unbroken)
    assert json.loads((out / "report.json").read_text())["settings"]["resumed_after"] == STEPS


def test_a_stop_after_the_result_is_written_promises_nothing(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mvguide.commands.rendering.Result.save", stop_after_saving())
    assert main([*RENDER, *KEPT, "--quiet", "--out", str(out)]) == 130
    assert capsys.readouterr().err == "mvguide: interrupted; out had been written, nothing else\n"


def stop_after_saving() -> Callable[..., None]:
    from mvguide.pipeline.result import Result

    save = Result.save

    def saved(self: Result, *arguments: object, **options: object) -> None:
        save(self, *arguments, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    return saved


KILLED = """
import os, signal, sys
from mvguide.cli import main
from mvguide.commands.speaking import JobBar
from mvguide.files import atomic

where, calls = sys.argv[1], []

def kill(step, *_):
    calls.append(step)
    if len(calls) == 7:
        os.kill(os.getpid(), signal.SIGKILL)

if where == "between two steps":
    JobBar.watch = kill
else:
    atomic._flush = kill  # twice for each state: its file before the rename, its folder after that
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("where", "kept"), [("between two steps", 6), ("in the middle of writing a state", 6)])
def test_a_killed_render_goes_on(out: Path, unbroken: Path, where: str, kept: int) -> None:
    every = {"between two steps": "3", "in the middle of writing a state": "2"}[where]
    words = [*RENDER, "--quiet", "--out", str(out), "--checkpoint_every", every]
    run = subprocess.run([sys.executable, "-c", KILLED, where, *words], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert read_checkpoint(out / CHECKPOINT).index == kept
    assert (out.parent / ".out.lock").exists(), "it had no time to clean up"
    assert len(list(out.iterdir())) == (1 if where == "between two steps" else 2)
    assert main([*words, "--resume"]) == 0
    check_same(out, unbroken)


def test_an_older_result_stays_until_the_new_one_is_there(
    out: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RENDER, "--seed", "3", "--quiet", "--out", str(out)]) == 0
    older = contents(out)
    at_step(monkeypatch, 6, send(signal.SIGINT))
    assert main([*RENDER, *KEPT, "--quiet", "--out", str(out)]) == 130
    found = contents(out)
    assert found.pop(CHECKPOINT)
    assert found == older
    capsys.readouterr()
    assert main([*RENDER, *KEPT, "--resume", "--out", str(out)]) == 0
    assert f"going on after step 6 of {STEPS}" in capsys.readouterr().err
    check_same(out, unbroken)


def test_without_a_checkpoint_it_starts_from_the_beginning_and_says_so(
    out: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RENDER, "--resume", "--out", str(out)]) == 0
    assert f"there is no out/{CHECKPOINT} to go on from; starting from the beginning" in capsys.readouterr().err
    check_same(out, unbroken)


def test_without_resume_it_starts_from_the_beginning_and_warns(
    out: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_step(monkeypatch, 6, send(signal.SIGINT))
    assert main([*RENDER, *KEPT, "--seed", "3", "--quiet", "--out", str(out)]) == 130
    capsys.readouterr()
    assert main([*RENDER, "--out", str(out)]) == 0
    words = f"warning: out/{CHECKPOINT} holds an unfinished run; this one starts from the beginning, without --resume"
    assert words in capsys.readouterr().err
    check_same(out, unbroken)


def test_other_settings_and_a_damaged_file_are_refused_in_one_line(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_step(monkeypatch, 6, send(signal.SIGINT))
    assert main([*RENDER, *KEPT, "--quiet", "--out", str(out)]) == 130
    content = (out / CHECKPOINT).read_bytes()
    capsys.readouterr()
    assert main([*RENDER, "--resume", "--quiet", "--out", str(out), "--seed", "4"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"mvguide: checkpoint out/{CHECKPOINT} is of another run, which differs in seed (0 there, 4 h"
    )
    assert said.count("\n") == 1
    assert (out / CHECKPOINT).read_bytes() == content
    (out / CHECKPOINT).write_bytes(content[:-100])
    monkeypatch.setattr("mvguide.commands.job.Plan.load", lambda plan: pytest.fail("the model was loaded"))
    assert main([*RENDER, "--resume", "--quiet", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"mvguide: checkpoint out/{CHECKPOINT} cannot be read (")
    assert said.endswith("; remove it to start from the beginning\n")
    assert said.count("\n") == 1
    assert main([*RENDER, "--cache", "first_block", "--resume", "--quiet", "--out", str(out)]) == 2
    assert "leave out the cache, or checkpoint_every and resume" in capsys.readouterr().err
    assert main([*RENDER, "--checkpoint_every", "0", "--quiet", "--out", str(out)]) == 2
    assert capsys.readouterr().err == "mvguide: checkpoint_every is 0; it is a number of steps, at least 1\n"


def test_another_environment_is_told(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_step(monkeypatch, 6, send(signal.SIGINT))
    assert main([*RENDER, *KEPT, "--quiet", "--out", str(out)]) == 130
    from mvguide.pipeline.checkpoint import environment

    monkeypatch.setattr(
        "mvguide.commands.rendering.environment", lambda device: {**environment(device), "threads": 999}
    )
    capsys.readouterr()
    assert main([*RENDER, "--resume", "--out", str(out)]) == 0
    words = "warning: the last digits may differ from an unbroken run: the checkpoint's threads ("
    said = capsys.readouterr().err
    assert words in said
    assert " there, 999 here)" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_a_state_that_does_not_fit_on_the_disk_is_one_sentence(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import resource

    out.mkdir()
    (out / "video.mp4").write_text("older")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))  # a larger file fails, as on a full disk
    try:
        code = main([*RENDER, *KEPT, "--quiet", "--out", str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2
    words = f"mvguide: output out/{CHECKPOINT} cannot be written (File too large); choose another path\n"
    assert capsys.readouterr().err == words
    assert [str(file) for file in Path().rglob("*")] == ["out", "out/video.mp4"]
    assert (out / "video.mp4").read_text() == "older"


def test_a_calibration_is_kept_beside_the_checkpoint(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*RENDER, "--guidance.table", "calibrated", "--solver", "dpmpp_2m", "--quiet"]
    assert main([*words, "--out", "whole"]) == 0
    at_step(monkeypatch, 6, send(signal.SIGINT))
    assert main([*words, *KEPT, "--out", str(out)]) == 130
    assert f"out/calibration.npz, out/{CHECKPOINT} had been written, nothing else" in capsys.readouterr().err
    monkeypatch.setattr("mvguide.pipeline.calibration.measure", lambda *_, **__: pytest.fail("measured again"))
    assert main([*words, *KEPT, "--resume", "--out", str(out)]) == 0
    assert contents(out) == contents(Path("whole"))
