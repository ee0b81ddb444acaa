"""The binary files of a COLMAP model: little-endian, no padding (COLMAP, src/colmap/scene/reconstruction_io_binary.cc).

    cameras.bin    n u64, then id u32, model i32, width u64, height u64, parameters f64 ...
    images.bin     n u64, then id u32, quaternion wxyz 4 f64, translation 3 f64, camera id u32, name up to a zero byte,
                   m u64, m times (x f64, y f64, point id i64, -1 for none)
    points3D.bin   n u64, then id u64, xyz 3 f64, rgb 3 u8, error f64, length u64, length times (image u32, feature u32)

Every count is held against the bytes that are left before anything is made of that size: a damaged count costs nothing.
"""

import struct
from pathlib import Path

import numpy as np

from mvguide.cameras.colmap_parts import RawCamera, RawImage, RawPoints
from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError

_WHAT = "camera file"
_ADVICE = "write the COLMAP model again"
# Name and count of parameters by COLMAP's number. The others are read far enough to be refused by name.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}


class _Bytes:
    """A file's bytes, taken from the front."""

    def __init__(self, path: Path) -> None:
        self.path = check_readable(path, _WHAT)
        with decoding(path, _WHAT, _ADVICE):
            self.data = path.read_bytes()
        self.place = 0

    def take(self, layout: struct.Struct) -> tuple:
        self.require(layout.size)
        self.place += layout.size
        return layout.unpack_from(self.data, self.place - layout.size)

    def count(self, least: int) -> int:
        """A count of things that take at least so many bytes each."""
        (count,) = self.take(_COUNT)
        self.require(count * least)
        return count

    def skip(self, size: int) -> int:
        """Pass over bytes; their place."""
        self.require(size)
        self.place += size
        return self.place - size

    def name(self) -> str:
        end = self.data.find(b"\0", self.place)
        if end < 0:
            raise FileError(f"{_WHAT} {self.path} ends within a name; {_ADVICE}")
        start, self.place = self.place, end + 1
        return self.data[start:end].decode("utf-8")

    def require(self, size: int) -> None:
        left = len(self.data) - self.place
        if size > left:
            raise FileError(f"{_WHAT} {self.path} is damaged: at byte {self.place} it needs {size} more and has {left}")

    def finish(self) -> None:
        if self.place != len(self.data):
            raise FileError(f"{_WHAT} {self.path} is damaged: {len(self.data) - self.place} bytes are left at its end")


_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")
_FEATURE = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])


def read_cameras_part(path: Path) -> dict[int, RawCamera]:
    """Cameras of a cameras.bin by id. Raises FileError: damaged, or a camera model that COLMAP's list does not have."""
    data = _Bytes(path)
    cameras = {}
    for _ in range(data.count(_CAMERA.size)):
        identity, model, width, height = data.take(_CAMERA)
        if model not in _MODELS:
            known = "fisheye, division and spherical models must be undistorted with COLMAP first"
            raise FileError(f"{_WHAT} {path} has camera model number {model}, which cannot be used; {known}")
        name, count = _MODELS[model]
        cameras[identity] = RawCamera(name, width, height, list(data.take(struct.Struct(f"<{count}d"))))
    data.finish()
    return cameras


def read_images_part(path: Path) -> list[RawImage]:
    """Images of an images.bin. Raises FileError: damaged."""
    data = _Bytes(path)
    images = []
    with decoding(path, _WHAT, _ADVICE):
        for _ in range(data.count(_IMAGE.size + 1 + _COUNT.size)):
            _, *numbers, camera_id = data.take(_IMAGE)
            name = data.name()
            features = data.count(_FEATURE.itemsize)
            start = data.skip(features * _FEATURE.itemsize)
            points = np.frombuffer(data.data, _FEATURE, features, start)["point"]
            images.append(RawImage(name, camera_id, numbers[:4], numbers[4:], points[points >= 0].astype(np.int64)))
    data.finish()
    return images


def read_points_part(path: Path) -> RawPoints:
    """Points of a points3D.bin. Raises FileError: damaged, or places that are not finite."""
    data = _Bytes(path)
    count = data.count(_POINT.size)
    ids, xyz, colors = np.zeros(count, np.int64), np.zeros((count, 3)), np.zeros((count, 3), np.uint8)
    for index in range(count):
        identity, *values, _, length = data.take(_POINT)
        ids[index], xyz[index], colors[index] = identity & (2**63 - 1), values[:3], values[3:]
        data.skip(8 * length)
    data.finish()
    if not np.isfinite(xyz).all():
        raise FileError(f"{_WHAT} {path} has points that are not finite; {_ADVICE}")
    return RawPoints(ids, xyz, colors)
