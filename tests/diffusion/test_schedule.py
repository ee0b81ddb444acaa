"""Schedules: the published files, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvguide.diffusion.schedule import SigmaSchedule, flow_sigmas, karras_sigmas, load_sigmas, save_sigmas
from mvguide.errors import FileError, InputError, MvguideError

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "sigmas.npz", allow_pickle=False)


@pytest.mark.parametrize("num_steps", [25, 50, 100])
def test_packaged_schedules_are_the_published_ones(num_steps: int) -> None:
    golden = GOLDEN[f"sigmas_{num_steps}"]
    schedule = load_sigmas(f"sigmas_{num_steps}")
    assert len(schedule) == num_steps
    assert schedule.sigmas.shape == (num_steps + 1,)
    np.testing.assert_array_equal(schedule.sigmas.numpy().astype(np.float32), golden)
    np.testing.assert_array_equal(karras_sigmas(num_steps).numpy().astype(np.float32), golden)


def test_save_and_load(tmp_path: Path) -> None:
    save_sigmas(tmp_path / "s.npy", SigmaSchedule(karras_sigmas(7, 0.01, 80.0)))
    again = load_sigmas(tmp_path / "s.npy")
    torch.testing.assert_close(again.sigmas, karras_sigmas(7, 0.01, 80.0), rtol=1e-6, atol=0)


def test_a_file_without_the_zero_gets_it(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.array([3.0, 2.0, 1.0]))
    assert load_sigmas(tmp_path / "s.npy").sigmas.tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1.0, 2.0, 0.0], "must decrease strictly, but value 1 .2. follows 1"),
        ([2.0, 2.0, 0.0], "must decrease strictly"),
        ([2.0, float("nan"), 0.0], "NaN"),
        ([float("inf"), 1.0, 0.0], "infinite"),
        ([[2.0, 1.0, 0.0]], "one row of noise levels"),
        ([0.0], "at least one level"),
        ([1.0, -1.0], "ends with -1"),
        ([1.0, 0.5, 0.0, -0.1], "ends with -0.1"),
        ([], "at least one level"),
    ],
)
def test_what_is_not_a_schedule_is_refused(tmp_path: Path, values: list, sentence: str) -> None:
    np.save(tmp_path / "s.npy", np.array(values))
    with pytest.raises(InputError, match=sentence):
        load_sigmas(tmp_path / "s.npy")


def test_missing_text_and_pickled_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="neither a file nor one of sigmas_100, sigmas_25, sigmas_50"):
        load_sigmas("sigmas_26")
    (tmp_path / "text.npy").write_text("700 500 0")
    with pytest.raises(FileError, match="cannot be read .* save it as a plain array"):
        load_sigmas(tmp_path / "text.npy")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="cannot be read .* save it as a plain array"):
        load_sigmas(tmp_path / "pickled.npy")
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    with pytest.raises(FileError, match="array of numbers"):
        load_sigmas(tmp_path / "words.npy")
    with pytest.raises(FileError, match="neither a file"):
        load_sigmas(tmp_path)


@settings(max_examples=200, deadline=None)
@given(garbage=st.binary(max_size=300), flip=st.integers(0, 200), keep_header=st.booleans())
def test_garbage_is_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, flip: int, keep_header: bool
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    path = folder / "s.npy"
    np.save(path, np.array([2.0, 1.0, 0.0]))
    data = bytearray(path.read_bytes())
    if keep_header:
        data[flip % len(data)] ^= 0x5A
        data = data[: len(data) - len(garbage) % 9]
    else:
        data = bytearray(garbage)
    path.write_bytes(bytes(data))
    try:
        load_sigmas(path)
    except MvguideError as error:
        assert len(str(error)) > 20


@pytest.mark.parametrize("arguments", [(0,), (5, 1.0, 0.5), (5, 0.0, 1.0), (5, 0.1, 1.0, 0.0), (5, 0.1, float("inf"))])
def test_karras_arguments(arguments: tuple) -> None:
    with pytest.raises(InputError):
        karras_sigmas(*arguments)


def test_flow_sigmas_start_at_one_and_refuse_no_steps() -> None:
    assert flow_sigmas(4, shift=2.0)[0] == 1
    assert SigmaSchedule(flow_sigmas(4, shift=2.0)).sigmas[-1] == 0
    with pytest.raises(InputError):
        flow_sigmas(0)
