"""The ray tracer against the bodies' implicit surfaces, and the camera moves."""

import pytest
import torch
from torch import Tensor

from tools.scenes import HELD_OUT, flow_bucket, trace
from tools.scenes.moves import MOVES, NEW_SHARE, make_rays, sample_paths
from tools.scenes.world import BOXES, CYLINDERS, DOME, FLOOR, OBJECTS, SKY, SPHERES, World, sample_worlds

SEEDS = HELD_OUT[:24]


def body_values(world: World, point: Tensor) -> Tensor:
    """Implicit surface of each body (at half time) at points ``[B, N, 3]``: ``[B, N, P]``, < 0 inside."""
    local = point[:, :, None] - world.center[:, None]
    c, s = world.yaw.cos()[:, None], world.yaw.sin()[:, None]
    x, y, z = local.unbind(-1)
    turned = torch.stack([c * x + s * z, y, c * z - s * x], -1)
    half = world.half[:, None]
    box = (turned.abs() - half).amax(-1)
    sphere = local.norm(dim=-1) - half[..., 0]
    tube = torch.maximum(local[..., [0, 2]].norm(dim=-1) - half[..., 0], y.abs() - half[..., 1])
    values = torch.empty_like(sphere)
    for part, value in ((BOXES, box), (SPHERES, sphere), (CYLINDERS, tube)):
        values[..., part] = value[..., part]
    return torch.where(world.present[:, None], values, torch.inf)


def test_hits_lie_on_the_surface_they_name_and_nothing_is_in_front() -> None:
    world = sample_worlds(SEEDS)
    path = sample_paths(SEEDS, world, 2, "cpu")
    rays = make_rays(path.intrinsics, path.camera_to_world, 24)
    center = trace.centers(world, torch.full((2,), 0.5))
    depth, index = trace.nearest(rays, world, center)

    def at(share: float) -> Tensor:
        return torch.stack([rays[i] + share * depth * rays[i + 3] for i in range(3)], -1).flatten(1, 2)

    point, hit = at(1.0), index.flatten(1)
    on_body = hit < OBJECTS
    surface = body_values(world, point).gather(2, hit.clamp(max=OBJECTS - 1)[..., None])[..., 0]
    assert on_body.float().mean() > 0.05
    assert len(hit[on_body].unique()) == OBJECTS, "each kind of body is seen somewhere"
    assert surface[on_body].abs().max() < 1e-4
    assert point[..., 1][hit == FLOOR].abs().max() < 1e-4
    assert (point.norm(dim=-1)[hit == SKY] - DOME).abs().max() < 1e-3
    to_wall = (world.room[:, None, [0, 2]] - point[..., [0, 2]].abs()).amin(-1)
    assert to_wall[(hit > FLOOR + 1) & (hit < SKY)].abs().max() < 1e-4
    for share in torch.linspace(0.05, 0.97, 24).tolist():
        assert body_values(world, at(share)).min() > -1e-4


def test_the_normal_follows_the_surface() -> None:
    """A step from a hit along the normal leaves the body at the rate of the step."""
    world = sample_worlds(SEEDS)
    path = sample_paths(SEEDS, world, 2, "cpu")
    rays = make_rays(path.intrinsics, path.camera_to_world, 24)
    center = trace.centers(world, torch.full((2,), 0.5))
    depth, index = trace.nearest(rays, world, center)
    point = [rays[i] + depth * rays[i + 3] for i in range(3)]
    normal = torch.stack(trace._local(world, center, index, *point)[3:], -1).flatten(1, 2)
    hit = index.flatten(1)
    assert (normal.norm(dim=-1)[hit != SKY] - 1).abs().max() < 1e-3  # the sky is not lit
    out = torch.stack(point, -1).flatten(1, 2) + 0.01 * normal
    left = body_values(world, out).gather(2, hit.clamp(max=OBJECTS - 1)[..., None])[..., 0]
    assert (left[hit < OBJECTS] - 0.01).abs().max() < 1e-3


def test_cameras_are_rigid_level_and_independent_of_the_frame_count() -> None:
    world = sample_worlds(SEEDS)
    few, many = (sample_paths(SEEDS, world, frames, "cpu").camera_to_world for frames in (2, 9))
    assert torch.allclose(few, many[:, [0, -1]], atol=1e-6)
    turn = many[..., :3, :3]
    assert torch.allclose(turn @ turn.mT, torch.eye(3).expand_as(turn), atol=1e-5)
    assert torch.linalg.det(turn).min() > 0.99
    assert turn[..., 1, 0].abs().max() < 1e-5  # the image's x axis stays level
    assert turn[..., 1, 1].max() < 0  # the image's y axis points down, the world's up


def test_moves_are_of_all_kinds_and_show_something_new() -> None:
    seeds = HELD_OUT[:128]
    path = sample_paths(seeds, sample_worlds(seeds), 2, "cpu")
    low, high = NEW_SHARE
    assert ((path.new_share >= low) & (path.new_share <= high)).float().mean() > 0.9
    assert set(path.move.tolist()) == set(range(len(MOVES)))


def test_one_scene_in_five_has_one_moving_object() -> None:
    worlds = sample_worlds(HELD_OUT[:600])
    assert 0.15 < worlds.moving.float().mean() < 0.25
    travel = worlds.velocity.norm(dim=-1)
    assert ((travel > 0).sum(1) == worlds.moving.long()).all()
    assert travel[travel > 0].min() > 0.5
    start, end = trace.centers(worlds, torch.tensor([0.0, 1.0])).unbind(1)
    assert torch.allclose((end - start).norm(dim=-1), travel, atol=1e-5)


def test_the_flow_bucket_stays_in_its_range_and_ignores_the_depth_maps_size() -> None:
    depth = torch.full((1, 64, 64), 4.0)
    intrinsics = torch.tensor([[[80.0, 0, 32], [0, 80, 32], [0, 0, 1]]])
    poses = torch.eye(4).repeat(1, 5, 1, 1)
    assert flow_bucket(depth, intrinsics, poses).item() == 1
    poses[0, :, 0, 3] = 0.1 * torch.arange(5)
    half = torch.tensor([0.5, 0.5, 1.0])[:, None] * intrinsics
    assert flow_bucket(depth[:, ::2, ::2], half, poses).item() == pytest.approx(32, rel=1e-4)
    poses[0, :, 0, 3] = 2.0 * torch.arange(5)
    assert flow_bucket(depth, intrinsics, poses).item() == 255
