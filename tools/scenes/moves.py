"""Camera moves: smooth, of random kind, size and speed, chosen so that a fair share of the last frame is new."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from tools.scenes.trace import Rays, centers, nearest
from tools.scenes.world import Draws, World

MOVES = ("orbit", "dolly", "truck", "pedestal", "pan", "forward_turn")
NEW_SHARE = (0.05, 0.40)
"""Share of the last frame that the first one does not see."""

_CANDIDATES = 8
_PROBE = 24
_MARGIN = 0.3


@dataclass(frozen=True)
class Path:
    """Camera paths of B scenes."""

    intrinsics: Tensor  # [B, 3, 3] for an image of width and height 1
    camera_to_world: Tensor  # [B, F, 4, 4]
    move: Tensor  # [B] index in MOVES
    new_share: Tensor  # [B]
    clear: Tensor  # [B] bool: the way stays inside the world and clear of its objects


def make_rays(intrinsics: Tensor, camera_to_world: Tensor, size: int) -> Rays:
    """Rays through the centres of ``size`` x ``size`` pixels; unit intrinsics [B, 3, 3], cameras [B, F, 4, 4]."""
    line = (torch.arange(size, device=intrinsics.device) + 0.5) / size
    v, u = torch.meshgrid(line, line, indexing="ij")
    u, v = u.reshape(1, 1, -1), v.reshape(1, 1, -1)
    x = (u - intrinsics[:, 0, 2, None, None]) / intrinsics[:, 0, 0, None, None]
    y = (v - intrinsics[:, 1, 2, None, None]) / intrinsics[:, 1, 1, None, None]
    turn = camera_to_world[..., :3, :3]
    directions = [turn[..., i, 0, None] * x + turn[..., i, 1, None] * y + turn[..., i, 2, None] for i in range(3)]
    origins = [camera_to_world[..., i, 3, None] for i in range(3)]
    return Rays(*origins, *directions)


def _yaw(angle: Tensor) -> Tensor:
    """Rotations about the world's y axis, ``[..., 3, 3]``."""
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    one = torch.ones_like(angle)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).unflatten(-1, (3, 3))


def _look_at(position: Tensor, target: Tensor) -> Tensor:
    """Camera-to-world rotation ``[..., 3, 3]`` (columns right, down, forward), level with the horizon."""
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    up = torch.tensor([0.0, 1.0, 0.0], device=position.device).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    return torch.stack([right, torch.linalg.cross(forward, right), forward], -1)


def sample_paths(
    seeds: Sequence[int],
    world: World,
    frames: int,
    device: torch.device | str,
    *,
    stretch: float = 1.0,
    new_share: tuple[float, float] = NEW_SHARE,
) -> Path:
    """Draw a few moves for each scene and keep the first one that is inside the world and shows enough that is new.

    The frame count does not change the path, only where along it the frames lie. ``stretch`` multiplies the size of
    every move; ``new_share`` is what counts as enough.
    """
    draws = Draws(seeds, stream=1)
    count, tries = len(seeds), _CANDIDATES
    focal = 0.5 / torch.tan(draws.uniform(48, 68) * (pi / 360))
    target = torch.stack([draws.uniform(-0.4, 0.4), draws.uniform(0.2, 0.6), draws.uniform(-0.4, 0.4)], -1)
    azimuth = draws.uniform(0, 2 * pi)[:, None] + draws.uniform(-0.8, 0.8, tries)
    height, away = draws.uniform(0.1, 0.6, tries), draws.uniform(1.9, 3.1, tries)
    position = torch.stack(
        [azimuth.cos() * height.cos() * away, height.sin() * away, azimuth.sin() * height.cos() * away], -1
    )
    position = position + target[:, None]
    aim = target[:, None] + draws.uniform(-0.35, 0.35, tries, 3)
    move = draws.choice([3, 1.5, 2, 1, 1, 1.5], tries)
    amount = stretch * draws.uniform(0.35, 1.0, tries) * torch.where(draws.chance(0.5, tries), 1.0, -1.0)
    turning = stretch * draws.uniform(0.2, 0.5, tries) * torch.where(draws.chance(0.5, tries), 1.0, -1.0)
    wave, shift = draws.uniform(0, 0.6), draws.uniform(0, 2 * pi)

    def where(kind: str, value: Tensor) -> Tensor:
        return torch.where(move == MOVES.index(kind), value, torch.zeros_like(value))

    orbit = where("orbit", 0.85 * amount)
    forward = where("dolly", 1.5 * amount) + where("forward_turn", 1.3 * amount.abs())
    sideways, up = where("truck", 1.5 * amount), where("pedestal", 1.1 * amount)
    yaw = where("pan", 0.55 * amount) + where("forward_turn", turning)

    def cameras(progress: Tensor) -> Tensor:
        """Camera-to-world ``[B, tries, T, 4, 4]`` at progress ``[B, T]`` in [0, 1]."""
        s = progress[:, None]
        turn = _look_at(position, aim)[:, :, None]
        # The body of the path turns half as far as the camera: an arc, walked along its chords.
        chord = _yaw(0.5 * yaw[..., None] * s) @ turn
        step = (
            chord[..., 2] * (forward[..., None] * s)[..., None] + chord[..., 0] * (sideways[..., None] * s)[..., None]
        )
        step = step + torch.tensor([0.0, 1.0, 0.0]) * (up[..., None] * s)[..., None]
        around = _yaw(orbit[..., None] * s)
        center = target[:, None, None]
        place = (around @ (position[:, :, None] + step - center)[..., None])[..., 0] + center
        pose = torch.zeros(*place.shape[:-1], 4, 4)
        pose[..., :3, :3] = around @ _yaw(yaw[..., None] * s) @ turn
        pose[..., :3, 3] = place
        pose[..., 3, 3] = 1
        return pose

    times = torch.linspace(0, 1, frames)
    phase = shift[:, None] + 2 * pi * times
    progress = times + wave[:, None] / (2 * pi) * (torch.sin(phase) - torch.sin(shift[:, None]))
    progress[:, 0], progress[:, -1] = 0, 1
    intrinsics = torch.zeros(count, 3, 3)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = 0.5
    intrinsics[:, 2, 2] = 1

    probes = cameras(torch.tensor([[0.0, 0.5, 1.0]]).expand(count, 3))
    new, clear = _judge(world.to(device), intrinsics.to(device), probes.to(device))
    low, high = new_share
    clear = clear.cpu()
    cost = (low - new).clamp(min=0) + (new - high).clamp(min=0) + 10 * ~clear
    # The first candidate without fault; failing that the least bad.
    best = (cost + 1e-6 * torch.arange(tries)).argmin(1)
    rows = torch.arange(count)
    return Path(
        intrinsics=intrinsics.to(device),
        camera_to_world=cameras(progress)[rows, best].to(device),
        move=move[rows, best],
        new_share=new[rows, best],
        clear=clear[rows, best],
    )


