import math

import pytest
import torch

from mvguide.errors import InputError
from mvguide.geometry import Camera, frame_distances, make_trajectory, orbit, stack

CAMERA = Camera.from_fov(60, 32, 24)


def test_truck_is_translation_over_depth() -> None:
    path = make_trajectory("truck", CAMERA, 5, 2.0, distance=0.4)
    found = frame_distances(CAMERA, path, torch.full((24, 32), 2.0))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.linspace(0, 0.4, 5, dtype=torch.float64))
    assert found[0] == 0


def test_orbit_is_its_angle() -> None:
    path = orbit(CAMERA, 6, target_depth=3.0, degrees=20)
    found = frame_distances(CAMERA, path, torch.full((24, 32), 3.0))
    angles = torch.deg2rad(torch.linspace(0, 20, 6, dtype=torch.float64))
    torch.testing.assert_close(found, 2 * torch.sin(angles / 2))
    assert found[-1].item() == pytest.approx(math.radians(20), rel=0.01)


def test_near_and_far_pixels_count_by_their_mean_square() -> None:
    depth = torch.full((24, 32), 4.0)
    depth[:, :16] = 1.0
    path = make_trajectory("truck", CAMERA, 2, 1.0, distance=1.0)
    expected = math.sqrt((1 + 1 / 16) / 2)
    assert frame_distances(CAMERA, path, depth)[1].item() == pytest.approx(expected)
    valid = depth > 2
    assert frame_distances(CAMERA, path, depth, valid)[1].item() == pytest.approx(1 / 4)


@pytest.mark.parametrize("kind", ["pan", "tilt", "roll", "zoom"])
def test_turning_and_zooming_cost_nothing(kind: str) -> None:
    pose = orbit(CAMERA, 3, target_depth=2.0, degrees=50)[2]
    path = make_trajectory(kind, pose, 5, 2.0)
    assert frame_distances(pose, path, torch.full((24, 32), 2.0)).max() < 1e-14


def test_distances_do_not_depend_on_the_unit_of_length() -> None:
    depth = 1 + torch.rand(24, 32, generator=torch.Generator().manual_seed(0))
    first = frame_distances(CAMERA, orbit(CAMERA, 4, target_depth=1.5, degrees=30), depth)
    second = frame_distances(CAMERA, orbit(CAMERA, 4, target_depth=1500.0, degrees=30), depth * 1000)
    torch.testing.assert_close(first, second)


def test_one_bad_pixel_does_not_set_the_distance() -> None:
    depth = torch.full((24, 32), 2.0)
    path = make_trajectory("truck", CAMERA, 2, 2.0)
    clean = frame_distances(CAMERA, path, depth)
    depth[3, 3], depth[4, 4], depth[5, 5] = 1e-6, math.nan, 0.0
    torch.testing.assert_close(frame_distances(CAMERA, path, depth), clean)


def test_normalised_distances_end_at_one() -> None:
    path = make_trajectory("truck", CAMERA, 5, 2.0)
    found = frame_distances(CAMERA, path, torch.ones(24, 32), normalise=True)
    torch.testing.assert_close(found, torch.linspace(0, 1, 5, dtype=torch.float64))
    still = frame_distances(CAMERA, stack([CAMERA] * 3), torch.ones(24, 32), normalise=True)
    assert still.tolist() == [0, 0, 0]


def test_bad_arguments_are_refused() -> None:
    path = make_trajectory("truck", CAMERA, 5, 2.0)
    faults = [
        (lambda: frame_distances(path, path, torch.ones(24, 32)), "one camera and a batch"),
        (lambda: frame_distances(CAMERA, CAMERA, torch.ones(24, 32)), "one camera and a batch"),
        (lambda: frame_distances(CAMERA, path, torch.zeros(24, 32)), "no usable pixel"),
        (lambda: frame_distances(CAMERA, path, torch.ones(24, 32), torch.ones(4, 4) > 0), "valid has shape"),
    ]
    for make, sentence in faults:
        with pytest.raises(InputError, match=sentence):
            make()
