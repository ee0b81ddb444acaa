"""Random worlds: a room or open ground with boxes, spheres, cylinders and pillars on it.

All scenes of a batch have the same nine primitives in the same order, some of them absent, so that a batch is a few
dense tensors and the tracer has no branches. Every scene draws its numbers from its own seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import pi

import numpy as np
import torch
from torch import Tensor

BOXES, SPHERES, CYLINDERS = slice(0, 3), slice(3, 6), slice(6, 9)
OBJECTS = 9
FLOOR, CEILING, WALLS, SKY = 9, 10, slice(11, 15), 15
SURFACES = 16
SMOOTH, STRIPES, CHECKER, WOOD, CLOUD = range(5)
DOME = 30.0
"""Radius of the sky, metres: far, but finite, so that every pixel has a depth."""

_NUMBERS = 640
_FLOORS_INDOORS = ((0.06, 0.4, 0.62), (0.09, 0.3, 0.75), (0.03, 0.45, 0.42), (0.6, 0.12, 0.55), (0.1, 0.1, 0.8))
_FLOORS_OUTDOORS = ((0.27, 0.5, 0.5), (0.11, 0.4, 0.75), (0.08, 0.35, 0.55), (0.3, 0.35, 0.6), (0.6, 0.06, 0.6))


@dataclass(frozen=True)
class World:
    """A batch of B worlds; P = 9 objects, S = 16 surfaces (the objects, floor, ceiling, four walls, sky)."""

    indoors: Tensor  # [B] bool
    room: Tensor  # [B, 3] half width, height, half depth
    center: Tensor  # [B, P, 3] at the middle of the video
    velocity: Tensor  # [B, P, 3] travel over the whole video
    half: Tensor  # [B, P, 3] half extents
    yaw: Tensor  # [B, P]
    present: Tensor  # [B, P] bool
    color: Tensor  # [B, S, 3] linear
    second: Tensor  # [B, S, 3] linear, the texture's other colour
    texture: Tensor  # [B, S] SMOOTH ... CLOUD
    frequency: Tensor  # [B, S] cycles per metre
    direction: Tensor  # [B, S, 3] of the stripes
    phase: Tensor  # [B, S]
    light: Tensor  # [B, 3] position
    sunlight: Tensor  # [B] share of the light that has a direction

    def to(self, device: torch.device | str) -> "World":
        """The same worlds on another device."""
        return World(*[getattr(self, field.name).to(device) for field in fields(self)])

    def repeat(self, times: int) -> "World":
        """Each world ``times`` times in a row."""
        return World(*[getattr(self, field.name).repeat_interleave(times, 0) for field in fields(self)])

    def __getitem__(self, rows: slice) -> "World":
        """Some of the worlds."""
        return World(*[getattr(self, field.name)[rows] for field in fields(self)])

    @property
    def moving(self) -> Tensor:
        """Whether an object moves, ``[B]`` bool."""
        return (self.velocity.abs().sum(-1) * self.present).sum(-1) > 0


class Draws:
    """Uniform numbers in [0, 1), a row for each seed, handed out column by column."""

    def __init__(self, seeds: Sequence[int], stream: int, count: int = _NUMBERS) -> None:
        rows = [np.random.Generator(np.random.Philox(key=[seed, stream])).random(count, np.float32) for seed in seeds]
        self._numbers = torch.from_numpy(np.stack(rows))
        self._next = 0

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """The next numbers, ``[B, *shape]``, scaled to [low, high)."""
        count = int(np.prod(shape)) if shape else 1
        if self._next + count > self._numbers.shape[1]:
            raise RuntimeError(f"a scene draws more than {self._numbers.shape[1]} numbers; raise the count")
        numbers = self._numbers[:, self._next : self._next + count]
        self._next += count
        return low + (high - low) * numbers.reshape(len(numbers), *shape)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """True with this probability, ``[B, *shape]``."""
        return self.uniform(0, 1, *shape) < probability

    def choice(self, weights: Sequence[float], *shape: int) -> Tensor:
        """An index drawn with these weights, ``[B, *shape]`` int64."""
        edges = torch.tensor(weights).cumsum(0) / sum(weights)
        return torch.bucketize(self.uniform(0, 1, *shape).contiguous(), edges[:-1], right=True)


def _linear(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Linear RGB ``[..., 3]`` of a display colour given as hue, saturation, value in [0, 1] (gamma 2)."""
    offset = torch.tensor([5.0, 3.0, 1.0])
    k = (offset + 6 * hue[..., None]) % 6
    rgb = value[..., None] * (1 - saturation[..., None] * torch.minimum(k, 4 - k).clamp(0, 1))
    return rgb**2


