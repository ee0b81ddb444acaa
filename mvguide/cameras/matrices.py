"""Cameras as 4 x 4 matrices in text, as 7-Scenes has them, read and written.

Convention of the file: four lines of four numbers are camera_to_world with OpenCV axes (x right, y down, z forward), or
world_to_camera where the caller declares it; one camera a file (`*.pose.txt`) or one after another. There is no place
for intrinsics and size: the caller gives them, and where they count the first pixel's centre. Nothing else changes.
"""

import os
from pathlib import Path

from mvguide.cameras.pose_text import Line, read_blocks, read_matrix
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
from mvguide.files.text import exact_words, write_lines
from mvguide.geometry.camera import Camera


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
            name is the file's without `.pose.txt`: the image stands beside it.
        intrinsics: fx, fy, cx, cy in pixels of the images.
        size: width and height of the images.
        pixel_center: where the intrinsics put the first pixel's centre: 0.5, or 0.0 (0.5 is added).
        world_to_camera: the matrices are world_to_camera instead of camera_to_world.

    Returns:
        The images; `folder` is the given one, and None for a file.

    Raises:
        FileError: missing, damaged, no multiple of 4 lines, or a matrix that is not rigid.
        InputError: intrinsics or size are missing or wrong.
    """
    source = Path(path)
    given = check_given(source, "a file of 4 x 4 matrices", intrinsics, size, pixel_center)
    stored: Stored = "world_to_camera" if world_to_camera else "camera_to_world"

    if is_folder(source):
        files = matrix_files(source)
        if not files:
            raise FileError(f"folder {source} holds no *.pose.txt; give the folder with the 4 x 4 camera files")
        blocks = [(file.name.removesuffix(".pose.txt"), file, _one_matrix(file)) for file in files]
    else:
        read = read_blocks(source, 4, "4 x 4 matrices have 4 for each camera")
        blocks = [(f"{index:05d}", source, lines) for index, lines in enumerate(read)]
    images = []
    for name, file, lines in blocks:
        camera = posed_camera(read_matrix(file, lines), stored, *given, f"{WHAT} {file}, image {name}")
        images.append(PosedImage(name, camera))
    return PosedImages(images, folder=source if is_folder(source) else None)


def _one_matrix(file: Path) -> list[Line]:
    blocks = read_blocks(file, 4, "a pose file in a folder has 4, one 4 x 4 matrix")
    if len(blocks) > 1:
        raise FileError(f"{WHAT} {file} has {len(blocks)} matrices; a pose file in a folder has one 4 x 4 matrix")
    return blocks[0]


def matrix_files(folder: Path) -> list[Path]:
    """The `*.pose.txt` of a folder, sorted by name."""
    return sorted(file for file in folder.glob("*.pose.txt") if is_file(file))


def write_matrices(path: str | os.PathLike[str], cameras: Camera, *, world_to_camera: bool = False) -> None:
    """Write 4 x 4 matrices one after another; `read_matrices` gives the same poses back to 1e-12.

    Args:
        path: the file.
        cameras: one camera or a batch [F].
        world_to_camera: write world_to_camera instead of camera_to_world.

    Raises:
        InputError: cameras that are not one or a batch [F], or not rigid.
        OutputError: the file cannot be written.
    """
    batch = writable_batch(cameras)
    poses = (batch.world_to_camera if world_to_camera else batch.camera_to_world).tolist()
    write_lines(path, [exact_words(row) for pose in poses for row in pose])
