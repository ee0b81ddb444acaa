"""Finding the files of several pictures, and bringing pictures to a shape."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.errors import FileError, InputError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
DEPTHS = (".npy", ".npz", ".pfm", ".png", ".tif", ".tiff", ".exr")


def find_pictures(folder: str) -> list[Path]:
    """Pictures of a folder, sorted by name."""
    place = Path(folder)
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES) if place.is_dir() else []
    if not found:
        raise FileError(f"folder {folder} holds no pictures; give the folder that does")
    return found


def find_depth(given: str, picture: Path) -> Path:
    """The depth map of a picture: the file itself, a pattern with {stem}, or the one in a folder with its stem."""
    stem = picture.name.split(".")[0]
    if "{stem}" in given:
        return Path(given.replace("{stem}", stem))
    place = Path(given)
    if not place.is_dir():
        return place
    found = [path for path in find_depths(given) if path.name.split(".")[0] == stem and path != picture]
    if len(found) > 1:
        found = [path for path in found if "depth" in path.name] or found
    if len(found) != 1:
        raise FileError(
            f"folder {given} holds {len(found)} depth maps for {picture.name}; give the path with {{stem}} in place of "
            f"{stem!r}"
        )
    return found[0]


def find_depths(folder: str) -> list[Path]:
    """Depth maps of a folder, sorted by name. Raises FileError where it is no folder."""
    place = Path(folder)
    if not place.is_dir():
        raise FileError(f"{folder} is not a folder; several pictures need one with a depth map for each")
    return sorted(path for path in place.iterdir() if path.suffix.lower() in DEPTHS)


def shape_picture(image: Tensor, resize: Sequence[int] | None, crop: Sequence[int] | None) -> Tensor:
    """A picture ``[3, H, W]`` brought to ``[width, height]`` and then cut to ``[left, top, width, height]``."""
    if resize is not None:
        width, height = pair(resize, "resize")
        image = interpolate(image[None], (height, width), mode="area")[0]
    if crop is not None:
        if len(crop) != 4 or min(crop) < 0:
            raise InputError(f"crop is {crop}; give [left, top, width, height] in pixels")
        left, top, width, height = crop
        if left + width > image.shape[2] or top + height > image.shape[1]:
            raise InputError(f"crop {crop} reaches beyond the picture of {image.shape[2]} x {image.shape[1]}")
        image = image[:, top : top + height, left : left + width]
    return image


def pair(values: Sequence[int], name: str) -> tuple[int, int]:
    """A size (width, height) under a name. Raises InputError for anything else."""
    if len(values) != 2 or min(values) < 1:
        raise InputError(f"{name} is {list(values)}; give [width, height] in pixels")
    return values[0], values[1]
