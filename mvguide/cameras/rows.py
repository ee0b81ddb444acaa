"""Cameras as one line of numbers each, as KITTI and many captures of rooms have them.

Convention of the file: 12 numbers a line are camera_to_world [3, 4], 16 are [4, 4], row by row, with OpenCV axes (x
right, y down, z forward). There is no place for names and size. Intrinsics are the caller's or those of a file beside
it (`mvguide.cameras.intrinsics_files`); the images are those of the folder `images`, where it holds as many.
"""

import os
from pathlib import Path

from mvguide.cameras.pose_text import read_blocks
from mvguide.cameras.posed import (
    WHAT,
    Intrinsics,
    PosedImage,
    PosedImages,
    Size,
    check_given,
    pictures_beside,
    posed_camera,
)
from mvguide.decoding import is_file, is_folder
from mvguide.errors import FileError
from mvguide.files.text import finite_numbers

_NAMES = ("poses.txt", "traj.txt")
_RULE = "a file of one camera a line has 12 or 16 numbers in each"


def rows_file(folder: Path) -> Path | None:
    """The file of poses in a folder, `poses.txt` or `traj.txt`; None where there is none."""
    return next((folder / name for name in _NAMES if is_file(folder / name)), None) if is_folder(folder) else None


def read_rows(
    path: str | os.PathLike[str],
    *,
    intrinsics: Intrinsics | None = None,
    size: Size | None = None,
    pixel_center: float = 0.5,
) -> PosedImages:
    """Read poses of 12 or 16 numbers a line, in the file's order.

    Args:
        path: the file, or a folder with `poses.txt` or `traj.txt`.
        intrinsics: fx, fy, cx, cy in pixels of the images; None: those of the intrinsics file beside it.
        size: width and height of the images.
        pixel_center: where the intrinsics put the first pixel's centre: 0.5, or 0.0 (0.5 is added).

    Returns:
        The images, named after the files in the folder `images` beside the file where there are as many, else by
        their count, 00000 on, and then without a folder.

    Raises:
        FileError: missing, damaged, other numbers of numbers, or a matrix that is not rigid.
        InputError: intrinsics or size are missing or wrong.
    """
    file = rows_file(Path(path)) or Path(path)
    blocks = read_blocks(file, 1, _RULE)
    given = check_given(file, "a file of one camera a line", intrinsics, size, pixel_center)
    names, folder = pictures_beside(file, len(blocks))
    images = []
    for name, ((number, line),) in zip(names, blocks, strict=True):
        where = f"{WHAT} {file}, line {number}"
        numbers = finite_numbers(line.replace(",", " ").split(), where)
        if len(numbers) not in (12, 16):
            raise FileError(f"{where} has {len(numbers)} numbers; {_RULE}")
        matrix = [numbers[start : start + 4] for start in range(0, len(numbers), 4)]
        images.append(PosedImage(name, posed_camera(matrix, "camera_to_world", *given, where)))
    return PosedImages(images, folder=folder)
