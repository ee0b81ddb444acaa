"""Cameras from whatever file people have: finds the format and calls its reader.

Convention: each reader states its own file's; what comes back is `mvguide.cameras.posed`. A new format is a file with
its reader and a row of `FORMATS`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvguide.cameras.colmap import COLMAP_FILES, find_colmap, read_colmap
from mvguide.cameras.llff import LLFF_FILE, read_llff
from mvguide.cameras.matrices import matrix_files, read_matrices
from mvguide.cameras.mvsnet import mvsnet_files, read_mvsnet
from mvguide.cameras.posed import WHAT, Intrinsics, PosedImages, Size
from mvguide.cameras.redwood import read_log
from mvguide.cameras.rows import read_rows, rows_file
from mvguide.cameras.transforms_frames import read_posed_transforms, transforms_file
from mvguide.cameras.tum import read_tum
from mvguide.decoding import check_readable, decoding, is_file, is_folder
from mvguide.errors import FileError, InputError, MvguideError

_SNIFFED = 2**16


@dataclass(frozen=True)
class CameraFormat:
    """A kind of camera file: how it is recognised, its reader, and which options the reader takes.

    A file is recognised by its name, else by its suffix, else by its first lines; a folder by what it holds.
    """

    name: str
    reader: Callable[..., PosedImages]
    """`reader(path, **options)` with the options that `takes` names."""
    takes: tuple[str, ...] = ()
    """Of "intrinsics", "size", "pixel_center", "world_to_camera": those that the reader has."""
    needs: tuple[str, ...] = ()
    """Of `takes`: those that the files do not hold, so that the caller must give them."""
    suffixes: tuple[str, ...] = ()
    """Of the files' names, in lower case."""
    file_names: tuple[str, ...] = ()
    """Whole names of files that are of this format where their folder is."""
    has_lines: Callable[[Sequence[Sequence[str]]], bool] = lambda lines: False
    """Whether a text file is of the format, by the words of its first lines, without comments and empty lines."""
    is_in: Callable[[Path], Any] = lambda folder: False
    """Whether a folder holds files of the format."""
    sign: str = ""
    """What such a folder holds, for messages."""


def _counts(*counts: int) -> Callable[[Sequence[Sequence[str]]], bool]:
    """Whether the first lines have so many words each."""
    return lambda lines: [len(line) for line in lines[: len(counts)]] == list(counts)


_POSES_TAKE = ("intrinsics", "size", "pixel_center")
_POSES_NEED = ("intrinsics", "size")

FORMATS = (
    CameraFormat(
        "transforms",
        read_posed_transforms,
        takes=("size",),
        suffixes=(".json",),
        is_in=transforms_file,
        sign="transforms.json",
    ),
    CameraFormat("colmap", read_colmap, file_names=COLMAP_FILES, is_in=find_colmap, sign="sparse/0"),
    CameraFormat(
        "llff", read_llff, suffixes=(".npy",), is_in=lambda folder: is_file(folder / LLFF_FILE), sign=LLFF_FILE
    ),
    CameraFormat(
        "matrices",
        read_matrices,
        takes=(*_POSES_TAKE, "world_to_camera"),
        needs=_POSES_NEED,
        has_lines=_counts(4),
        is_in=matrix_files,
        sign="*.pose.txt",
    ),
    CameraFormat(
        "mvsnet",
        read_mvsnet,
        takes=("size", "pixel_center"),
        needs=("size",),
        has_lines=lambda lines: any(line[0] in ("extrinsic", "extrinsic:") for line in lines),
        is_in=mvsnet_files,
        sign="*_cam.txt",
    ),
    CameraFormat("log", read_log, _POSES_TAKE, _POSES_NEED, suffixes=(".log",), has_lines=_counts(3, 4)),
    CameraFormat("tum", read_tum, _POSES_TAKE, _POSES_NEED, suffixes=(".tum",), has_lines=_counts(8)),
    CameraFormat(
        "rows",
        read_rows,
        _POSES_TAKE,
        _POSES_NEED,
        has_lines=lambda lines: bool(lines) and len(lines[0]) in (12, 16),
        is_in=rows_file,
        sign="poses.txt",
    ),
)
"""All formats. A folder that holds several is read as the first of them that is not damaged."""

_KNOWN = f"the formats are {', '.join(row.name for row in FORMATS)}"


