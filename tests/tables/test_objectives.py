"""search_hypers with a purpose: fits to measured weights, and studies that go on."""

from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from matplotlib import pyplot

from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, load_sigmas
from mvguide.errors import ConfigError, FileError, InputError
from mvguide.tables.consistent import consistent_weights
from mvguide.tables.search import search_hypers
from mvguide.tables.study import Study
from mvguide.tables.table import LambdaTable

SCHEDULE = load_sigmas("sigmas_25")
DISTANCES = [0.0, 0.2, 0.5, 0.9, 1.7]


@pytest.mark.parametrize(("v1", "v3"), [(1e-6, 1e-4), (3e-4, 0.02), (0.02, 0.5)])
def test_a_fit_finds_the_rule_that_made_a_table(v1: float, v3: float) -> None:
    table = search_hypers(SCHEDULE, distances=DISTANCES, rule="exact", v1=[v1], v2=[1.0], v3=[v3]).table
    found = search_hypers(SCHEDULE, distances=DISTANCES, objective="calibrated", measured=table)
    assert found.rule == "exact"
    assert found.value < 0.02, "rms difference of weights"
    assert (found.table.weights - table.weights).abs().max() < 0.1


def test_a_fit_of_measured_weights_is_nearer_than_any_of_the_published_grids() -> None:
    model = (0.05 * SCHEDULE.levels**0.6).clamp(max=0.7) ** 2
    warp = 0.04 * torch.tensor(DISTANCES, dtype=torch.float64) ** 2 + 1e-9
    weights = consistent_weights(SCHEDULE.sigmas, model, warp)
    weights[:, 0] = 1
    measured = LambdaTable(weights, SCHEDULE.levels)
    found = search_hypers(SCHEDULE, distances=DISTANCES, objective="calibrated", measured=measured)
    published = search_hypers(SCHEDULE, distances=DISTANCES, rule="exact")

    def rms(table: LambdaTable) -> float:
        return float((table.weights - measured.weights)[:, 1:].square().mean().sqrt())

    assert rms(found.table) == pytest.approx(found.value, abs=1e-6)
    assert found.value < 0.65 * rms(published.table)
    assert "exact calibrated" in found.table.source


def test_a_fit_needs_a_table_of_this_schedule_and_these_frames() -> None:
    measured = LambdaTable.constant(0.5, SCHEDULE, 3)
    still = search_hypers(SCHEDULE, distances=[0, 0, 0], objective="calibrated", measured=measured)
    assert (still.table.weights == 1).all(), "a camera that only turns"
    with pytest.raises(InputError):
        search_hypers(SCHEDULE, distances=DISTANCES, objective="calibrated", measured=measured)
    with pytest.raises(InputError):
        search_hypers(SigmaSchedule(karras_sigmas(10)), distances=[0, 1, 2], objective="calibrated", measured=measured)


def peak(v1: float, v2: float, v3: float) -> float:
    """Best at v1 = 1e-4, v3 = 1e-2."""
    return 30 - np.log10(v1 / v2 / 1e-4) ** 2 - np.log10(v3 / v2 / 1e-2) ** 2


def test_a_study_finds_the_peak_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    journal, told = tmp_path / "study.log", list[str]()
    first = Study(peak, trials=6, journal=journal, about="peak", say=told.append)
    begun = search_hypers(SCHEDULE, distances=DISTANCES, objective="score", study=first)
    assert len(told) == 6
    rest = Study(peak, trials=30, journal=journal, about="peak", say=told.append, plots=tmp_path / "plots")
    found = search_hypers(SCHEDULE, distances=DISTANCES, objective="score", study=rest)
    assert len(told) == 30
    assert "trial 30 of 30" in told[-1]
    assert found.value >= begun.value
    assert found.value > 29.5
    assert peak(found.v1, found.v2, found.v3) == pytest.approx(found.value)
    again = search_hypers(SCHEDULE, distances=DISTANCES, objective="score", study=rest)
    assert (again.value, again.v1, again.v3) == (found.value, found.v1, found.v3)
    assert len(told) == 30, "nothing was tried again"
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"history.png", "contour.png"}


def test_optuna_and_matplotlib_stay_as_the_caller_set_them(tmp_path: Path) -> None:
    verbosity, backend = optuna.logging.get_verbosity(), pyplot.get_backend()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    pyplot.switch_backend("svg")
    try:
        Study(peak, trials=4, plots=tmp_path / "plots").run()
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
        assert pyplot.get_backend() == "svg"
        assert (tmp_path / "plots" / "history.png").exists()
    finally:
        optuna.logging.set_verbosity(verbosity)
        pyplot.switch_backend(backend)


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "study.log"
    Study(peak, trials=1, journal=journal, about="one").run()
    kept = journal.read_bytes()
    with pytest.raises(FileError, match="of other settings or scenes"):
        Study(peak, trials=2, journal=journal, about="another").run()
    assert journal.read_bytes() == kept


@pytest.mark.parametrize("content", [b"{", b"\x80\x04\x95", b'{"op_code": 77}\n', b"[1, 2]\n", b"null\n"])
def test_a_damaged_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    journal = tmp_path / "study.log"
    journal.write_bytes(content)
    with pytest.raises(FileError, match="study.log"):
        Study(peak, trials=1, journal=journal).run()
    assert journal.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"objective": "best"}, "objective 'best' is not known"),
        ({"objective": "calibrated"}, "'calibrated' and measured belong together"),
        ({"objective": "score"}, "'score' and study belong together"),
        ({"measured": LambdaTable.constant(1, SCHEDULE, 5)}, "belong together"),
        ({"objective": "score", "study": Study(peak), "rule": "released"}, "only objective 'coverage'"),
        ({"objective": "score", "study": Study(peak), "v1": [1.0]}, "grids of v1"),
    ],
)
def test_what_does_not_go_together(arguments: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        search_hypers(SCHEDULE, distances=DISTANCES, **arguments)


def test_a_study_has_trials() -> None:
    with pytest.raises(ConfigError, match="trials is 0"):
        Study(peak, trials=0)
