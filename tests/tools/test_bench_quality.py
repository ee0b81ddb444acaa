"""The quality bench: scores, tables, the sheet, and going on where it stopped."""

import argparse
import csv
import json
import math
from pathlib import Path

import pytest
import torch

from mvguide.errors import MvguideError
from mvguide.files.images import read_image
from tools.bench_quality import Worker, bench
from tools.quality.methods import best_of
from tools.quality.report import COLUMNS, markdown, mean_and_error
from tools.quality.scenes import Scene
from tools.scenes import BENCH

CHEAP = ["first frame repeated", "warp + fill", "truth, VAE"]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(BENCH[0], 64, 8)


def options(out: Path, **changes: object) -> argparse.Namespace:
    given = {"model": "tiny", "device": "cpu", "scenes": 1, "steps": 2, "seed": 0, "processes": 1, "resume": False}
    return argparse.Namespace(**{**given, "only": CHEAP, "out": out, **changes})


def test_scores_are_of_the_region_they_name(scene: Scene) -> None:
    perfect = scene.score(scene.truth)
    assert perfect["ssim whole"] == pytest.approx(1)
    assert perfect["sharpness whole"] == pytest.approx(1)
    visible = scene.warps.visible
    wrong_in_holes = torch.where(visible > 0.5, scene.truth + 0.01, 1 - scene.truth)
    found = scene.score(wrong_in_holes)
    assert found["psnr seen"] == pytest.approx(40, abs=0.01)
    assert found["psnr holes"] < found["psnr whole"] < found["psnr seen"]
    # Frame 0 is given to every method, and does not count.
    spoilt = torch.cat([torch.zeros_like(scene.truth[:1]), wrong_in_holes[1:]])
    assert scene.score(spoilt) == found


def test_the_best_draw_is_chosen_by_the_truth(scene: Scene) -> None:
    makers = [lambda s, shift=shift: s.truth + shift for shift in (0.1, 0.02, 0.3)]
    torch.testing.assert_close(best_of(makers)(scene), scene.truth + 0.02)


def test_mean_and_error_leave_out_scenes_without_the_region() -> None:
    assert mean_and_error([1.0, 3.0, math.nan]) == "2.00 ± 1.00"
    assert mean_and_error([math.nan, 2.0]) == "2.00"
    assert mean_and_error([]) == "-"


def test_guided_methods_do_what_they_are_called() -> None:
    worker = Worker("tiny", "cpu", steps=3, seed=0, threads=0)
    rows, seconds = worker.run(BENCH[0], ["unguided", "constant 1", "constant 0.5", "warp + fill"], None)
    seen = {row["method"]: float(row["psnr seen"]) for row in rows}
    assert seen["unguided"] + 3 < seen["constant 1"] < seen["warp + fill"]
    assert seen["constant 0.5"] != seen["constant 1"]
    assert seconds > 0


def test_the_bench_writes_its_tables_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quality"
    bench(options(out, only=CHEAP[:2]))
    with (out / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["seed"], row["method"]) for row in rows] == [(str(BENCH[0]), name) for name in CHEAP[:2]]
    assert set(rows[0]) == {"seed", "method", *COLUMNS}
    sheet = read_image(out / "sheet.png")
    bench(options(out, resume=True))
    text = (out / "table.md").read_text()
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == [f"| {name}" for name in CHEAP]
    assert text in capsys.readouterr().out
    assert read_image(out / "sheet.png").shape[1] > sheet.shape[1]
    with pytest.raises(MvguideError, match="is of other settings"):
        bench(options(out, resume=True, seed=1))
    with pytest.raises(MvguideError, match="there is no method 'magic'; use some of: first frame"):
        bench(options(out, only=["magic"]))
    assert json.loads((out / "settings.json").read_text())["steps"] == 2


def test_the_table_is_markdown() -> None:
    rows = [{"seed": 1, "method": "a", **dict.fromkeys(COLUMNS, 2.0)}]
    assert markdown(rows, ["a"]).splitlines()[2].startswith("| a | 2.00 | 2.00 |")
