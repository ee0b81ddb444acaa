"""What the three files of a COLMAP model hold, before it becomes cameras; for the text and the binary reader alike."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RawCamera:
    """A line of cameras.txt."""

    model: str
    width: float
    height: float
    params: list[float]


@dataclass(frozen=True)
class RawImage:
    """Two lines of images.txt."""

    name: str
    camera_id: int
    quaternion: list[float]
    """w, x, y, z of world_to_camera."""
    translation: list[float]
    point_ids: np.ndarray
    """int64 [M]: the sparse points that the image sees; features without one are left out."""


@dataclass(frozen=True)
class RawPoints:
    """All of points3D.txt but errors and tracks, which the images hold too."""

    ids: np.ndarray
    """int64 [N]."""
    xyz: np.ndarray
    """float64 [N, 3]."""
    colors: np.ndarray
    """uint8 [N, 3]."""

    @staticmethod
    def none() -> "RawPoints":
        """No points."""
        return RawPoints(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
