"""From a view and a trajectory to what guidance aims at: warps, masks, encoded targets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mvguide.backbones.base import Backbone
from mvguide.geometry.camera import Camera
from mvguide.geometry.distance import frame_distances
from mvguide.geometry.masks import close_pinholes, dilate_holes, latent_visible, push_pull_fill, smeared_depth
from mvguide.geometry.warp import splat
from mvguide.guidance.guides import Targets
from mvguide.view import View, to_device

SUPERSAMPLING = 2
"""The view is warped at up to this many times the video's resolution: fewer cracks, and less aliasing."""
CELL_SHARE = 0.5
"""A latent cell is guided when at least this share of its pixels is seen; the rest of it is filled from around.

Asking for every pixel throws away what is seen along each hole (docs/results.md has the price).
"""


@dataclass(frozen=True)
class Warps:
    """The input view as each frame's camera sees it.

    Args:
        image: ``[F, 3, H, W]`` in [0, 1], 0 in holes.
        visible: ``[F, 1, H, W]``: 1 = seen, 0 = hole.
        pinned: ``[F]`` bool: frames whose camera is the input view's own; they hold the picture itself.
        distances: ``[F]`` float64: camera motion relative to the scene's depth.
    """

    image: Tensor
    visible: Tensor
    pinned: Tensor
    distances: Tensor

    @property
    def seen(self) -> Tensor:
        """Share of each frame that is seen, ``[F]``."""
        return self.visible.mean(dim=(1, 2, 3))


def warp_view(view: View, trajectory: Camera, *, hole_radius: int = 0, device: torch.device | None = None) -> Warps:
    """Warp a view into every camera of a trajectory.

    Pixels whose depth is a mix of near and far are not moved: they would land in mid-air.

    Args:
        view: picture with depth; at any resolution of the trajectory's shape or larger.
        trajectory: F cameras; their size is the size of the result.
        hole_radius: grow holes by this many pixels, where depth is not to be trusted at edges.
        device: where to compute; the CPU by default.

    Raises:
        InputError: a view without depth, or an argument that ``splat`` refuses.
    """
    width, height = trajectory.width, trajectory.height
    scale = max(1, min(SUPERSAMPLING, view.camera.width // width, view.camera.height // height))
    # Not cropped: what the video's shape cuts off on the sides may come into view.
    source = to_device(view.cover(width * scale, height * scale), device or torch.device("cpu"))
    depth = source.require_depth()
    usable = depth.valid & ~smeared_depth(depth.values)
    if not bool(usable.any()):
        usable = depth.valid
    warp = splat(source.image, depth.values, source.camera, trajectory, valid=usable)
    closed = close_pinholes(warp.visible)
    visible = dilate_holes(closed, hole_radius).cpu()
    image = push_pull_fill(warp.image, warp.visible).cpu() * visible
    own = view.fit(width, height)
    pinned = _same_camera(own.camera, trajectory)
    image[pinned], visible[pinned] = own.image, 1.0
    return Warps(image, visible, pinned, frame_distances(source.camera, trajectory, depth.values, depth.valid))


def encode_targets(backbone: Backbone, warps: Warps, chunk: int = 8, cell_share: float = CELL_SHARE) -> Targets:
    """Encode warps into targets on the backbone's device.

    Holes are filled before encoding, because a black hole would bleed into neighbouring latent cells; the mask keeps
    cells that are mostly invented out of the guidance.
    """
    filled = push_pull_fill(warps.image, warps.visible)
    device = backbone.device
    return Targets(
        backbone.encode(filled, chunk).to(device),
        latent_visible(warps.visible, backbone.factor, cell_share).to(device),
        warps.pinned.to(device),
    )


def mean_flow(view: View, trajectory: Camera) -> float:
    """Mean optical flow of the view's points along the trajectory, in picture widths per frame.

    ``mean of |p_{k+1} - p_k| / W`` over frames and over points that are inside the picture in both frames.
    """
    depth = view.require_depth()
    pixels = view.camera.pixel_grid()[depth.valid]
    stride = max(1, len(pixels) // 4096)
    points = view.camera.unproject(pixels[::stride], depth.values[depth.valid][::stride].double())
    landed, z = trajectory.project(points.expand(len(trajectory), -1, -1))
    limit = landed.new_tensor([trajectory.width, trajectory.height])
    inside = (landed >= 0).all(-1) & (landed < limit).all(-1) & (z > 0)
    both = inside[1:] & inside[:-1]
    flow = (landed[1:] - landed[:-1]).norm(dim=-1)[both] / trajectory.width
    return float(flow.mean()) if flow.numel() else 0.0


def _same_camera(camera: Camera, trajectory: Camera) -> Tensor:
    """Which cameras of the trajectory are the view's own, ``[F]`` bool."""
    alike = torch.isclose(trajectory.world_to_camera, camera.world_to_camera, rtol=0, atol=1e-9).flatten(1).all(1)
    return alike & torch.isclose(trajectory.intrinsics, camera.intrinsics, rtol=0, atol=1e-6).flatten(1).all(1)
