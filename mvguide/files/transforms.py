"""Cameras as nerfstudio's `transforms.json`, read and written.

Convention of the file: `transform_matrix` is camera_to_world with OpenGL axes (x right, y up, z backward);
`fl_x fl_y cx cy` are in pixels with the first pixel's centre at (0.5, 0.5), as everywhere in mvguide. Between the file
and a `Camera` only the axes change, in `_flip_axes` and nowhere else.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mvguide.errors import FileError, InputError
from mvguide.files.atomic import atomic_path
from mvguide.geometry.camera import Camera
from mvguide.reading import check_readable, decoding

_WHAT = "camera file"
_INTRINSICS = ("fl_x", "fl_y", "cx", "cy")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_RESERVED = (*_INTRINSICS, *_DISTORTION, "w", "h", "camera_model", "camera_angle_x", "camera_angle_y", "frames")
_PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")


@dataclass(frozen=True)
class Transforms:
    """What a `transforms.json` holds."""

    cameras: Camera
    """A batch of F cameras, float64."""
    image_names: list[str]
    """F paths of pictures as the file writes them: relative to its folder, in NeRF's own scenes without the suffix."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other entries at the top of the file."""


def _flip_axes(camera_to_world: Tensor) -> Tensor:
    """OpenCV camera axes to OpenGL's or back: y and z change sign; its own inverse. [..., 4, 4]."""
    return camera_to_world * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=camera_to_world.dtype)


def write_transforms(
    path: str | os.PathLike[str],
    cameras: Camera,
    image_names: Sequence[str],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write cameras so that nerfstudio and gsplat read them; `read_transforms` gives the same back to 1e-12.

    Intrinsics stand once at the top where all cameras share them, and in each frame where they differ (a zoom).

    Args:
        path: the file, best named transforms.json; missing folders are made.
        cameras: one camera or a batch [F].
        image_names: F paths of the pictures, relative to the file's folder.
        extra: more entries for the top of the file, JSON types; nerfstudio ignores those that it does not know.

    Raises:
        InputError: other counts, a skew (the format has none), cameras that are not finite, or an extra entry under a
            name that the format uses.
        OutputError: the file cannot be written.
    """
    batch = (
        cameras
        if cameras.batch_shape
        else Camera(cameras.intrinsics[None], cameras.world_to_camera[None], cameras.width, cameras.height)
    )
    if len(batch.batch_shape) != 1 or len(batch) != len(image_names) or not image_names:
        raise InputError(
            f"{len(image_names)} image names for cameras of shape {list(batch.batch_shape)}; give one for each"
        )
    clash = sorted(set(extra or {}) & set(_RESERVED))
    if clash:
        raise InputError(f"extra entries {', '.join(clash)} of {path} are part of the format; rename them")
    batch = batch.to("cpu", torch.float64).check()
    matrix = batch.intrinsics
    if (matrix[:, 0, 1] != 0).any():
        raise InputError("cameras with a skew cannot be written to transforms.json, which has no place for it")
    intrinsics = torch.stack([matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2]], dim=-1).tolist()
    poses = _flip_axes(batch.camera_to_world).tolist()
    shared = all(row == intrinsics[0] for row in intrinsics)
    top: dict[str, Any] = {"camera_model": "OPENCV", "w": batch.width, "h": batch.height}
    if shared:
        top |= dict(zip(_INTRINSICS, intrinsics[0], strict=True))
    frames = [
        {"file_path": str(name)}
        | ({} if shared else dict(zip(_INTRINSICS, row, strict=True)))
        | {"transform_matrix": pose}
        for name, row, pose in zip(image_names, intrinsics, poses, strict=True)
    ]
    try:
        text = json.dumps(top | dict(extra or {}) | {"frames": frames}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"extra entries of {path} cannot be written as JSON ({error})") from error
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_transforms(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> Transforms:
    """Read a `transforms.json`, of nerfstudio or of NeRF's own scenes (`camera_angle_x`).

    Args:
        path: the file.
        size: width and height of the pictures where the file does not say. Without it the first picture that is there
            is asked.

    Raises:
        FileError: missing, damaged or incomplete; a lens with distortion or no pinhole; pictures of unlike sizes; a
            singular, reflected or non-rigid matrix.
    """
    file = check_readable(path, _WHAT)
    with decoding(file, _WHAT, "give a transforms.json as nerfstudio writes it"):
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(document, dict) or not isinstance(document.get("frames"), list) or not document["frames"]:
        raise FileError(f"camera file {path} has no list of frames; give a transforms.json as nerfstudio writes it")
    frames = document["frames"]
    names, matrices, poses, sizes = [], [], [], set()
    for index, frame in enumerate(frames):
        where = f"camera file {path}, frame {index}"
        if not isinstance(frame, dict):
            raise FileError(f"{where} is not an object with a transform_matrix")
        name = frame.get("file_path", f"{index:04d}")
        if not isinstance(name, str):
            raise FileError(f"{where} has a file_path that is not text")
        both = {key: value for key, value in document.items() if key != "frames"} | frame
        _check_lens(both, where)
        if "w" in both and "h" in both:
            width, height = _whole(both["w"], "w", where), _whole(both["h"], "h", where)
        else:
            size = size or _picture_size(file.parent, frames)
            if size is None:
                raise FileError(f"{where} has no w and h, and its picture is not there; give the size of the pictures")
            width, height = size
        names.append(name)
        sizes.add((width, height))
        matrices.append(_intrinsics(both, width, height, where))
        poses.append(_pose(frame.get("transform_matrix"), where))
    if len(sizes) > 1:
        listed = ", ".join(f"{w} x {h}" for w, h in sorted(sizes))
        raise FileError(f"camera file {path} has pictures of unlike sizes ({listed}); resize them to one size first")
    width, height = sizes.pop()
    try:
        camera_to_world = Camera(torch.stack(matrices), _flip_axes(torch.stack(poses)), width, height).check()
        # The inverse of a rigid matrix is one: the same check holds for it, and it names the faults of what was read.
        cameras = Camera(camera_to_world.intrinsics, camera_to_world.camera_to_world, width, height).check()
    except InputError as error:
        raise FileError(f"camera file {path}: {error}") from error
    extra = {key: value for key, value in document.items() if key not in _RESERVED}
    return Transforms(cameras, names, extra)


def _check_lens(entries: Mapping[str, Any], where: str) -> None:
    model = entries.get("camera_model", "OPENCV")
    if model not in _PINHOLES:
        raise FileError(
            f"{where} has the camera model {model!r}; only pinhole cameras can be used, undistort its pictures first"
        )
    bent = [key for key in _DISTORTION if key in entries and _number(entries[key], key, where) != 0]
    if bent:
        raise FileError(
            f"{where} has lens distortion ({', '.join(bent)}); undistort its pictures first and set it to 0"
        )


def _intrinsics(entries: Mapping[str, Any], width: int, height: int, where: str) -> Tensor:
    """K [3, 3] from focal lengths, or from NeRF's opening angles in radians: f = (w / 2) / tan(angle / 2)."""

    def focal(name: str, angle_name: str, side: int) -> float | None:
        if name in entries:
            return _number(entries[name], name, where)
        if angle_name not in entries:
            return None
        angle = _number(entries[angle_name], angle_name, where)
        if not 0 < angle < math.pi:
            raise FileError(f"{where} has {angle_name} = {angle:g}; it is an angle in radians between 0 and pi")
        return side / 2 / math.tan(angle / 2)

    fx, fy = focal("fl_x", "camera_angle_x", width), focal("fl_y", "camera_angle_y", height)
    if fx is None and fy is None:
        raise FileError(f"{where} has no focal length (fl_x or camera_angle_x)")
    fx, fy = (fy if fx is None else fx), (fx if fy is None else fy)
    cx = _number(entries.get("cx", width / 2), "cx", where)
    cy = _number(entries.get("cy", height / 2), "cy", where)
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)


