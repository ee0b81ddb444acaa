"""OpenEXR depth maps, through the optional package OpenEXR."""

from pathlib import Path
from typing import Any

import numpy as np

from mvguide.errors import FileError
from mvguide.files.images import MAX_PIXELS
from mvguide.memory import check_memory

# In this order: the depth of renderers; grey; depth written as a colour image.
_CHANNELS = ("Z", "Y", "R")
# Even a constant map is not packed tighter: what claims more is damaged, and unpacking it could take all memory.
_MOST_PACKED = 2000


def read_exr(path: Path) -> np.ndarray:
    """The channel Z, Y or R (alone or as the end of a layer's name, such as `View.Depth.Z`), or the only one.

    R counts only where G and B, if there are any, are equal to it: depth in colours is lost.

    Args:
        path: of a file with flat scanlines or tiles; of several parts the first counts.

    Returns:
        [H, W] in the stored type (float16, float32 or uint32), rows from the top.

    Raises:
        FileError: OpenEXR is not installed, or the file is no such map. OpenEXR's own exceptions pass through.
    """
    try:
        import OpenEXR
    except ImportError:
        raise FileError(
            f"depth map {path} is an EXR file, which needs the package OpenEXR; pip install mvguide[exr]"
        ) from None
    # The header first: pixels are only unpacked where it asks for no more than a depth map needs.
    with OpenEXR.File(str(path), separate_channels=True, header_only=True) as file:
        for part in file.parts:
            _check_header(part.header, path, path.stat().st_size)
        names = [str(channel.name) for channel in file.parts[0].header["channels"]]
    name = _choose(names, path)
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = file.parts[0].channels
        values = np.array(channels[name].pixels)
        colours = [other for other in names if other in (f"{name[:-1]}G", f"{name[:-1]}B")] if name[-1] == "R" else []
        if any(not np.array_equal(values, channels[other].pixels, equal_nan=True) for other in colours):
            raise FileError(
                f"depth map {path} is an image in colours, whose depth is lost; write the depth in a channel Z"
            )
    return values


def _choose(names: list[str], path: Path) -> str:
    """The channel that holds the depth."""
    for wanted in _CHANNELS:
        found = [name for name in names if name.rpartition(".")[2] == wanted]
        # A name without a layer goes before one with a layer; of two layers, which is meant is not known.
        found = [name for name in found if name == wanted] or found
        if len(found) == 1:
            return found[0]
        if found:
            break
    if len(names) == 1:
        return names[0]
    listed = ", ".join(repr(name) for name in names[:8]) or "none"
    raise FileError(f"depth map {path} has the channels {listed}; give one channel, or name the one that counts 'Z'")


def _check_header(header: dict[str, Any], path: Path, num_bytes: int) -> None:
    """Refuse sizes that no depth map has, and deep pixels, before any of them is read."""
    low, high = (np.asarray(corner, dtype=np.int64) for corner in header["dataWindow"])
    width, height = (int(size) for size in high - low + 1)
    count = len(header["channels"])
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise FileError(f"depth map {path} says {width} x {height} pixels; it must have 1 to {MAX_PIXELS}")
    if 2 * width * height * count > _MOST_PACKED * num_bytes:
        raise FileError(
            f"depth map {path} says {width} x {height} pixels in {count} channels, which {num_bytes} bytes cannot "
            "hold; write it again"
        )
    check_memory(8 * width * height * count, f"depth map {path} of {width} x {height}", "make it smaller first")
    if "deep" in str(header.get("type", "")):
        raise FileError(f"depth map {path} holds deep pixels (several depths each); write it again as a flat image")
