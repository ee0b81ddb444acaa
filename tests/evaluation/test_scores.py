"""Which frames and regions count, and how errors are drawn."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mvguide.drawing.error_pictures import BRIGHTEST, error_frames, heat
from mvguide.errors import InputError
from mvguide.evaluation.figure_tables import cell, table
from mvguide.evaluation.scores import Truth, score_video
from mvguide.geometry.camera import Camera, stack


def truth(pinned: list[bool], hole: int = 16) -> Truth:
    """Three grey frames, a square hole in each."""
    visible = torch.ones(3, 1, 32, 32)
    visible[:, :, 8 : 8 + hole, 8 : 8 + hole] = 0
    frames = torch.full((3, 3, 32, 32), 0.5) + 0.1 * torch.rand(
        3, 3, 32, 32, generator=torch.Generator().manual_seed(0)
    )
    cameras = stack([Camera.from_fov(60, 32, 32)] * 3)
    return Truth(frames, visible, cameras, [0, 1, 2], torch.tensor(pinned))


def test_given_frames_and_other_regions_do_not_count() -> None:
    known = truth([True, False, False])
    frames = known.frames.clone()
    frames[0] = 0  # the given frame is nobody's fault
    frames[1] += 0.1 * (1 - known.visible[1])
    frames[2] += 0.2 * (1 - known.visible[2])
    found = score_video(frames, known)
    assert found.means["psnr seen"] == 100
    assert found.means["psnr holes"] == pytest.approx((20 + 13.979) / 2, abs=1e-2)
    whole, ratio = found.per_frame["psnr whole"][0], found.temporal["flicker ratio"]
    assert whole is not None
    assert whole < 10
    assert found.means["ssim seen"] == pytest.approx(1)
    assert found.temporal["reprojection"] is None
    assert ratio is not None
    assert ratio > 1


@pytest.mark.parametrize(("pinned", "measured"), [([True, False, False], True), ([True, False, True], False)])
def test_what_an_input_view_shows_beside_itself_is_no_reprojection_error(pinned: list[bool], measured: bool) -> None:
    """A filled warp of an input view agrees with that view by construction, however wrong it is."""
    depth = torch.full((3, 32, 32), 2.0)
    known = replace(truth(pinned), depth=depth, valid=torch.ones(3, 32, 32, dtype=torch.bool))
    figures = score_video(known.frames, known).temporal
    assert (figures["reprojection"] is not None) == measured
    assert (figures["reprojection ratio"] is not None) == measured


def test_a_handful_of_pixels_is_no_region() -> None:
    small = truth([False] * 3, hole=2)
    assert score_video(small.frames, small).means["psnr holes"] is None, "4 of 1024 pixels"
    larger = truth([False] * 3, hole=3)
    assert score_video(larger.frames, larger).means["psnr holes"] == 100


def test_there_must_be_something_to_score() -> None:
    with pytest.raises(InputError, match="every true frame is one of the input views"):
        truth([True, True, True])
    with pytest.raises(InputError, match="do not fit the true ones"):
        score_video(torch.rand(2, 3, 32, 32), truth([False] * 3))


def test_errors_are_drawn_by_their_size_with_a_line_around_holes() -> None:
    colours = heat(torch.linspace(0, 2 * BRIGHTEST, 9).view(1, 1, 9))
    brightness = colours.sum(0).flatten()
    assert (brightness.diff()[:4] > 0).all(), "more error is brighter"
    assert torch.equal(brightness[4:], brightness[4].expand(5)), "up to the brightest"
    known = truth([False] * 3)
    drawn = error_frames(known.frames, known.frames, known.visible, scale=3)
    assert drawn.shape == (3, 3, 96, 96)
    line = drawn[0, 1] > 0.9
    assert int(line.sum()) == 4 * (48 - 1), "the outermost pixels of a hole of 16 x 16, three times as large"
    assert bool(line[24, 24:72].all())


def test_tables_leave_out_what_nobody_has() -> None:
    rows: dict[str, dict[str, Any]] = {
        "a": {"psnr whole": 20.123, "seconds": None},
        "b": {"psnr whole": None, "registered": "3 | 4"},
    }
    assert table("", rows, ["psnr whole", "seconds", "registered"]).splitlines() == [
        "|  | psnr whole | registered |",
        "|---|---|---|",
        "| a | 20.12 | - |",
        "| b | - | 3 / 4 |",
    ]
    assert table("", rows, ["seconds"]) == ""
    assert cell("seen share", 0.985) == "98.5 %"
