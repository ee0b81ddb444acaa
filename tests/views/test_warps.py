"""Warps: what each frame's camera sees of the views."""

import torch

from mvguide.depth.maps import Depth
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.trajectory import pan, truck
from mvguide.views.moments import Moments
from mvguide.views.view import View
from mvguide.views.warps import mean_flow, warp_views

SIZE = 48


def view(size: int = SIZE) -> View:
    """A near square before a far wall, both smoothly coloured."""
    camera = Camera.from_fov(60, size, size)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    image = torch.stack([rows, columns, 0.5 + 0.3 * torch.sin(6 * rows)])
    depth = torch.full((size, size), 4.0)
    depth[size // 3 : 2 * size // 3, size // 3 : 2 * size // 3] = 2.0
    return View(image, camera, Depth(depth, torch.ones(size, size, dtype=torch.bool), True))


def test_the_input_frame_is_the_picture_even_where_depth_is_unknown() -> None:
    whole = view()
    assert whole.depth is not None
    whole.depth.valid[:10] = False
    whole.depth.values[:10] = 0
    path = truck(whole.camera, 3, distance=0.1, target_depth=4.0)
    warps = warp_views([whole], path, guess_depth=False)
    assert warps.pinned.tolist() == [True, False, False]
    torch.testing.assert_close(warps.image[0], whole.image)
    assert (warps.visible[0] == 1).all()
    assert (warps.visible[1, 0, :5] == 0).all()
    assert warps.distances[0] == 0
    assert warps.distances[2] > warps.distances[1] > 0


def test_pixels_without_depth_move_with_what_is_behind_and_fill_what_nothing_else_shows() -> None:
    exact, whole = view(), view()
    depth = whole.require_depth()
    lost = (slice(12, 36), slice(28, 34))  # a strip over the near square's right side and the wall beside it
    depth.valid[lost], depth.values[lost] = False, 0
    path = truck(whole.camera, 3, distance=0.02, target_depth=4.0)
    right, alone, warps = (
        warp_views([exact], path),
        warp_views([whole], path, guess_depth=False),
        warp_views([whole], path),
    )
    known = (alone.visible > 0).expand(-1, 3, -1, -1)
    assert torch.equal(warps.image[known], alone.image[known])
    torch.testing.assert_close(warps.seen, alone.seen, atol=0.01, rtol=0)
    assert warps.guessed[2].sum() > 100
    assert not warps.guessed[0].any(), "the image itself is given"
    assert warps.confidence[warps.guessed].max() <= 0.1
    # The wall beside the square is where it should be; the square's own part moves as the wall does.
    wall = (right.depth > 3).expand_as(known) & warps.guessed.expand_as(known)
    assert (warps.image - right.image).abs()[wall].mean() < 0.02
    assert warps.depth[warps.guessed].mean() > 3.25, "nearer to the wall's 4 than to the square's 2"


def test_a_guess_hides_nothing_that_another_view_knows() -> None:
    near, other = view(), view()
    path = truck(near.camera, 3, distance=0.05, target_depth=4.0)
    depth = near.require_depth()
    depth.values[:], depth.valid[:] = 1.0, False
    depth.valid[0, 0] = True  # all else would be guessed far too near
    second = View(torch.full_like(other.image, 0.25), path[2], other.require_depth(), "second")
    alone, both = warp_views([second], path), warp_views([near, second], path)
    seen = (alone.visible[1] > 0) & (both.depth[1] > 1.5)
    assert seen.float().mean() > 0.8


def test_holes_open_behind_the_near_square_and_grow_with_the_radius() -> None:
    whole = view()
    trajectory = truck(whole.camera, 2, distance=0.1, target_depth=4.0)
    warps = warp_views([whole], trajectory)
    middle = warps.visible[1, 0, SIZE // 2]
    assert (middle == 0).any()
    assert 0.6 < warps.seen[1] < 0.97
    grown = warp_views([whole], trajectory, hole_radius=2)
    assert grown.seen[1] < warps.seen[1]
    assert (grown.image[grown.visible.expand_as(grown.image) == 0] == 0).all()


def test_a_larger_picture_gives_the_same_warp_without_cracks() -> None:
    small, large = view(), view(SIZE * 4)
    trajectory = truck(small.camera, 3, distance=0.05, target_depth=4.0)
    a, b = warp_views([small], trajectory), warp_views([large], trajectory)
    both = (a.visible * b.visible).expand_as(a.image) > 0
    assert (a.image - b.image).abs()[both].mean() < 0.02
    assert b.seen[2] >= a.seen[2] - 0.01


def test_flow_is_measured_in_picture_widths() -> None:
    camera = Camera.from_fov(60, SIZE, SIZE)
    flat = View(
        view().image, camera, Depth(torch.full((SIZE, SIZE), 2.0), torch.ones(SIZE, SIZE, dtype=torch.bool), True)
    )
    trajectory = truck(camera, 3, distance=0.1, target_depth=2.0)
    focal = float(camera.intrinsics[0, 0])
    expected = focal * 0.1 / 2 / SIZE
    assert abs(mean_flow(flat, trajectory) - expected) < 1e-6
    assert abs(mean_flow(flat, trajectory.resize(SIZE * 2, SIZE * 2)) - expected) < 1e-6
    assert mean_flow(flat, pan(camera, 2, degrees=170)) == 0


def moving_square(step: int) -> View:
    """A wall with a square before it that moves right by 6 pixels a step; still camera."""
    size = SIZE
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    image, depth = torch.stack([rows, columns, 0.5 + 0 * rows]), torch.full((size, size), 4.0)
    square = (slice(18, 30), slice(6 + 6 * step, 18 + 6 * step))
    image[(slice(None), *square)], depth[square] = torch.tensor([1.0, 0.0, 0.0])[:, None, None], 2.0
    return View(image, Camera.from_fov(60, size, size), Depth(depth, torch.ones(size, size, dtype=torch.bool), True))


def red_columns(image: torch.Tensor) -> float:
    """Mean column of the square: the wall has 0.5 of blue."""
    red = (image[0] > 0.9) & (image[1] < 0.1) & (image[2] < 0.1)
    assert red.any()
    return float(red.nonzero()[:, 1].float().mean())


def test_moving_things_stay_in_their_time() -> None:
    views = [moving_square(step) for step in range(4)]
    still = stack([views[0].camera] * 4)
    played = warp_views(views, still, moments=Moments.footage(4, 4))
    assert [red_columns(image) for image in played.image] == [11.5, 17.5, 23.5, 29.5]
    assert played.pinned.all()
    stopped = warp_views(views, still, moments=Moments.footage(4, 4, at=2))
    assert [red_columns(image) for image in stopped.image] == [23.5] * 4


def test_holes_are_filled_from_other_moments_where_nothing_moved() -> None:
    views = [moving_square(step) for step in range(4)]
    path = truck(views[0].camera, 4, distance=0.15, target_depth=4.0)
    alone = warp_views(views, path, moments=Moments.footage(4, 4))
    filled = warp_views(views, path, moments=Moments.footage(4, 4, fill=3))
    assert filled.seen[1:].mean() > alone.seen[1:].mean() + 0.01
    new = ((filled.visible > alone.visible) & ~filled.pinned.view(-1, 1, 1, 1))[:, 0]
    assert new[1:].any()
    # What is filled in is wall, never the square of another moment.
    blue, red = filled.image[:, 2][new], filled.image[:, 0][new]
    assert (blue - 0.5).abs().median() < 0.05
    assert ((red < 0.95) | (blue > 0.2)).all()
    both = (alone.visible > 0).expand(-1, 3, -1, -1)
    torch.testing.assert_close(filled.image[both], alone.image[both])


def test_two_views_pin_both_ends_and_share_what_lies_between() -> None:
    first = view()
    path = truck(first.camera, 5, distance=0.2, target_depth=4.0)
    warped = warp_views([first], path)
    # The second view: what the first sees from the last camera, on a wall without the square's shadow.
    depth = Depth(torch.full((SIZE, SIZE), 4.0), torch.ones(SIZE, SIZE, dtype=torch.bool), True)
    second = View(torch.full((3, SIZE, SIZE), 0.25), path[4], depth, "second")
    both = warp_views([first, second], path)
    assert both.pinned.tolist() == [True, False, False, False, True]
    torch.testing.assert_close(both.image[4], second.image)
    assert (both.seen[1:4] > warped.seen[1:4]).all()
    assert both.distances[0] == both.distances[4] == 0
    assert both.shares[0, 1] > both.shares[0, 3]
    assert both.shares[1, 1] < both.shares[1, 3]
    assert (both.confidence[both.visible == 0] == 0).all()
    assert both.confidence.max() <= 1
