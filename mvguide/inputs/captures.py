"""Captures: a camera file of several images, and the file that belongs to each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mvguide.cameras.formats import CameraFormat, find_formats, read_first
from mvguide.cameras.intrinsics_files import find_intrinsics
from mvguide.cameras.posed import MAX_SIDE, PosedImages
from mvguide.config.input_options import CropOptions, LensOptions, SourceOptions
from mvguide.errors import FileError, InputError
from mvguide.files.images import read_image
from mvguide.inputs.finding import crop_box, find_pictures, pair
from mvguide.inputs.sweeps import Say

_MIDDLE = 0.25
"""A principal point farther than this share of a side from the middle belongs to an image of another size."""


@dataclass(frozen=True)
class Capture:
    """Posed images of a camera file with their files.

    Args:
        posed: the images; those of a file without names are named after their files.
        files: the file of each image; None where it is not there.
        source: the camera file, for messages.
    """

    posed: PosedImages
    files: list[Path | None]
    source: str

    @property
    def present(self) -> list[int]:
        """Numbers of the images whose file is there. Raises FileError where none is."""
        found = [index for index, file in enumerate(self.files) if file is not None]
        if not found:
            self.file(0)
        return found

    def file(self, index: int) -> Path:
        """The file of an image. Raises FileError where it is not there."""
        file = self.files[index]
        if file is None:
            place = self.posed.folder or Path()
            raise FileError(
                f"image {str(place / self.posed.names[index])!r} of {self.source} does not exist; check the folder, "
                "or give that of the images as --images"
            )
        return file

    def choose(self, use: Sequence[str | int] | None, say: Say | None = None) -> list[int]:
        """Numbers of the images that are to be views.

        Args:
            use: their names, or numbers in the camera file from 0; None: all whose file is there.
            say: gets a sentence that counts the images that are not there.

        Raises:
            FileError: none of the images is there, or one that was named is not.
            InputError: a name that no image has.
        """
        if use is not None:
            chosen = choose_images(self.posed.names, use)
            for index in chosen:
                self.file(index)
            return chosen
        missing = len(self.files) - len(self.present)
        if missing and say is not None:
            name = self.posed.names[self.files.index(None)]
            say(f"{missing} of {len(self.files)} images of {self.source} are not there and are skipped, first {name}")
        return self.present


def read_capture(source: SourceOptions, lens: LensOptions, crop: CropOptions, say: Say | None = None) -> Capture:
    """Cameras of a file with their images, of which at most one is opened: the first that is to be a view.

    Args:
        source: `cameras` is the camera file or folder; `images` the folder of the images, where the camera file does
            not name them or they are elsewhere; `use` the images that are to be views.
        lens: see `camera_file`.
        crop: of the images, where their size has to be read.
        say: gets a sentence for what was found or passed over.

    Returns:
        The images and the files that were found for them.

    Raises:
        FileError: a file that cannot be read.
        InputError: see `camera_file`; or files that cannot be paired with the images.
    """
    path, use = str(source.cameras), source.use
    pictures = None if source.images is None else find_pictures(source.images)
    rows = find_formats(path, lens.camera_format)
    _intrinsics_file(path, rows[0], lens)
    size = None
    takes_size = any("size" in (row.takes if pictures else row.needs) for row in rows)
    if lens.camera_size is None and takes_size:
        # Only for the names: any size will do.
        side = 1 if "intrinsics" in rows[0].needs else MAX_SIDE
        options = {"size": (side, side), "intrinsics": (1.0, 1.0, 0.5, 0.5)}
        found = _pair(read_first(Path(path), rows, options), pictures, path)
        chosen = found.present if use is None else choose_images(found.posed.names, use)
        size = picture_size(found.file(chosen[0]), crop) if chosen else None
    return _pair(camera_file(path, lens, size, say), pictures, path)


def camera_file(path: str, lens: LensOptions, size: tuple[int, int] | None, say: Say | None = None) -> PosedImages:
    """Cameras of a file, with the settings for what its format has no place for: image size and intrinsics.

    Args:
        path: camera file or folder.
        lens: `camera_format`, and `intrinsics`, `pixel_center` and `camera_size` where the format takes them.
        size: (width, height) of the images, used where `camera_size` is not set.
        say: gets a sentence for what was found or passed over.

    Returns:
        At least one image.

    Raises:
        FileError: a file that cannot be read.
        InputError: intrinsics or a size that the format needs are not given, or belong to another image size.
    """
    rows = find_formats(path, lens.camera_format)
    options: dict[str, Any] = {"pixel_center": lens.pixel_center}
    if lens.camera_size is not None:
        options["size"] = pair(lens.camera_size, "camera_size")
    elif size is not None:
        options["size"] = size
    if lens.intrinsics is not None:
        options["intrinsics"] = lens.intrinsics
    beside = _intrinsics_file(path, rows[0], lens)
    if beside is not None and say is not None:
        say(f"intrinsics of {path} are those of {beside}")
    posed = read_first(Path(path), rows, options, say)
    if lens.camera_size is None and size is not None:
        _check_middle(posed, rows[0], path)
    return posed


def _intrinsics_file(path: str, row: CameraFormat, lens: LensOptions) -> Path | None:
    """The intrinsics file that the reader will use; None where it needs none. Refuses poses without intrinsics."""
    if "intrinsics" not in row.needs or lens.intrinsics is not None:
        return None
    found = find_intrinsics(Path(path))
    if found is None:
        raise InputError(f"{path} holds poses alone; give the images' intrinsics as --intrinsics '[fx,fy,cx,cy]'")
    return found


def _check_middle(posed: PosedImages, row: CameraFormat, path: str) -> None:
    """Refuse intrinsics of a file, or given for it, that belong to images of another size."""
    if "size" not in row.needs:
        return
    camera = posed.images[0].camera
    x, y = float(camera.intrinsics[0, 2]), float(camera.intrinsics[1, 2])
    if max(abs(x / camera.width - 0.5), abs(y / camera.height - 0.5)) > _MIDDLE:
        raise InputError(
            f"cameras of {path} have the principal point ({x:g}, {y:g}), far from the middle of the {camera.width} x "
            f"{camera.height} image; give the size that the intrinsics are for as --camera_size '[width,height]'"
        )


def _pair(posed: PosedImages, pictures: Sequence[Path] | None, source: str) -> Capture:
    """The file of each image: as the camera file names it, or of a folder by name, else by order."""
    if pictures is None:
        if posed.folder is None:
            raise InputError(f"{source} names no images; give their folder as --images")
        return Capture(posed, [posed.find_picture(index) for index in range(len(posed))], source)
    by_name = {picture.name: picture for picture in pictures}
    # Of NAME.color.png and NAME.depth.png the first counts.
    by_stem = {picture.name.split(".")[0]: picture for picture in reversed(pictures)}
    by_stem |= {picture.stem: picture for picture in pictures}
    if posed.folder is not None:
        names = [Path(name) for name in posed.names]
        files = [by_name.get(name.name) or by_stem.get(name.name) or by_stem.get(name.stem) for name in names]
        if any(files):
            return Capture(posed, files, source)
    if len(pictures) != len(posed):
        raise InputError(
            f"{source} has {len(posed)} cameras, but {pictures[0].parent} holds {len(pictures)} images under other "
            "names, so which belongs to which is not known; give a folder with one for each"
        )
    images = [replace(image, name=picture.name) for image, picture in zip(posed.images, pictures, strict=True)]
    return Capture(replace(posed, images=images), list(pictures), source)


def picture_size(file: Path, crop: CropOptions) -> tuple[int, int]:
    """(width, height) of the image that cameras without a size of their own are of."""
    image = read_image(file)
    width, height = image.shape[2], image.shape[1]
    if crop.already_cropped and crop.resize is not None:
        width, height = pair(crop.resize, "resize")
    if crop.already_cropped and crop.crop is not None:
        _, _, width, height = crop_box(crop.crop, width, height)
    return width, height


def choose_images(known: Sequence[str], use: Sequence[str | int], source: str = "the camera file") -> list[int]:
    """Numbers of the images that are to be views.

    Args:
        known: names of all.
        use: names, with or without folder and suffix, or numbers from 0.
        source: what the names are of, for messages.

    Returns:
        Numbers in the order of ``use``.

    Raises:
        InputError: a name that none or several have.
    """
    found = []
    for name in map(str, use):
        matches = [index for index, one in enumerate(known) if name in (one, Path(one).name, Path(one).stem)]
        if not matches and name.isdecimal() and int(name) < len(known):
            matches = [int(name)]
        if len(matches) != 1:
            some = ", ".join(known[:4])
            raise InputError(f"use names {name!r}, but {source} has {len(known)} images ({some}, ...); name one")
        found += matches
    return found
