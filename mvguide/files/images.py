"""Images: whatever its mode, depth or orientation, an image comes out as float32 [3, H, W] in [0, 1]."""

import math
import os

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError, InputError, MvguideError
from mvguide.files.atomic import atomic_path
from mvguide.memory import check_memory

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
"""What an image may be. Pillow knows more, of which some start other programs (EPS) or are read by old C code."""

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are unpacked: a few kilobytes can claim to be gigapixels."""

_EXIF_IFD, _FOCAL_35, _ORIENTATION = 0x8769, 0xA405, 0x0112
_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
_STRIP = 2**18
"""Pixels that are converted at a time: a large image is held once as it is stored and once as floats."""


def open_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image of one of `FORMATS`, whatever its name says; nothing is unpacked yet.

    Raises what Pillow raises: call it inside `mvguide.decoding.decoding`, and close what it gives.
    """
    return Image.open(path, formats=FORMATS)


def exif_fov(path: str | os.PathLike[str]) -> float | None:
    """Horizontal field of view of an image as people see it, in degrees, by its EXIF focal length for 35 mm film.

    Such a frame is 36 mm along the image's longer side. None where the image has no such entry, or cannot be read.
    """
    try:
        with decoding(check_readable(path, "image"), "image", ""), open_picture(path) as image:
            exif = image.getexif()
            focal = float(exif.get_ifd(_EXIF_IFD).get(_FOCAL_35, 0))
            width, height = image.size
            if exif.get(_ORIENTATION, 1) >= 5:  # on its side
                width, height = height, width
    except MvguideError:
        return None
    if not 1 <= focal <= 10_000:
        return None
    return math.degrees(2 * math.atan(36 * width / max(width, height) / 2 / focal))


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image as people see it; transparent parts are composed over white.

    One of `FORMATS`, in grey, palette, RGB, RGBA, CMYK or 16-bit grey (v / 65535). EXIF orientation is applied. 16-bit
    *colour* keeps its upper 8 bits, which is all that video models use. Colour profiles are not applied.

    Args:
        path: the file.

    Returns:
        float32 [3, H, W] in [0, 1].

    Raises:
        FileError: missing, a folder, not an image, damaged, cut short, without pixels, or over `MAX_PIXELS`.
    """
    return read_image_and_alpha(path)[0]


def read_image_and_alpha(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor | None]:
    """Read an image and its transparency.

    Args:
        path: the file; see `read_image`.

    Returns:
        float32 [3, H, W] in [0, 1], already composed over white, and the alpha, float32 [1, H, W] in [0, 1] with
        1 = opaque, or None where the file has none.

    Raises:
        FileError: as in `read_image`.
    """
    file = check_readable(path, "image")
    with decoding(file, "image", "give a PNG or JPEG file that opens in a viewer"), open_picture(file) as picture:
        check_size(picture, file, "image")
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        colour, alpha = _to_arrays(picture, file)
    return torch.from_numpy(colour), None if alpha is None else torch.from_numpy(alpha)


def check_size(image: Image.Image, path: str | os.PathLike[str], what: str) -> None:
    """Refuse an image without pixels, with more than `MAX_PIXELS`, or too large for memory, from its header alone.

    Raises:
        FileError: no pixels, or too many.
        InputError: its pixels need more memory than is free.
    """
    if image.width < 1 or image.height < 1:
        raise FileError(f"{what} {path} is {image.width} x {image.height} and has no pixels; give another file")
    if image.width * image.height > MAX_PIXELS:
        raise FileError(
            f"{what} {path} is {image.width} x {image.height}, more than {MAX_PIXELS // 1_000_000} million pixels; "
            "make it smaller first"
        )
    # Pillow leaves black what no strip of a damaged TIFF, or no frame of a damaged GIF, covers.
    tiles = getattr(image, "tile", [])
    if image.format in ("TIFF", "GIF") and tiles:
        right, bottom = (max(tile[1][side] for tile in tiles) for side in (2, 3))
        if right < image.width or bottom < image.height:
            raise FileError(
                f"{what} {path} says {image.width} x {image.height}, but holds {right} x {bottom} pixels; save it again"
            )
    # As it is stored (colours take 4 bytes), once more while it is turned upright, and as floats.
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") or image.mode == "LA" else 4
    check_memory(
        image.width * image.height * (2 * stored + 16),
        f"{what} {path} of {image.width} x {image.height}",
        "make it smaller first",
    )


def _to_arrays(image: Image.Image, path: os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour over white [3, H, W] and alpha [1, H, W] or None, float32 in [0, 1], of a loaded image."""
    width, height = image.size
    has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    has_numbers = image.mode in ("I", "F")
    top = {"I": 65535.0, "F": 1.0}.get(image.mode, 255.0)
    low, high = np.inf, -np.inf
    colour = np.empty((3, height, width), np.float32)
    alpha = np.empty((1, height, width), np.float32) if has_alpha else None
    rows = max(1, _STRIP // width)
    for start in range(0, height, rows):
        part = slice(start, min(start + rows, height))
        strip = image.crop((0, part.start, width, part.stop))
        if image.mode.startswith("I;16"):
            colour[:, part] = np.asarray(strip).astype(np.float32) / 65535
        elif has_numbers:
            values = np.asarray(strip).astype(np.float64)
            low, high = np.minimum(low, values.min()), np.maximum(high, values.max())  # NaN stays NaN
            colour[:, part] = values.clip(0, top) / top
        else:
            pixels = (
                np.asarray(strip.convert("RGBA" if has_alpha else "RGB")).astype(np.float32).transpose(2, 0, 1) / 255
            )
            colour[:, part] = pixels[:3]
            if alpha is not None:
                alpha[:, part] = pixels[3:]
                colour[:, part] = pixels[:3] * pixels[3:] + (1 - pixels[3:])
    if has_numbers and not (0 <= low <= high <= top):
        raise FileError(
            f"image {path} holds {'32-bit integers' if image.mode == 'I' else 'floats'} from {low:g} to "
            f"{high:g}, not 0 to {top:g}; save it as an 8-bit or 16-bit PNG"
        )
    return colour, alpha


def write_png(path: str | os.PathLike[str], image: Tensor | np.ndarray) -> None:
    """Write an 8-bit PNG: `round(255 v)`, values outside [0, 1] clipped; whole or not at all.

    Args:
        path: the file, ending in .png; missing folders are made.
        image: float in [0, 1] or uint8: colour [3, H, W] or [H, W, 3], grey [1, H, W] or [H, W].
            Where both readings fit, the channels are first.

    Raises:
        InputError: another shape or type, or values that are not finite.
        OutputError: the file cannot be written.
    """
    if not str(path).lower().endswith(".png"):
        raise InputError(f"image {path} must be written with a name that ends in .png")
    pixels = _to_bytes(image)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def _to_bytes(image: Tensor | np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] or [H, W]."""
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.size == 0 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)):
        shape = " x ".join(map(str, np.shape(image)))
        raise InputError(f"image has shape {shape}; an image is [3, H, W], [H, W, 3], [1, H, W] or [H, W]")
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind != "f":
        raise InputError(f"image holds {values.dtype}; give floats in [0, 1] or uint8")
    if not np.isfinite(values).all():
        raise InputError("image holds NaN or infinite values; an image is in [0, 1]")
    return np.ascontiguousarray(np.rint(values.astype(np.float32).clip(0, 1) * 255).astype(np.uint8))
