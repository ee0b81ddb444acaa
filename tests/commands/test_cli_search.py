"""search-hypers with a purpose, end to end: fits to what a render measured, and studies of scenes."""

from pathlib import Path

import pytest
import torch

from mvguide.backbones.native_size import NativeSize
from mvguide.cli import main
from mvguide.diffusion.schedule import load_sigmas
from mvguide.tables.search import search_hypers
from mvguide.tables.table import LambdaTable

ROOT = Path(__file__).resolve().parents[2]


def test_search_hypers_fits_what_a_render_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sigmas, rendered = tmp_path / "sigmas.npy", tmp_path / "render"
    assert main(["sigmas", "make", "--steps", "3", "--out", str(sigmas)]) == 0
    scene = ["--scene", str(ROOT / "mvguide" / "scenes" / "llff.yaml"), "--sigmas", str(sigmas), "--quiet"]
    scene += ["--width", "64", "--height", "64"]
    assert main(["render", *scene, "--guidance.table", "calibrated", "--out", str(rendered)]) == 0
    capsys.readouterr()
    arguments = ["--objective", "calibrated", "--calibration", str(rendered / "calibration.npz")]
    out = tmp_path / "table.npz"
    assert main(["search-hypers", *arguments, "--sigmas", str(sigmas), "--out", str(out)]) == 0
    assert "off the measured ones" in capsys.readouterr().out
    fitted = LambdaTable.load(out)
    # The same fit is a way to render.
    again = tmp_path / "again"
    assert main(["render", *scene, "--guidance.objective", "calibrated", "--out", str(again)]) == 0
    assert torch.allclose(LambdaTable.load(again / "lambda_table.npz").weights, fitted.weights, atol=1e-6)
    measured = LambdaTable.load(rendered / "lambda_table.npz")
    published = search_hypers(load_sigmas(str(sigmas)), num_frames=fitted.num_frames, rule="exact").table
    difference = {
        name: float((table.weights - measured.weights).square().mean())
        for name, table in (("fitted", fitted), ("published", published))
    }
    assert difference["fitted"] < difference["published"]


def test_search_hypers_scores_scenes_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NativeSize, "default_size", lambda *_: (64, 64))  # the model's own size would only be slower
    sigmas, study = tmp_path / "sigmas.npy", tmp_path / "study" / "study.log"
    assert main(["sigmas", "make", "--steps", "2", "--out", str(sigmas)]) == 0
    scene = str(ROOT / "mvguide" / "scenes" / "llff.yaml")
    arguments = ["search-hypers", "--objective", "score", "--scenes", f"[{scene}]", "--sigmas", str(sigmas)]
    arguments += ["--study", str(study), "--out", str(tmp_path / "table.npz")]
    assert main([*arguments, "--trials", "2"]) == 0
    said = capsys.readouterr().out
    assert "trial 2 of 2" in said
    assert main([*arguments, "--trials", "3"]) == 0
    said = capsys.readouterr().out
    assert "trial 3 of 3" in said
    assert "trial 2 of" not in said
    assert {path.name for path in study.parent.iterdir()} == {"study.log", "history.png", "contour.png"}
    assert LambdaTable.load(tmp_path / "table.npz").source.startswith("search_hypers exact score")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--objective", "score"], "name scenes"),
        (["--objective", "calibrated"], "needs what was measured"),
        (["--calibration", "x.npz"], "is for objective 'calibrated', not 'coverage'"),
        (["--objective", "calibrated", "--calibration", "x.npz", "--num_frames", "3"], "has frames and distances"),
        (["--objective", "calibrated", "--calibration", "x.npz"], "x.npz does not exist"),
    ],
)
def test_search_hypers_refuses(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.npz"
    assert main(["search-hypers", *arguments, "--out", str(out)]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()
