"""Acceleration from the command line: caches leave calibration alone, magnitudes are kept, and what is refused."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import mvguide
from mvguide.cli import main
from mvguide.diffusion.solvers import FirstOrder
from mvguide.files.images import read_image
from mvguide.pipeline.latents import load_latents
from mvguide.scenes import packaged_scene
from tests.backbones.tiny_families import HEIGHT, PROMPT, WIDTH
from tests.commands.test_families_cli import render

ROOT = Path(__file__).resolve().parents[2]
SIZE = ["--width", str(WIDTH), "--height", str(HEIGHT)]


@pytest.fixture(scope="module")
def plain(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A render without any of it."""
    out = tmp_path_factory.mktemp("plain") / "out"
    assert render("wan21", tiny_folder("wan21"), out, 9, "--prompt", PROMPT) == 0
    return out


def difference(out: Path, plain: Path) -> float:
    """Mean difference of the frames."""
    pairs = [(file, plain / "images" / file.name) for file in sorted((out / "images").glob("*.png"))]
    assert len(pairs) == 9
    return float(np.mean([float((read_image(one) - read_image(other)).abs().mean()) for one, other in pairs]))


def test_a_cache_leaves_the_calibration_alone(plain: Path, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--prompt", PROMPT, "--cache", "first_block", "--cache_threshold", "2", "--vae_tiling"]
    assert render("wan21", tiny_folder("wan21"), out, 9, *words) == 0
    tables = [np.load(folder / "lambda_table.npz") for folder in (out, plain)]
    assert all(np.array_equal(tables[0][name], tables[1][name]) for name in tables[0].files)
    given = {"vae_tiling": True, "cache": "first_block", "cache_threshold": 2.0}
    assert json.loads((out / "report.json").read_text())["settings"]["acceleration"] == given
    assert 0 < difference(out, plain) < 0.05


def test_the_first_run_with_mag_measures_and_the_next_skips(
    plain: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "magnitudes.npz"
    words = ["--prompt", PROMPT, "--cache", "mag", "--cache_file", str(file), "--cache_threshold", "2"]
    assert render("wan21", tiny_folder("wan21"), tmp_path / "first", 9, *words) == 0
    assert difference(tmp_path / "first", plain) == 0
    assert sorted(np.load(file).files) == ["model", "transformer"]
    assert render("wan21", tiny_folder("wan21"), tmp_path / "second", 9, *words) == 0
    assert 0 < difference(tmp_path / "second", plain) < 0.05
    capsys.readouterr()
    assert render("ltx", tiny_folder("ltx"), tmp_path / "other", 17, *words) == 2
    assert re.search(
        "cache_file .* was measured with the model .*, but this is .*; give another", capsys.readouterr().err
    )
    file.write_bytes(b"damaged")
    assert render("wan21", tiny_folder("wan21"), tmp_path / "third", 9, *words) == 2
    assert re.search("cache_file .*magnitudes.npz", capsys.readouterr().err)
    np.savez(file, model="tiny", transformer=np.array([1.0, np.nan]))
    assert render("wan21", tiny_folder("wan21"), tmp_path / "third", 9, *words) == 2
    assert "holds no measured magnitudes; remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--cache", "first_block", "--solver", "heun"],
            "solver heun and resampling evaluate the network more than once",
        ),
        (["--cache", "first_block", "--guidance.resample", "1"], "resampling evaluate the network more than once"),
        (
            ["--cache", "first_block", "--guidance.kind", "posterior_gradient"],
            "posterior_gradient evaluates the network",
        ),
        (["--cache", "mag"], "cache mag, and no other, needs a .npz file"),
        (["--context_parallel", "2"], "start it with torchrun --nproc-per-node 2 -m mvguide render"),
        (["--quantize", "4bit"], "quantize '4bit' needs"),
    ],
)
def test_refused_before_anything_is_read(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--image", "not-there.png", "--quiet", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_refused_for_the_model_that_lacks_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "render",
        "--scene",
        "marbles",
        "--num_frames",
        "3",
        "--steps",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert main([*words, "--vae_tiling"]) == 2
    error = capsys.readouterr().err
    assert "vae_tiling was asked for, but model tiny does not have it" in error
    assert not (tmp_path / "out").exists()


def test_evaluate_renders_in_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--scene", "marbles", "--context_parallel", "2", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "context_parallel is for mvguide render; score its result with mvguide evaluate" in capsys.readouterr().err


def test_a_python_pipeline_with_a_cache(tiny_folder: Callable[[str], Path]) -> None:
    options = mvguide.AccelerationOptions(cache="first_block", cache_threshold=0.5)
    pipe = mvguide.MultiViewPipeline.from_pretrained(tiny_folder("wan22_5b"), device="cpu", acceleration=options)
    view, path = packaged_scene("marbles").load(9)
    context = pipe.prepare([view], path, schedule=6, size=(WIDTH, HEIGHT))
    table = mvguide.LambdaTable.constant(0.5, context.schedule, context.latent_frames)
    first, second = pipe.sample(context, table), pipe.sample(context, table)
    assert torch.equal(first.latents, second.latents), "the second run begins without the first's cache"
    assert first.settings["acceleration"] == options.given()
    with pytest.raises(mvguide.MvguideError, match="solver heun and resampling evaluate the network more than once"):
        pipe.sample(context, table, solver="heun")
    with pytest.raises(mvguide.MvguideError, match="solver heun and resampling evaluate"):
        pipe.sample(context, table, solver=mvguide.Resampling(FirstOrder(), 1))
    with pytest.raises(mvguide.MvguideError, match="posterior_gradient evaluates the network more than once"):
        pipe.sample(context, table, solver="euler", guidance="posterior_gradient")
    pipe.backbone.acceleration = mvguide.AccelerationOptions()
    assert not torch.equal(pipe.sample(context, table).latents, first.latents), "steps were skipped"


def ranks(count: int, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line in so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, "-m", "mvguide", *words], capture_output=True, text=True, env=environment, timeout=300, check=False
    )