def _judge(world: World, intrinsics: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """New share of the last probe's image, whether the way is clear, [B, tries]; probes [B, tries, 3, 4, 4]."""
    count, tries, stops = probes.shape[:3]
    many, lens = world.repeat(tries), intrinsics.repeat_interleave(tries, 0)
    pose = probes.flatten(0, 1)
    # Still objects: what is new is a matter of the camera's move, not of the time.
    center = centers(many, torch.full((stops,), 0.5, device=pose.device))
    rays = make_rays(lens, pose, _PROBE)
    depth, _ = nearest(rays, many, center)

    place = pose[..., :3, 3]
    walls = many.room[:, None, [0, 2]] - place[..., [0, 2]].abs() > _MARGIN
    inside = walls.all(-1) & (many.room[:, None, 1] - place[..., 1] > _MARGIN)
    clear = (inside | ~many.indoors[:, None]) & (place[..., 1] > 0.15)
    gap = (place[:, :, None, [0, 2]] - center[..., [0, 2]]).norm(dim=-1)
    reach = many.half[:, None, :, [0, 2]].norm(dim=-1) + 0.5 * many.velocity[:, None].norm(dim=-1) + _MARGIN
    above = place[:, :, None, 1] > center[..., 1] + many.half[:, None, :, 1] + _MARGIN
    free = (gap > reach) | above | ~many.present[:, None]
    clear = clear & free.all(-1) & (depth.amin(-1) > _MARGIN)

    last, first = depth[:, -1], depth[:, 0]
    points = torch.stack([rays[i][:, -1] + last * rays[i + 3][:, -1] for i in range(3)], -1)
    seen = visible(points, pose[:, 0], lens, first.unflatten(-1, (_PROBE, _PROBE)))
    return (1 - seen.float().mean(-1)).unflatten(0, (count, tries)).cpu(), clear.all(-1).unflatten(0, (count, tries))


def visible(points: Tensor, camera_to_world: Tensor, intrinsics: Tensor, depth: Tensor, slack: float = 0.08) -> Tensor:
    """Whether points [B, N, 3] are seen by a camera [B, 4, 4] with unit intrinsics and a depth map [B, S, S]."""
    turn, place = camera_to_world[:, :3, :3], camera_to_world[:, :3, 3]
    local = (points - place[:, None]) @ turn
    z = local[..., 2].clamp(min=1e-6)
    u = local[..., 0] / z * intrinsics[:, 0, 0, None] + intrinsics[:, 0, 2, None]
    v = local[..., 1] / z * intrinsics[:, 1, 1, None] + intrinsics[:, 1, 2, None]
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1) & (local[..., 2] > 0)
    size = depth.shape[-1]
    column, row = ((t * size).long().clamp(0, size - 1) for t in (u, v))
    front = depth.flatten(1).gather(1, row * size + column)
    return inside & (local[..., 2] < front * (1 + slack))
