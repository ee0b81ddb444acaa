"""What every camera reader returns: images with their cameras, and the checks that all readers share.

Convention: whatever the file's own, a `PosedImage` has OpenCV axes, pixel centres at +0.5 and K for the image's own
size, as in `mvguide.geometry.camera`. Each reader states its file's convention at its top and changes it in one place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mvguide.cameras.intrinsics_files import find_intrinsics, read_intrinsics
from mvguide.decoding import is_file, is_folder
from mvguide.errors import FileError, InputError
from mvguide.geometry.camera import Camera, rigid_fault, stack
from mvguide.geometry.lens import Lens

WHAT = "camera file"
MAX_SIDE = 1_000_000
"""Pixels along the side of an image: more is a damaged number."""

Intrinsics = Sequence[float]
"""fx, fy, cx, cy in pixels."""
Size = tuple[int, int]
"""Width and height in pixels."""

Stored = Literal["world_to_camera", "camera_to_world"]
"""Which way the matrix of a file goes."""

_PICTURES = (".png", ".jpg", ".jpeg")
_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".color.png", ".color.jpg")


@dataclass(frozen=True, eq=False)
class PosedImage:
    """One image of a camera file."""

    name: str
    """As the file writes it: mostly a path relative to `PosedImages.folder`; a number where the file has no names."""
    camera: Camera
    """One camera, float64, of the image's own size: the pinhole part, to be used after `undistort` with `lens`."""
    lens: Lens = field(default_factory=Lens)
    """What bends the image; all 0 for a pinhole."""
    depth_name: str | None = None
    """Depth map of the image, relative to the folder, where the file names one."""
    mask_name: str | None = None
    """Mask of the image, relative to the folder, where the file names one."""


@dataclass(frozen=True, eq=False)
class PosedImages:
    """What a camera file holds."""

    images: list[PosedImage]
    """At least one, in the order that the reader states."""
    points: Tensor | None = None
    """Sparse points of the scene, float64 [N, 3], in the world of the cameras."""
    tracks: list[Tensor] | None = None
    """For each image the sparse points that it sees, float64 [M, 3]."""
    bounds: Tensor | None = None
    """Nearest and farthest depth for each image, float64 [V, 2]."""
    folder: Path | None = None
    """What the names of the images are relative to; None where the file names none."""
    extra: dict[str, Any] = field(default_factory=dict)
    """The file's other entries, by its own names."""

    def __len__(self) -> int:
        """Count of images."""
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return [image.name for image in self.images]

    def trajectory(self) -> Camera:
        """All cameras as one batch [V], float64. Raises InputError for images of unlike sizes."""
        return stack([image.camera for image in self.images])

    def find_picture(self, index: int) -> Path | None:
        """The file of an image; None where it is not there or the file names none.

        Files may leave out its suffix (NeRF's own scenes, 7-Scenes' `.color.jpg`).
        """
        name = self.images[index].name
        if self.folder is None or "\0" in name:
            return None
        pictures = (self.folder / f"{name}{suffix}" for suffix in _SUFFIXES)
        return next((picture for picture in pictures if is_file(picture)), None)

    def picture(self, index: int) -> Path:
        """The file of an image, as `find_picture`.

        Raises:
            FileError: the file names no images, or the image is not there.
        """
        name, found = self.images[index].name, self.find_picture(index)
        if self.folder is None:
            raise FileError(f"the camera file names no file of image {name}; put the images beside it")
        if found is None:
            raise FileError(f"image {str(self.folder / name)!r} of the camera file does not exist; check the folder")
        return found


def pictures_beside(file: Path, count: int) -> tuple[list[str], Path | None]:
    """Names for the images of a camera file that has none: those of the files in the folder `images` beside it.

    Args:
        file: the camera file.
        count: images in it.

    Returns:
        The names, sorted, and the folder, where it holds as many; else numbers, 00000 on, and None.
    """
    folder = file.absolute().parent / "images"
    entries = folder.iterdir() if is_folder(folder) else ()
    names = sorted(entry.name for entry in entries if entry.suffix.lower() in _PICTURES)
    return (names, folder) if len(names) == count else ([f"{index:05d}" for index in range(count)], None)


def posed_camera(
    matrix: Any,
    stored: Stored,
    intrinsics: Intrinsics,
    size: Size,
    where: str,
) -> Camera:
    """One checked camera from what a file stores; the axes are OpenCV's already.

    Args:
        matrix: [4, 4] or [3, 4], rigid to 1e-3, as text files with few digits write it.
        stored: which way the matrix goes.
        intrinsics: fx, fy, cx, cy, which count the first pixel's centre as 0.5.
        size: width and height.
        where: the start of a message: "camera file x.log, image 3".

    Returns:
        One camera, float64.

    Raises:
        FileError: a matrix that is not a rigid motion, or intrinsics that make no camera.
    """
    motion = torch.eye(4, dtype=torch.float64)
    rows = torch.as_tensor(matrix, dtype=torch.float64)
    motion[: rows.shape[0]] = rows
    fault = rigid_fault(motion, stored)
    if fault:
        raise FileError(f"{where}: {fault}")
    try:
        camera = Camera.from_intrinsics(intrinsics, *size, motion)
    except InputError as error:
        raise FileError(f"{where}: {error}") from error
    if stored == "camera_to_world":
        camera = replace(camera, world_to_camera=camera.camera_to_world)
        # Overflow aside, a matrix at the edge of the tolerance may have an inverse beyond it.
        fault = rigid_fault(camera.world_to_camera, "the inverse of camera_to_world")
        if fault:
            raise FileError(f"{where}: {fault}")
    return camera