def read_cameras(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    intrinsics: Intrinsics | None = None,
    size: Size | None = None,
    pixel_center: float | None = None,
    world_to_camera: bool = False,
    say: Callable[[str], None] | None = None,
) -> PosedImages:
    """Read cameras from any format that mvguide knows, into its own convention.

    Args:
        path: a file, or a folder that holds it. A folder may hold several formats; the first of transforms.json (of
            the train set before the test set), a COLMAP model (also in sparse/0 or sparse), poses_bounds.npy,
            `*.pose.txt`, MVSNet's `*_cam.txt` (also in cams), poses.txt is read, or the next where that is damaged.
        format: name of a row of `FORMATS`; None: found by the name and, for text, by the content.
        intrinsics: fx, fy, cx, cy in pixels, for the formats without them: log, matrices, tum, rows. None: those of
            K.txt, KITTI's calib.txt or their like beside the poses, where there is one.
        size: width and height of the images in pixels, for the formats without them: these and mvsnet, and for a
            transforms.json that does not have them.
        pixel_center: where `intrinsics`, or those of an MVSNet file, count the first pixel's centre: 0.5 (None), or
            0.0, to which 0.5 is added.
        world_to_camera: 4 x 4 matrices are world_to_camera instead of camera_to_world.
        say: gets a sentence where a damaged camera file of a folder is passed over for another.

    Returns:
        At least one image; see `PosedImages`.

    Raises:
        FileError: missing, damaged, of no known format, or without usable cameras.
        InputError: an option is missing that the format needs, or given that it does not take.
    """
    source = Path(path)
    rows = find_formats(source, format)
    given: dict[str, Any] = {"intrinsics": intrinsics, "size": size, "pixel_center": pixel_center}
    options = {name: value for name, value in given.items() if value is not None}
    if world_to_camera:
        options["world_to_camera"] = True
    refused = [name for name in options if name not in rows[0].takes]
    if refused:
        raise InputError(
            f"{WHAT} {path} is of the format {rows[0].name}, which takes no {' and no '.join(refused)}; "
            "leave it out, or give another format"
        )
    return read_first(source, rows, options, say)


def read_first(
    path: Path, rows: Sequence[CameraFormat], options: Mapping[str, Any], say: Callable[[str], None] | None = None
) -> PosedImages:
    """Read cameras by the first of several formats whose files are not damaged.

    Args:
        path: a file or folder.
        rows: at least one, as `find_formats` gives them.
        options: for the readers; each gets those that it takes.
        say: gets a sentence where one was passed over.

    Returns:
        At least one image.

    Raises:
        FileError, InputError: what the first of them raised, where none can be read.
    """
    first: MvguideError | None = None
    for row in rows:
        try:
            read = row.reader(path, **{name: value for name, value in options.items() if name in row.takes})
        except MvguideError as error:
            if first is None and not isinstance(error, FileError):
                raise
            first = first or error
        else:
            if first is not None and say is not None:
                say(f"{path}: cameras are read from its {row.name} files, because {first}")
            return read
    assert first is not None
    raise first


def find_formats(path: str | os.PathLike[str], name: str | None = None) -> list[CameraFormat]:
    """The formats of a camera file, one, or of what a folder holds, one or more, best first.

    Args:
        path: a file or folder.
        name: of the format, where the caller knows it; the path is not looked at then.

    Raises:
        FileError: missing, or of no format that is known.
        InputError: a name that no format has.
    """
    source = Path(path)
    if name is not None:
        named = [row for row in FORMATS if row.name == name]
        if not named:
            raise InputError(f"camera format is {name!r}; {_KNOWN}")
        return named
    if is_folder(source):
        held = [row for row in FORMATS if row.is_in(source)]
        if held:
            return held
        signs = ", ".join(row.sign for row in FORMATS if row.sign)
        raise FileError(f"folder {source} holds no camera file that is known by name ({signs}); give the file itself")
    file = check_readable(source, WHAT)
    for row in FORMATS:
        if file.name in row.file_names and row.is_in(file.parent):
            return [row]
    for row in FORMATS:
        if file.suffix.lower() in row.suffixes:
            return [row]
    lines = _first_lines(file)
    for row in FORMATS:
        if row.has_lines(lines):
            return [row]
    raise FileError(f"{WHAT} {file} is of no format that is recognised; name the format with --camera_format, {_KNOWN}")


def _first_lines(file: Path) -> list[list[str]]:
    """Words of the first lines that are neither empty nor comments."""
    with decoding(file, WHAT, _KNOWN), file.open("rb") as opened:
        text = opened.read(_SNIFFED).decode("utf-8-sig", errors="replace")
    lines = [line.replace(",", " ").split() for line in text.split("\n")]
    return [line for line in lines if line and not line[0].startswith("#")]
