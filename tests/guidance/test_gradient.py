"""The posterior gradient: the released arrays, the closed form, tiles, and what leaves x alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from mvguide.diffusion.denoiser import CfgDenoiser, GaussianDenoiser
from mvguide.diffusion.path import CosineVP, FlowMatching, NoisePath, VarianceExploding
from mvguide.diffusion.sampler import sample
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, load_sigmas
from mvguide.diffusion.solvers import Heun, Step
from mvguide.errors import ConfigError, NumericalError
from mvguide.guidance.gradient import PosteriorGradient
from mvguide.guidance.guides import NoGuidance, bind, make_guide, report
from mvguide.guidance.targets import MaskOptions, Targets
from mvguide.guidance.tiles import make_tiles
from mvguide.tables.table import LambdaTable

DATA = Path(__file__).parents[1] / "data"
SCHEDULE = SigmaSchedule(karras_sigmas(6))
FRAMES, SHAPE = 5, (1, 5, 4, 12, 14)
PATHS = [VarianceExploding(), CosineVP(), FlowMatching()]
HALF = torch.tensor(0.5, dtype=torch.float64)


def make_targets(share: float = 0.7, seed: int = 0) -> Targets:
    generator = torch.Generator().manual_seed(seed)
    visible = (torch.rand(FRAMES, 1, *SHAPE[-2:], generator=generator) < share).float()
    pinned = torch.tensor([True] + [False] * (FRAMES - 1))
    return Targets(torch.randn(SHAPE[1:], generator=generator), visible, pinned)


def table(weight: float) -> LambdaTable:
    return LambdaTable(torch.full((6, FRAMES), weight), SCHEDULE.levels)


def gaussian(path: NoisePath = PATHS[0]) -> GaussianDenoiser:
    generator = torch.Generator().manual_seed(3)
    mean, std = torch.randn(SHAPE[2:], generator=generator), 0.3 + torch.rand(SHAPE[2:], generator=generator)
    return GaussianDenoiser(mean, std, path)


class Local:
    """A network that sees only its 3 x 3 neighbours."""

    path = PATHS[0]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        kernel = torch.tensor([[0.02, 0.05, 0.02], [0.05, 0.6, 0.05], [0.02, 0.05, 0.02]]).expand(4, 1, 3, 3)
        return torch.tanh(conv2d(x.flatten(0, 1), kernel, padding=1, groups=4)).view_as(x)

    def window(self, rows: slice, columns: slice) -> "Local":
        return self


class Waves:
    """The network of the golden files."""

    path = PATHS[0]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        scaled = x / (sigma**2 + 1).sqrt()
        return self.path.to_denoised(0.3 * scaled.sin() + 0.1 * scaled, x, sigma, "v")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_move_is_the_released_one(number: int) -> None:
    golden = np.load(DATA / f"euler_step_{number}.npz", allow_pickle=False)
    weights = np.load(DATA / "single_view_tables.npz", allow_pickle=False)["lambda_25"]
    levels = load_sigmas("sigmas_25").levels
    warped = torch.from_numpy(golden["warped_latents"])[0]
    targets = Targets(warped, torch.ones_like(warped[:, :1]), torch.zeros(len(warped), dtype=torch.bool))
    released = LambdaTable(torch.from_numpy(weights), levels)
    guide = PosteriorGradient(floor=float(golden["weight_clamp"]), step_size=float(golden["lr"]))
    x = torch.from_numpy(golden["x"])
    with torch.no_grad():  # as in the pipeline
        sigma = torch.tensor(float(golden["sigma"]), dtype=torch.float64)
        move = guide.move(Waves(), x, sigma, targets, released)
    np.testing.assert_allclose(move.numpy(), golden["post_grad"], atol=1e-4)
    np.testing.assert_allclose(move.numpy(), golden["post_grad"], atol=2e-6 * golden["post_grad"].max(), rtol=1e-4)


@pytest.mark.parametrize("path", PATHS, ids=["VE", "VP", "flow"])
def test_the_gradient_is_the_closed_form(path: NoisePath) -> None:
    """D is linear in x with slope gain, so g is a multiple of ``gain m (D - X)``."""
    targets, denoiser = make_targets(), gaussian(path)
    guide = PosteriorGradient(step_size=0.1, hole_weight=0.25)
    x = torch.randn(SHAPE)
    alpha = path.alpha(HALF)
    gain = alpha * denoiser.std**2 / (alpha**2 * denoiser.std**2 + HALF**2)
    importance = targets.mask + 0.25 * (1 - targets.mask)
    expected = 2 * importance * gain * (denoiser(x, HALF) - targets.latents)
    found = guide.gradient(denoiser, x, HALF, targets, table(1.0))
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-4)
    move = guide.move(denoiser, x, HALF, targets, table(1.0))
    torch.testing.assert_close(move, (0.1 * (alpha * HALF).sqrt() * expected / expected.std()).float())
    assert float(move.std()) == pytest.approx(0.1 * float((alpha * HALF).sqrt()), rel=1e-4)
    # Each element on its own comes nearer: the denoiser does not mix them.
    before, after = denoiser(x, HALF), denoiser(x - 0.01 * expected.float(), HALF)
    # Elements that are there already may move by their rounding.
    away = (targets.mask.expand(SHAPE) > 0) & ((before - targets.latents).abs() > 1e-3)
    assert ((after - targets.latents).abs() < (before - targets.latents).abs())[away].all()


def test_a_share_moves_only_what_agrees_best() -> None:
    targets, denoiser = make_targets(), gaussian()
    x = torch.randn(SHAPE)
    moved = PosteriorGradient(floor=0.25).gradient(denoiser, x, HALF, targets, table(0.0)) != 0
    distance = (denoiser(x, HALF) - targets.latents).abs()
    assert moved[0, 0].all(), "the pinned frame counts whole"
    for frame in range(1, FRAMES):
        seen = targets.seen[frame].expand(SHAPE[2:])
        assert int(moved[0, frame].sum()) == int(0.25 * seen.sum())
        assert not moved[0, frame][~seen].any()
        assert distance[0, frame][moved[0, frame]].max() <= distance[0, frame][seen & ~moved[0, frame]].min()


def test_without_the_network_it_is_the_error_itself() -> None:
    targets, denoiser = make_targets(), gaussian()
    guide = PosteriorGradient(through_network=False)
    x = torch.randn(SHAPE)
    found = guide.gradient(denoiser, x, HALF, targets, table(1.0))
    torch.testing.assert_close(found, targets.mask * (denoiser(x, HALF) - targets.latents))


@pytest.mark.parametrize("settings", [{"step_size": 0.0}, {"floor": 0.0}], ids=["no step", "no weight"])
def test_nothing_to_do_is_no_guidance(settings: dict) -> None:
    targets = replace(make_targets(), pinned=torch.zeros(FRAMES, dtype=torch.bool))
    guidance = bind(PosteriorGradient(**settings), targets, table(0.0 if "floor" in settings else 1.0))
    x = 700 * torch.randn(SHAPE)
    free = sample(gaussian(), x, SCHEDULE, guidance=NoGuidance())
    assert torch.equal(sample(gaussian(), x, SCHEDULE, guidance=guidance), free)


def test_it_draws_the_result_to_the_target() -> None:
    targets = make_targets(1.0)
    x = 700 * torch.randn(SHAPE)

    def error(step_size: float) -> float:
        guidance = bind(PosteriorGradient(step_size=step_size), targets, table(1.0))
        schedule = SigmaSchedule(karras_sigmas(30))
        return float((sample(gaussian(), x, schedule, guidance=guidance) - targets.latents).pow(2).mean())

    assert error(0.2) < 0.9 * error(0.05) < 0.9 * error(0.0)


def test_the_gradient_is_of_the_conditional_half_and_the_estimate_has_both() -> None:
    calls: list[tuple[str, bool]] = []

    class Half:
        path = PATHS[0]

        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
            calls.append((self.name, x.requires_grad))
            return 0.5 * x

    both = CfgDenoiser(Half("with"), Half("without"), torch.full((FRAMES,), 2.0))
    with torch.no_grad():
        step = Step(0, 6, HALF, 0.5 * HALF)
        guided = PosteriorGradient()(both, torch.randn(SHAPE), step, make_targets(), table(1.0))
    assert calls == [("with", True), ("with", False), ("without", False)]
    assert not guided.x.requires_grad
    assert not guided.denoised.requires_grad


def test_the_second_evaluation_of_heun_does_not_move_x() -> None:
    guide, targets = PosteriorGradient(step_size=0.5), make_targets()
    x = torch.randn(SHAPE)
    end = Step(2, 6, 0.5 * HALF, 0.5 * HALF)
    assert guide(gaussian(), x, end, targets, table(1.0)).x is x
    assert not torch.equal(guide(gaussian(), x, replace(end, sigma=HALF), targets, table(1.0)).x, x)
    # With a vanishing step it converges to the unguided solution: the moves do not break the solver.
    x = 700 * torch.randn(SHAPE)
    free = sample(gaussian(), x, SCHEDULE, Heun())
    near = sample(gaussian(), x, SCHEDULE, Heun(), bind(replace(guide, step_size=1e-6), targets, table(1.0)))
    torch.testing.assert_close(near, free, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("height", "width", "count"), [(12, 14, 1), (12, 14, 2), (7, 9, 5), (72, 128, 6), (9, 8, 63)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_cover_every_cell_with_weights_that_sum_to_one(
    height: int, width: int, count: int, overlap: float
) -> None:
    tiles = make_tiles(height, width, count, overlap)
    assert len(tiles) == count
    total = torch.zeros(height, width)
    for tile in tiles:
        assert tile.weight.min() > 0
        total[tile.rows, tile.columns] += tile.weight
    torch.testing.assert_close(total, torch.ones(height, width))


def test_two_tiles_fade_into_each_other() -> None:
    left, right = make_tiles(4, 30, 2, 0.4)
    line = torch.zeros(30)
    line[left.columns] = left.weight[0]
    assert (line.diff() <= 1e-6).all()
    assert line.diff().abs().max() < 0.35
    assert right.columns.start < left.columns.stop


@pytest.mark.parametrize("count", [2, 3, 4, 6, 9])
def test_tiles_give_the_untiled_gradient(count: int) -> None:
    """Exactly where cells do not mix; nearly where they see their neighbours; which elements count is the same."""
    x, targets = torch.randn(SHAPE), make_targets()
    whole = PosteriorGradient()
    found = replace(whole, tiles=count).gradient(gaussian(), x, HALF, targets, table(0.6))
    expected = whole.gradient(gaussian(), x, HALF, targets, table(0.6))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    expected = whole.gradient(Local(), x, HALF, targets, table(1.0))
    found = replace(whole, tiles=count, tile_overlap=0.5).gradient(Local(), x, HALF, targets, table(1.0))
    assert (found - expected).pow(2).mean().sqrt() < 0.05 * expected.std()


def test_what_cannot_be_is_refused() -> None:
    targets = make_targets()
    for settings, sentence in [
        ({"floor": -0.1}, "floor is -0.1"),
        ({"step_size": -1.0}, "step_size is -1"),
        ({"tiles": 0}, "tiles is 0"),
        ({"tile_overlap": 0.9}, "tile_overlap is 0.9"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            PosteriorGradient(**settings)  # type: ignore[arg-type]
    x = torch.randn(SHAPE)
    with pytest.raises(ConfigError, match="tiles is 17, which no grid fits into 14 x 12 latent cells"):
        PosteriorGradient(tiles=17).gradient(Local(), x, HALF, targets, table(1.0))
    with pytest.raises(ConfigError, match="cannot be cut into tiles"):
        PosteriorGradient(tiles=2).gradient(Waves(), x, HALF, targets, table(1.0))
    for settings in ({"mask": "fuzzy"}, {"cell_coverage": 0.0}, {"ramp": -1.0}, {"confidence": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            MaskOptions(**settings)


def test_by_name_with_all_its_options() -> None:
    guide = make_guide("posterior_gradient", floor=0.1, step_size=0.3, tiles=2, checkpointing=False)
    assert guide == PosteriorGradient(floor=0.1, step_size=0.3, tiles=2, checkpointing=False)
    found = report(guide)
    assert found["guidance"] == "posterior_gradient"
    assert found["step_size"] == 0.3


def test_values_that_are_not_finite_stop_the_run() -> None:
    """One of them made the spread NaN, and switched guidance off without a word."""

    class Overflows(Waves):
        def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
            found = super().__call__(x, sigma).clone()
            found[0, 1, 0, 0, 0] = torch.inf * x[0, 1, 0, 0, 0]
            return found

    x = torch.randn(SHAPE)
    with pytest.raises(NumericalError, match="posterior gradient is not finite at sigma 0.5; use dtype bfloat16"):
        PosteriorGradient().move(Overflows(), x, HALF, make_targets(1.0), table(1.0))
    with pytest.raises(NumericalError, match=r"latents are not finite after step 1 of 6 \(sigma 700\)"):
        sample(Overflows(), 700 * x, SCHEDULE)
