"""Cameras, paths and images as viser draws them, and the browser's camera."""

import math
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvguide.drawing.error_pictures import enlarge, whole_scale
from mvguide.drawing.sheets import as_pixels
from mvguide.geometry.camera import Camera
from mvguide.views.view import resize_image

ORANGE, BLUE, GREEN = (240, 140, 30), (60, 120, 216), (40, 160, 90)
_SMALLEST, _LARGEST = 256, 1024
"""Pixels along the longer side: smaller images are enlarged for the browser, larger ones reduced."""
OF_VIEW = 400
"""Pixels along the longer side of the images of views, of which there may be hundreds."""

Colour = tuple[int, int, int]


def pixels_of(image: Tensor, largest: int = _LARGEST) -> np.ndarray:
    """An image for the browser, its longer side between 256 and ``largest`` pixels.

    Args:
        image: ``[3, H, W]``, or grey ``[1, H, W]``, in [0, 1].
        largest: pixels, at least 256.

    Returns:
        uint8 ``[H', W', 3]``.
    """
    longest = max(image.shape[-2:])
    colour = image.expand(3, -1, -1)
    if longest > largest:
        height, width = (max(1, round(side * largest / longest)) for side in image.shape[-2:])
        colour = resize_image(colour, width, height)
    return as_pixels(enlarge(colour, whole_scale(colour.shape[-1], colour.shape[-2], _SMALLEST)))


def draw_frustum(
    server: Any, name: str, camera: Camera, colour: Colour, depth: float, picture: np.ndarray | None = None
) -> Any:
    """Draw the frustum of a camera, its image at a depth; the handle. A principal point is taken to be centred."""
    vertical, aspect = _vertical_fov(camera), camera.width / camera.height
    slope = math.tan(vertical / 2)
    wxyz, position = _turn(camera.camera_to_world), camera.center.tolist()
    return server.scene.add_camera_frustum(
        name,
        vertical,
        aspect,
        scale=depth * math.cbrt(slope * slope * aspect / 3),  # viser keeps the volume of a frustum, not its depth
        thickness=1.5,
        thickness_units="screen",
        color=colour,
        image=picture,
        jpeg_quality=90,
        wxyz=wxyz,
        position=position,
        cast_shadow=False,
        receive_shadow=False,
    )


def move_node(node: Any, camera: Camera) -> None:
    """Put a node where a camera is."""
    node.wxyz, node.position = _turn(camera.camera_to_world), camera.center.tolist()


def draw_line(server: Any, name: str, cameras: Camera, colour: Colour) -> Any:
    """Draw a line through the centres of cameras."""
    centres = cameras.center.float().numpy()
    pieces = np.stack([centres[:-1], centres[1:]], axis=1)
    return server.scene.add_line_segments(name, pieces, colour, thickness=2.5, thickness_units="screen")


def pose_of(node: Any) -> Tensor:
    """camera_to_world ``[4, 4]`` of a node, or of the browser's camera."""
    pose = torch.eye(4, dtype=torch.float64)
    w, x, y, z = node.wxyz
    pose[:3, :3] = torch.from_numpy(Rotation.from_quat([x, y, z, w]).as_matrix())
    pose[:3, 3] = torch.as_tensor(np.asarray(node.position, dtype=np.float64))
    return pose


def look_through(client: Any, camera: Camera) -> None:
    """Put the browser's camera where a camera is, with a field of view that holds all of its image."""
    vertical = _vertical_fov(camera)
    sideways = float(torch.deg2rad(camera.fov_degrees))
    view = client.camera
    with client.atomic():
        view.position = camera.center.numpy()
        view.wxyz = np.array(_turn(camera.camera_to_world))
        view.up_direction = -camera.camera_to_world[:3, 1].numpy()
        view.fov = max(vertical, 2 * math.atan(math.tan(sideways / 2) / view.aspect))


def _vertical_fov(camera: Camera) -> float:
    """Radians."""
    return 2 * math.atan(camera.height / (2 * float(camera.intrinsics[1, 1])))


def _turn(camera_to_world: Tensor) -> tuple[float, float, float, float]:
    """The quaternion (w, x, y, z) of a pose."""
    x, y, z, w = Rotation.from_matrix(camera_to_world[:3, :3].double().numpy()).as_quat()
    return float(w), float(x), float(y), float(z)
