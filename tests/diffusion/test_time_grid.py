"""Which frames are one latent frame."""

import pytest
import torch

from mvguide.diffusion.time_grid import TimeGrid
from mvguide.errors import InputError


def test_each_frame_is_its_own_without_compression() -> None:
    values = torch.rand(5, 2)
    grid = TimeGrid()
    assert grid.latent_frames(5) == 5
    assert torch.equal(grid.mean(values), values)
    assert grid.all(torch.tensor([True, False, True])).tolist() == [True, False, True]


def test_frames_are_packed_after_the_first() -> None:
    grid = TimeGrid(4)
    assert [grid.latent_frames(frames) for frames in (1, 5, 9, 81)] == [1, 2, 3, 21]
    groups = grid.group(torch.arange(9.0))
    assert groups.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert grid.mean(torch.arange(9.0)).tolist() == [0, 2.5, 6.5]
    # A pinned last view does not pin the three frames before it.
    pinned = torch.tensor([True] + [False] * 7 + [True])
    assert grid.all(pinned).tolist() == [True, False, False]


def test_the_lead_stands_for_frame_0() -> None:
    grid = TimeGrid(4, lead=1, unit=8)
    assert [grid.latent_frames(frames) for frames in (9, 17)] == [4, 6]
    assert [grid.num_frames(latents) for latents in (4, 6)] == [9, 17]
    assert grid.mean(torch.arange(9.0)).tolist() == [0, 0, 2.5, 6.5]


@pytest.mark.parametrize(
    ("frames", "grid", "nearest"),
    [
        (11, TimeGrid(4), "use 9 or 13"),
        (4, TimeGrid(4), "use 5"),
        (0, TimeGrid(), "use 2"),
        (18, TimeGrid(8), "use 17 or 25"),
        (13, TimeGrid(4, unit=8), "use 9 or 17"),
    ],
)
def test_other_counts_are_refused_with_the_nearest(frames: int, grid: TimeGrid, nearest: str) -> None:
    with pytest.raises(InputError, match=f"num_frames is {frames}.*{nearest}"):
        grid.latent_frames(frames)
