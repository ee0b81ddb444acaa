"""Completion in a real bash: the script is loaded, and the Tab key is pressed."""

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mvguide import cli

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "mvguide.bash"
    path.write_text(cli.completion_script())
    return path


def completions(script: Path, *words: str) -> list[str]:
    """What the script offers for the last of the words."""
    lines = f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mvguide; printf "%s\\n" "${{COMPREPLY[@]}}"'
    command = [str(BASH), "--norc", "-c", lines, "bash", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mvguide", "pre"], ["preview"]),
        (["mvguide", "sigmas", ""], ["make", "show"]),
        (["mvguide", "completion", ""], ["bash"]),
        (["mvguide", "render", "--solver", "h"], ["heun"]),
        (["mvguide", "render", "--trajectory", "p"], ["pedestal", "pan"]),
        (["mvguide", "preview", "--scene", "two"], ["two_views"]),
        (["mvguide", "render", "--config", "own"], ["own_path"]),
        (["mvguide", "render", "--guidance.res"], ["--guidance.resample", "--guidance.resample_until"]),
        (["mvguide", "evaluate", "--held"], ["--held_out"]),
        (["mvguide", "evaluate", "--recover"], ["--recover_cameras"]),
        (["mvguide", "render", "--image", ""], []),  # files, by bash itself
        (["mvguide", "compare", ""], []),
    ],
)
def test_what_is_offered(script: Path, words: list[str], offered: list[str]) -> None:
    assert completions(script, *words) == offered


def test_every_option_is_offered(script: Path) -> None:
    offered = set(completions(script, "mvguide", "render", "--"))
    assert {"--image", "--trajectory", "--trajectory.degrees", "--save_latents", "--help-all"} <= offered
    assert set(completions(script, "mvguide", "render", "")) >= offered


def test_the_tab_key_completes_in_an_interactive_shell(script: Path, tmp_path: Path) -> None:
    """Files are completed too, where a value is not listed."""
    (tmp_path / "photograph.jpg").touch()
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        [str(BASH), "--norc", "--noprofile", "-i"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, start_new_session=True,
        env={"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(tmp_path), "INPUTRC": "/dev/null"},
    )  # fmt: skip
    os.close(theirs)
    try:
        os.write(ours, f'mvguide() {{ echo "ran: $*"; }}; source {script}\n'.encode())
        os.write(ours, b"mvguide ren\t--image photog\t--solv\tdpm\t\n")
        seen, end = "", time.monotonic() + 20
        while "ran: " not in seen.replace('"ran: ', "") and time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                seen += os.read(ours, 65536).decode(errors="replace")
        assert "ran: render --image photograph.jpg --solver dpmpp_2m" in seen
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["completion", "csh"])
    assert stop.value.code == 2
    assert "invalid choice: 'csh'" in capsys.readouterr().err
