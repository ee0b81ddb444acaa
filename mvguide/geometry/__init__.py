"""Cameras, camera paths, the forward warp and its masks."""

from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.distance import frame_distances
from mvguide.geometry.hole_filling import close_pinholes, push_pull_fill
from mvguide.geometry.keyframes import interpolate_cameras, resample_trajectory, start_at
from mvguide.geometry.lens import Lens, distort, undistort
from mvguide.geometry.masks import (
    cell_means,
    depth_edges,
    dilate_holes,
    hole_ramp,
    latent_visible,
    smeared_depth,
)
from mvguide.geometry.trajectory import (
    TRAJECTORIES,
    dolly,
    ellipse,
    make_trajectory,
    orbit,
    pan,
    pedestal,
    roll,
    spiral,
    tilt,
    truck,
    zoom,
)
from mvguide.geometry.warp import Warp, source_to_target, splat

__all__ = [
    "TRAJECTORIES",
    "Camera",
    "Lens",
    "Warp",
    "cell_means",
    "close_pinholes",
    "depth_edges",
    "dilate_holes",
    "distort",
    "dolly",
    "ellipse",
    "frame_distances",
    "hole_ramp",
    "interpolate_cameras",
    "latent_visible",
    "make_trajectory",
    "orbit",
    "pan",
    "pedestal",
    "push_pull_fill",
    "resample_trajectory",
    "roll",
    "smeared_depth",
    "source_to_target",
    "spiral",
    "splat",
    "stack",
    "start_at",
    "tilt",
    "truck",
    "undistort",
    "zoom",
]
