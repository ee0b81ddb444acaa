"""Redwood's `.log` trajectories, read and written.

Convention of the file: for each camera one line of three ids (here frame, frame, frame + 1), then the four lines of
camera_to_world with OpenCV axes (x right, y down, z forward). There is no place for intrinsics, size or image names:
the caller gives intrinsics and size, and where they count the first pixel's centre. Nothing else changes.
"""

import os
from pathlib import Path

from mvguide.cameras.pose_text import read_blocks, read_matrix
from mvguide.cameras.posed import (
    WHAT,
    Intrinsics,
    PosedImage,
    PosedImages,
    Size,
    check_given,
    posed_camera,
    writable_batch,
)
from mvguide.files.text import exact_words, read_row, write_lines
from mvguide.geometry.camera import Camera


def read_log(
    path: str | os.PathLike[str],
    *,
    intrinsics: Intrinsics | None = None,
    size: Size | None = None,
    pixel_center: float = 0.5,
) -> PosedImages:
    """Read a Redwood `.log` trajectory, in the file's order; images are named by their count, 00000 on.

    Args:
        path: the file.
        intrinsics: fx, fy, cx, cy in pixels of the images.
        size: width and height of the images.
        pixel_center: where the intrinsics put the first pixel's centre: 0.5, or 0.0 (Open3D's, 0.5 is added).

    Returns:
        The images; `extra["ids"]` has the numbers of each camera's first line.

    Raises:
        FileError: missing, damaged, no multiple of 5 lines, or a matrix that is not rigid.
        InputError: intrinsics or size are missing or wrong.
    """
    file = Path(path)
    blocks = read_blocks(file, 5, "a Redwood .log has 5 for each camera, ids and a 4 x 4 matrix")
    given = check_given(file, "a Redwood .log", intrinsics, size, pixel_center)
    ids, images = [], []
    for index, ((number, head), *rows) in enumerate(blocks):
        ids.append(read_row(head.split(), 3, f"{WHAT} {file}, line {number}", "before each matrix stand three ids"))
        matrix = read_matrix(file, rows)
        camera = posed_camera(matrix, "camera_to_world", *given, f"{WHAT} {file}, image {index}")
        images.append(PosedImage(f"{index:05d}", camera))
    return PosedImages(images, extra={"ids": ids})


def write_log(path: str | os.PathLike[str], cameras: Camera) -> None:
    """Write a Redwood `.log`; `read_log` gives the same poses back to 1e-12. Intrinsics are not written.

    Args:
        path: the file.
        cameras: one camera or a batch [F].

    Raises:
        InputError: cameras that are not one or a batch [F], or not rigid.
        OutputError: the file cannot be written.
    """
    poses = writable_batch(cameras).camera_to_world.tolist()
    write_lines(path, [line for i, pose in enumerate(poses) for line in (f"{i} {i} {i + 1}", *map(exact_words, pose))])