slow = [pytest.mark.slow, pytest.mark.skipif(os.environ.get("MVGUIDE_SLOW") != "1", reason="set MVGUIDE_SLOW=1")]


@pytest.mark.parametrize("kind", ["wan22_5b", *(pytest.param(kind, marks=slow) for kind in ("wan21", "wan22_a14b"))])
def test_two_processes_render_what_one_does(kind: str, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder, one, two = tiny_folder(kind), tmp_path / "one", tmp_path / "two"
    words = ["--prompt", PROMPT, "--save_latents"]
    assert render(kind, folder, one, 9, *words) == 0
    words += [*SIZE, "--scene", "marbles", "--num_frames", "9", "--model", str(folder), "--steps", "4"]
    done = ranks(2, "render", *words, "--context_parallel", "2", "--device", "cpu", "--out", str(two))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote ") == 1, "one of them speaks"
    assert "experimental" not in done.stderr
    assert "FutureWarning" not in done.stderr
    found, expected = (load_latents(out / "latents.safetensors")[0].latents for out in (two, one))
    assert float((found - expected).abs().max()) < 1e-5
    assert float(expected.std()) > 0.1


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("MVGUIDE_SLOW") != "1", reason="set MVGUIDE_SLOW=1")
def test_what_cannot_be_split_says_so_once(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    words = ["--scene", "marbles", "--model", str(tiny_folder("ltx")), "--out", str(tmp_path / "out"), "--quiet"]
    done = ranks(2, "render", *words, "--context_parallel", "2", "--device", "cpu")
    assert done.returncode != 0
    assert done.stderr.count("context_parallel was asked for, but model") == 1, done.stderr
    assert "diffusers splits Wan alone, image to video" in done.stderr
