import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvguide.errors import InputError
from mvguide.geometry import depth_edges, dilate_holes, latent_visible, smeared_depth
from tests.geometry.test_hole_filling import random_visible


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
        (lambda: dilate_holes(visible, 1.5), "radius is 1.5"),  # type: ignore[arg-type]
        (lambda: latent_visible(visible, 8), "30x20, which 8 does not divide"),
        (lambda: latent_visible(visible, 0), "vae_scale_factor is 0"),
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
    floor = (40 / rows).expand(40, 30).clone()  # a plane: disparity grows evenly down the image
    assert float((floor[1:] / floor[:-1]).min()) < 0.6, "near the horizon it does jump from row to row"
    assert not smeared_depth(floor).any()
    floor[:, :5] = 0  # unknown
    floor[3, 20] = torch.nan
    assert not smeared_depth(floor).any()
    with pytest.raises(InputError, match="relative_jump is 0"):
        smeared_depth(floor, 0)


def test_a_latent_cell_may_be_seen_in_part() -> None:
    visible = torch.zeros(1, 1, 4, 8)
    visible[..., :2, :4] = 1  # half of the first cell
    visible[..., :, 4:] = 1
    visible[..., 0, 4] = 0  # all but one of the second
    assert latent_visible(visible, 4).tolist() == [[[[0, 0]]]]
    assert latent_visible(visible, 4, 0.5).tolist() == [[[[1, 1]]]]
    assert latent_visible(visible, 4, 0.6).tolist() == [[[[0, 1]]]]
    with pytest.raises(InputError, match="coverage is 0"):
        latent_visible(visible, 4, 0)


def test_a_radius_beyond_the_picture_changes_nothing_more() -> None:
    visible = torch.ones(1, 1, 5, 7)
    visible[..., 2, 3] = 0
    assert torch.equal(dilate_holes(visible, 10**9), torch.zeros_like(visible))
