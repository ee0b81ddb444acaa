"""Videos longer than the model's own, from the command line."""

import json
from pathlib import Path

import pytest

from mvguide.cli import main
from mvguide.files.video import read_video
from mvguide.tables.table import LambdaTable

RENDER = ["render", "--scene", "marbles", "--steps", "2", "--width", "32", "--height", "32"]


@pytest.mark.parametrize("way", ["windows", "anchors"])
def test_sixteen_frames_on_a_model_of_eight(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([*RENDER, "--num_frames", "16", "--long", way, "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "16 frames of 32 x 32, 2 steps, in 3 windows of 8 frames" in said
    assert ("after 8 anchors" in said) == (way == "anchors")
    assert len(read_video(out / "video.mp4")) == 16
    assert LambdaTable.load(out / "lambda_table.npz").num_frames == 16
    settings = json.loads((out / "report.json").read_text())["settings"]
    assert (settings["long"], settings["windows"], settings["window"]) == (way, 3, 8)


def test_a_window_of_the_users_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*RENDER, "--num_frames", "10", "--window", "10", "--out", str(out), "--quiet"]) == 0
    assert "windows" not in json.loads((out / "report.json").read_text())["settings"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--window", "1"], "window is 1; it is a number of frames, at least 2"),
        (["--window_overlap", "0.7"], "window_overlap is 0.7; it is a share of a window, between 0 and 0.5"),
        (["--scene", "video", "--long", "anchors"], "anchors fill in what stands still"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RENDER, "--num_frames", "12", *arguments, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
