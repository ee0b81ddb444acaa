"""The frames of a `transforms.json`, each with its own camera and lens; the convention is in `transforms`."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.cameras.posed import MAX_SIDE, WHAT, PosedImage, PosedImages, Size, check_size, posed_camera
from mvguide.decoding import check_readable, decoding, is_file, is_folder
from mvguide.errors import FileError
from mvguide.files.images import open_picture
from mvguide.geometry.lens import Lens

INTRINSICS = ("fl_x", "fl_y", "cx", "cy")
_LENS = ("k1", "k2", "k3", "p1", "p2")
RESERVED = (*INTRINSICS, *_LENS, "k4", "w", "h", "camera_model", "camera_angle_x", "camera_angle_y", "frames")
"""Names of the format that no extra entry may take."""

_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL")
_ADVICE = "give a transforms.json as nerfstudio writes it"
_FILES = ("transforms.json", "transforms_train.json", "transforms_test.json", "cameras.json")


def transforms_file(folder: Path) -> Path | None:
    """The `transforms.json` of a folder, that of the train set before the test set; None where there is none."""
    return next((folder / name for name in _FILES if is_file(folder / name)), None) if is_folder(folder) else None


def flip_axes(camera_to_world: Tensor) -> Tensor:
    """OpenCV camera axes to OpenGL's or back: y and z change sign; its own inverse. [..., 4, 4]."""
    return camera_to_world * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=camera_to_world.dtype)


def read_posed_transforms(path: str | os.PathLike[str], *, size: Size | None = None) -> PosedImages:
    """Read a `transforms.json`, of nerfstudio or of NeRF's own scenes (`camera_angle_x`), in the file's order.

    Intrinsics, size and lens may stand at the top or in each frame; the frame's own go first.

    Args:
        path: the file, or the folder that holds it.
        size: width and height of the images where the file does not have them; None: those of the first image that
            is there.

    Returns:
        The images with their lens, and with depth and mask where `depth_file_path` and `mask_path` name them. `extra`
        has all other entries at the top of the file.

    Raises:
        FileError: missing, damaged or incomplete; a camera that is neither a pinhole nor radial-tangential; a singular,
            reflected or non-rigid matrix.
        InputError: a size that is none.
    """
    file = check_readable(transforms_file(Path(path)) or path, WHAT)
    if size is not None:
        check_size(file, "a transforms.json", size)
    with decoding(file, WHAT, _ADVICE):
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(document, dict) or not isinstance(document.get("frames"), list) or not document["frames"]:
        raise FileError(f"{WHAT} {file} has no list of frames; {_ADVICE}")
    frames = document["frames"]
    top = {key: value for key, value in document.items() if key != "frames"}
    images = []
    for index, frame in enumerate(frames):
        where = f"{WHAT} {file}, frame {index}"
        if not isinstance(frame, dict):
            raise FileError(f"{where} is not an object with a transform_matrix")
        both = top | frame
        lens = _lens(both, where)
        if "w" in both and "h" in both:
            own = _whole(both["w"], "w", where), _whole(both["h"], "h", where)
        else:
            size = size or _picture_size(file.parent, frames)
            if size is None:
                raise FileError(f"{where} has no w and h, and its image is not there; give the size of the images")
            own = size
        matrix = flip_axes(_matrix(frame.get("transform_matrix"), where))
        camera = posed_camera(matrix, "camera_to_world", _intrinsics(both, *own, where), own, where)
        name = _text(frame, "file_path", where)
        images.append(
            PosedImage(
                f"{index:04d}" if name is None else name,
                camera,
                lens,
                depth_name=_text(frame, "depth_file_path", where),
                mask_name=_text(frame, "mask_path", where),
            )
        )
    extra = {key: value for key, value in document.items() if key not in RESERVED}
    return PosedImages(images, folder=file.parent, extra=extra)


def _lens(entries: Mapping[str, Any], where: str) -> Lens:
    model = entries.get("camera_model", "OPENCV")
    if model not in _MODELS:
        raise FileError(
            f"{where} has the camera model {model!r}; only pinhole cameras can be used, undistort its images first"
        )
    if _number(entries.get("k4", 0), "k4", where) != 0:
        raise FileError(f"{where} has lens distortion (k4) beyond k1 k2 k3 p1 p2; undistort its images first")
    return Lens(**{key: _number(entries.get(key, 0), key, where) for key in _LENS})


def _text(frame: Mapping[str, Any], key: str, where: str) -> str | None:
    value = frame.get(key)
    if value is None and key not in frame:
        return None
    if not isinstance(value, str):
        raise FileError(f"{where} has a {key} that is not text")
    return value


def _intrinsics(entries: Mapping[str, Any], width: int, height: int, where: str) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy from focal lengths, or from NeRF's opening angles in radians: f = (w / 2) / tan(angle / 2)."""

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
    only = fy if fx is None else fx
    if only is None:
        raise FileError(f"{where} has no focal length (fl_x or camera_angle_x)")
    cx = _number(entries.get("cx", width / 2), "cx", where)
    cy = _number(entries.get("cy", height / 2), "cy", where)
    return only, (only if fy is None else fy), cx, cy


def _matrix(value: Any, where: str) -> Tensor:
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
    if number != int(number) or not 1 <= number <= MAX_SIDE:
        raise FileError(f"{where} has {name} = {number:g}; it is a whole number of pixels, at least 1")
    return int(number)


def _picture_size(folder: Path, frames: Sequence[Any]) -> tuple[int, int] | None:
    """Width and height of the first image that is there; NeRF's own scenes leave out the suffix `.png`."""
    for frame in frames:
        name = frame.get("file_path") if isinstance(frame, dict) else None
        for suffix in ("", ".png", ".jpg") if isinstance(name, str) and "\0" not in name else ():
            picture = folder / f"{name}{suffix}"
            if is_file(picture):
                with (
                    decoding(picture, "image", "give an image that opens in a viewer"),
                    open_picture(picture) as image,
                ):
                    return image.size
    return None
