"""The quality bench: scores, tables, the sheet, and going on where it stopped."""

import argparse
import csv
import json
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.errors import MvguideError
from mvguide.files.images import read_image
from mvguide.guidance.guides import GUIDES
from mvguide.guidance.targets import MaskOptions
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.tables.search import search_hypers
from mvguide.tables.table import LambdaTable
from tools.bench_quality import bench, build_parser
from tools.quality.conditions import CALIBRATION
from tools.quality.figures import gains, strip_file
from tools.quality.methods import EXTRA, MEAN_ORACLE, ORACLE, SETTINGS, best_of, frames_away, make_methods, mean_of
from tools.quality.oracle import ErrorMoments
from tools.quality.report import COLUMNS, markdown, mean_and_error, overview, read_rows, write_rows
from tools.quality.scenes import Scene
from tools.quality.worker import Setup, Worker
from tools.scenes import BENCH

CHEAP = ["first frame repeated", "warp + fill", "truth, VAE"]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(BENCH[0], 64, 8)


def options(out: Path, *changes: str) -> argparse.Namespace:
    given = ["--device", "cpu", "--scenes", "1", "--steps", "2", "--processes", "1", "--conditions", "exact"]
    return build_parser().parse_args([*given, "--size", "64", "--out", str(out), *changes])


def shifted(shift: float) -> Callable[[Scene], torch.Tensor]:
    return lambda scene: scene.truth + shift


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
    torch.testing.assert_close(best_of([shifted(shift) for shift in (0.1, 0.02, 0.3)])(scene), scene.truth + 0.02)


def test_the_mean_of_draws_is_their_mean(scene: Scene) -> None:
    torch.testing.assert_close(mean_of([shifted(shift) for shift in (0.1, 0.05, -0.03)])(scene), scene.truth + 0.04)


def test_mean_and_error_leave_out_scenes_without_the_region() -> None:
    assert mean_and_error([1.0, 3.0, math.nan]) == "2.00 ± 1.00"
    assert mean_and_error([math.nan, 2.0]) == "2.00"
    assert mean_and_error([]) == "-"


def test_guided_methods_do_what_they_are_called(tmp_path: Path) -> None:
    worker = Worker(Setup("tiny", "cpu", 3, 0, 64, 0, False, tmp_path / "oracle", tmp_path / "strips"))
    names = ["unguided", "constant 1", "constant 0.5", "warp + fill", "constant 1, dpmpp_2m 10"]
    calls: list[None] = []
    worker.pipe.backbone.pipe.unet.register_forward_hook(lambda *_: calls.append(None))  # type: ignore[attr-defined]
    rows = worker.run("exact", BENCH[0], names, False)
    seen = {row["method"]: float(row["psnr seen"]) for row in rows}
    assert seen["unguided"] + 3 < seen["constant 1"] < seen["warp + fill"]
    assert seen["constant 0.5"] != seen["constant 1"]
    assert len(calls) == 3 + 3 + 3 + 10, "a method's own number of steps"
    assert all(float(row["seconds"]) > 0 for row in rows if row["method"] != "warp + fill"), "which may take 0.00 s"


def test_every_line_of_settings_is_one_that_the_pipeline_takes() -> None:
    known = {
        "guidance",
        "solver",
        "hole_radius",
        "weight",
        "rule",
        "hypers",
        "calibrated",
        "steps",
        "cfg_max",
        "resample",
    }
    records: list[type[Any]] = [MaskOptions, *GUIDES.values()]
    for options in records:
        known |= {field.name for field in fields(options)}
    for name, settings in SETTINGS.items():
        assert set(settings) <= known, name
    every = make_methods(MultiViewPipeline.from_pretrained("tiny", device="cpu"), 2, 0)
    assert set(EXTRA) < set(every)
    # Names become file names.
    assert len({strip_file(Path(), "exact", 1, name) for name in every}) == len(every)


def test_released_distances_are_those_of_the_published_tables() -> None:
    one, two = torch.arange(8) == 0, (torch.arange(8) == 0) | (torch.arange(8) == 7)
    schedule = SigmaSchedule(karras_sigmas(10))
    ours = search_hypers(schedule, distances=frames_away(one), rule="released").table
    assert torch.equal(ours.weights, search_hypers(schedule, num_frames=8, rule="released").table.weights)
    assert frames_away(two).tolist() == [0, 1, 2, 3, 3, 2, 1, 0]


