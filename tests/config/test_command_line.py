"""Settings written as a command line give the same settings again."""

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from mvguide.config.command_line import command_line
from mvguide.config.input_options import PreviewConfig
from mvguide.config.parsing import load_settings, make_parser, packaged_scene_files, parse
from mvguide.config.python_lines import python_lines
from mvguide.config.render_options import RenderConfig
from mvguide.config.score_options import CompareConfig

CASES: list[dict[str, Any]] = [
    {"image": "a photo.jpg", "fov": 60.0, "seed": 3},
    {"image": "it's.png", "intrinsics": [525.0, 525.0, 319.5, 239.5], "save_latents": True},
    {"views": [{"image": "a.png", "depth": "a.npy"}, {"image": "b.png"}], "cameras": None},
    {
        "image": "a.png",
        "trajectory": {"kind": "orbit", "degrees": -7.5},
        "guidance": {"kind": "top_share", "floor": 0.2},
    },
    {"image": "a.png", "guidance": {"preset": "nvs_solver_dgs"}, "prompt": "no; $HOME `x`"},
    {"image": "a.png", "warp_condition": False, "quiet": True, "width": 64},
]


@pytest.mark.parametrize("given", CASES)
def test_it_gives_the_same_settings(given: dict[str, Any]) -> None:
    settings = load_settings(RenderConfig, **given)
    words = shlex.split(command_line("render", settings))
    assert words[:2] == ["mvguide", "render"]
    assert parse(make_parser(RenderConfig), RenderConfig, words[2:]) == settings


def test_defaults_are_left_out() -> None:
    assert command_line("preview", load_settings(PreviewConfig, image="a.png")) == "mvguide preview --image a.png"


def test_a_scene_is_named_and_its_settings_are_not_repeated(tmp_path: Path) -> None:
    scene = tmp_path / "scene.yaml"
    scene.write_text("image: photo.jpg\nfov: 50\ntrajectory:\n  kind: orbit\n  degrees: 5\n")
    for given in ({}, {"fov": 40.0, "trajectory": {"degrees": 9.0}}):
        settings = load_settings(RenderConfig, scene=str(scene), seed=2, **given)
        line = command_line("render", settings)
        assert f"--scene {scene} " in line
        assert "--image" not in line
        assert parse(make_parser(RenderConfig), RenderConfig, shlex.split(line)[2:]) == settings
    assert "--fov 40.0" in line


def test_a_scene_that_changed_is_written_out(tmp_path: Path) -> None:
    scene = tmp_path / "scene.yaml"
    scene.write_text("image: photo.jpg\nfov: 50\n")
    settings = load_settings(RenderConfig, scene=str(scene))
    for text in ("image: another.jpg\n", "nothing: 1\n"):
        scene.write_text(text)
        line = command_line("render", settings)
        assert line == f"mvguide render --image {tmp_path / 'photo.jpg'} --fov 50.0"


def test_words_without_an_option_name_come_first() -> None:
    settings = load_settings(CompareConfig, results=["out/a", "out/my b"], names=["a", "b"])
    line = command_line("compare", settings, positional="results")
    assert line == """mvguide compare out/a 'out/my b' --names '["a", "b"]'"""
    words = shlex.split(line)[2:]
    assert parse(make_parser(CompareConfig, positional=("results", "+")), CompareConfig, words) == settings


def test_a_packaged_scene_has_its_short_name() -> None:
    place = str(packaged_scene_files()["marbles"])
    settings = load_settings(RenderConfig, scene=place, trajectory={"kind": "dolly"})
    assert command_line("render", settings) == "mvguide render --scene marbles --trajectory.kind dolly"


def test_reading_a_scene_does_not_change_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of the studio read at the same time, and relative paths would lead elsewhere meanwhile."""
    monkeypatch.setattr(os, "chdir", lambda path: pytest.fail(f"changed to {path}"))
    load_settings(RenderConfig, scene="marbles")


def test_lines_of_python_name_what_was_set_and_nothing_else() -> None:
    plain = python_lines(load_settings(RenderConfig, image="a photo.jpg"), 8)
    assert "    mvguide.SourceOptions(image='a photo.jpg'),\n)" in plain
    assert "schedule=" not in plain
    assert ".from_pretrained('tiny')" in plain
    given = {
        "depth": "d.npy",
        "fov": 50,
        "steps": 3,
        "seed": 7,
        "width": 64,
        "height": 32,
        "cfg_max": 2.0,
        "dtype": "float32",
    }
    lines = python_lines(load_settings(RenderConfig, image="a.png", trajectory={"degrees": 5}, **given), 8)
    for part in (
        "mvguide.DepthOptions(depth='d.npy')",
        "mvguide.LensOptions(fov=50.0)",
        "mvguide.TrajectoryOptions(degrees=5.0), 8)",
        "schedule=3",
        "size=(64, 32)",
        "mvguide.ConditioningOptions(num_frames=8, fps=7, cfg_max=2.0)",
        ".manual_seed(7)",
        "from_pretrained('tiny', dtype='float32')",
    ):
        assert part in lines
    compile(lines, "lines", "exec")
