"""Holes are filled with the colours around them, and cracks are closed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry.hole_filling import close_pinholes, fill_pinholes, push_pull_fill


def random_visible(frames: int, height: int, width: int, share: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(frames, 1, height, width, generator=generator) < share).float()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 37), st.integers(1, 37), st.floats(0.01, 0.99), st.integers(0, 99))
def test_fill_keeps_seen_pixels_and_stays_in_their_range(height: int, width: int, share: float, seed: int) -> None:
    visible = random_visible(2, height, width, share, seed)
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 3 - 1
    holes = torch.where(visible > 0, image, math.nan)
    filled = push_pull_fill(holes, visible)
    seen = (visible > 0).expand_as(image)
    assert torch.equal(filled[seen], image[seen])
    for frame in range(2):
        if not visible[frame].any():
            assert filled[frame].abs().max() == 0
            continue
        for channel in range(3):
            known = image[frame, channel][visible[frame, 0] > 0]
            values = filled[frame, channel]
            assert values.min() >= known.min() - 1e-5
            assert values.max() <= known.max() + 1e-5


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (31, 17), (64, 64), (45, 80)])
def test_fill_of_one_colour_is_that_colour(height: int, width: int) -> None:
    visible = torch.zeros(1, 1, height, width)
    visible[..., height // 2, width // 3] = 1
    image = torch.tensor([0.2, -0.7, 5.0]).reshape(1, 3, 1, 1).expand(1, 3, height, width)
    torch.testing.assert_close(push_pull_fill(image * visible, visible), image)


def test_fill_continues_a_ramp_across_a_hole() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 48, 64)
    visible = torch.ones(1, 1, 48, 64)
    visible[..., 20:26, 28:34] = 0
    assert ((push_pull_fill(ramp, visible) - ramp).abs().max()) < 0.06


def test_fill_takes_the_nearer_colour() -> None:
    image, visible = torch.zeros(1, 1, 32, 64), torch.ones(1, 1, 32, 64)
    image[..., 32:] = 1
    visible[..., 8:56] = 0
    filled = push_pull_fill(image, visible)
    assert filled[..., 8:14].max() < 0.3
    assert filled[..., 50:56].min() > 0.7


def test_frames_are_filled_apart() -> None:
    visible = random_visible(3, 21, 34, 0.4)
    image = torch.rand(3, 3, 21, 34)
    together = push_pull_fill(image, visible)
    for frame in range(3):
        torch.testing.assert_close(
            together[frame : frame + 1], push_pull_fill(image[frame : frame + 1], visible[frame : frame + 1])
        )


@pytest.mark.parametrize("shape", [(2, 3, 20, 31), (3, 20, 30)])
def test_pictures_of_another_shape_than_the_mask_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="image and visible have shapes"):
        push_pull_fill(torch.ones(shape), torch.ones(2, 1, 20, 30))


def test_closed_pinholes_get_the_mean_of_what_is_seen_around() -> None:
    generator = torch.Generator().manual_seed(0)
    image, visible = torch.rand(2, 3, 9, 8, generator=generator), random_visible(2, 9, 8, 0.9)
    closed = close_pinholes(visible)
    filled = fill_pinholes(image.masked_fill(visible == 0, math.nan), visible, closed)
    assert (closed > visible).any()
    for frame, _, row, column in (closed > visible).nonzero().tolist():
        rows, columns = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
        around = visible[frame, 0, rows, columns] > 0
        torch.testing.assert_close(filled[frame, :, row, column], image[frame, :, rows, columns][:, around].mean(-1))
    seen = (visible > 0).expand_as(image)
    assert torch.equal(filled[seen], image[seen])
    assert (filled[(closed == 0).expand_as(image)] == 0).all()


def test_pinholes_are_closed_and_openings_are_not() -> None:
    visible = torch.ones(1, 1, 12, 12)
    visible[..., 3, 3] = 0  # one pixel
    visible[..., 6, 5:8] = 0  # a crack
    visible[..., 9:12, 9:12] = 0  # an opening at the border
    closed = close_pinholes(visible)
    assert closed[..., 3, 3] == 1
    assert (closed[..., 6, 5:8] == 1).all()
    assert (closed[..., 9:12, 9:12] == 0).all()
    assert (closed >= visible).all()
    assert torch.equal(close_pinholes(torch.zeros(2, 1, 4, 4)), torch.zeros(2, 1, 4, 4))
    assert close_pinholes(visible, 8)[..., 6, 6] == 0
    with pytest.raises(InputError, match="neighbours is 3"):
        close_pinholes(visible, 3)


def two_sides(near_is_left: bool, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """A near white side and a far black one, with a hole of some width between them."""
    image, visible, depth = torch.zeros(1, 1, 48, 64), torch.ones(1, 1, 48, 64), torch.full((1, 1, 48, 64), 8.0)
    image[..., :32], depth[..., :32] = 1, 1.0
    visible[..., 32 - width // 2 : 32 + width // 2] = 0
    if near_is_left:
        return image, visible, depth
    return image.flip(-1), visible.flip(-1), depth.flip(-1)


@pytest.mark.parametrize("near_is_left", [True, False])
@pytest.mark.parametrize("width", [4, 16, 30])
def test_with_depth_the_farther_side_fills_a_hole(near_is_left: bool, width: int) -> None:
    image, visible, depth = two_sides(near_is_left, width)
    hole = visible == 0
    assert float(push_pull_fill(image, visible)[hole].mean()) == pytest.approx(0.5, abs=0.1)
    found = push_pull_fill(image, visible, depth)
    assert float(found[hole].mean()) < 0.4
    assert torch.equal(push_pull_fill(image, visible, 1024 * depth), found), "whatever the unit"


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 37), st.integers(1, 37), st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_fill_with_depth_keeps_seen_pixels_and_stays_in_their_range(
    height: int, width: int, share: float, seed: int
) -> None:
    visible = random_visible(2, height, width, share, seed)
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator) * 3 - 1
    depth = 10 ** (8 * torch.rand(2, 1, height, width, generator=generator) - 4)
    depth[torch.rand(depth.shape, generator=generator) < 0.1] = 0  # seen, and yet of unknown depth
    depth[visible == 0] = math.nan
    filled = push_pull_fill(torch.where(visible > 0, image, math.nan), visible, depth)
    seen = (visible > 0).expand_as(image)
    assert torch.equal(filled[seen], image[seen])
    for frame in range(2):
        for channel in range(3):
            known = image[frame, channel][visible[frame, 0] > 0]
            values = filled[frame, channel]
            assert values.min() >= (known.min() - 1e-4 if len(known) else 0)
            assert values.max() <= (known.max() + 1e-4 if len(known) else 0)


def test_a_flat_depth_changes_nothing() -> None:
    image, visible = torch.rand(2, 3, 33, 20), random_visible(2, 33, 20, 0.5)
    plain = push_pull_fill(image, visible)
    for depth in (torch.full((2, 1, 33, 20), 3.0), torch.zeros(2, 1, 33, 20)):
        torch.testing.assert_close(push_pull_fill(image, visible, depth), plain, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"depth has shape \(2, 33, 20\)"):
        push_pull_fill(image, visible, torch.ones(2, 33, 20))