def _pose(value: Any, where: str) -> Tensor:
    """transform_matrix [4, 4]; its last row may be left out."""
    rows = value if isinstance(value, list) else []
    if len(rows) not in (3, 4) or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise FileError(f"{where} has no transform_matrix of 4 x 4 numbers")
    numbers = [[_number(x, "transform_matrix", where) for x in row] for row in rows]
    return torch.tensor([*numbers, [0.0, 0.0, 0.0, 1.0]][:4], dtype=torch.float64)


def _number(value: Any, name: str, where: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise FileError(f"{where} has a {name} that is not a finite number")
    return number


def _whole(value: Any, name: str, where: str) -> int:
    number = _number(value, name, where)
    if number != int(number) or not 1 <= number <= 1_000_000:
        raise FileError(f"{where} has {name} = {number:g}; it is a whole number of pixels, at least 1")
    return int(number)


def _picture_size(folder: Path, frames: Sequence[Any]) -> tuple[int, int] | None:
    """Width and height of the first picture that is there; NeRF's own scenes leave out the suffix `.png`."""
    for frame in frames:
        name = frame.get("file_path") if isinstance(frame, dict) else None
        for suffix in ("", ".png", ".jpg") if isinstance(name, str) and "\0" not in name else ():
            picture = folder / f"{name}{suffix}"
            if picture.is_file():
                with (
                    decoding(picture, "picture", "give a picture that opens in a viewer"),
                    Image.open(picture) as image,
                ):
                    return image.size
    return None
