"""Pictures: whatever its mode, depth or orientation, a picture comes out as float32 [3, H, W] in [0, 1]."""

import os

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError, InputError
from mvguide.files.atomic import atomic_path

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are unpacked: a few kilobytes can claim to be gigapixels."""

_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture as people see it; transparent parts are composed over white.

    Any format that Pillow reads: grey, palette, RGB, RGBA, CMYK, 16-bit grey (v / 65535). EXIF orientation is applied.
    16-bit *colour* keeps its upper 8 bits, which is all that video models use. Colour profiles are not applied.

    Args:
        path: the file.

    Returns:
        float32 [3, H, W] in [0, 1].

    Raises:
        FileError: missing, a folder, not a picture, damaged, cut short, without pixels, or over `MAX_PIXELS`.
    """
    return read_image_and_alpha(path)[0]


def read_image_and_alpha(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor | None]:
    """Read a picture and its transparency.

    Args:
        path: the file; see `read_image`.

    Returns:
        float32 [3, H, W] in [0, 1], already composed over white, and the alpha, float32 [1, H, W] in [0, 1] with
        1 = opaque, or None where the file has none.

    Raises:
        FileError: as in `read_image`.
    """
    file = check_readable(path, "picture")
    with decoding(file, "picture", "give a PNG or JPEG file that opens in a viewer"), Image.open(file) as opened:
        check_size(opened, file, "picture")
        opened.load()
        colour, alpha = _to_arrays(ImageOps.exif_transpose(opened), file)
    if alpha is None:
        return torch.from_numpy(colour), None
    over_white = colour * alpha + (1 - alpha)
    return torch.from_numpy(over_white), torch.from_numpy(alpha)


def check_size(image: Image.Image, path: str | os.PathLike[str], what: str) -> None:
    """Refuse a picture without pixels or with more than `MAX_PIXELS`, from its header alone.

    Raises:
        FileError: no pixels, or too many.
    """
    if image.width < 1 or image.height < 1:
        raise FileError(f"{what} {path} is {image.width} x {image.height} and has no pixels; give another file")
    if image.width * image.height > MAX_PIXELS:
        raise FileError(
            f"{what} {path} is {image.width} x {image.height}, more than {MAX_PIXELS // 1_000_000} million pixels; "
            "make it smaller first"
        )


def _to_arrays(image: Image.Image, path: os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour [3, H, W] and alpha [1, H, W] or None, float32 in [0, 1], of a loaded picture."""
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float32) / 65535), None
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode == "I" else 1.0
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > top:
            raise FileError(
                f"picture {path} holds {'32-bit integers' if image.mode == 'I' else 'floats'} from {values.min():g} to "
                f"{values.max():g}, not 0 to {top:g}; save it as an 8-bit or 16-bit PNG"
            )
        return _grey((values / top).astype(np.float32)), None
    has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB")).astype(np.float32).transpose(2, 0, 1) / 255
    return np.ascontiguousarray(pixels[:3]), (np.ascontiguousarray(pixels[3:]) if has_alpha else None)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[None], 3, axis=0)


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
        raise InputError(f"picture {path} must be written with a name that ends in .png")
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
        raise InputError(f"image has shape {shape}; a picture is [3, H, W], [H, W, 3], [1, H, W] or [H, W]")
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind != "f":
        raise InputError(f"image holds {values.dtype}; give floats in [0, 1] or uint8")
    if not np.isfinite(values).all():
        raise InputError("image holds NaN or infinite values; a picture is in [0, 1]")
    return np.ascontiguousarray(np.rint(values.astype(np.float32).clip(0, 1) * 255).astype(np.uint8))
