"""search_hypers: the published tables to the last digit, and its counting against plain evaluation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, load_sigmas
from mvguide.errors import ConfigError, InputError
from mvguide.tables.rules import RULES, RuleName, exact_lambda, released_lambda
from mvguide.tables.search import V1_GRID, V2_GRID, V3_GRID, search_hypers

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("num_steps", [25, 50, 100])
def test_single_view_tables_are_the_published_ones(num_steps: int) -> None:
    golden = np.load(DATA / "single_view_tables.npz", allow_pickle=False)
    found = search_hypers(load_sigmas(f"sigmas_{num_steps}"), num_frames=25)
    np.testing.assert_allclose(found.table.weights.numpy(), golden[f"lambda_{num_steps}"], atol=1e-9, rtol=0)
    np.testing.assert_allclose([found.v1, found.v2, found.v3], golden[f"v_{num_steps}"], rtol=1e-12)
    assert found.coverage == (golden[f"lambda_{num_steps}"][:, 1:] > 0.5).mean()


def test_two_view_table_is_the_published_one() -> None:
    golden = np.load(DATA / "two_view_table_25.npz", allow_pickle=False)
    found = search_hypers(load_sigmas("sigmas_25"), distances=golden["distances"])
    np.testing.assert_allclose(found.table.weights.numpy(), golden["lambda_25"], atol=1e-9, rtol=0)
    np.testing.assert_allclose([found.v1, found.v2, found.v3], golden["v_25"], rtol=1e-12)


def plain_search(
    schedule: SigmaSchedule,
    share: np.ndarray,
    rule: str,
    v1s: Sequence[float],
    v2s: Sequence[float],
    v3s: Sequence[float],
) -> tuple:
    """The triple loop as one would write it down: evaluate every cell of every triple."""
    levels = schedule.levels.numpy() / schedule.levels[0].item()
    best, best_count = None, -1
    for v1 in v1s:
        for v2 in v2s:
            for v3 in v3s:
                q = (v3 * share[None, share > 0] - v2 * levels[:, None]) / v1
                lambda_ = RULES[rule].lambda_of(q)
                if np.isnan(lambda_).any():
                    continue
                count = int((lambda_ / (1 + lambda_) > 0.5).sum())
                if count > best_count:
                    best, best_count = (v1, v2, v3), count
    return best, best_count


@pytest.mark.parametrize("rule", ["released", "exact"])
@settings(max_examples=12, deadline=None)
@given(num_steps=st.integers(1, 12), num_frames=st.integers(2, 12), seed=st.integers(0, 100))
def test_counting_equals_evaluating(rule: RuleName, num_steps: int, num_frames: int, seed: int) -> None:
    schedule = SigmaSchedule(karras_sigmas(num_steps, 0.02, 50.0))
    distances = np.random.default_rng(seed).uniform(0.05, 1, num_frames)
    distances[0] = 0
    share = distances / distances.max()
    grids = V1_GRID[::3], V2_GRID[::4], V3_GRID[::3]
    best, count = plain_search(schedule, share, rule, *grids)
    if best is None:
        with pytest.raises(InputError, match="use rule 'exact'"):
            search_hypers(schedule, distances=distances, rule=rule, v1=grids[0], v2=grids[1], v3=grids[2])
        return
    found = search_hypers(schedule, distances=distances, rule=rule, v1=grids[0], v2=grids[1], v3=grids[2])
    assert (found.v1, found.v2, found.v3) == best
    assert found.coverage == pytest.approx(count / (num_steps * (num_frames - 1)))


def test_released_rule_answers_exactly_where_it_is_said_to() -> None:
    q = np.concatenate([np.linspace(-20, 20, 4001), [-5.0, 5.0625, np.nextafter(-5.0, 0), np.nextafter(5.0625, 0)]])
    answered = np.isfinite(released_lambda(q))
    far = (np.abs(q + 5) > 1e-9) & (np.abs(q - 5.0625) > 1e-9)
    np.testing.assert_array_equal(answered[far], ((q < -5) | (q > 5.0625))[far])
    lambda_ = released_lambda(q[answered])
    np.testing.assert_array_equal(lambda_ > 1, q[answered] <= -5)


def test_exact_rule_is_the_minimum() -> None:
    grid = np.exp(np.linspace(-9, 9, 400_001))
    for q in (-300.0, -10.0, -4.5, -4.0, -1.0, 0.0, 2.0, 4.0, 7.0, 300.0):
        cost = grid / (1 + grid) * q + np.abs(np.log(grid))
        assert np.log(exact_lambda(np.array(q))) == pytest.approx(np.log(grid[cost.argmin()]), abs=1e-4)
        assert exact_lambda(np.array(-q)) == pytest.approx(1 / exact_lambda(np.array(q)))


@pytest.mark.parametrize("rule", ["released", "exact"])
@pytest.mark.parametrize(("num_steps", "num_frames"), [(1, 2), (3, 81), (25, 8), (50, 14), (200, 121)])
def test_any_number_of_steps_and_frames(rule: RuleName, num_steps: int, num_frames: int) -> None:
    table = search_hypers(SigmaSchedule(karras_sigmas(num_steps)), num_frames=num_frames, rule=rule).table
    assert table.weights.shape == (num_steps, num_frames)
    assert (table.weights[:, 0] == 1).all()
    assert (table.weights.diff(dim=1) <= 0).all(), "farther frames must trust the warp less"
    assert (table.weights.diff(dim=0) <= 0).all(), "cleaner levels must trust the warp less"


def test_a_standing_camera_has_weight_one() -> None:
    found = search_hypers(load_sigmas("sigmas_25"), distances=[0.0, 0.0, 0.0])
    assert (found.table.weights == 1).all()
    assert found.coverage == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "either num_frames or distances"),
        ({"num_frames": 3, "distances": [0, 1, 2]}, "either num_frames or distances"),
        ({"num_frames": 1}, "at least 2 frames"),
        ({"distances": [0.0, -1.0]}, "one finite distance >= 0"),
        ({"distances": [0.0, float("nan")]}, "one finite distance >= 0"),
        ({"distances": [[0.0, 1.0]]}, "one finite distance >= 0"),
        ({"num_frames": 4, "v1": []}, "the grid of v1"),
        ({"num_frames": 4, "v2": [-1.0]}, "the grid of v2"),
    ],
)
def test_bad_arguments(arguments: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        search_hypers(load_sigmas("sigmas_25"), **arguments)


def test_unknown_rule_and_impossible_grid() -> None:
    with pytest.raises(ConfigError, match="rule 'best' is not known"):
        search_hypers(load_sigmas("sigmas_25"), num_frames=4, rule="best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="use rule 'exact'"):
        search_hypers(load_sigmas("sigmas_25"), num_frames=25, v1=[100.0])
