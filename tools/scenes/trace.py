"""The ray tracer: nearest hit, texture and light. Elementwise on ``[B, F, N]`` rays, so that a compiler can fuse it.

A ray is ``origin + depth * direction`` with a direction whose z in the camera is 1: the ray parameter is the depth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tools.scenes.world import (
    BOXES,
    CEILING,
    CHECKER,
    CLOUD,
    CYLINDERS,
    DOME,
    FLOOR,
    OBJECTS,
    SKY,
    SMOOTH,
    SPHERES,
    STRIPES,
    WALLS,
    WOOD,
    World,
)

NEAR = 1e-3
FAR = 1e6


class Rays(NamedTuple):
    """Rays of B videos: origins ``[B, F, 1]`` and directions ``[B, F, N]``, a tensor for each world axis."""

    ox: Tensor
    oy: Tensor
    oz: Tensor
    dx: Tensor
    dy: Tensor
    dz: Tensor


def centers(world: World, times: Tensor) -> Tensor:
    """Centres of the objects ``[B, F, P, 3]`` at times ``[F]`` in [0, 1]."""
    return world.center[:, None] + (times[:, None, None] - 0.5) * world.velocity[:, None]


def nearest(rays: Rays, world: World, center: Tensor, bodies: Sequence[int] = range(OBJECTS)) -> tuple[Tensor, Tensor]:
    """Depth of the nearest surface along each ray, and its index: ``[B, F, N]`` each.

    ``bodies``: the objects that any scene of the batch has; leaving out the others saves their time.
    """
    depth, index = _enclosure(rays, world)
    cosine, sine = world.yaw.cos(), world.yaw.sin()
    square = rays.dx**2 + rays.dy**2 + rays.dz**2
    for k in bodies:
        half = world.half[:, k, :, None, None]
        ox, oy, oz = (o - center[:, :, k, i, None] for i, o in enumerate(rays[:3]))
        dx, dy, dz = rays.dx, rays.dy, rays.dz
        if BOXES.start <= k < BOXES.stop:
            c, s = cosine[:, k, None, None], sine[:, k, None, None]
            ox, oz, dx, dz = c * ox + s * oz, c * oz - s * ox, c * dx + s * dz, c * dz - s * dx
            near = torch.full_like(dx, -FAR)
            far = torch.full_like(dx, FAR)
            for axis, (o, d) in enumerate(((ox, dx), (oy, dy), (oz, dz))):
                inverse = 1 / _away_from_zero(d)
                one, two = (-half[:, axis] - o) * inverse, (half[:, axis] - o) * inverse
                near = torch.maximum(near, torch.minimum(one, two))
                far = torch.minimum(far, torch.maximum(one, two))
            hit = near < far
        elif SPHERES.start <= k < SPHERES.stop:
            b = ox * dx + oy * dy + oz * dz
            gap = b * b - square * (ox**2 + oy**2 + oz**2 - half[:, 0] ** 2)
            near = (-b - gap.clamp(min=0).sqrt()) / square
            hit = gap > 0
        else:
            flat = (dx**2 + dz**2).clamp(min=1e-9)
            b = ox * dx + oz * dz
            gap = b * b - flat * (ox**2 + oz**2 - half[:, 0] ** 2)
            root = gap.clamp(min=0).sqrt()
            inverse = 1 / _away_from_zero(dy)
            one, two = (-half[:, 1] - oy) * inverse, (half[:, 1] - oy) * inverse
            near = torch.maximum((-b - root) / flat, torch.minimum(one, two))
            hit = (gap > 0) & (near < torch.minimum((-b + root) / flat, torch.maximum(one, two)))
        closer = hit & (near > NEAR) & (near < depth) & world.present[:, k, None, None]
        depth = torch.where(closer, near, depth)
        index = torch.where(closer, k, index)
    return depth, index


def _away_from_zero(d: Tensor) -> Tensor:
    return torch.where(d.abs() < 1e-7, 1e-7, d)


def _enclosure(rays: Rays, world: World) -> tuple[Tensor, Tensor]:
    """What is behind all objects: the room's faces indoors, the ground and the sky outdoors."""
    width, height, length = (world.room[:, i, None, None] for i in range(3))
    dx, dy, dz = _away_from_zero(rays.dx), _away_from_zero(rays.dy), _away_from_zero(rays.dz)
    side = (torch.where(dx > 0, width, -width) - rays.ox) / dx
    end = (torch.where(dz > 0, length, -length) - rays.oz) / dz
    ground = -rays.oy / dy
    vertical = torch.where(dy > 0, (height - rays.oy) / dy, ground)
    inside = torch.minimum(torch.minimum(side, end), vertical)
    wall = WALLS.start + torch.where(side < end, (dx > 0).long(), 2 + (dz > 0).long())
    face = torch.where(vertical <= inside, torch.where(dy > 0, CEILING, FLOOR), wall)

    square = dx**2 + dy**2 + dz**2
    b = rays.ox * dx + rays.oy * dy + rays.oz * dz
    out = rays.ox**2 + rays.oy**2 + rays.oz**2 - DOME**2
    dome = (-b + (b * b - square * out).clamp(min=0).sqrt()) / square
    below = (dy < 0) & (ground < dome)
    indoors = world.indoors[:, None, None]
    depth = torch.where(indoors, inside, torch.where(below, ground, dome))
    index = torch.where(indoors, face, torch.where(below, FLOOR, SKY))
    return depth, index


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Values ``[B, S]`` of the surface hit by each ray, ``[B, F, N]``."""
    return values.gather(1, index.flatten(1)).view(index.shape)


def _noise(x: Tensor, y: Tensor, z: Tensor, phase: Tensor) -> Tensor:
    """Smooth noise in about [-1, 1]: sines of a warped position. A lattice noise would cost several times more."""
    u = x + 0.7 * torch.sin(1.7 * z + 1.3 * y + phase)
    v = y + 0.7 * torch.sin(1.3 * x - 1.9 * z + 2 * phase)
    w = z + 0.7 * torch.sin(1.5 * y + 1.6 * x + 3 * phase)
    low = torch.sin(2.1 * u + 0.9 * v + phase) + torch.sin(2.3 * w - 1.1 * u) + torch.sin(1.9 * v + 1.3 * w - phase)
    high = torch.sin(4.7 * u - 3.1 * w + phase) * torch.sin(5.3 * v + 2.7 * u)
    return 0.3 * low + 0.25 * high


def shade(
    rays: Rays,
    world: World,
    center: Tensor,
    depth: Tensor,
    index: Tensor,
    footprint: Tensor,
    bodies: Sequence[int] = range(OBJECTS),
) -> Tensor:
    """Colour ``[B, 3, F, N]`` in [0, 1] (display values) at the hits.

    ``footprint [B, 1, 1]``: size of a sample at depth 1.
    """
    x, y, z = rays.ox + depth * rays.dx, rays.oy + depth * rays.dy, rays.oz + depth * rays.dz
    lx, ly, lz, nx, ny, nz = _local(world, center, index, x, y, z)

    # Light: a lamp or the sun, softened by the bodies in between, and light from everywhere.
    tx, ty, tz = (world.light[:, i, None, None] - p for i, p in enumerate((x, y, z)))
    reach = torch.rsqrt(tx**2 + ty**2 + tz**2)
    tx, ty, tz = tx * reach, ty * reach, tz * reach
    facing = nx * tx + ny * ty + nz * tz
    direct = (0.25 + 0.75 * facing).clamp(min=0)
    ambient = 0.8 + 0.2 * ny
    for k in bodies:
        # Each body is taken as the ellipsoid around it: cheap, and its shadow has a soft edge.
        scale = 1 / (world.half[:, k] * 1.12)
        qx, qy, qz = ((center[:, :, k, i, None] - p) * scale[:, i, None, None] for i, p in enumerate((x, y, z)))
        sx, sy, sz = (t * scale[:, i, None, None] for i, t in enumerate((tx, ty, tz)))
        along = (qx * sx + qy * sy + qz * sz) / (sx**2 + sy**2 + sz**2)
        distance = ((qx - along * sx) ** 2 + (qy - along * sy) ** 2 + (qz - along * sz) ** 2).sqrt()
        other = world.present[:, k, None, None] & (index != k)
        direct = direct * (1 - 0.85 * ((1.35 - distance) / 0.6).clamp(0, 1) * (other & (along > 0)))
        near = ((1.7 - (qx**2 + qy**2 + qz**2).sqrt()) / 0.8).clamp(0, 1)
        ambient = ambient * (1 - 0.45 * near * other)
    share = world.sunlight[:, None, None]
    light = share * direct * 1.5 + (1 - share) * ambient

    distance = torch.rsqrt(rays.dx**2 + rays.dy**2 + rays.dz**2)
    hx, hy, hz = tx - rays.dx * distance, ty - rays.dy * distance, tz - rays.dz * distance
    glint = ((nx * hx + ny * hy + nz * hz) * torch.rsqrt(hx**2 + hy**2 + hz**2)).clamp(min=0) ** 24
    glint = 0.22 * glint * direct * (index < OBJECTS)

    slope = ((nx * rays.dx + ny * rays.dy + nz * rays.dz).abs() * distance).clamp(min=0.08)
    mix = _texture(world, index, lx, ly, lz, footprint * depth / slope)
    sky = index == SKY
    haze = (1 - y / DOME * 2.2).clamp(0, 1) ** 2
    mix = torch.where(sky, (mix * 0.8 + haze).clamp(0, 1), mix)
    angle = torch.atan2(z, x)
    phase = world.phase[:, SKY, None, None]
    ridge = 0.10 + 0.05 * torch.sin(3 * angle + phase) + 0.03 * torch.sin(7 * angle + 2 * phase)
    hill = sky * ((ridge - y / DOME) * 60 + 0.5).clamp(0, 1)
    channels = []
    for i in range(3):
        first, second = _pick(world.color[..., i], index), _pick(world.second[..., i], index)
        albedo = first + (second - first) * mix
        lit = torch.where(sky, albedo, albedo * light + glint)
        distant = 0.35 * world.color[:, FLOOR, i, None, None] + 0.35 * world.color[:, SKY, i, None, None]
        channels.append(lit + hill * (distant - lit))
    return torch.stack(channels, 1).clamp(0, 1).sqrt()


def _local(
    world: World, center: Tensor, index: Tensor, x: Tensor, y: Tensor, z: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Position in the hit surface's own axes, and the normal in the world's."""
    batch, frames = index.shape[:2]
    body = index < OBJECTS
    which = index.clamp(max=OBJECTS - 1)
    moved = center.reshape(batch * frames, OBJECTS, 3)
    rows = which.view(batch * frames, 1, -1)
    px, py, pz = (
        torch.where(body, p - _pick(moved[..., i], rows).view(index.shape), p) for i, p in enumerate((x, y, z))
    )
    yaw = _pick(world.yaw, which)
    c, s = torch.where(body, yaw.cos(), 1.0), torch.where(body, yaw.sin(), 0.0)
    px, pz = c * px + s * pz, c * pz - s * px
    hx, hy, hz = (_pick(world.half[..., i], which) for i in range(3))
    ax, ay, az = px / hx, py / hy, pz / hz
    ball = (which >= SPHERES.start) & (which < SPHERES.stop)
    tube = which >= CYLINDERS.start
    is_x, is_y = (ax.abs() > ay.abs()) & (ax.abs() > az.abs()), ay.abs() > az.abs()
    cap = ay**2 > ax**2 + az**2
    nx = torch.where(ball, ax, torch.where(tube, torch.where(cap, 0.0, ax), torch.where(is_x, ax.sign(), 0.0)))
    ny = torch.where(
        ball,
        ay,
        torch.where(tube, torch.where(cap, ay.sign(), 0.0), torch.where(~is_x & is_y, ay.sign(), 0.0)),
    )
    nz = torch.where(ball, az, torch.where(tube, torch.where(cap, 0.0, az), torch.where(~is_x & ~is_y, az.sign(), 0.0)))
    nx, nz = c * nx - s * nz, s * nx + c * nz
    for surface, (fx, fy, fz) in zip(
        (FLOOR, CEILING, *range(WALLS.start, WALLS.stop)),
        ((0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1)),
        strict=True,
    ):
        here = index == surface
        nx, ny, nz = torch.where(here, fx, nx), torch.where(here, fy, ny), torch.where(here, fz, nz)
    return px, py, pz, nx, ny, nz


