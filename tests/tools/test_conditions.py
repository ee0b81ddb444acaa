"""The conditions of the quality bench have the properties that they claim."""

import pytest
import torch

from mvguide.errors import InputError
from tools.quality.conditions import (
    CALIBRATION,
    CHOOSING,
    CONDITIONS,
    LARGE_HOLES,
    MOVED,
    blurred,
    moved_share,
    smooth_field,
)
from tools.quality.scenes import Scene
from tools.scenes import BENCH, HELD_OUT
from tools.scenes.moves import sample_paths
from tools.scenes.world import sample_worlds

SEED = HELD_OUT[0]


@pytest.fixture(scope="module")
def exact() -> Scene:
    return Scene(SEED, 64, 8)


def depth_of(scene: Scene, view: int = 0) -> torch.Tensor:
    return scene.views[view].require_depth().values


def test_choosing_calibrating_and_reporting_do_not_share_scenes() -> None:
    ranges = [set(seeds) for seeds in (CHOOSING, CALIBRATION, BENCH)]
    assert ranges[0] | ranges[1] == set(HELD_OUT)
    assert not any(a & b for a, b in zip(ranges, ranges[1:] + ranges[:1], strict=True))


@pytest.mark.parametrize("name, amount", [("smooth_5", 0.05), ("smooth_15", 0.15)])
def test_a_smooth_field_is_of_its_size_and_smooth(exact: Scene, name: str, amount: float) -> None:
    error = (depth_of(Scene(SEED, 64, 8, name)) / depth_of(exact)).log()
    assert error.square().mean().sqrt().item() == pytest.approx(amount, rel=1e-3)
    assert error.mean().item() == pytest.approx(0, abs=1e-4)
    # At most 1.5 cycles an image, so 2 pi 1.5 / 64 of the largest of the waves from pixel to pixel.
    assert error.diff(dim=1).abs().max() < 0.3 * error.abs().max()
    assert torch.equal(smooth_field(64, 64, SEED), smooth_field(64, 64, SEED))
    assert (smooth_field(64, 64, SEED) * smooth_field(64, 64, SEED + 1)).mean().abs() < 0.9


def test_the_scale_is_off_by_ten_percent(exact: Scene) -> None:
    torch.testing.assert_close(depth_of(Scene(SEED, 64, 8, "scale")), 1.1 * depth_of(exact))


def test_blurred_depth_mixes_near_and_far_at_edges_only() -> None:
    depth = torch.full((32, 32), 2.0)
    depth[:, 18:] = 6.0
    found = blurred(depth)
    assert torch.equal(found[:, :12], depth[:, :12])
    assert torch.equal(found[:, 24:], depth[:, 24:])
    between = (found > 2.01) & (found < 5.99)
    assert between.any(1).all()
    assert not between[:, :12].any()
    # Averaging keeps the mean, and a quarter of the resolution holds no more than that many values.
    assert found.mean() == pytest.approx(float(depth.mean()), rel=0.02)
    ramp = torch.arange(32.0).expand(32, 32) + 1
    torch.testing.assert_close(blurred(ramp)[:, 4:-4], ramp[:, 4:-4])


@pytest.mark.parametrize("name", ["smooth_15", "blurred", "scale"])
def test_wrong_depth_moves_the_warp_but_not_the_regions(exact: Scene, name: str) -> None:
    scene = Scene(SEED, 64, 8, name)
    assert torch.equal(scene.truth, exact.truth)
    assert torch.equal(scene.exact_warps.visible, exact.warps.visible)
    assert (scene.warps.image - exact.warps.image).abs().max() > 0.1
    wrong = torch.where(exact.warps.visible > 0.5, exact.truth + 0.01, 1 - exact.truth)
    assert scene.score(wrong) == exact.score(wrong)


def test_large_moves_open_large_holes() -> None:
    condition = CONDITIONS["large"]
    seeds = condition.pick_seeds(CHOOSING, 3, 64, 8)
    assert seeds == condition.pick_seeds(CHOOSING, 3, 64, 8)
    for seed in seeds:
        holes = 1 - Scene(seed, 64, 8, "large").exact_warps.seen[1:].mean().item()
        assert LARGE_HOLES[0] <= holes <= LARGE_HOLES[1]
        assert holes > 1 - Scene(seed, 64, 8).exact_warps.seen[1:].mean().item()
        assert condition.render(seed, 32, 8).clear.all()
    skipped = [seed for seed in CHOOSING if seed < seeds[-1] and seed not in seeds]
    for seed in skipped[:2]:
        holes = 1 - Scene(seed, 64, 8, "large").exact_warps.seen[1:].mean().item()
        assert not LARGE_HOLES[0] <= holes <= LARGE_HOLES[1]


def test_a_stretched_move_is_the_same_move_but_longer() -> None:
    seeds = range(20)
    world = sample_worlds(seeds)
    # Any share is enough: the first candidate that is clear of obstacles is taken in both.
    usual, wide = (sample_paths(seeds, world, 2, "cpu", stretch=s, new_share=(0, 1)) for s in (1.0, 1.5))
    way = [(p.camera_to_world[:, 1, :3, 3] - p.camera_to_world[:, 0, :3, 3]).norm(dim=-1) for p in (usual, wide)]
    start = (usual.camera_to_world[:, 0] - wide.camera_to_world[:, 0]).abs().amax((1, 2))
    same = (usual.move == wide.move) & (start < 1e-5) & (way[0] > 0.05)
    assert same.sum() >= 8
    ratio = way[1][same] / way[0][same]
    assert ((ratio > 1.1) & (ratio < 1.51)).all()


def test_two_views_pin_both_ends() -> None:
    scene = Scene(SEED, 64, 8, "two_views")
    assert scene.warps.pinned.tolist() == [True] + [False] * 6 + [True]
    assert torch.equal(scene.views[1].image, scene.truth[-1])
    assert torch.equal(scene.warps.image[-1], scene.truth[-1])
    one = Scene(SEED, 64, 8).exact_warps.seen
    assert (scene.exact_warps.seen[1:-1] > one[1:-1]).all()
    # Frames that were given do not count; all others do.
    shifted = scene.truth + 0.01
    spoilt = shifted.clone()
    spoilt[[0, -1]] = 0
    assert scene.score(spoilt) == scene.score(shifted)
    spoilt[6] = 0
    assert scene.score(spoilt)["psnr whole"] < scene.score(shifted)["psnr whole"]


def test_a_moving_object_moves_and_is_seen_to_move() -> None:
    condition = CONDITIONS["moving"]
    seeds = condition.pick_seeds(CHOOSING, 3, 64, 8)
    world = sample_worlds(seeds)
    assert world.moving.all()
    for seed in seeds:
        assert moved_share(seed, 8) >= MOVED
    still = next(seed for seed in CHOOSING if not sample_worlds([seed]).moving[0])
    assert moved_share(still, 8) == 0
    # Where nothing moves, the warp of exact depth shows the truth; where something does, it cannot.
    wrong = []
    for seed in (seeds[0], still):
        scene = Scene(seed, 64, 8, "moving")
        error = (scene.warps.image - scene.truth).abs().mean(1, keepdim=True)[1:]
        wrong.append(((error > 0.15) & (scene.warps.visible[1:] > 0.5)).float().mean().item())
    assert wrong[0] > 2 * wrong[1]


def test_too_few_fitting_scenes_are_refused() -> None:
    with pytest.raises(InputError, match="3 scenes were asked for, but only . of the 5 seeds fit the condition 'a mov"):
        CONDITIONS["moving"].pick_seeds(range(5), 3, 64, 8)
