"""Which view shows which frame."""

import pytest
import torch

from mvguide.errors import InputError
from mvguide.views.moments import Moments


def test_a_video_is_played_over_the_frames() -> None:
    assert Moments.footage(4, 4).shows.int().argmax(0).tolist() == [0, 1, 2, 3]
    assert Moments.footage(5, 3).shows.int().argmax(0).tolist() == [0, 2, 4]
    slow = Moments.footage(3, 6)
    assert slow.shows.int().argmax(0).tolist() == [0, 0, 1, 1, 2, 2]
    assert (slow.shows.sum(0) == 1).all()
    assert not slow.fills.any()


def test_time_stops_at_a_moment() -> None:
    assert Moments.footage(4, 3, at=2).shows.int().argmax(0).tolist() == [2, 2, 2]
    assert Moments.footage(4, 3, at=-1).shows.int().argmax(0).tolist() == [3, 3, 3]
    with pytest.raises(InputError, match="moment 4 was asked for, but the video has frames 0 to 3"):
        Moments.footage(4, 3, at=4)


def test_neighbours_may_fill() -> None:
    found = Moments.footage(4, 4, fill=1)
    assert found.fills[:, 1].tolist() == [True, False, True, False]
    assert not (found.fills & found.shows).any()
    with pytest.raises(InputError, match="fill is -1"):
        Moments.footage(4, 4, fill=-1)


def test_moments_are_checked_against_what_they_are_for() -> None:
    Moments.all_alike(2, 5).check(2, 5)
    with pytest.raises(InputError, match="moments are of 2 views and 5 frames, but there are 3 views and 5 frames"):
        Moments.all_alike(2, 5).check(3, 5)
    gap = Moments.all_alike(1, 3)
    gap.shows[0, 1] = False
    with pytest.raises(InputError, match="no view shows frame 1"):
        gap.check(1, 3)
    assert torch.equal(Moments.all_alike(2, 3).shows, torch.ones(2, 3, dtype=torch.bool))
