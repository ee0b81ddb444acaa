"""Scenes as tensors: videos with their cameras, and depth where asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tools.scenes import trace
from tools.scenes.moves import MOVES, NEW_SHARE, make_rays, sample_paths
from tools.scenes.world import OBJECTS, World, sample_worlds

BUCKET_RANGE = (1.0, 255.0)
"""Range that :func:`flow_bucket` is clamped to."""


@dataclass(frozen=True)
class Scenes:
    """A batch of B videos of F frames, S x S pixels."""

    video: Tensor  # [B, F, 3, S, S] in [0, 1]
    depth: Tensor | None  # [B, F, S, S] z at the pixel centres, metres, exact
    intrinsics: Tensor  # [B, 3, 3] pixels
    world_to_camera: Tensor  # [B, F, 4, 4] OpenCV axes
    bucket: Tensor  # [B] motion bucket of the first frame's flow, see flow_bucket
    move: list[str]  # the camera's move
    moving: Tensor  # [B] bool: an object moves
    indoors: Tensor  # [B] bool
    new_share: Tensor  # [B] share of the last frame that the first one does not see
    clear: Tensor  # [B] bool: the camera stays inside the world and clear of its objects


@cache
def _painter(compiled: bool) -> Callable[..., Tensor]:
    def paint(rays: trace.Rays, world: World, center: Tensor, footprint: Tensor, bodies: Sequence[int]) -> Tensor:
        depth, index = trace.nearest(rays, world, center, bodies)
        return trace.shade(rays, world, center, depth, index, footprint, bodies)

    return torch.compile(paint, dynamic=False) if compiled else paint


@torch.no_grad()
def render_scenes(
    seeds: Sequence[int],
    *,
    size: int = 64,
    frames: int = 8,
    supersample: int = 2,
    with_depth: bool = False,
    device: torch.device | str = "cpu",
    compiled: bool = False,
    stretch: float = 1.0,
    new_share: tuple[float, float] = NEW_SHARE,
) -> Scenes:
    """Render the scenes of these seeds.

    Args:
        seeds: one for each scene, >= 0; see ``tools.scenes.seeds`` for which to use.
        size: width and height in pixels.
        frames: F; the path is the same for any F >= 2.
        supersample: samples along each side of a pixel.
        with_depth: also trace the pixel centres, for exact depth.
        device: where to trace.
        compiled: fuse the tracer with torch.compile (needs a C++ compiler; keep the batch size the same).
        stretch: size of the camera's moves; 1 is what models are trained on.
        new_share: share of the last frame that should be new, where a move of the scene's few makes it so.
    """
    world = sample_worlds(seeds)
    path = sample_paths(seeds, world, frames, device, stretch=stretch, new_share=new_share)
    # One scene at a time on a CPU: its rays then stay in the cache, and the objects that it lacks cost nothing.
    chunk = 1 if torch.device(device).type == "cpu" else len(seeds)
    parts = []
    for start in range(0, len(seeds), chunk):
        rows = slice(start, start + chunk)
        present = world.present[rows].any(0)
        bodies = tuple(range(OBJECTS)) if compiled else tuple(k for k in range(OBJECTS) if present[k])
        some, lens, pose = world[rows].to(device), path.intrinsics[rows], path.camera_to_world[rows]
        center = trace.centers(some, torch.linspace(0, 1, frames, device=device))
        footprint = 1 / (lens[:, 0, 0] * size * supersample)
        rays = make_rays(lens, pose, size * supersample)
        fine = _painter(compiled)(rays, some, center, footprint[:, None, None], bodies)
        video = fine.transpose(1, 2).unflatten(-1, (size, supersample, size, supersample)).mean((-3, -1))
        depth = trace.nearest(make_rays(lens, pose, size), some, center, bodies)[0] if with_depth else None
        parts.append((video, depth, _bucket(some, lens, pose, center)))
    depths = [depth.unflatten(-1, (size, size)) for _, depth, _ in parts if depth is not None]
    return Scenes(
        video=torch.cat([video for video, _, _ in parts]),
        depth=torch.cat(depths) if depths else None,
        intrinsics=path.intrinsics * torch.tensor([size, size, 1.0], device=device)[:, None],
        world_to_camera=torch.linalg.inv(path.camera_to_world.double()).float(),
        bucket=torch.cat([bucket for _, _, bucket in parts]),
        move=[MOVES[int(i)] for i in path.move],
        moving=world.moving,
        indoors=world.indoors,
        new_share=path.new_share,
        clear=path.clear,
    )


def _bucket(world: World, lens: Tensor, pose: Tensor, center: Tensor, size: int = 32) -> Tensor:
    depth, _ = trace.nearest(make_rays(lens, pose[:, :1], size), world, center[:, :1])
    pixels = lens * torch.tensor([size, size, 1.0], device=lens.device)[:, None]
    return flow_bucket(depth[:, 0].unflatten(-1, (size, size)), pixels, torch.linalg.inv(pose))


def flow_bucket(depth: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> Tensor:
    """Motion bucket: 16 x mean optical flow from frame to frame, in pixels of an image 64 pixels wide, in [1, 255].

    The flow is that of the first frame's points (a still world) between neighbouring cameras, over the points that
    are inside the image in both.

    Args:
        depth: of the first frame, ``[B, H, W]``.
        intrinsics: ``[B, 3, 3]``, pixels of that depth map.
        world_to_camera: ``[B, F, 4, 4]``, F >= 2.
    """
    batch, height, width = depth.shape
    line_x = torch.arange(width, device=depth.device) + 0.5
    line_y = torch.arange(height, device=depth.device) + 0.5
    v, u = torch.meshgrid(line_y, line_x, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], -1).reshape(1, -1, 3)
    local = pixels @ torch.linalg.inv(intrinsics).mT * depth.reshape(batch, -1, 1)
    relative = world_to_camera @ torch.linalg.inv(world_to_camera[:, :1])
    moved = local[:, None] @ relative[..., :3, :3].mT + relative[..., None, :3, 3]
    image = moved @ intrinsics[:, None].mT
    spot = image[..., :2] / image[..., 2:].clamp(min=1e-6)
    limit = torch.tensor([width, height], device=depth.device)
    inside = ((spot >= 0) & (spot < limit)).all(-1) & (moved[..., 2] > 1e-6)
    both = inside[:, 1:] & inside[:, :-1]
    flow = (spot[:, 1:] - spot[:, :-1]).norm(dim=-1) * (64 / width)
    mean = torch.where(both, flow, 0).sum((1, 2)) / both.sum((1, 2)).clamp(min=1)
    return (16 * mean).clamp(*BUCKET_RANGE)
