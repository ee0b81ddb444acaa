"""Flicker and reprojection error have known values on made-up videos."""

import math

import pytest
import torch

from mvguide.errors import InputError
from mvguide.evaluation.motion import flicker, reprojection_error, reprojection_errors
from mvguide.geometry.camera import Camera, stack


def video(levels: list[float]) -> torch.Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, 12, 16).clone()


def test_what_changes_steadily_does_not_flicker() -> None:
    assert flicker(video([0.5] * 4)) == 0
    assert flicker(video([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0, abs=1e-7)
    assert flicker(video([0.5, 0.6, 0.5, 0.6])) == pytest.approx(0.2, abs=1e-7)
    assert flicker(video([0.0, 0.0, 0.3, 0.3])) == pytest.approx(0.3, abs=1e-7)


def test_only_triples_with_a_frame_that_counts() -> None:
    frames = video([0.5, 0.9, 0.5, 0.5, 0.5, 0.6])
    counted = torch.tensor([False, False, False, False, True, True])
    assert flicker(frames, counted) == pytest.approx(0.05, abs=1e-7), "(0 + 0.1) / 2: of triples 2-4 and 3-5"
    assert math.isnan(flicker(frames[:2]))
    assert math.isnan(flicker(frames, torch.zeros(6, dtype=torch.bool)))


def plane(shift: float = 0.0, count: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Camera]:
    """A textured wall 2 away and a camera that trucks by exactly two pixels a frame."""
    focal, depth = 32.0, 2.0
    cameras = []
    for k in range(count):
        motion = torch.eye(4, dtype=torch.float64)
        motion[0, 3] = -k * 2 * depth / focal  # world to camera: to the right, by 2 pixels of this wall
        cameras.append(Camera.from_intrinsics((focal, focal, 20, 15), 40, 30, motion))
    wall = torch.rand(3, 30, 40 + 2 * count, generator=torch.Generator().manual_seed(0)) * 0.8
    frames = torch.stack([wall[:, :, 2 * k : 2 * k + 40] for k in range(count)])
    brighter = shift * torch.arange(count)[:, None, None, None]
    return (
        frames + brighter,
        torch.full((count, 30, 40), depth),
        torch.ones(count, 30, 40, dtype=torch.bool),
        stack(cameras),
    )


def test_a_true_video_reprojects_onto_itself() -> None:
    frames, depth, valid, cameras = plane()
    assert reprojection_error(frames, depth, valid, cameras) < 1e-5


def test_a_change_of_brightness_is_the_error() -> None:
    frames, depth, valid, cameras = plane(shift=0.1)
    torch.testing.assert_close(
        reprojection_errors(frames, depth, valid, cameras),
        torch.tensor([0.1, 0.1], dtype=torch.float64),
        atol=1e-5,
        rtol=0,
    )
    counted = torch.tensor([False, False, True])
    frames[0] = 0
    assert reprojection_error(frames, depth, valid, cameras, counted) == pytest.approx(0.1, abs=1e-5)


def test_wrong_cameras_are_seen() -> None:
    frames, depth, valid, cameras = plane()
    still = stack([cameras[0]] * 3)
    assert reprojection_error(frames, depth, valid, still) > 0.2


def test_hidden_and_unknown_pixels_do_not_count() -> None:
    frames, depth, valid, cameras = plane()
    wrong = frames.clone()
    wrong[1, :, 10:20, 10:20] = 1  # a thing that comes into view, nearer than the wall behind it
    depth[1, 10:20, 10:20] = 1.0
    there = reprojection_errors(wrong[:2], depth[:2], valid[:2], cameras[:2])
    assert float(there[0]) < 1e-5, "the wall is hidden there in frame 1"
    valid[0] = False
    assert math.isnan(reprojection_error(frames[:2], depth[:2], valid[:2], cameras[:2]))


def test_sizes_must_fit() -> None:
    frames, depth, valid, cameras = plane()
    with pytest.raises(InputError, match="need depth"):
        reprojection_errors(frames, depth[:2], valid, cameras)
