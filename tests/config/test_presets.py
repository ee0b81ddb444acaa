"""Presets: what they fill, what they leave, and that the released methods run by one option."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.cli import main
from mvguide.config.batch_options import BatchConfig
from mvguide.config.parsing import load_settings, make_parser, parse
from mvguide.config.presets import PRESETS
from mvguide.config.render_options import RenderConfig
from mvguide.diffusion.schedule import load_sigmas
from mvguide.guidance.guides import TopShare
from mvguide.tables.search import search_hypers
from mvguide.tables.table import LambdaTable


def settings(**given: Any) -> RenderConfig:
    return load_settings(RenderConfig, **given)


def test_a_preset_fills_what_was_left_unset() -> None:
    assert settings() == RenderConfig()
    filled = settings(guidance={"preset": "nvs_solver_dgs"})
    assert (filled.sigmas, filled.cfg_min, filled.cfg_max, filled.hole_radius) == ("sigmas_100", 1, 3, 2)
    guidance: Any = filled.guidance
    assert (guidance.kind, guidance.table, guidance.rule) == ("top_share", "search", "released")
    assert guidance.distances == "frame"
    assert (guidance.floor, guidance.count_holes, guidance.cell_coverage) == (0.2, True, 0.8125)
    assert guidance.guide() == TopShare(floor=0.2, count_holes=True)
    post: Any = settings(guidance={"preset": "nvs_solver_post"}).guidance
    assert (post.kind, post.step_size, post.through_network) == ("posterior_gradient", 0.02, False)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_what_was_given_wins(preset: str) -> None:
    """Also where it equals the default."""
    given: dict[str, Any]
    for given in ({"floor": 0.6}, {"count_holes": False}, {"kind": "blend"}, {"rule": "exact"}, {"cell_coverage": 0.5}):
        assert vars(settings(guidance={"preset": preset, **given}).guidance).items() >= given.items()
    for given in ({"cfg_max": 1.0}, {"hole_radius": 0}, {"sigmas": "sigmas_25"}):
        assert vars(settings(guidance={"preset": preset}, **given)).items() >= given.items()
    few = settings(guidance={"preset": preset}, steps=4)
    assert (few.steps, few.sigmas) == (4, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[0:32, 0:32]
    picture = np.stack([rows * 8, columns * 8, rows * columns // 4], axis=-1).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save("photo.png")
    np.save("depth.npy", np.where(columns > 16, 2.0, 4.0))
    return tmp_path


def run(*options: str) -> dict:
    common = ["--image", "photo.png", "--depth", "depth.npy", "--num_frames", "3", "--width", "16", "--height", "16"]
    assert main(["render", *common, "--device", "cpu", "--quiet", "--out", "out", *options]) == 0
    return json.loads(Path("out/report.json").read_text())


def test_the_released_method_by_one_option(folder: Path) -> None:
    """All of its 100 steps, on a small image."""
    report = run("--guidance.preset", "nvs_solver_dgs")
    settings = report["settings"]
    assert settings["steps"] == 100
    assert (settings["guidance"], settings["floor"], settings["count_holes"]) == ("top_share", 0.2, True)
    assert (settings["conditioning"]["cfg_min"], settings["conditioning"]["cfg_max"]) == (1, 3)
    assert settings["hole_radius"] == 2
    assert settings["command"]["guidance"]["preset"] == "nvs_solver_dgs"
    used = LambdaTable.load("out/lambda_table.npz")
    expected = search_hypers(load_sigmas("sigmas_100"), num_frames=3, rule="released").table
    assert torch.equal(used.weights, expected.weights)


def test_presets_with_few_steps(folder: Path) -> None:
    settings = run("--guidance.preset", "nvs_solver_post", "--steps", "2")["settings"]
    assert (settings["guidance"], settings["steps"], settings["step_size"]) == ("posterior_gradient", 2, 0.02)
    assert settings["through_network"] is False
    own = run("--guidance.preset", "nvs_solver_post", "--steps", "2", "--guidance.through_network", "true")
    assert own["settings"]["through_network"] is True
    Path("c.yaml").write_text("steps: 2\nguidance:\n  preset: nvs_solver_dgs\n  floor: 0.6\n")
    settings = run("--config", "c.yaml", "--cfg_chunked")["settings"]
    assert (settings["floor"], settings["count_holes"]) == (0.6, True)
    assert settings["conditioning"]["cfg_chunked"] is True


def test_every_new_guide_runs_from_the_command_line(folder: Path) -> None:
    options = {"mask": "soft", "ramp": 1, "confidence": 0.5, "hole_weight": 0.3, "tiles": 2}
    words = [word for name, value in options.items() for word in (f"--guidance.{name}", str(value))]
    settings = run("--steps", "2", "--guidance.kind", "posterior_gradient", "--guidance.resample", "1", *words)
    settings = settings["settings"]
    assert settings.items() >= options.items()
    assert "repeats=1" in settings["solver"]


def test_a_config_file_names_the_positional_setting(tmp_path: Path) -> None:
    """It was lost: a setting that is given without an option name had a default of its own."""
    config = tmp_path / "c.yaml"
    config.write_text("manifest: jobs.yaml\nresume: true\n")
    parser = make_parser(BatchConfig, positional=("manifest", "?"))
    assert parse(parser, BatchConfig, ["--config", str(config)]).manifest == "jobs.yaml"
    assert parse(parser, BatchConfig, ["--config", str(config), "other.yaml"]).manifest == "other.yaml"
    assert parse(parser, BatchConfig, []).manifest == ""
