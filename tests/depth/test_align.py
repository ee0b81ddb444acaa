import pytest
import torch

from mvguide.depth.align import align_center, align_to_bounds, align_to_points, align_to_view
from mvguide.depth.kind import FAR
from mvguide.depth.maps import Depth, DepthKind, read_depth
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from tests.real_data import DATA, needs_data, redwood, seven_scenes

CAMERA = Camera.from_intrinsics(
    (50, 52, 33, 24),
    64,
    48,
    torch.linalg.inv(
        torch.tensor(
            [[0.8, 0.0, 0.6, 1.0], [0.0, 1.0, 0.0, -2.0], [-0.6, 0.0, 0.8, 0.5], [0.0, 0.0, 0.0, 1.0]],
            dtype=torch.float64,
        )
    ),
)


def hills(seed: int = 0) -> Depth:
    """Depths from 1.5 to 6 that vary in both directions."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 5, 6, generator=generator)
    values = 1.5 + 4.5 * torch.nn.functional.interpolate(coarse, (48, 64), mode="bicubic").clamp(0, 1)[0, 0]
    return Depth(values, torch.ones(48, 64, dtype=torch.bool), is_metric=True)


def sparse_points(depth: Depth, camera: Camera, count: int, wrong: float, generator: torch.Generator) -> torch.Tensor:
    """World points of random pixels, a share of them at a wrong depth."""
    rows, columns = torch.nonzero(depth.valid, as_tuple=True)
    pick = torch.randperm(len(rows), generator=generator)[:count]
    z = depth.values[rows[pick], columns[pick]].double()
    spoilt = torch.arange(count) < round(wrong * count)
    z = torch.where(spoilt, 0.3 + 6 * torch.rand(count, generator=generator), z)
    pixels = torch.stack([columns[pick] + 0.5, rows[pick] + 0.5], -1).double()
    return camera.unproject(pixels, z)


def relative_error(found: Depth, truth: Depth) -> float:
    both = found.valid & truth.valid
    assert float(both.sum()) > 0.98 * float(truth.valid.sum())
    return float(((found.values - truth.values).abs() / truth.values)[both].median())


@needs_data
@pytest.mark.parametrize("name", ["7scenes", "nyu"])
def test_sensor_depth_comes_back_from_disparity_of_unknown_scale_and_shift(name: str) -> None:
    if name == "7scenes":
        view = seven_scenes(0)
        truth, camera = view.depth, view.camera
    else:
        truth = read_depth(DATA / "nyu_single/depth.png", unit=0.001)
        camera = Camera.from_intrinsics((518.86, 519.47, 325.58, 253.74), 640, 480)
    inverse = torch.where(truth.valid, 1 / truth.values.double(), 0.0)
    worst = 0.0
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        a = float(10 ** (4 * torch.rand(1, generator=generator) - 2))
        b = float(a * (2 * torch.rand(1, generator=generator) - 1))
        points = sparse_points(truth, camera, 200, 0.2, generator)
        found = align_to_points(a * inverse + b, camera, points, valid=truth.valid)
        worst = max(worst, relative_error(found.depth, truth))
        assert found.depth.is_metric
        assert found.scale == pytest.approx(1 / a, rel=0.01)
        assert found.shift == pytest.approx(-b / a, abs=0.01)
        assert 0.75 < found.inliers < 0.9
    assert worst < 0.01


@pytest.mark.parametrize(("kind", "scale", "shift"), [("disparity", 3.0, -0.1), ("depth", 0.2, 4.0), ("depth", 9, -3)])
@pytest.mark.parametrize("wrong", [0.0, 0.2, 0.4])
def test_points_find_the_line_among_outliers(kind: DepthKind, scale: float, shift: float, wrong: float) -> None:
    truth = hills()
    straight = 1 / truth.values.double() if kind == "disparity" else truth.values.double()
    generator = torch.Generator().manual_seed(3)
    points = sparse_points(truth, CAMERA, 60, wrong, generator)
    # Points behind the camera, beside the image and not finite have no say.
    behind = CAMERA.unproject(torch.tensor([[5.0, 5.0], [900.0, 5.0]]), torch.tensor([-2.0, 2.0]))
    points = torch.cat([points, behind, torch.full((1, 3), torch.nan, dtype=torch.float64)])
    found = align_to_points((straight - shift) / scale, CAMERA, points, kind=kind)
    assert (found.scale, found.shift) == pytest.approx((scale, shift), rel=2e-3)
    assert found.inliers >= 0.99 - wrong
    assert relative_error(found.depth, truth) < 1e-3
    again = align_to_points((straight - shift) / scale, CAMERA, points, kind=kind)
    assert torch.equal(found.depth.values, again.depth.values)


def test_points_align_a_depth_made_of_relative_disparity() -> None:
    truth = hills()
    relative = Depth(1 / (0.3 / truth.values + 0.05), truth.valid, is_metric=False)
    found = align_to_points(relative, CAMERA, sparse_points(truth, CAMERA, 40, 0.2, torch.Generator().manual_seed(1)))
    assert relative_error(found.depth, truth) < 1e-4


def test_disparity_beyond_infinity_is_put_far_away_and_depth_behind_the_camera_is_dropped() -> None:
    truth = hills()
    points = sparse_points(truth, CAMERA, 50, 0, torch.Generator().manual_seed(1))
    inverse = 1 / truth.values.double()
    inverse[0, 0] = -3
    found = align_to_points(inverse, CAMERA, points)
    assert bool(found.depth.valid.all())
    # The median of an even count is the lower one, of disparity here.
    assert float(found.depth.values[0, 0]) == pytest.approx(FAR * truth.median, rel=0.01)
    straight = truth.values.double()
    straight[0, 0] = -3
    found = align_to_points(straight, CAMERA, points, kind="depth")
    assert found.depth.valid.logical_not().nonzero().tolist() == [[0, 0]]


def test_points_that_fix_nothing_are_refused() -> None:
    truth = hills()
    points = sparse_points(truth, CAMERA, 50, 0, torch.Generator().manual_seed(1))
    with pytest.raises(InputError, match="2 of 2 points fall on known depth in view; at least 3"):
        align_to_points(truth, CAMERA, points[:2])
    with pytest.raises(InputError, match="the points fix no scale"):
        align_to_points(torch.ones(48, 64), CAMERA, points)
    with pytest.raises(InputError, match=r"points have the shape \(3, 2\)"):
        align_to_points(truth, CAMERA, torch.ones(3, 2))
    with pytest.raises(InputError, match="the map is 3 x 2, but its camera 64 x 48"):
        align_to_points(torch.ones(2, 3), CAMERA, points)
    with pytest.raises(InputError, match="kind is 'z'"):
        align_to_points(truth, CAMERA, points, kind="z")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["disparity", "depth"])
def test_bounds_are_met_by_the_tails(kind: DepthKind) -> None:
    truth = hills()
    straight = 1 / truth.values.double() if kind == "disparity" else truth.values.double()
    straight[0, :5] = 1000  # a few wild pixels must not set the range
    near, far = (float(truth.values.flatten().quantile(q)) for q in (0.02, 0.98))
    found = align_to_bounds(7 * straight - 2, near, far, kind=kind)
    assert relative_error(found.depth, truth) < 0.02
    assert 0.95 < found.inliers < 0.99  # some of the hills are cut off flat, and lie on a bound
    with pytest.raises(InputError, match="bounds are 3 and 2"):
        align_to_bounds(straight, 3, 2)
    with pytest.raises(InputError, match="fix no scale; use align_center"):
        align_to_bounds(torch.ones(4, 4), 1, 2)


@needs_data
def test_a_view_takes_the_scale_of_another_by_reprojection() -> None:
    first, other = redwood(0), redwood(4)
    scaled = Depth(first.depth.values * 0.37, first.depth.valid, is_metric=False)
    found = align_to_view(scaled, first.camera, other.depth, other.camera)
    assert found.scale == pytest.approx(1 / 0.37, rel=0.005)
    assert found.shift == 0
    assert found.inliers > 0.6
    assert found.depth.is_metric
    away = Camera(first.camera.intrinsics, torch.diag(torch.tensor([-1.0, 1, -1, 1])).double(), 640, 480)
    with pytest.raises(InputError, match="share 0 pixels"):
        align_to_view(scaled, first.camera, other.depth, away)


def test_the_centre_is_put_at_a_distance() -> None:
    truth = hills()
    found = align_center(truth, 10.0)
    assert float(found.depth.values[22:26, 30:34].median()) == pytest.approx(10, rel=0.02)
    assert torch.allclose(found.depth.values, truth.values * found.scale)
    hole = torch.ones(48, 64, dtype=torch.bool)
    hole[15:33, 20:44] = False
    with pytest.raises(InputError, match="middle of the depth map has no known depth"):
        align_center(Depth(truth.values * hole, hole, True), 10.0)
    with pytest.raises(InputError, match="distance is 0"):
        align_center(truth, 0.0)
