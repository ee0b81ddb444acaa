"""A few of the kills and stops of ``make faults``, and whether the tool sees a command that loses something."""

import random
import signal
from pathlib import Path

from tools import faults
from tools.faults import CASES, Attacked, Range


def test_a_render_that_is_killed_and_one_that_is_stopped(tmp_path: Path) -> None:
    place, seen = Range(CASES["render"], tmp_path), Attacked()
    for number in (signal.SIGKILL, signal.SIGTERM):
        place.attack(number, random.Random(1), seen)
    assert seen.failures == []
    assert seen.sent == {"SIGKILL": 2, "SIGTERM": 2}


def test_it_sees_what_is_lost_or_left(tmp_path: Path) -> None:
    whole = {"video.mp4": b"new", "render/video.mp4": b"new"}
    assert faults._differences({"video.mp4": b"old"}, whole) == [
        "differs from an unbroken run in render/video.mp4, video.mp4"
    ]
    assert faults._differences(dict(whole), whole) == []
    (tmp_path / "out").mkdir()
    assert faults._strays(tmp_path) == []
    (tmp_path / "out" / ".a.01234567.png").touch()
    (tmp_path / ".out.lock").touch()
    assert faults._strays(tmp_path) == ["left behind: .out.lock, out/.a.01234567.png"]