def sample_worlds(seeds: Sequence[int]) -> World:
    """Worlds of these seeds, one each."""
    draws = Draws(seeds, stream=0)
    count = len(seeds)
    indoors = draws.chance(0.55)

    # Seven places: one in the middle, six around it; pillars stand further out.
    turn = draws.uniform(0, 2 * pi)[:, None]
    ring = torch.arange(6) * (pi / 3) + turn
    places = torch.stack([ring.cos(), ring.sin()], -1) * draws.uniform(0.85, 1.2, 1)[..., None]
    places = torch.cat([torch.zeros(count, 1, 2), places], 1) + draws.uniform(-0.16, 0.16, 7, 2)
    places = places.gather(1, draws.uniform(0, 1, 7).argsort(1)[..., None].expand(-1, -1, 2))
    far_angle, far = draws.uniform(0, 2 * pi, 2), draws.uniform(1.7, 2.6, 2)
    pillars = torch.stack([far_angle.cos(), far_angle.sin()], -1) * far[..., None]
    order = [0, 1, 7, 2, 3, 4, 5, 6, 8]
    ground = torch.cat([places, pillars], 1)[:, order]

    number = 2 + draws.choice([1, 2, 3, 2, 1])
    rank = draws.uniform(0, 1, 7).argsort(1).argsort(1)
    present = torch.cat([rank < number[:, None], draws.chance(0.3, 2)], 1)[:, order]

    radius = draws.uniform(0.24, 0.46, OBJECTS)
    half = radius[..., None] * torch.stack(
        [torch.ones(count, OBJECTS), draws.uniform(0.5, 1.9, OBJECTS), draws.uniform(0.7, 1.3, OBJECTS)], -1
    )
    half[:, SPHERES] = radius[:, SPHERES, None]
    half[:, CYLINDERS, 2] = half[:, CYLINDERS, 0]
    tall = draws.uniform(0.8, 1.5, 2)
    half[:, [2, 8], 0] *= 0.65
    half[:, [2, 8], 2] = half[:, [2, 8], 0]
    half[:, [2, 8], 1] = tall
    center = torch.stack([ground[..., 0], half[..., 1], ground[..., 1]], -1)
    on_top = draws.chance(0.35) & present[:, 0] & present[:, 3]
    top = center[:, 0] + torch.stack([torch.zeros(count), half[:, 0, 1] + half[:, 3, 1], torch.zeros(count)], -1)
    center[:, 3] = torch.where(on_top[:, None], top, center[:, 3])

    moves = draws.chance(0.2)
    mover = torch.tensor([1, 4, 5, 6])[draws.choice([1, 2, 2, 2])]
    angle, travel = draws.uniform(0, 2 * pi), draws.uniform(0.6, 1.5)
    velocity = torch.zeros(count, OBJECTS, 3)
    rows = torch.arange(count)
    velocity[rows, mover] = torch.stack([angle.cos() * travel, torch.zeros(count), angle.sin() * travel], -1)
    velocity *= moves[:, None, None]
    present[rows, mover] |= moves

    color, second, texture, frequency = _sample_materials(draws, indoors)
    direction = draws.uniform(-1, 1, SURFACES, 3)
    # Stripes run along an axis more often than not: boxes and floors look built, not carved from marble.
    axis = torch.nn.functional.one_hot(draws.choice([1, 1, 1], SURFACES), 3).float()
    direction = torch.where(draws.chance(0.7, SURFACES)[..., None], axis, direction)
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp(min=0.2)

    room = torch.stack([draws.uniform(3.0, 4.8), draws.uniform(2.4, 3.4), draws.uniform(3.0, 4.8)], -1)
    azimuth, height = draws.uniform(0, 2 * pi), draws.uniform(0.6, 1.1)
    sun = torch.stack([azimuth.cos() * height.cos(), height.sin(), azimuth.sin() * height.cos()], -1) * 100
    lamp = torch.stack([draws.uniform(-1.6, 1.6), room[:, 1] - 0.3, draws.uniform(-1.6, 1.6)], -1)
    light = torch.where(indoors[:, None], lamp, sun)
    sunlight = draws.uniform(0.45, 0.75)
    return World(
        indoors=indoors,
        room=room,
        center=center,
        velocity=velocity,
        half=half,
        yaw=draws.uniform(0, 2 * pi, OBJECTS),
        present=present,
        color=color,
        second=second,
        texture=texture,
        frequency=frequency,
        direction=direction,
        phase=draws.uniform(0, 10, SURFACES),
        light=light,
        sunlight=sunlight,
    )


