import itertools

import pytest
import torch

from mvguide.depth.cost_volume import best_plane, look_up, ncc, plane_rows, project_disparity, semi_global
from mvguide.geometry.camera import Camera, stack


def cameras() -> Camera:
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0.2], [0.1, 0, -0.05], [-0.2, 0.05, 0]]).double())
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, :3], moved[:3, 3] = turn, torch.tensor([0.3, -0.2, 0.1])
    return stack([Camera.from_fov(60, 40, 30), Camera.from_intrinsics((35, 36, 19, 16), 40, 30, moved)])


def test_planes_land_where_the_cameras_project_their_points() -> None:
    pair = cameras()
    depth = 2 + torch.rand(1, 30, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels, ratio = project_disparity(plane_rows(pair[0], pair[[1]])[0], 1 / depth)
    points = pair[0].unproject(pair[0].pixel_grid().reshape(-1, 2), depth.flatten())
    expected, z = pair[1].project(points)
    assert torch.allclose(pixels.reshape(-1, 2), expected, atol=1e-9)
    assert torch.allclose((ratio * depth).flatten(), z, atol=1e-9)


def test_looking_up_at_pixel_centres_returns_the_pixels() -> None:
    image = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(0))
    camera = cameras()[0]
    # The plane at any depth in the camera itself is the identity: a shift by half a pixel would show.
    pixels, ratio = project_disparity(plane_rows(camera, stack([camera]))[0], torch.full((1, 30, 40), 0.4))
    values, inside = look_up(image, pixels, ratio)
    assert torch.allclose(values[0], image, atol=1e-5)
    assert bool(inside.all())
    assert not bool(look_up(image, pixels + 40, ratio)[1].any())


def test_ncc_knows_no_brightness_and_no_contrast() -> None:
    image = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0))
    others = torch.stack([0.5 * image + 0.3, 1 - image, torch.full_like(image, 0.5)])
    same, turned, flat = ncc(image, others, 2)
    assert float(same.min()) > 0.98
    assert float(turned.max()) < -0.98
    assert float(flat.abs().max()) < 1e-3


def test_paths_carry_a_plane_over_a_surface_without_texture() -> None:
    cost = torch.ones(9, 24, 24)
    cost[:, 6:18, 6:18] = 0.9  # nothing to be told here
    cost[3, :, :6] = cost[3, :, 18:] = cost[3, :6] = cost[3, 18:] = 0
    index, _ = best_plane(semi_global(cost, torch.zeros(3, 24, 24)))
    assert bool((index == 3).all())


def test_paths_break_where_the_colour_does() -> None:
    image = torch.zeros(3, 24, 24)
    image[:, :, 12:] = 1
    cost = torch.ones(9, 24, 24)
    cost[1, :, :12], cost[7, :, 12:] = 0.5, 0.5
    index, _ = best_plane(semi_global(cost, image))
    assert bool((index[:, :12] == 1).all())
    assert bool((index[:, 12:] == 7).all())


def test_one_path_is_that_of_the_equation() -> None:
    """Against the definition, pixel by pixel, in an image of one row: two paths, and six of a single pixel."""
    cost = torch.rand(5, 1, 7, generator=torch.Generator().manual_seed(0))
    image = torch.rand(3, 1, 7, generator=torch.Generator().manual_seed(1))

    def path(order: list[int]) -> dict[int, torch.Tensor]:
        found = {order[0]: cost[:, 0, order[0]]}
        for last, here in itertools.pairwise(order):
            jump = max(1.5 / (1 + float((image[:, 0, last] - image[:, 0, here]).abs().mean()) / 0.04), 0.2)
            before = found[last]
            reach = [
                min(
                    min(float(before[e]) + (0 if e == d else 0.1 if abs(e - d) == 1 else jump) for e in range(5)),
                    float(before.min()) + jump,
                )
                for d in range(5)
            ]
            found[here] = cost[:, 0, here] + torch.tensor(reach) - before.min()
        return found

    right, left = path(list(range(7))), path(list(range(6, -1, -1)))
    expected = torch.stack([right[x] + left[x] + 6 * cost[:, 0, x] for x in range(7)], -1)[:, None]
    assert torch.allclose(semi_global(cost, image), expected, atol=1e-5)


def test_the_parabola_finds_its_least() -> None:
    places = torch.tensor([2.3, 4.0, 5.45, 0.0])
    cost = (torch.arange(8)[:, None, None] - places) ** 2
    index, offset = best_plane(cost)
    assert (index + offset)[0].tolist() == pytest.approx(places.tolist(), abs=1e-5)
