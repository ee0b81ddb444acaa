import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry import close_pinholes, depth_edges, dilate_holes, latent_visible, push_pull_fill, smeared_depth
from mvguide.geometry.masks import fill_pinholes


def random_visible(frames: int, height: int, width: int, share: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(frames, 1, height, width, generator=generator) < share).float()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 4), st.integers(0, 99))
def test_dilated_holes_are_the_squares_around_holes(height: int, width: int, radius: int, seed: int) -> None:
    visible = random_visible(2, height, width, 0.9, seed)
    found = dilate_holes(visible, radius)
    for frame in range(2):
        for row in range(height):
            for column in range(width):
                rows = slice(max(0, row - radius), row + radius + 1)
                columns = slice(max(0, column - radius), column + radius + 1)
                assert found[frame, 0, row, column] == visible[frame, 0, rows, columns].min()


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


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
def test_latent_cell_is_seen_only_where_all_its_pixels_are(factor: int) -> None:
    visible = random_visible(3, 48, 32, 0.98)
    cells = latent_visible(visible, factor)
    assert cells.shape == (3, 1, 48 // factor, 32 // factor)
    for row in range(48 // factor):
        for column in range(32 // factor):
            block = visible[:, 0, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert torch.equal(cells[:, 0, row, column], block.amin(dim=(1, 2)))


def test_depth_edges_mark_jumps_and_their_smear_but_not_slopes() -> None:
    slope = torch.linspace(1, 3, 60).expand(40, 60)  # steepest 6.8 % over the three columns of a square
    assert not depth_edges(slope, 0.08).any()
    depth = torch.full((40, 60), 4.0)
    depth[:, :30], depth[:, 30] = 1.0, 2.5  # column 30 is a smear of both sides
    depth[5, 10] = 0.0
    depth[6, 50] = math.nan
    edges = depth_edges(depth, 0.05)
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[:, 29:32] = True
    assert torch.equal(edges, expected)


def test_depth_edges_do_not_depend_on_the_unit() -> None:
    depth = 1 + torch.rand(20, 30, generator=torch.Generator().manual_seed(3))
    assert torch.equal(depth_edges(depth, 0.5), depth_edges(depth * 1024, 0.5))
    assert 0.05 < depth_edges(depth, 0.5).float().mean() < 0.95
    assert depth_edges(depth.expand(2, 3, 20, 30)).shape == (2, 3, 20, 30)


def test_bad_arguments_are_refused() -> None:
    visible = torch.ones(2, 1, 20, 30)
    faults = [
        (lambda: dilate_holes(visible, -1), "radius is -1"),
        (lambda: dilate_holes(visible, 1.5), "radius is 1.5"),
        (lambda: latent_visible(visible, 8), "30x20, which 8 does not divide"),
        (lambda: latent_visible(visible, 0), "factor is 0"),
        (lambda: push_pull_fill(torch.ones(2, 3, 20, 31), visible), "image and visible have shapes"),
        (lambda: push_pull_fill(torch.ones(3, 20, 30), visible), "image and visible have shapes"),
        (lambda: depth_edges(torch.ones(4, 4), 0), "relative_jump is 0"),
    ]
    for make, sentence in faults:
        with pytest.raises(InputError, match=sentence):
            make()


def test_smeared_depth_marks_what_lies_between_two_surfaces_only() -> None:
    depth = torch.full((9, 20), 2.0)
    depth[:, 10:] = 5.0
    assert not smeared_depth(depth).any(), "a clean step has no smear"
    depth[:, 9] = 3.1
    assert torch.equal(smeared_depth(depth).nonzero()[:, 1].unique(), torch.tensor([9]))
    assert smeared_depth(depth)[2:-2, 9].all()
    depth[:, 8], depth[:, 9] = 2.6, 3.7  # two pixels wide, as bilinear enlargement makes it
    assert smeared_depth(depth)[2:-2, 8:10].all()
    assert torch.equal(smeared_depth(depth.T), smeared_depth(depth).T)
    assert torch.equal(smeared_depth(depth * 1024), smeared_depth(depth))


def test_smeared_depth_leaves_steep_floors_alone() -> None:
    rows = torch.arange(1, 41, dtype=torch.float32)[:, None]
    floor = (40 / rows).expand(40, 30).clone()  # a plane: disparity grows evenly down the picture
    assert float((floor[1:] / floor[:-1]).min()) < 0.6, "near the horizon it does jump from row to row"
    assert not smeared_depth(floor).any()
    floor[:, :5] = 0  # unknown
    floor[3, 20] = torch.nan
    assert not smeared_depth(floor).any()
    with pytest.raises(InputError, match="relative_jump is 0"):
        smeared_depth(floor, 0)


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


def test_a_latent_cell_may_be_seen_in_part() -> None:
    visible = torch.zeros(1, 1, 4, 8)
    visible[..., :2, :4] = 1  # half of the first cell
    visible[..., :, 4:] = 1
    visible[..., 0, 4] = 0  # all but one of the second
    assert latent_visible(visible, 4).tolist() == [[[[0, 0]]]]
    assert latent_visible(visible, 4, 0.5).tolist() == [[[[1, 1]]]]
    assert latent_visible(visible, 4, 0.6).tolist() == [[[[0, 1]]]]
    with pytest.raises(InputError, match="share is 0"):
        latent_visible(visible, 4, 0)
