"""The oracle's weights against brute force, and what it keeps of a run."""

from pathlib import Path

import pytest
import torch

from mvguide.diffusion.denoiser import GaussianDenoiser
from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.sampler import sample
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.diffusion.solvers import Heun, Step
from mvguide.guidance.guides import Blend, bind
from mvguide.guidance.targets import Targets
from mvguide.tables.table import LambdaTable
from tools.quality.oracle import ErrorMoments, OracleBlend, describe, oracle_weight, pooled_table

F, C, H = 4, 3, 6
SCHEDULE = SigmaSchedule(karras_sigmas(6, 0.05, 20.0))
GRID = torch.linspace(0, 1, 101, dtype=torch.float64)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def targets(seed: int = 1, soft: bool = False) -> Targets:
    """Truth plus an error that grows with the frame; frame 0 pinned, frame 3 without a seen cell."""
    size = torch.tensor([0.0, 0.2, 0.6, 1.0]).view(-1, 1, 1, 1)
    visible = torch.rand(F, 1, H, H, generator=torch.Generator().manual_seed(seed))
    visible = torch.where(visible > 0.3, visible if soft else 1.0, 0.0)
    visible[3] = 0
    return Targets(truth() + size * normal(seed, F, C, H, H), visible, torch.arange(F) == 0)


def guided(aim: Targets) -> torch.Tensor:
    """The cells that count, ``[F, 1, h, w]`` bool."""
    return (aim.visible > 0) & ~aim.pinned.view(-1, 1, 1, 1)


def constant(weight: float) -> LambdaTable:
    return LambdaTable.constant(weight, SCHEDULE, F)


def truth() -> torch.Tensor:
    return normal(0, F, C, H, H)


def denoiser() -> GaussianDenoiser:
    # Its prior is near the truth, so that model and target err by alike amounts.
    return GaussianDenoiser(truth() + 0.5 * normal(9, F, C, H, H), torch.tensor(0.3), VarianceExploding())


def test_the_weight_is_the_one_of_least_error() -> None:
    for seed in range(20):
        own, other = normal(seed, 50).double(), normal(seed + 100, 50).double()
        other = 0.7 * own + (0.2 + 0.1 * seed) * other if seed % 2 else 0.3 * other - 0.4 * own
        a, b, c = (own * own).mean(), (other * other).mean(), (own * other).mean()
        errors = torch.stack([((1 - w) * own + w * other).square().mean() for w in GRID])
        assert oracle_weight(a, b, c).item() == pytest.approx(GRID[errors.argmin()].item(), abs=0.0051)


def test_weights_are_clamped_and_undefined_where_all_are_alike() -> None:
    one = torch.ones(3)
    # Model right; target right; the two the same.
    found = oracle_weight(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 1.0]))
    assert found[:2].tolist() == [0, 1]
    assert found[2].isnan()
    assert oracle_weight(one, 4 * one, 1.5 * one).tolist() == [0, 0, 0]
    assert oracle_weight(4 * one, one, 1.5 * one).tolist() == [1, 1, 1]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("sigma", [5.0, 0.5])