def check_size(path: Path, what: str, size: Size | None) -> Size:
    """Width and height that the caller gives because the format has no place for them, checked.

    Args:
        path: the camera file.
        what: its kind: "an MVSNet camera".
        size: width and height, or None.

    Returns:
        Width and height in pixels.

    Raises:
        InputError: missing, or no whole numbers of pixels.
    """
    if size is None:
        raise InputError(f"{WHAT} {path} is {what}, which holds no image size; give size=(width, height) in pixels")
    try:
        width, height = (whole_pixels(value) for value in size)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"size for {WHAT} {path} is {size!r}; give width and height as whole numbers of pixels, 1 to {MAX_SIDE}"
        ) from None
    return width, height


def check_given(
    path: Path, what: str, intrinsics: Intrinsics | None, size: Size | None, pixel_center: float
) -> tuple[Intrinsics, Size]:
    """Intrinsics and size that the caller gives because the format has no place for either, checked.

    Without intrinsics those of an intrinsics file beside the camera file are used, where there is one.

    Args:
        path: the camera file.
        what: its kind: "a TUM trajectory".
        intrinsics: fx, fy, cx, cy or None.
        size: width and height or None.
        pixel_center: where the intrinsics put the first pixel's centre: 0.5, or 0.0.

    Returns:
        The intrinsics, now with the first pixel's centre at 0.5, and the size.

    Raises:
        InputError: one is missing or cannot be used.
    """
    beside = find_intrinsics(path) if intrinsics is None else None
    if beside is not None:
        intrinsics = read_intrinsics(beside)
    if intrinsics is None:
        raise InputError(
            f"{WHAT} {path} is {what}, which holds no intrinsics and no image size; "
            "give intrinsics=(fx, fy, cx, cy) and size=(width, height) in pixels"
        )
    checked = check_size(path, what, size)
    try:
        matrix = Camera.from_intrinsics(intrinsics, *checked, pixel_center=pixel_center).intrinsics
    except (TypeError, ValueError) as error:  # an InputError is a ValueError, and its sentence is kept
        raise InputError(f"intrinsics {intrinsics!r} for {WHAT} {path} cannot be used: {error}") from None
    return [float(value) for value in (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])], checked


def whole_pixels(value: Any) -> int:
    """A side of an image. Raises ValueError where it is no whole number from 1 to MAX_SIDE."""
    number = float(value)
    if isinstance(value, bool) or not 1 <= number <= MAX_SIDE or number != int(number):
        raise ValueError(f"{value!r} is not a whole number of pixels from 1 to {MAX_SIDE}")
    return int(number)


def rotation_matrix(quaternion: Sequence[float], where: str) -> np.ndarray:
    """Rotation [3, 3] of a quaternion (w, x, y, z), brought to length 1.

    R = I + 2 w [v] + 2 [v]^2 with [v] the cross-product matrix of (x, y, z).

    Raises:
        FileError: its length is more than 1 % from 1: no rotation, or another column of the file.
    """
    length = math.sqrt(sum(value * value for value in quaternion)) if all(map(math.isfinite, quaternion)) else math.nan
    if not 0.99 < length < 1.01:
        raise FileError(f"{where} has a quaternion of length {length:.4g}; a rotation has length 1, check the columns")
    w, x, y, z = (value / length for value in quaternion)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def quaternions(rotations: Tensor) -> np.ndarray:
    """Quaternions (w, x, y, z), w >= 0, float64 [F, 4] of rotations [F, 3, 3]: the inverse of `rotation_matrix`."""
    from scipy.spatial.transform import Rotation  # slow to import, and only writers need it

    return np.roll(Rotation.from_matrix(rotations.detach().numpy()).as_quat(canonical=True), 1, axis=1)


def writable_batch(cameras: Camera, count: int | None = None, names: str = "names") -> Camera:
    """Cameras for a writer: a checked batch, of as many as there are names.

    Args:
        cameras: one camera or a batch [F].
        count: F, where the caller has one of something for each; None: any.
        names: what the caller has, for messages.

    Returns:
        A batch [F] in float64 on the CPU.

    Raises:
        InputError: no cameras, other counts, a skew, which no format here has, or values that make no camera.
    """
    batch = cameras if cameras.batch_shape else stack([cameras])
    if len(batch.batch_shape) != 1 or len(batch) == 0 or (count is not None and len(batch) != count):
        given = "" if count is None else f"{count} {names} for "
        raise InputError(f"{given}cameras of shape {list(batch.batch_shape)} cannot be written; give one for each")
    batch = batch.to("cpu", torch.float64).check()
    if (batch.intrinsics[:, 0, 1] != 0).any():
        raise InputError("cameras with a skew cannot be written to camera files, which have no place for it")
    return batch
