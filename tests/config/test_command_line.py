"""Settings written as a command line give the same settings again."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from mvguide.config.command_line import command_line
from mvguide.config.input_options import PreviewConfig
from mvguide.config.parsing import load_settings, make_parser, parse
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
        assert line == f"mvguide render --fov 50.0 --image {tmp_path / 'photo.jpg'}"


def test_words_without_an_option_name_come_first() -> None:
    settings = load_settings(CompareConfig, results=["out/a", "out/my b"], names=["a", "b"])
    line = command_line("compare", settings, positional="results")
    assert line == """mvguide compare out/a 'out/my b' --names '["a", "b"]'"""
    words = shlex.split(line)[2:]
    assert parse(make_parser(CompareConfig, positional=("results", "+")), CompareConfig, words) == settings