def _texture(world: World, index: Tensor, x: Tensor, y: Tensor, z: Tensor, width: Tensor) -> Tensor:
    """Mixing weight of the second colour, in [0, 1]; ``width`` is the sample's size on the surface, metres."""
    kind, frequency, phase = (_pick(v, index) for v in (world.texture, world.frequency, world.phase))
    vx, vy, vz = (_pick(world.direction[..., i], index) for i in range(3))
    noise = _noise(x * frequency * 2, y * frequency * 2, z * frequency * 2, phase)
    along = x * vx + y * vy + z * vz
    cycles = along * frequency + 0.1 * phase
    # Band limit: edges no sharper than the sample, and patterns finer than it fade to their mean.
    blur = (width * frequency).clamp(min=1e-6)
    sharp = 0.35 / blur
    fade = torch.exp(-((1.6 * blur) ** 2))

    def square(turns: Tensor) -> Tensor:
        return (torch.sin(6.2831853 * turns) * sharp).clamp(-1, 1)

    stripes = square(cycles)
    offset = 0.137 + 0.1 * phase
    checker = square(0.8 * x * frequency + offset) * square(0.8 * y * frequency + offset)
    checker = checker * square(0.8 * z * frequency + offset)
    rings = torch.sin(6.2831853 * (1.2 * cycles + 0.35 * noise) + phase)
    wood = 0.8 * rings * (0.75 + 0.25 * torch.sin(9 * cycles + 4 * noise))
    pattern = torch.where(kind == STRIPES, stripes, torch.where(kind == CHECKER, checker, wood))
    pattern = torch.where(kind == WOOD, wood, pattern) * fade
    soft = torch.where(kind == CLOUD, 1.4 * noise, 0.25 * noise - 0.75)
    value = torch.where((kind == SMOOTH) | (kind == CLOUD), soft, pattern)
    return (0.5 + 0.5 * value).clamp(0, 1)
