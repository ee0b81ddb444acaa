"""Cameras from whatever file people have: finds the format and calls its reader.

Convention: each reader states its own file's; what comes back is `mvguide.cameras.posed`.
"""

import os
from pathlib import Path
from typing import Literal, get_args

from mvguide.cameras.colmap import find_colmap, read_colmap
from mvguide.cameras.llff import read_llff
from mvguide.cameras.matrices import matrix_files, read_matrices
from mvguide.cameras.mvsnet import mvsnet_files, read_mvsnet
from mvguide.cameras.posed import WHAT, Intrinsics, PosedImages, Size
from mvguide.cameras.redwood import read_log
from mvguide.cameras.transforms_frames import read_posed_transforms
from mvguide.cameras.tum import read_tum
from mvguide.decoding import check_readable, decoding, is_file, is_folder
from mvguide.errors import FileError, InputError

CameraFormat = Literal["transforms", "colmap", "mvsnet", "log", "matrices", "tum", "llff"]
"""transforms.json, COLMAP's model, MVSNet's cam.txt, Redwood's .log, 4 x 4 text, TUM's trajectory, poses_bounds.npy."""

_TRANSFORMS = ("transforms.json", "transforms_train.json", "transforms_test.json", "cameras.json")
_COLMAP = tuple(f"{part}{suffix}" for part in ("cameras", "images", "points3D") for suffix in (".bin", ".txt"))
_SNIFFED = 2**16
_KNOWN = f"the formats are {', '.join(get_args(CameraFormat))}"


def read_cameras(
    path: str | os.PathLike[str],
    *,
    format: CameraFormat | None = None,
    intrinsics: Intrinsics | None = None,
    size: Size | None = None,
    pixel_center: float | None = None,
    world_to_camera: bool = False,
) -> PosedImages:
    """Read cameras from any format that mvguide knows, into its own convention.

    Args:
        path: a file, or a folder that holds it. A folder may hold several formats; the first of transforms.json (of
            the train set before the test set), a COLMAP model (also in sparse/0 or sparse), poses_bounds.npy,
            `*.pose.txt`, MVSNet's `*_cam.txt` (also in cams) is read.
        format: which format it is; None: found by the name and, for text, by the content.
        intrinsics: fx, fy, cx, cy in pixels, for the formats without them: log, matrices, tum.
        size: width and height of the pictures in pixels, for the formats without them: these and mvsnet, and for a
            transforms.json that does not say.
        pixel_center: where `intrinsics`, or those of an MVSNet file, count the first pixel's centre: 0.5 (None), or
            0.0, to which 0.5 is added.
        world_to_camera: 4 x 4 matrices are world_to_camera instead of camera_to_world.

    Returns:
        At least one image; see `PosedImages`.

    Raises:
        FileError: missing, damaged, of no known format, or without usable cameras.
        InputError: an option is missing that the format needs, or given that it does not take.
    """
    source = Path(path)
    if format is not None and format not in get_args(CameraFormat):
        raise InputError(f"camera format is {format!r}; {_KNOWN}")
    kind = format or find_format(source)
    taken = {
        "transforms": {"size"},
        "mvsnet": {"size", "pixel_center"},
        "log": {"intrinsics", "size", "pixel_center"},
        "tum": {"intrinsics", "size", "pixel_center"},
        "matrices": {"intrinsics", "size", "pixel_center", "world_to_camera"},
    }.get(kind, set())
    given = {
        "intrinsics": intrinsics is not None,
        "size": size is not None,
        "pixel_center": pixel_center is not None,
        "world_to_camera": world_to_camera,
    }
    refused = [name for name, is_given in given.items() if is_given and name not in taken]
    if refused:
        raise InputError(
            f"{WHAT} {path} is of the format {kind}, which takes no {' and no '.join(refused)}; "
            "leave it out, or give another format"
        )
    center = 0.5 if pixel_center is None else pixel_center
    if kind == "transforms":
        return read_posed_transforms(_transforms_file(source) or source, size=size)
    if kind == "colmap":
        return read_colmap(source)
    if kind == "llff":
        return read_llff(source)
    if kind == "mvsnet":
        return read_mvsnet(source, size=size, pixel_center=center)
    if kind == "log":
        return read_log(source, intrinsics=intrinsics, size=size, pixel_center=center)
    if kind == "tum":
        return read_tum(source, intrinsics=intrinsics, size=size, pixel_center=center)
    return read_matrices(source, intrinsics=intrinsics, size=size, pixel_center=center, world_to_camera=world_to_camera)


def find_format(path: str | os.PathLike[str]) -> CameraFormat:
    """The format of a camera file or of what a folder holds.

    Raises:
        FileError: missing, or of no format that is known.
    """
    source = Path(path)
    if is_folder(source):
        return _format_of_folder(source)
    file = check_readable(source, WHAT)
    if file.name in _COLMAP and find_colmap(file):
        return "colmap"
    by_name: dict[str, CameraFormat] = {".json": "transforms", ".npy": "llff", ".log": "log", ".tum": "tum"}
    return by_name.get(file.suffix.lower()) or _format_of_text(file)


def _format_of_folder(folder: Path) -> CameraFormat:
    if _transforms_file(folder):
        return "transforms"
    if find_colmap(folder):
        return "colmap"
    if is_file(folder / "poses_bounds.npy"):
        return "llff"
    if matrix_files(folder):
        return "matrices"
    if mvsnet_files(folder):
        return "mvsnet"
    raise FileError(
        f"folder {folder} holds no camera file that is known by name (transforms.json, sparse/0, poses_bounds.npy, "
        "*.pose.txt, *_cam.txt); give the file itself"
    )


def _transforms_file(folder: Path) -> Path | None:
    return next((folder / name for name in _TRANSFORMS if is_file(folder / name)), None) if is_folder(folder) else None


def _format_of_text(file: Path) -> CameraFormat:
    """By the words in its first lines: `extrinsic`, or 8 numbers, or 4, or 3 before a line of 4."""
    with decoding(file, WHAT, _KNOWN), file.open("rb") as opened:
        text = opened.read(_SNIFFED).decode("utf-8-sig", errors="replace")
    lines = [line.replace(",", " ").split() for line in text.split("\n")]
    counts = [len(line) for line in lines if line and not line[0].startswith("#")][:2]
    if any(line[:1] in (["extrinsic"], ["extrinsic:"]) for line in lines):
        return "mvsnet"
    if counts[:1] == [8]:
        return "tum"
    if counts[:1] == [4]:
        return "matrices"
    if counts == [3, 4]:
        return "log"
    raise FileError(f"{WHAT} {file} is of no format that is recognised; say which it is, {_KNOWN}")
