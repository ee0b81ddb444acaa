"""Decoders of depth files: the stored numbers as an array [H, W], nothing interpreted yet.

A new format is a reader and a row of `DEPTH_FORMATS`. Pickles are never opened, and every size is checked against the
bytes that are really there before memory is taken for it.
"""

import io
import math
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError
from mvguide.files.exr import read_exr
from mvguide.files.images import MAX_PIXELS, check_size, open_picture
from mvguide.memory import check_memory

_WHAT = "depth map"
_PFM_HEADER = re.compile(rb"(PF|Pf)\s+(\d{1,9})\s+(\d{1,9})\s+([-+0-9.eE]{1,32})(?:\r\n|\s)")


def read_stored(path: str | os.PathLike[str]) -> np.ndarray:
    """The numbers as the file stores them, rows from the top.

    Args:
        path: the file, with a suffix of `DEPTH_FORMATS`.

    Returns:
        [H, W], of the stored type (integers or floats, in the machine's byte order).

    Raises:
        FileError: missing, another suffix, damaged, pickled, a colour image, or not one two-dimensional array.
    """
    file = check_readable(path, _WHAT)
    reader = DEPTH_FORMATS.get(file.suffix.lower())
    if reader is None:
        raise FileError(
            f"depth map {path} must be one of {', '.join(DEPTH_FORMATS)}; convert it, best to .npy in float32"
        )
    with decoding(file, _WHAT, "write it again, best as .npy in float32"):
        stored = reader(file)
    if stored.dtype.kind not in "iuf":
        raise FileError(f"depth map {path} holds {stored.dtype}; give integers or floats")
    if stored.ndim == 3 and 1 in (stored.shape[0], stored.shape[2]):
        stored = stored[0] if stored.shape[0] == 1 else stored[..., 0]
    if stored.ndim != 2 or 0 in stored.shape:
        shape = " x ".join(map(str, stored.shape)) or "a single number"
        raise FileError(f"depth map {path} has the shape {shape}; give one array of height x width")
    return np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("="))


def _read_npy(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        return _read_array(stream, path.stat().st_size, path)


def _read_npz(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = list({"depth", "disparity"} & set(members)) or list(members)
        if len(wanted) != 1:
            names = ", ".join(repr(name) for name in list(members)[:8]) or "nothing"
            raise FileError(f"depth map {path} holds {names}; give one array, or name the one that counts 'depth'")
        member = members[wanted[0]]
        if member.file_size > 8 * MAX_PIXELS + 4096:
            raise FileError(f"depth map {path} unpacks to {member.file_size} bytes, more than any depth map needs")
        check_memory(3 * member.file_size, f"depth map {path} unpacked", "make it smaller first")
        # The size that the archive claims may be a lie: never unpack more than it.
        with archive.open(member) as packed:
            data = packed.read(member.file_size)
    return _read_array(io.BytesIO(data), len(data), path)


def _read_array(stream: BinaryIO, num_bytes: int, path: Path) -> np.ndarray:
    """One array in NumPy's format, whose header is checked against the number of bytes before anything is allocated."""
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        raise FileError(
            f"depth map {path} is not a NumPy file, whatever its name says; write it with numpy.save"
        ) from None
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise FileError(f"depth map {path} holds pickled Python objects, which are never opened; save a plain array")
    count = math.prod(shape)
    if count > MAX_PIXELS:
        raise FileError(
            f"depth map {path} says it holds {count} numbers, more than {MAX_PIXELS}; make it smaller first"
        )
    if stream.tell() + count * dtype.itemsize > num_bytes:
        raise FileError(
            f"depth map {path} is cut short: {num_bytes} bytes cannot hold {count} x {dtype}; write it again"
        )
    check_memory(3 * count * dtype.itemsize, f"depth map {path} of {count} numbers", "make it smaller first")
    values = np.frombuffer(stream.read(count * dtype.itemsize), dtype=dtype)
    return values.reshape(shape, order="F" if fortran_order else "C")


def _read_pfm(path: Path) -> np.ndarray:
    """Portable float map (Debevec): text header, then float32 rows from the bottom up; scale < 0 = little-endian.

    The scale's magnitude is ignored, as every depth data set does.
    """
    data = path.read_bytes()
    header = _PFM_HEADER.match(data)
    if header is None:
        raise FileError(f"depth map {path} is not a PFM file: it must start with 'Pf', width, height and scale")
    kind, width, height, scale = header[1], int(header[2]), int(header[3]), float(header[4])
    if kind == b"PF":
        raise FileError(f"depth map {path} is a colour PFM; a depth map has one channel ('Pf')")
    if not math.isfinite(scale) or scale == 0:
        raise FileError(
            f"depth map {path} has the PFM scale {scale:g}; it must be negative (little-endian) or positive"
        )
    if len(data) - header.end() != 4 * width * height:
        raise FileError(
            f"depth map {path} says {width} x {height}, which takes {4 * width * height} bytes, "
            f"but {len(data) - header.end()} follow; write it again"
        )
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4", offset=header.end())
    return values.reshape(height, width)[::-1]


def _read_picture(path: Path) -> np.ndarray:
    """8-bit or 16-bit grey PNG, grey or float TIFF; a colour image only where its channels are equal."""
    with open_picture(path) as image:
        check_size(image, path, _WHAT)
        image.load()
        if image.mode in ("F", "I") or image.mode.startswith("I;16"):
            return np.asarray(image)
        if image.mode in ("1", "L", "LA"):
            return np.asarray(image.convert("LA"))[..., 0]
        colour = np.asarray(image.convert("RGBA"))
    if (colour[..., 0] != colour[..., 1]).any() or (colour[..., 0] != colour[..., 2]).any():
        raise FileError(
            f"depth map {path} is an image in colours, whose depth is lost; give the numbers (.npy, 16-bit PNG)"
        )
    return colour[..., 0]


DEPTH_FORMATS: dict[str, Callable[[Path], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pfm": _read_pfm,
    ".png": _read_picture,
    ".tif": _read_picture,
    ".tiff": _read_picture,
    ".exr": read_exr,
}
"""Reader of each kind of depth file, by the suffix of its name: `reader(path)` gives the stored numbers."""
