"""TUM trajectories, read and written.

Convention of the file: a line a camera, `timestamp tx ty tz qx qy qz qw`, camera_to_world with OpenCV axes (x right,
y down, z forward); # starts a comment. It has no place for intrinsics, size or image names: the caller gives
intrinsics and size, and where they count the first pixel's centre. Nothing else changes on the way.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvguide.cameras.pose_text import read_blocks
from mvguide.cameras.posed import (
    WHAT,
    Intrinsics,
    PosedImage,
    PosedImages,
    Size,
    check_given,
    posed_camera,
    quaternions,
    rotation_matrix,
    writable_batch,
)
from mvguide.errors import InputError
from mvguide.files.text import exact_words, read_row, write_lines
from mvguide.geometry.camera import Camera


def read_tum(
    path: str | os.PathLike[str],
    *,
    intrinsics: Intrinsics | None = None,
    size: Size | None = None,
    pixel_center: float = 0.5,
) -> PosedImages:
    """Read a TUM trajectory, in the file's order; an image's name is its timestamp as the file writes it.

    Args:
        path: the file.
        intrinsics: fx, fy, cx, cy in pixels of the images.
        size: width and height of the images.
        pixel_center: where the intrinsics put the first pixel's centre: 0.5, or 0.0 (0.5 is added).

    Returns:
        The images; `extra["timestamps"]` has the times in seconds.

    Raises:
        FileError: missing, damaged, not 8 numbers a line, or a quaternion that is no rotation.
        InputError: intrinsics or size are missing or wrong.
    """
    file = Path(path)
    rule = "a TUM trajectory has a line of timestamp tx ty tz qx qy qz qw for each camera"
    blocks = read_blocks(file, 1, rule)
    given = check_given(file, "a TUM trajectory", intrinsics, size, pixel_center)
    times, images = [], []
    for ((number, line),) in blocks:
        where, words = f"{WHAT} {file}, line {number}", line.replace(",", " ").split()
        time, tx, ty, tz, qx, qy, qz, qw = read_row(words, 8, where, rule)
        matrix = np.column_stack([rotation_matrix((qw, qx, qy, qz), where), (tx, ty, tz)])
        times.append(time)
        images.append(PosedImage(words[0], posed_camera(matrix, "camera_to_world", *given, where)))
    return PosedImages(images, extra={"timestamps": times})


def write_tum(path: str | os.PathLike[str], cameras: Camera, timestamps: Sequence[float] | None = None) -> None:
    """Write a TUM trajectory; `read_tum` gives the same poses back to 1e-12 where they are rigid to that.

    Args:
        path: the file.
        cameras: one camera or a batch [F].
        timestamps: F times in seconds; 0, 1, 2, ... without.

    Raises:
        InputError: other counts, or cameras that are not rigid.
        OutputError: the file cannot be written.
    """
    batch = writable_batch(cameras, None if timestamps is None else len(timestamps), "timestamps")
    times = [float(time) for time in (range(len(batch)) if timestamps is None else timestamps)]
    if not all(map(math.isfinite, times)):
        raise InputError(f"timestamps for {path} hold NaN or infinite values; give finite seconds")
    poses = batch.camera_to_world
    turns = np.roll(quaternions(poses[:, :3, :3]), -1, axis=1).tolist()
    rows = zip(times, poses[:, :3, 3].tolist(), turns, strict=True)
    lines = [exact_words([time, *place, *turn]) for time, place, turn in rows]
    write_lines(path, ["# timestamp tx ty tz qx qy qz qw", *lines])
