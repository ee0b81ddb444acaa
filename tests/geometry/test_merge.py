"""Merging of views: the nearest surface wins, the view from nearby counts most."""

import math

import pytest
import torch

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.masks import smeared_depth
from mvguide.geometry.merge import Quality, merge, view_quality
from mvguide.geometry.warp import Warp, splat
from tests.real_data import needs_data, psnr, seven_scenes


def flat(depth: float, colour: float, visible: float = 1.0, size: int = 4) -> Warp:
    shape = (1, 1, size, size)
    seen = torch.full(shape, visible)
    return Warp(torch.full((1, 3, size, size), colour) * seen, seen, torch.full(shape, depth) * seen)


def quality(confidence: float, weight: float = 1.0) -> Quality:
    return Quality(torch.full((1, 1, 4, 4), confidence), torch.full((1, 1, 4, 4), weight))


def at(x: float, z: float = 0.0, size: int = 32) -> Camera:
    move = torch.eye(4, dtype=torch.float64)
    move[0, 3], move[2, 3] = -x, -z
    return Camera.from_fov(60, size, size, move)


def test_one_view_comes_back_as_it_is() -> None:
    source, targets = at(0), stack([at(0.1), at(0.3)])
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    warp = splat(image, torch.full((32, 32), 2.0), source, targets)
    merged = merge([warp], [view_quality(warp, source, targets)])
    torch.testing.assert_close(merged.image, warp.image)
    assert torch.equal(merged.visible, warp.visible)
    assert torch.equal(merged.depth, warp.depth)
    torch.testing.assert_close(merged.shares, warp.visible.mean((1, 2, 3))[None])


def test_the_nearer_surface_wins_whatever_its_weight() -> None:
    merged = merge([flat(2.0, 0.2), flat(1.0, 0.8)], [quality(1.0, 100.0), quality(0.1, 0.01)])
    torch.testing.assert_close(merged.image, torch.full((1, 3, 4, 4), 0.8))
    torch.testing.assert_close(merged.confidence, torch.full((1, 1, 4, 4), 0.1))
    assert merged.shares[:, 0].tolist() == [0, 1]


def test_agreeing_surfaces_are_averaged_by_weight_and_doubted_by_their_difference() -> None:
    merged = merge([flat(2.0, 0.5), flat(2.04, 0.6)], [quality(0.5, 3.0), quality(0.5, 1.0)])
    torch.testing.assert_close(merged.image, torch.full((1, 3, 4, 4), 0.525), atol=1e-5, rtol=0)
    torch.testing.assert_close(merged.depth, torch.full((1, 1, 4, 4), 2.0))
    spread = 0.25 * 0.75 * 0.1**2  # variance of two values at these weights
    expected = 0.75 * math.exp(-spread / 0.15**2)
    torch.testing.assert_close(merged.confidence, torch.full((1, 1, 4, 4), expected), atol=1e-4, rtol=0)


def test_holes_of_one_view_are_filled_by_the_other() -> None:
    merged = merge([flat(2.0, 0.5, visible=0.0), flat(9.0, 0.7)], [quality(0.9), quality(0.2)])
    torch.testing.assert_close(merged.image, torch.full((1, 3, 4, 4), 0.7))
    nothing = merge([flat(2.0, 0.5, visible=0.0)], [quality(0.0, 0.0)])
    assert nothing.visible.sum() == nothing.confidence.sum() == nothing.depth.sum() == 0


def test_quality_falls_with_the_angle_and_with_enlargement() -> None:
    source = at(0)
    targets = stack([at(0), at(0.5), at(1.0), at(0, z=1.0)])
    warp = splat(torch.rand(3, 32, 32), torch.full((32, 32), 2.0), source, targets)
    found = view_quality(warp, source, targets)
    centre = found.confidence[:, 0, 16, 16]
    torch.testing.assert_close(centre[0], torch.tensor(1.0), atol=1e-4, rtol=0)
    assert centre[0] > centre[1] > centre[2] > 0
    # From half the distance the view's pixels are twice as large; the angle at the axis is 0.
    assert centre[3] == pytest.approx(0.5, abs=0.02)
    weight = found.weight[:, 0, 16, 16]
    assert weight[0] > 100 * weight[1]
    assert (found.confidence[warp.visible == 0] == 0).all()


def test_merge_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="give both for each view"):
        merge([], [])
    with pytest.raises(InputError, match="one shape"):
        merge([flat(1, 1), flat(1, 1, size=5)], [quality(1), quality(1)])


@needs_data
def test_two_real_views_show_more_than_one_and_no_worse() -> None:
    """Frame 20 from 0 and 40: all that both see together is 6.5 points more than what the better one sees alone."""
    views, truth = [seven_scenes(0), seven_scenes(40)], seven_scenes(20)
    targets = stack([truth.camera])
    warps = [
        splat(v.image, v.depth.values, v.camera, targets, valid=v.depth.valid & ~smeared_depth(v.depth.values))
        for v in views
    ]
    merged = merge(warps, [view_quality(w, v.camera, targets) for w, v in zip(warps, views, strict=True)])
    better = max(warps, key=lambda warp: float(warp.visible.mean()))
    assert merged.visible.mean() > better.visible.mean() + 0.06
    alone = psnr(better.image[0], truth.image, better.visible[0])
    assert psnr(merged.image[0], truth.image, better.visible[0]) > alone + 0.3