def _sample_materials(draws: Draws, indoors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colours, textures and frequencies of all surfaces."""
    count = len(indoors)
    hue, saturation = draws.uniform(0, 1, SURFACES), draws.uniform(0.3, 0.85, SURFACES)
    value = draws.uniform(0.4, 0.95, SURFACES)

    kind = draws.choice([1] * len(_FLOORS_INDOORS))
    base = torch.where(indoors[:, None], torch.tensor(_FLOORS_INDOORS)[kind], torch.tensor(_FLOORS_OUTDOORS)[kind])
    base = base + draws.uniform(-0.08, 0.08, 3) * torch.tensor([0.3, 1.0, 1.0])
    hue[:, FLOOR], saturation[:, FLOOR], value[:, FLOOR] = base.unbind(-1)

    wall_hue, wall_saturation = draws.uniform(0, 1), draws.uniform(0.05, 0.4)
    for wall in range(WALLS.start, WALLS.stop):
        hue[:, wall] = wall_hue + draws.uniform(-0.04, 0.04)
        saturation[:, wall] = wall_saturation
        value[:, wall] = draws.uniform(0.6, 0.95)
    saturation[:, CEILING], value[:, CEILING] = 0.05, 0.92
    hue[:, SKY] = draws.uniform(0.54, 0.64)
    saturation[:, SKY], value[:, SKY] = draws.uniform(0.3, 0.65), draws.uniform(0.75, 1.0)
    color = _linear(hue % 1, saturation, value)

    # The texture's other colour: a pale or a dark one, or a neighbour on the colour wheel.
    way = draws.choice([1, 1, 1.5], SURFACES)
    pale = _linear(hue % 1, saturation * 0.25, torch.full_like(value, 0.95))
    dark = _linear(hue % 1, saturation, value * 0.5)
    other = _linear((hue + draws.uniform(0.1, 0.5, SURFACES)) % 1, saturation, draws.uniform(0.4, 0.95, SURFACES))
    second = torch.where((way == 0)[..., None], pale, torch.where((way == 1)[..., None], dark, other))
    soft = [FLOOR, CEILING, *range(WALLS.start, WALLS.stop)]
    shade = _linear(hue[:, soft] % 1, saturation[:, soft], value[:, soft] * draws.uniform(0.6, 0.85)[:, None])
    second[:, soft] = shade
    second[:, SKY] = _linear(hue[:, SKY] % 1, saturation[:, SKY] * 0.1, torch.ones(count))

    texture = draws.choice([2.5, 2, 1.5, 1.5, 1.5], SURFACES)
    texture[:, WALLS] = draws.choice([4, 1.5, 0, 0.7, 2])[:, None]
    texture[:, CEILING] = SMOOTH
    texture[:, SKY] = CLOUD
    floor_in, floor_out = draws.choice([0.5, 1, 2, 2, 0.7]), draws.choice([1, 0.3, 0.4, 0, 4])
    texture[:, FLOOR] = torch.where(indoors, floor_in, floor_out)
    frequency = draws.uniform(1.0, 2.4, SURFACES)
    frequency[:, FLOOR:SKY] = draws.uniform(0.5, 1.1, SKY - FLOOR)
    frequency[:, SKY] = draws.uniform(0.06, 0.12)
    return color, second, texture, frequency