def test_no_constant_is_better_at_any_step(sigma: float, soft: bool) -> None:
    aim, x = targets(soft=soft), (truth() + sigma * normal(3, 1, F, C, H, H))
    step = Step(0, 1, torch.tensor(sigma, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
    schedule = SigmaSchedule(torch.tensor([sigma, 0]))

    def errors(guide: Blend | OracleBlend, weight: float) -> torch.Tensor:
        table = LambdaTable.constant(weight, schedule, F)
        wrong = (guide(denoiser(), x, step, aim, table).denoised - truth()).square()
        return torch.where(guided(aim), wrong, 0.0).sum((0, 2, 3, 4))

    best = errors(OracleBlend(truth()), 1.0)
    constants = torch.stack([errors(Blend(), float(weight)) for weight in GRID])
    assert (best <= constants.amin(0) * (1 + 1e-5)).all()
    assert (best[1:3] < constants[0, 1:3]).all()
    # A soft mask has weakened the target already, and may leave nothing to weaken.
    assert soft or ((best[1:3] < constants[-1, 1:3]).all() and constants.argmin(0)[2] < constants.argmin(0)[1])


def test_a_run_is_kept_level_by_level(tmp_path: Path) -> None:
    aim = targets()
    for solver in (None, Heun()):
        guide = OracleBlend(truth())
        sample(denoiser(), 20 * normal(5, 1, F, C, H, H), SCHEDULE, solver, bind(guide, aim, constant(1.0)))
        moments = guide.moments(SCHEDULE)
        assert moments.weights.shape == (6, F)
        assert moments.cells.tolist() == [0, *aim.visible[1:3].sum((1, 2, 3)).tolist(), 0]
        assert moments.weights[:, [0, 3]].isnan().all()
        assert ((moments.weights[:, 1:3] >= 0) & (moments.weights[:, 1:3] <= 1)).all()
        # The target's error is that of the encoded warp, at every level.
        seen = aim.visible[1].bool().expand(C, -1, -1)
        wanted = (aim.latents - truth())[1][seen].square().mean()
        torch.testing.assert_close(moments.b[:, 1], wanted.double().expand(6))
        moments.save(tmp_path / "walk.npz")
        again = ErrorMoments.load(tmp_path / "walk.npz")
        torch.testing.assert_close(again.weights, moments.weights, equal_nan=True)
        assert torch.equal(again.cells, moments.cells)


def test_a_run_with_the_oracle_ends_nearer_to_the_truth() -> None:
    aim, x = targets(), 20 * normal(5, 1, F, C, H, H)

    def error(guide: Blend | OracleBlend, weight: float) -> float:
        wrong = (sample(denoiser(), x, SCHEDULE, None, bind(guide, aim, constant(weight))) - truth()).square()
        return torch.where(guided(aim), wrong, 0.0).sum().item()

    best = error(OracleBlend(truth()), 1.0)
    for weight in (0.0, 0.5, 1.0):
        assert best < error(Blend(), weight)


def walked(seed: int) -> ErrorMoments:
    guide = OracleBlend(truth())
    noise = 20 * normal(seed, 1, F, C, H, H)
    sample(denoiser(), noise, SCHEDULE, None, bind(guide, targets(seed), constant(1.0)))
    return guide.moments(SCHEDULE)


def test_the_pooled_table_has_the_least_summed_error() -> None:
    scenes = [walked(1), walked(2), walked(3)]
    table = pooled_table(scenes, "test")
    assert table.weights[:, [0, 3]].eq(1).all()
    for row in range(len(SCHEDULE)):
        for frame in (1, 2):
            summed = torch.zeros_like(GRID)
            for scene in scenes:
                a, b, c = (m[row, frame] for m in (scene.a, scene.b, scene.c))
                summed += scene.cells[frame] * ((1 - GRID) ** 2 * a + GRID**2 * b + 2 * GRID * (1 - GRID) * c)
            assert table.weights[row, frame].item() == pytest.approx(GRID[summed.argmin()].item(), abs=0.0051)
    assert not torch.allclose(table.weights[:, 1:3], scenes[0].weights[:, 1:3], atol=1e-3)


def test_the_description_shows_means_and_errors() -> None:
    scenes = [walked(1), walked(2)]
    lines = describe(scenes).splitlines()
    assert lines[0] == "| sigma | model's rms error | warp's | frame 1 | frame 2 | mean |"
    assert len(lines) == 2 + len(SCHEDULE)
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    weights = torch.stack([scene.weights[0, 1:3] for scene in scenes])
    assert cells[3:] == [*(f"{float(w):.2f}" for w in weights.mean(0)), f"{float(weights.mean()):.2f}"]
    error = sum((scene.b[0, 1:3] * scene.cells[1:3]).sum() for scene in scenes)
    assert cells[2] == f"{float((error / sum(scene.cells.sum() for scene in scenes)) ** 0.5):.3f}"
    assert len(describe(scenes, rows=[0, 5]).splitlines()) == 4
