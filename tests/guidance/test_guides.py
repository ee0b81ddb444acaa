"""Guides: the released steps, masks, pins, and their place in the loop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mvguide.diffusion.denoiser import Denoiser, GaussianDenoiser
from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.sampler import sample
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, load_sigmas
from mvguide.diffusion.solvers import DpmPp2M, FirstOrder, Guided, Heun, Solver, Step, first_order
from mvguide.errors import ConfigError, InputError
from mvguide.guidance.guides import GUIDES, Blend, Guide, NoGuidance, TopShare, bind, make_guide, report
from mvguide.guidance.targets import Targets
from mvguide.tables.table import LambdaTable

DATA = Path(__file__).parents[1] / "data"
PATH = VarianceExploding()
SCHEDULE = SigmaSchedule(karras_sigmas(6))
FRAMES, SHAPE = 5, (1, 5, 4, 6, 8)


class FixedOutput:
    """A network that says what the golden file says."""

    path = PATH

    def __init__(self, output: torch.Tensor) -> None:
        self.output = output

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return PATH.to_denoised(self.output, x, sigma, "v")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_top_share_takes_the_released_step(number: int) -> None:
    golden = np.load(DATA / f"euler_step_{number}.npz", allow_pickle=False)
    weights = np.load(DATA / "single_view_tables.npz", allow_pickle=False)["lambda_25"]
    table = LambdaTable(torch.from_numpy(weights), load_sigmas("sigmas_25").levels)
    x = torch.from_numpy(golden["x"])
    warped = torch.from_numpy(golden["warped_latents"])[0]
    # The released code pins frame 0 by giving it weight 1 in the table, and sees every cell here.
    pinned = torch.zeros(len(warped), dtype=torch.bool)
    targets = Targets(warped, torch.ones_like(warped[:, :1]), pinned)
    sigma, sigma_next = (torch.tensor(float(golden[name]), dtype=torch.float64) for name in ("sigma", "sigma_next"))
    step = Step(int(golden["step"]), int(golden["num_steps"]), sigma, sigma_next)
    network = FixedOutput(torch.from_numpy(golden["model_output"]))
    guided = TopShare(floor=float(golden["weight_clamp"]))(network, x, step, targets, table)
    np.testing.assert_allclose(guided.denoised.numpy(), golden["dgs_denoised"], atol=1e-5)
    x_next = first_order(PATH, guided, sigma, sigma_next)
    np.testing.assert_allclose(x_next.numpy(), golden["dgs_x_next"], atol=1e-5, rtol=1e-5)


def make_targets(seed: int = 0) -> Targets:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(SHAPE[1:], generator=generator)
    visible = (torch.rand(FRAMES, 1, 6, 8, generator=generator) > 0.3).float()
    return Targets(latents, visible, torch.tensor([True] + [False] * (FRAMES - 1)))


def denoiser() -> GaussianDenoiser:
    return GaussianDenoiser(torch.tensor(0.3), torch.tensor(0.8), PATH)


def step_at(sigma: float) -> Step:
    return Step(0, 6, torch.tensor(sigma, dtype=torch.float64), torch.tensor(sigma / 2, dtype=torch.float64))


def test_blend_is_the_equation() -> None:
    targets, table = make_targets(), LambdaTable.constant(0.3, SCHEDULE, FRAMES)
    x = torch.randn(SHAPE)
    guided = Blend()(denoiser(), x, step_at(2.0), targets, table)
    d = denoiser()(x, torch.tensor(2.0))
    expected = d + 0.3 * targets.visible * (targets.latents - d)
    expected[:, 0] = targets.latents[0]
    torch.testing.assert_close(guided.denoised, expected)
    assert guided.x is x


def test_blend_uses_the_row_of_the_level_and_the_weight_of_the_frame() -> None:
    weights = torch.rand(6, FRAMES, dtype=torch.float64)
    targets = Targets(torch.ones(SHAPE[1:]), torch.ones(FRAMES, 1, 6, 8), torch.zeros(FRAMES, dtype=torch.bool))
    guidance = bind(Blend(), targets, LambdaTable(weights, SCHEDULE.levels))

    class Zero:
        path = PATH

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    for i, sigma in enumerate(SCHEDULE.levels):
        pulled = guidance(Zero(), torch.zeros(SHAPE), step_at(float(sigma))).denoised
        torch.testing.assert_close(pulled[0, :, 0, 0, 0], weights[i].float())


@pytest.mark.parametrize("solver", [FirstOrder(), Heun(), DpmPp2M()], ids=["euler", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("guide", [Blend, TopShare])
def test_weight_one_with_a_full_mask_gives_the_target(solver: Solver, guide: type[Guide]) -> None:
    latents = torch.randn(SHAPE[1:])
    targets = Targets(latents, torch.ones(FRAMES, 1, 6, 8), torch.zeros(FRAMES, dtype=torch.bool))
    guidance = bind(guide(), targets, LambdaTable.constant(1.0, SCHEDULE, FRAMES))
    x = sample(denoiser(), 700 * torch.randn(SHAPE), SCHEDULE, solver, guidance)
    torch.testing.assert_close(x[0], latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guide", [Blend, TopShare])
def test_weight_zero_and_an_empty_mask_leave_the_model_alone(guide: type[Guide]) -> None:
    x = 700 * torch.randn(SHAPE)
    free = sample(denoiser(), x, SCHEDULE, guidance=NoGuidance())
    torch.testing.assert_close(free, sample(denoiser(), x, SCHEDULE), atol=0, rtol=0)
    nobody = torch.zeros(FRAMES, dtype=torch.bool)
    zero = LambdaTable(torch.zeros(6, FRAMES), SCHEDULE.levels)
    ones = LambdaTable(torch.ones(6, FRAMES), SCHEDULE.levels)
    seen = Targets(torch.randn(SHAPE[1:]), torch.ones(FRAMES, 1, 6, 8), nobody)
    hidden = Targets(torch.randn(SHAPE[1:]), torch.zeros(FRAMES, 1, 6, 8), nobody)
    for targets, table in ((seen, zero), (hidden, ones)):
        torch.testing.assert_close(sample(denoiser(), x, SCHEDULE, guidance=bind(guide(), targets, table)), free)


@pytest.mark.parametrize("guide", [Blend, TopShare])
def test_holes_keep_the_model_and_the_first_frame_is_pinned(guide: type[Guide]) -> None:
    targets, table = make_targets(), LambdaTable.constant(1.0, SCHEDULE, FRAMES)
    x = torch.randn(SHAPE)
    guided = guide()(denoiser(), x, step_at(1.0), targets, table).denoised
    d = denoiser()(x, torch.tensor(1.0))
    hole = (targets.visible == 0).expand(SHAPE[1:]).clone()
    hole[0] = False
    torch.testing.assert_close(guided[0][hole], d[0][hole])
    torch.testing.assert_close(guided[0][~hole], targets.latents[~hole])
    torch.testing.assert_close(guided[0, 0], targets.latents[0])


def test_top_share_replaces_the_elements_that_agree_best() -> None:
    targets, table = make_targets(), LambdaTable.constant(0.5, SCHEDULE, FRAMES)
    x = torch.randn(SHAPE)
    d = denoiser()(x, torch.tensor(1.0))[0]
    guided = TopShare()(denoiser(), x, step_at(1.0), targets, table).denoised[0]
    for frame in range(1, FRAMES):
        seen = targets.visible[frame].expand(4, 6, 8) > 0
        replaced = (guided[frame] == targets.latents[frame]) & seen
        assert int(replaced.sum()) == int(0.5 * seen.sum())
        distance = (d[frame] - targets.latents[frame]).abs()
        assert distance[replaced].max() <= distance[seen & ~replaced].min()


def test_holes_are_drawn_to_the_fill_by_their_own_weight(tmp_path: Path) -> None:
    """``D + [w M + v (1 - M)] (X - D)``; a table gives v for each level and frame; a pinned frame stays whole."""
    targets, table = make_targets(), LambdaTable.constant(0.8, SCHEDULE, FRAMES)
    soft = replace(targets, visible=torch.rand(FRAMES, 1, 6, 8))
    x = torch.randn(SHAPE)
    d = denoiser()(x, torch.tensor(2.0))
    rows = LambdaTable(torch.rand(6, FRAMES, dtype=torch.float64), SCHEDULE.levels)
    for pull, row in ((0.3, torch.full((FRAMES,), 0.3)), (rows, rows.row(torch.tensor(2.0)).float())):
        v = row.view(-1, 1, 1, 1)
        for aim in (targets, soft):
            found = Blend(pull)(denoiser(), x, step_at(2.0), aim, table).denoised
            expected = d + (0.8 * aim.visible + v * (1 - aim.visible)) * (aim.latents - d)
            expected[:, 0] = aim.latents[0]
            torch.testing.assert_close(found, expected)
        plain = TopShare()(denoiser(), x, step_at(2.0), targets, table).denoised
        pulled = TopShare(hole_weight=pull)(denoiser(), x, step_at(2.0), targets, table).denoised
        hole = (targets.mask == 0).expand(SHAPE)
        torch.testing.assert_close(pulled[~hole], plain[~hole])
        torch.testing.assert_close(pulled[hole], (d + v * (targets.latents - d))[hole])
    with pytest.raises(InputError, match="weight is 1.2"):
        Blend(hole_weight=1.2)
    assert report(Blend(hole_weight=rows)) == {"guidance": "blend", "hole_weight": "table: "}
    rows.save(tmp_path / "holes.npz")
    read = Blend(hole_weight=str(tmp_path / "holes.npz")).hole_weight
    assert isinstance(read, LambdaTable)
    assert torch.equal(read.weights, rows.weights)


def test_the_released_count_of_holes() -> None:
    """It sorts the elements of all channels, hidden ones as zeros, but skips the holes of one channel only."""
    targets = replace(make_targets(), pinned=torch.zeros(FRAMES, dtype=torch.bool))
    x = torch.randn(SHAPE)
    d = denoiser()(x, torch.tensor(1.0))[0]
    for weight in (0.9, 0.6, 0.2, 1.0):
        table = LambdaTable(torch.full((6, FRAMES), weight), SCHEDULE.levels)
        found = TopShare(count_holes=True)(denoiser(), x, step_at(1.0), targets, table).denoised[0]
        for frame in range(FRAMES):
            seen = (targets.visible[frame] > 0).expand(4, 6, 8)
            skipped = int((targets.visible[frame] == 0).sum())
            ordered = ((d[frame] - targets.latents[frame]).abs() * seen).flatten().sort().values
            last = int(weight * (len(ordered) - skipped)) + skipped - 1
            expected = ((d[frame] - targets.latents[frame]).abs() <= ordered[last]) & seen
            assert torch.equal((found[frame] == targets.latents[frame]) & seen, expected)
            right = int(weight * int(seen.sum()))
            assert int(expected.sum()) <= right, "it takes too few, unless the weight is 1"
            assert (int(expected.sum()) == right) == (weight == 1)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(InputError, match="need a mask"):
        Targets(torch.zeros(5, 4, 6, 8), torch.ones(5, 1, 6, 7), torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ConfigError, match="guidance 'pull' is not known"):
        make_guide("pull")
    with pytest.raises(ConfigError, match="guidance is 3; give a name"):
        make_guide(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="floor is 2"):
        TopShare(floor=2.0)


def test_guides_by_name_take_the_options_they_have() -> None:
    assert isinstance(make_guide("none", floor=0.3), NoGuidance)
    assert make_guide("top_share", floor=0.3, tiles=4) == TopShare(floor=0.3)
    own = Blend(0.2)
    assert make_guide(own) is own
    for name, guide in GUIDES.items():
        assert report(guide())["guidance"] == name


def test_a_golden_step_where_half_is_hidden() -> None:
    """The released count of holes at weight 0.4: 4 of 8 seen cells, 4 channels, so 0.4 (32 - 4) less 4 of 16 elements.

    Of N = 32 elements with n = 4 hidden cells the released code takes ``0.4 (N - n) - 3 n`` = 11.2 - 12 < 0: none;
    the right count is ``0.4 (N - 4 n)`` = 6.
    """
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(1, 4, 2, 4, generator=generator)
    visible = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0]]).view(1, 1, 2, 4)
    targets = Targets(latents, visible, torch.zeros(1, dtype=torch.bool))
    table = LambdaTable(torch.full((6, 1), 0.4), SCHEDULE.levels)
    estimate = torch.randn(1, 1, 4, 2, 4, generator=generator)

    class Fixed:
        path = PATH

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return estimate

    for count_holes, expected in ((False, 6), (True, 0)):
        guided = TopShare(count_holes=count_holes)(Fixed(), estimate, step_at(1.0), targets, table).denoised
        assert int((guided == latents).sum()) == expected
        assert torch.equal(guided[..., 2:], estimate[..., 2:]), "hidden cells stay the model's"


def test_guided_carries_x() -> None:
    """A guide that moves x, as the posterior gradient does, is obeyed by every solver."""

    def shifted(denoiser: Denoiser, x: torch.Tensor, step: Step) -> Guided:
        moved = torch.zeros_like(x)
        return Guided(moved, denoiser(moved, step.sigma))

    for solver in (FirstOrder(), Heun(), DpmPp2M()):
        a = sample(denoiser(), torch.randn(SHAPE), SCHEDULE, solver, shifted)
        b = sample(denoiser(), torch.randn(SHAPE), SCHEDULE, solver, shifted)
        torch.testing.assert_close(a, b)
