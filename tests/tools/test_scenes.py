"""The procedural world: exact depth and cameras, and scenes that depend on their seed alone."""

from itertools import pairwise

import pytest
import torch

from mvguide.geometry import Camera, splat
from tools.scenes import BENCH, EXAMPLES, HELD_OUT, TRAINING, flow_bucket, render_scenes
from tools.scenes.render import Scenes


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return render_scenes(range(8), size=48, frames=4, with_depth=True)


def test_seed_ranges_do_not_meet() -> None:
    ranges = sorted((TRAINING, HELD_OUT, BENCH, EXAMPLES), key=lambda r: r.start)
    for before, after in pairwise(ranges):
        assert before.stop <= after.start


def test_shapes_and_ranges(scenes: Scenes) -> None:
    assert scenes.video.shape == (8, 4, 3, 48, 48)
    assert scenes.depth is not None
    assert scenes.depth.shape == (8, 4, 48, 48)
    assert 0 <= scenes.video.min() <= scenes.video.max() <= 1
    assert (scenes.depth > 0).all()
    assert (scenes.video.flatten(1).std(1) > 0.03).all(), "no scene is flat"
    assert ((scenes.new_share > 0.01) & (scenes.new_share < 0.6)).all()


def test_a_scene_is_a_function_of_its_seed(scenes: Scenes) -> None:
    alone = render_scenes([5], size=48, frames=4, with_depth=True)
    torch.testing.assert_close(alone.video[0], scenes.video[5])
    assert alone.depth is not None
    assert scenes.depth is not None
    torch.testing.assert_close(alone.depth[0], scenes.depth[5])
    assert not torch.allclose(scenes.video[4], scenes.video[5])


def test_depth_and_cameras_are_exact(scenes: Scenes) -> None:
    """Warping the first frame's depth into the last camera agrees with the depth traced there."""
    assert scenes.depth is not None
    for index in range(8):
        if scenes.moving[index]:
            continue
        cameras = Camera(scenes.intrinsics[index].double(), scenes.world_to_camera[index].double(), 48, 48)
        first = scenes.depth[index, 0]
        finite = torch.isfinite(first)
        warp = splat(scenes.video[index, 0], torch.where(finite, first, 0.0), cameras[0], cameras[1:])
        seen = (warp.visible[:, 0] > 0) & torch.isfinite(scenes.depth[index, 1:])
        ratio = (warp.depth[:, 0] / scenes.depth[index, 1:])[seen]
        assert (ratio.log().abs() < 0.05).float().mean() > 0.8, index
        difference = (warp.image - scenes.video[index, 1:]).abs().mean(1)[seen]
        assert difference.median() < 0.05, index


def test_the_motion_bucket_is_sixteen_times_the_flow() -> None:
    """A truck past a wall at depth 2: flow is f t / z in pixels of an image 64 wide."""
    intrinsics = torch.tensor([[[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]])
    poses = torch.eye(4).repeat(1, 3, 1, 1)
    poses[0, :, 0, 3] = torch.tensor([0.0, 0.1, 0.2])
    assert flow_bucket(torch.full((1, 64, 64), 2.0), intrinsics, poses).item() == pytest.approx(16 * 64 * 0.1 / 2)
