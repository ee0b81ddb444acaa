"""LLFF's `poses_bounds.npy`.

Convention of the file: N rows of 17 numbers. The first 15 are a 3 x 5 matrix, row by row: three columns with the
camera's axes down, right and backwards in the world, one with its centre, one with height, width and focal length in
pixels; then the nearest and the farthest depth. The principal point is the middle of the image. `_camera_to_world`
turns the columns into OpenCV's right, down, forward and does nothing else.
"""

import os
from pathlib import Path

import numpy as np
import torch

from mvguide.cameras.posed import WHAT, PosedImage, PosedImages, pictures_beside, posed_camera, whole_pixels
from mvguide.decoding import check_readable, decoding, is_folder
from mvguide.errors import FileError

LLFF_FILE = "poses_bounds.npy"


def _camera_to_world(matrix: np.ndarray) -> np.ndarray:
    """[3, 5] of the file to camera_to_world [3, 4] with OpenCV axes."""
    down, right, back, center = matrix[:, :4].T
    return np.column_stack([right, down, -back, center])


def read_llff(path: str | os.PathLike[str]) -> PosedImages:
    """Read a `poses_bounds.npy`.

    Args:
        path: the file, or the folder that holds it.

    Returns:
        The images with `bounds`. The file has no names: they are those of the files in the folder `images` beside
        it, sorted, where there are as many; else the images are numbered and `folder` is None.

    Raises:
        FileError: missing, damaged, not N x 17 finite numbers, a size that is no count of pixels, a matrix that is not
            rigid.
    """
    source = Path(path) / LLFF_FILE if is_folder(Path(path)) else Path(path)
    file = check_readable(source, WHAT)
    with decoding(file, WHAT, "give a poses_bounds.npy as LLFF writes it"):
        # Mapped, for a header may claim any size: more than the file holds is refused before anything is allocated.
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        shape: tuple[int, ...] = getattr(mapped, "shape", ())
        if len(shape) != 2 or shape[1] != 17 or shape[0] < 1:
            raise FileError(f"{WHAT} {file} has shape {shape}; a poses_bounds.npy of LLFF is N x 17")
        if mapped.dtype.kind not in "fiu":
            raise FileError(f"{WHAT} {file} holds {mapped.dtype}; a poses_bounds.npy of LLFF holds numbers")
        table = np.array(mapped, dtype=np.float64)
    if not np.isfinite(table).all():
        raise FileError(f"{WHAT} {file} holds NaN or infinite values; write it again")
    names, folder = pictures_beside(file, len(table))
    images = []
    for index, (name, row) in enumerate(zip(names, table, strict=True)):
        where = f"{WHAT} {file}, image {index}"
        matrix = row[:15].reshape(3, 5)
        height, width, focal = matrix[:, 4].tolist()
        try:
            size = whole_pixels(width), whole_pixels(height)
        except ValueError as error:
            raise FileError(f"{where} has an image of {width:g} x {height:g}: {error}") from error
        intrinsics = (focal, focal, size[0] / 2, size[1] / 2)
        images.append(
            PosedImage(name, posed_camera(_camera_to_world(matrix), "camera_to_world", intrinsics, size, where))
        )
    return PosedImages(images, bounds=torch.from_numpy(table[:, 15:].copy()), folder=folder)
