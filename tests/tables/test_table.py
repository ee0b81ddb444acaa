"""LambdaTable: shapes, lookup by sigma, files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, load_sigmas
from mvguide.errors import FileError, InputError, MvguideError
from mvguide.tables.table import LambdaTable, lambda_to_weight, weight_to_lambda

SCHEDULE = load_sigmas("sigmas_25")


def table(num_frames: int = 14) -> LambdaTable:
    return LambdaTable(torch.rand(25, num_frames, dtype=torch.float64), SCHEDULE.levels, source="random")


def test_the_wrong_shape_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError) as caught:
        table(14).check(SCHEDULE, 25)
    assert str(caught.value) == (
        "lambda table has 25 rows x 14 columns, but the schedule has 25 steps and the video 25 frames; "
        "run search_hypers with num_frames=25"
    )
    table(14).check(SCHEDULE, 14)


def test_a_table_of_other_sigmas_is_refused() -> None:
    with pytest.raises(InputError, match="run search_hypers with this schedule"):
        table(14).check(SigmaSchedule(karras_sigmas(25, 0.01, 80.0)), 14)


def test_rows_are_found_by_sigma() -> None:
    t = table()
    for i, sigma in enumerate(SCHEDULE.levels):
        torch.testing.assert_close(t.row(sigma), t.weights[i])
        torch.testing.assert_close(t.row(sigma * 1.001), t.weights[i])
    torch.testing.assert_close(t.row(torch.tensor(0.0)), t.weights[-1])
    torch.testing.assert_close(t.row(torch.tensor(1e9)), t.weights[0])


def test_save_and_load(tmp_path: Path) -> None:
    t = table()
    t.save(tmp_path / "t.npz")
    again = LambdaTable.load(tmp_path / "t.npz")
    assert torch.equal(again.weights, t.weights)
    assert torch.equal(again.sigmas, t.sigmas)
    assert again.source == "random"


def test_constant_keeps_the_first_frame() -> None:
    t = LambdaTable.constant(0.25, SCHEDULE, 4)
    assert (t.weights[:, 0] == 1).all()
    assert (t.weights[:, 1:] == 0.25).all()
    with pytest.raises(InputError, match="weight is 2;"):
        LambdaTable.constant(2.0, SCHEDULE, 4)


@pytest.mark.parametrize(
    ("weights", "sigmas", "sentence"),
    [
        (torch.rand(3), torch.tensor([3.0, 2, 1]), "noise levels x frames"),
        (torch.rand(3, 2), torch.tensor([3.0, 2]), "one for each row"),
        (torch.full((3, 2), 1.5), torch.tensor([3.0, 2, 1]), "outside .0, 1."),
        (torch.full((3, 2), float("nan")), torch.tensor([3.0, 2, 1]), "outside .0, 1."),
        (torch.rand(3, 2), torch.tensor([1.0, 2, 3]), "strictly decreasing"),
    ],
)
def test_what_is_not_a_table_is_refused(weights: torch.Tensor, sigmas: torch.Tensor, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        LambdaTable(weights, sigmas)


def test_lambda_and_weight_are_inverse() -> None:
    weight = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(lambda_to_weight(weight_to_lambda(weight)), weight)


def test_files_that_are_not_tables(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="make one with: mvguide search-hypers"):
        LambdaTable.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(FileError, match="'weights' and 'sigmas'"):
        LambdaTable.load(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", weights=np.array([{}], dtype=object), sigmas=np.ones(1))
    with pytest.raises(FileError, match="cannot be read"):
        LambdaTable.load(tmp_path / "pickled.npz")
    np.savez(tmp_path / "words.npz", weights=np.array([["a"]]), sigmas=np.ones(1))
    with pytest.raises(FileError, match="must be numbers"):
        LambdaTable.load(tmp_path / "words.npz")


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255), cut=st.integers(0, 2000), whole=st.booleans())
def test_damaged_files_are_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, cut: int, whole: bool
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "t.npz"
    LambdaTable.constant(0.5, SCHEDULE, 3).save(path)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= value
    path.write_bytes(bytes(data if whole else data[: cut % len(data)]))
    try:
        LambdaTable.load(path)
    except MvguideError as error:
        assert len(str(error)) > 20
