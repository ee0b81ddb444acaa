"""Turns around the middle of a world: level circles that a path of any length follows, and which worlds have room."""

from collections.abc import Sequence
from math import pi, radians

import torch
from torch import Tensor

from tools.scenes.moves import MOVES, Path, judge, look_at
from tools.scenes.world import Draws, sample_worlds

_CANDIDATES = 24
_STOPS = 13


def sample_turn(seed: int, frames: int, degrees: float) -> Path | None:
    """A circle of so many degrees around the middle of a seed's world, clear of its objects; None if there is none.

    The world is still. The frame count does not change the circle, only where along it the frames lie; a whole turn
    ends exactly where it began.

    Args:
        seed: of the world.
        frames: F >= 2.
        degrees: of the whole path.
    """
    world = sample_worlds([seed])
    if bool(world.moving[0]):
        return None
    draws, tries = Draws([seed], stream=2), _CANDIDATES
    focal = 0.5 / torch.tan(draws.uniform(52, 64) * (pi / 360))
    target = torch.stack([draws.uniform(-0.2, 0.2), draws.uniform(0.25, 0.5), draws.uniform(-0.2, 0.2)], -1)
    azimuth, height = draws.uniform(0, 2 * pi, tries), draws.uniform(0.2, 0.6, tries)
    away = draws.uniform(2.1, 2.8, tries)

    def cameras(progress: Tensor) -> Tensor:
        """Camera-to-world ``[1, tries, T, 4, 4]`` at progress ``[T]`` in [0, 1]."""
        angle = azimuth[..., None] + radians(degrees) * progress
        flat, up = (height.cos() * away)[..., None], (height.sin() * away)[..., None].expand_as(angle)
        place = target[:, None, None] + torch.stack([flat * angle.cos(), up, flat * angle.sin()], -1)
        pose = torch.eye(4).repeat(*angle.shape, 1, 1)
        pose[..., :3, :3], pose[..., :3, 3] = look_at(place, target[:, None, None].expand_as(place)), place
        return pose

    intrinsics = torch.eye(3)[None].clone()
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = 0.5
    new, clear = judge(world, intrinsics, cameras(torch.linspace(0, 1, _STOPS)))
    if not bool(clear.any()):
        return None
    best = int(clear[0].float().argmax())
    path = cameras(torch.linspace(0, 1, frames))[:, best]
    if degrees % 360 == 0:
        path[:, -1] = path[:, 0]
    orbit = torch.tensor([MOVES.index("orbit")])
    return Path(intrinsics, path, orbit, new[:, best], clear[:, best])


def turning_seeds(seeds: Sequence[int], count: int, degrees: float) -> list[int]:
    """The first ``count`` of the seeds whose worlds have room for a turn of so many degrees."""
    found: list[int] = []
    for seed in seeds:
        if len(found) < count and sample_turn(seed, 2, degrees) is not None:
            found.append(seed)
    return found