def test_the_bench_writes_its_tables_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quality"
    bench(options(out, "--only", *CHEAP[:2]))
    with (out / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["condition"], row["seed"], row["method"]) for row in rows] == [
        ("exact", str(BENCH[0]), name) for name in CHEAP[:2]
    ]
    assert set(rows[0]) == {"condition", "seed", "method", "seconds", *COLUMNS}
    assert "No rows of the baseline 'constant 1'" in (out / "table.md").read_text()
    assert not (out / "gains.png").exists()
    sheet = read_image(out / "sheet_exact.png")
    # Another part of the work: the report is of both.
    bench(options(out, "--resume", "--only", CHEAP[2], "--baseline", CHEAP[1], "--conditions", "exact", "smooth_15"))
    text = (out / "table.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("###")]
    assert [title.split(",")[0] for title in titles[:3]] == ["### psnr whole", "### psnr seen", "### psnr holes"]
    assert titles[3:] == [
        "### exact: exact depth (1 scenes)",
        "### smooth_15: depth off by a smooth field, 15% rms (1 scenes)",
    ]
    exact = text.split("### exact")[1].split("### smooth_15")[0]
    assert [line.split(" | ")[0] for line in exact.splitlines() if "s a scene" not in line and "| 0." in line][:3] == [
        f"| {name}" for name in CHEAP
    ]
    assert text in capsys.readouterr().out
    assert read_image(out / "sheet_exact.png").shape[1] > sheet.shape[1]
    assert read_image(out / "gains.png").shape[0] == 3
    with pytest.raises(MvguideError, match="is of other settings"):
        bench(options(out, "--resume", "--seed", "1"))
    with pytest.raises(MvguideError, match="there is no method 'magic'; use some of: first frame"):
        bench(options(out, "--only", "magic"))
    with pytest.raises(MvguideError, match="there is no method 'magic'"):
        bench(options(out, "--baseline", "magic"))
    with pytest.raises(MvguideError, match="size is 0; give the pixels along a side of a scene"):
        bench(options(out, "--size", "0"))
    assert json.loads((out / "settings.json").read_text())["steps"] == 2


def test_the_bench_makes_the_oracle_tables_that_it_needs(tmp_path: Path) -> None:
    out = tmp_path / "quality"
    asked = ["--seeds", "held_out", "--conditions", "exact", "two_views", "--calibration", "1"]
    bench(options(out, *asked, "--only", ORACLE, MEAN_ORACLE))
    rows = read_rows(out / "table.csv")
    assert [(row["condition"], row["seed"]) for row in rows] == [("exact", 0)] * 2 + [("two_views", 0)] * 2
    assert all(math.isfinite(float(row["psnr seen"])) for row in rows)
    for condition in ("exact", "two_views"):
        calibration = ErrorMoments.load(out / "oracle" / "calibration" / f"{condition}_{CALIBRATION[0]}.npz")
        table = LambdaTable.load(out / "oracle" / f"mean_{condition}.npz")
        wanted = torch.nan_to_num(calibration.weights, nan=1.0)
        torch.testing.assert_close(table.weights, wanted)
        assert (table.weights < 1).any()
    assert (out / "oracle.md").read_text().startswith("### exact, 1 scenes")


def row_of(seed: int, method: str, value: float) -> dict[str, str | int | float]:
    return {"condition": "exact", "seed": seed, "method": method, "seconds": 1.5, **dict.fromkeys(COLUMNS, value)}


def test_differences_are_paired_by_scene() -> None:
    # Scenes differ by far more than methods do; the third scene has only one of the two.
    rows = [row_of(1, "a", 10), row_of(2, "a", 20), row_of(3, "a", 90), row_of(1, "b", 11), row_of(2, "b", 21.2)]
    text = markdown(rows, "exact", ["a", "b", "c"], "a")
    means, paired = text.split("Minus 'a', scene by scene:")
    assert "(2 to 3 scenes)" in means
    assert "| a | 40.00 ± 25.17 |" in means
    assert "| b | 16.10 ± 5.10 |" in means
    assert means.rstrip().endswith("| 2 | 1.5 |")
    assert "| b | +1.10 ± 0.10 |" in paired
    assert "| a |" not in paired
    assert "| c |" not in text


def test_an_overview_has_a_row_for_each_method() -> None:
    rows = [row_of(1, "a", 10), row_of(2, "a", 20), row_of(3, "a", 90), row_of(1, "b", 11), row_of(2, "b", 21.2)]
    text = overview([*rows, row_of(3, "b", math.nan)], ["exact", "large"], ["a", "b"], "a", "psnr holes")
    assert "| method | exact | large |" in text
    assert "| **a** | 40.00 ± 25.17 (3) | - |" in text
    assert "| b | +1.10 ± 0.10 (2) | - |" in text


def test_gains_are_paired_and_leave_out_scenes_without_the_region() -> None:
    rows = [row_of(1, "a", 10), row_of(2, "a", 20), row_of(3, "a", 90), row_of(1, "b", 11), row_of(2, "b", 21.2)]
    rows += [row_of(3, "b", math.nan), row_of(1, "c", 7)]
    mean, error = gains(rows, ["exact", "large"], ["b", "c"], "a", "psnr seen")
    torch.testing.assert_close(mean[:, 0], torch.tensor([1.1, -3.0], dtype=torch.float64))
    torch.testing.assert_close(error[:, 0], torch.tensor([0.1, torch.inf], dtype=torch.float64))
    assert mean[:, 1].isnan().all()


def test_rows_survive_the_disk(tmp_path: Path) -> None:
    rows = [row_of(1, "a, b", 0.5), row_of(2, "a, b", math.inf)]
    write_rows(tmp_path / "t.csv", rows)
    assert read_rows(tmp_path / "t.csv") == rows
    assert read_rows(tmp_path / "none.csv") == []
