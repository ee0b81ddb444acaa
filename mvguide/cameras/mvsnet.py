"""MVSNet's camera files (`00000000_cam.txt`).

Convention of the file: after the word `extrinsic` four lines of world_to_camera with OpenCV axes (x right, y down,
z forward), after `intrinsic` three lines of K, then depth_min, depth_interval and, in some, a count and depth_max. The
size that K belongs to is not stored: it is often that of the depth map, not of the image.

Where K counts the first pixel's centre is not agreed. Files made from COLMAP models count as mvguide does, from 0.5.
DTU's training files look like a count from 0 at full size, scaled to 1/8 without care for the half pixel, which leaves
1/16 pixel: warps between its views at 640 x 512 reach 19.29 dB as they stand, 19.30 dB with those 1/16, 19.15 dB with
half a pixel added. So nothing is added unless the caller gives 0.0.
"""

import os
from pathlib import Path

import torch

from mvguide.cameras.pose_text import read_matrix
from mvguide.cameras.posed import WHAT, PosedImage, PosedImages, Size, check_size, posed_camera
from mvguide.decoding import is_file, is_folder
from mvguide.errors import FileError, InputError
from mvguide.files.text import finite_numbers, read_lines
from mvguide.geometry.camera import Camera

_ADVICE = "give an MVSNet camera file, text with the words extrinsic and intrinsic"


def mvsnet_files(folder: Path) -> list[Path]:
    """The camera files of a folder or of its `cams`, sorted by name: `*_cam.txt`, else 00000000.txt and the like."""
    for place in (folder, folder / "cams"):
        files = sorted(file for file in place.glob("*.txt") if is_file(file))
        named = [file for file in files if file.stem.endswith("_cam")]
        found = named or [file for file in files if file.stem.isdigit()]
        if found:
            return found
    return []


def read_mvsnet(path: str | os.PathLike[str], *, size: Size | None = None, pixel_center: float = 0.5) -> PosedImages:
    """Read one MVSNet camera file, or a folder of them in the order of their names.

    Args:
        path: a file, a folder with `*_cam.txt` or `00000000.txt`, or one with such a folder named cams.
        size: width and height that K belongs to. DTU's training files: 160 x 128, a cut-out of the image.
        pixel_center: where K puts the first pixel's centre: 0.5, or 0.0 (0.5 is added).

    Returns:
        The images, named as the file without `_cam`, with `bounds`: depth_min, and depth_max where every file has it
        or has a count, else None. `extra["depth_range"]` has the numbers as they stand. `folder` is `images` beside
        `cams`, else the files' own folder.

    Raises:
        FileError: nothing there, damaged, a matrix that is not rigid or a K that is none.
        InputError: the size is missing or wrong.
    """
    source = Path(path)
    files = mvsnet_files(source) if is_folder(source) else [source]
    if not files:
        raise FileError(f"folder {source} holds no MVSNet cameras (*_cam.txt); give the folder cams or one file")
    checked = check_size(source, "an MVSNet camera", size)
    if pixel_center not in (0.0, 0.5):
        raise InputError(f"pixel_center is {pixel_center}; it must be 0.5 or 0.0")
    read = [_camera(file, checked, pixel_center) for file in files]
    place = files[0].absolute().parent
    pictures = place.parent / "images" if is_folder(place.parent / "images") else place
    images = [PosedImage(file.stem.removesuffix("_cam"), camera) for file, (camera, _) in zip(files, read, strict=True)]
    ranges = [depths for _, depths in read]
    bounds = [_bounds(depths) for depths in ranges]
    known = [pair for pair in bounds if pair is not None]
    return PosedImages(
        images,
        bounds=torch.tensor(known, dtype=torch.float64) if len(known) == len(images) else None,
        folder=pictures,
        extra={"depth_range": ranges},
    )


def _camera(file: Path, size: Size, pixel_center: float) -> tuple[Camera, list[float]]:
    lines = read_lines(file, WHAT, _ADVICE)
    heads = [line.split()[0].lower().rstrip(":") for _, line in lines]
    if "extrinsic" not in heads or "intrinsic" not in heads:
        raise FileError(f"{WHAT} {file} lacks the words extrinsic and intrinsic; {_ADVICE}")
    first, second = heads.index("extrinsic") + 1, heads.index("intrinsic") + 1
    if first + 4 > len(lines) or second + 3 > len(lines):
        raise FileError(f"{WHAT} {file} ends within a matrix; write it again")
    matrix = read_matrix(file, lines[first : first + 4])
    rows = read_matrix(file, lines[second : second + 3], columns=3)
    if rows[0][1] != 0 or rows[1][0] != 0 or rows[2] != [0, 0, 1]:
        raise FileError(f"{WHAT} {file} has an intrinsic matrix that is not fx 0 cx, 0 fy cy, 0 0 1; write it again")
    shift = 0.5 - pixel_center
    intrinsics = (rows[0][0], rows[1][1], rows[0][2] + shift, rows[1][2] + shift)
    camera = posed_camera(matrix, "world_to_camera", intrinsics, size, f"{WHAT} {file}")
    rest = lines[second + 3 :][:1]
    return camera, [
        value for number, line in rest for value in finite_numbers(line.split(), f"{WHAT} {file}, line {number}")
    ]


def _bounds(depths: list[float]) -> tuple[float, float] | None:
    """Near and far from depth_min, depth_interval, count, depth_max; None where the file does not hold the farthest."""
    if len(depths) >= 4:
        return depths[0], depths[3]
    return (depths[0], depths[0] + depths[1] * (depths[2] - 1)) if len(depths) == 3 else None
