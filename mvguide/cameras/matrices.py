"""Cameras as 4 x 4 matrices in text, as 7-Scenes has them, read and written.

Convention of the file: four lines of four numbers are camera_to_world with OpenCV axes (x right, y down, z forward), or
world_to_camera where the caller says so; one camera a file (`*.pose.txt`) or one after another. There is no place for
intrinsics and size: the caller gives them and says where they count the first pixel's centre. Nothing else changes.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from mvguide.cameras.posed import (
    WHAT,
    Intrinsics,
    PosedImage,
    PosedImages,
    Size,
    Stored,
    check_given,
    posed_camera,
    writable_batch,
)
from mvguide.decoding import is_file, is_folder
from mvguide.errors import FileError
from mvguide.files.text import exact_words, read_lines, read_matrix, write_lines
from mvguide.geometry.camera import Camera

_ADVICE = "give text with 4 lines of 4 numbers a camera"


def read_matrices(
    path: str | os.PathLike[str],
    *,
    intrinsics: Intrinsics | None = None,
    size: Size | None = None,
    pixel_center: float = 0.5,
    world_to_camera: bool = False,
) -> PosedImages:
    """Read 4 x 4 matrices from text: one a file, a folder of `*.pose.txt`, or several in one file.

    Args:
        path: a file, or a folder as 7-Scenes has it. From a folder the images come in the order of their names, and a
            name is the file's without `.pose.txt`: the picture stands beside it.
        intrinsics: fx, fy, cx, cy in pixels of the pictures.
        size: width and height of the pictures.
        pixel_center: where the intrinsics put the first pixel's centre: 0.5, or 0.0 (0.5 is added).
        world_to_camera: the matrices are world_to_camera instead of camera_to_world.

    Raises:
        FileError: missing, damaged, no multiple of 4 lines, or a matrix that is not rigid.
        InputError: intrinsics or size are missing or wrong.
    """
    source = Path(path)
    given = check_given(source, "a file of 4 x 4 matrices", intrinsics, size, pixel_center)
    stored: Stored = "world_to_camera" if world_to_camera else "camera_to_world"

    def image(name: str, file: Path, lines: Sequence[tuple[int, str]]) -> PosedImage:
        camera = posed_camera(read_matrix(file, lines), stored, *given, f"{WHAT} {file}, image {name}")
        return PosedImage(name, camera)

    if not is_folder(source):
        lines = read_lines(source, WHAT, _ADVICE)
        if not lines or len(lines) % 4:
            raise FileError(f"{WHAT} {source} has {len(lines)} lines; 4 x 4 matrices have 4 for each camera")
        return PosedImages([image(f"{i // 4:05d}", source, lines[i : i + 4]) for i in range(0, len(lines), 4)])
    images = []
    for file in matrix_files(source):
        lines = read_lines(file, WHAT, _ADVICE)
        if len(lines) != 4:
            raise FileError(f"{WHAT} {file} has {len(lines)} lines; a pose file in a folder has one 4 x 4 matrix")
        images.append(image(file.name.removesuffix(".pose.txt"), file, lines))
    if not images:
        raise FileError(f"folder {source} holds no *.pose.txt; give the folder with the 4 x 4 camera files")
    return PosedImages(images, folder=source)


def matrix_files(folder: Path) -> list[Path]:
    """The `*.pose.txt` of a folder, sorted by name."""
    return sorted(file for file in folder.glob("*.pose.txt") if is_file(file))


def write_matrices(path: str | os.PathLike[str], cameras: Camera, *, world_to_camera: bool = False) -> None:
    """Write 4 x 4 matrices one after another; `read_matrices` gives the same poses back to 1e-12.

    Raises:
        InputError: cameras that are not one or a batch [F], or not rigid.
        OutputError: the file cannot be written.
    """
    batch = writable_batch(cameras)
    poses = (batch.world_to_camera if world_to_camera else batch.camera_to_world).tolist()
    write_lines(path, [exact_words(row) for pose in poses for row in pose])
