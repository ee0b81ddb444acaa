"""Depth as a picture."""

import pytest
import torch

from mvguide.drawing.depth_picture import depth_picture
from mvguide.drawing.sheets import mark_holes


def test_near_is_brighter_than_far_and_what_is_not_known_is_striped() -> None:
    depth = torch.linspace(1, 10, 64).expand(16, 64)
    valid = torch.ones(16, 64, dtype=torch.bool)
    valid[:, 40:] = False
    shown = depth_picture(depth, valid)
    assert shown.shape == (3, 16, 64)
    brightness = shown.mean(0)[0, :40]
    assert bool((brightness.diff() <= 1e-6).all())
    assert float(brightness[0] - brightness[-1]) > 0.4
    torch.testing.assert_close(shown[:, :, 40:], mark_holes(torch.zeros(3, 16, 64), torch.zeros(1, 16, 64))[:, :, 40:])


@pytest.mark.parametrize("depth", [torch.full((4, 4), 2.0), torch.zeros(4, 4), torch.full((4, 4), 1e30)])
def test_flat_and_unknown_maps_are_pictures_too(depth: torch.Tensor) -> None:
    for valid in (depth > 0, torch.zeros(4, 4, dtype=torch.bool)):
        shown = depth_picture(depth, valid)
        assert bool(shown.isfinite().all())
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
