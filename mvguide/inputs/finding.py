"""Finding the files of several images; sizes and crops as people give them."""

from collections.abc import Container, Sequence
from pathlib import Path

from mvguide.decoding import is_folder
from mvguide.errors import FileError, InputError
from mvguide.files.depth_formats import DEPTH_FORMATS

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def find_pictures(folder: str) -> list[Path]:
    """Images of a folder, sorted by name. Raises FileError where there are none."""
    found = _files(Path(folder), PICTURES)
    if not found:
        raise FileError(f"folder {folder} holds no images; give the folder that does")
    return found


def find_depth(given: str, picture: Path) -> Path:
    """The depth map of an image: the file itself, a pattern with {stem}, or the one in a folder with its stem."""
    stem = picture.name.split(".")[0]
    if "{stem}" in given:
        return Path(given.replace("{stem}", stem))
    place = Path(given)
    if not is_folder(place):
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
    if not is_folder(Path(folder)):
        raise FileError(f"{folder} is not a folder; several images need one with a depth map for each")
    return _files(Path(folder), DEPTH_FORMATS)


def _files(folder: Path, suffixes: Container[str]) -> list[Path]:
    """Files of a folder with such suffixes, sorted by name; none where it is no folder."""
    if not is_folder(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    except OSError as error:
        raise FileError(f"folder {folder} cannot be read ({error.strerror}); change its permissions") from error


def crop_box(crop: Sequence[int], width: int, height: int) -> tuple[int, int, int, int]:
    """A crop as people give it, checked against the image.

    Args:
        crop: [left, top, width, height] in pixels.
        width: of the image.
        height: of the image.

    Returns:
        Left, top, width and height.

    Raises:
        InputError: not four such numbers, or a crop that leaves the image.
    """
    if len(crop) != 4 or min(crop) < 0 or min(crop[2:]) < 1:
        raise InputError(f"crop is {list(crop)}; give [left, top, width, height] in pixels")
    left, top, across, down = crop
    if left + across > width or top + down > height:
        raise InputError(f"crop {list(crop)} reaches beyond the image of {width} x {height}")
    return left, top, across, down


def pair(values: Sequence[int], name: str) -> tuple[int, int]:
    """A size (width, height) under a name. Raises InputError for anything else."""
    if len(values) != 2 or min(values) < 1:
        raise InputError(f"{name} is {list(values)}; give [width, height] in pixels")
    return values[0], values[1]
