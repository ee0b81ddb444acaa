"""Settings written as a command line give the same settings again."""

import shlex
from typing import Any

import pytest

from mvguide.config.command_line import command_line
from mvguide.config.input_options import PreviewConfig
from mvguide.config.parsing import load_settings, make_parser, parse
from mvguide.config.render_options import RenderConfig

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
