"""From files that a visitor gave to settings of a render: what they are, and whether they are too large."""

import hashlib
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mvguide.cameras.formats import find_formats
from mvguide.config.parsing import read_scene_file
from mvguide.config.studio_options import StudioConfig
from mvguide.decoding import check_readable, decoding, reading_only
from mvguide.errors import FileError, InputError, MvguideError
from mvguide.files.depth_formats import DEPTH_FORMATS
from mvguide.files.images import open_picture
from mvguide.files.video import READ_SUFFIXES, count_frames
from mvguide.inputs.finding import PICTURES

SCENE_SUFFIXES = (".yaml", ".yml")
_VIDEOS = tuple(suffix for suffix in READ_SUFFIXES if suffix not in PICTURES)
_MOST_FILES = 2000
_MOST_STEPS = 1000
_KEPT_TIMES = 4  # so many times the largest upload may lie in a visitor's folder
_IN_ZIP = 4  # an archive may be so many times as large when it is unpacked


def take_in(files: Sequence[str | Path], folder: Path, limits: StudioConfig) -> Path:
    """Put uploaded files into a visitor's folder, under a name made from what they hold.

    Args:
        files: uploaded; a .zip is unpacked.
        folder: of the visitor's inputs.
        limits: what is too large.

    Returns:
        The folder that holds them.

    Raises:
        InputError: too many or too large.
        FileError: an archive that cannot be unpacked.
    """
    paths = [Path(file) for file in files]
    if len(paths) > _MOST_FILES:
        raise InputError(f"{len(paths)} files were given; give {_MOST_FILES} at most")
    names = [clean_name(path.name) for path in paths]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"several files are named {', '.join(doubled)}; rename them, or give them as a .zip")
    target = folder / _digest(paths, names)
    if target.is_dir():
        return target
    size, kept = sum(path.stat().st_size for path in paths), _size_of(folder)
    if size > limits.most_mib << 20:
        raise InputError(f"the files have {size / 2**20:.0f} MiB; the studio takes {limits.most_mib} (--most_mib)")
    if kept + size > _KEPT_TIMES * limits.most_mib << 20:
        raise InputError(
            f"your inputs in {folder} would take {(kept + size) / 2**20:.0f} MiB, more than "
            f"{_KEPT_TIMES * limits.most_mib}; delete those that you no longer need"
        )
    partial = folder / f".{target.name}.{secrets.token_hex(4)}.partial"
    partial.mkdir(parents=True)
    try:
        for path, name in zip(paths, names, strict=True):
            if path.suffix.lower() == ".zip":
                _unpack(path, partial, limits)
            else:
                shutil.copyfile(path, partial / name, follow_symlinks=False)
        if not target.is_dir():
            partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def clean_name(name: str) -> str:
    """A file name without anything that a system or a shell takes for more than a name."""
    plain = re.sub(r"[^\w .,()+@=-]", "_", name).strip(" .-")
    stem, dot, suffix = plain.rpartition(".")
    return f"{_short(stem, 160)}{dot}{_short(suffix, 32)}" or "file"


def _short(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def source_settings(given: Path, depth: Path | None = None) -> dict[str, Any]:
    """Settings for :class:`mvguide.config.render_options.RenderConfig` from what a folder of inputs holds.

    Args:
        given: folder from :func:`take_in`.
        depth: the same for depth maps.

    Raises:
        InputError: nothing that can be used, or several things.
    """
    place = given
    while not _plain_files(place) and len(_folders(place)) == 1:  # an archive of one folder
        place = _folders(place)[0]
    files, settings = _plain_files(place), dict[str, Any]()
    scenes = [file for file in files if file.suffix.lower() in SCENE_SUFFIXES]
    videos = [file for file in files if file.suffix.lower() in _VIDEOS]
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    rest = [file for file in files if file not in scenes + videos + pictures]
    if scenes or videos:
        kind, found = ("scene", scenes) if scenes else ("video", videos)
        if len(found) > 1:
            raise InputError(f"{len(found)} {kind} files were given ({', '.join(f.name for f in found)}); give one")
        settings[kind] = str(found[0])
        if kind == "video" and rest:
            settings["cameras"] = str(rest[0])
    elif len(pictures) == 1 and not rest and not _folders(place):
        settings["image"] = str(pictures[0])
    elif _is_capture(place):
        settings["cameras"] = str(place)
        if pictures:  # dropped one by one, they are not in the folders that a camera file names
            settings["images"] = str(place)
    elif rest and pictures:
        settings |= {"cameras": str(rest[0]), "images": str(place)}
    elif pictures:
        settings["views"] = [{"image": str(file)} for file in pictures]
    elif rest:
        settings["image"] = str(rest[0])
    else:
        raise InputError("no file was given; give an image, several with their cameras, a video or a scene file")
    if depth is not None:
        maps = [file for file in _plain_files(depth) if file.suffix.lower() in DEPTH_FORMATS]
        settings["depth"] = str(maps[0] if len(maps) == 1 and "image" in settings else depth)
        if not maps:
            settings["depth"] = str(next(iter(_plain_files(depth)), depth))
    return settings


def check_files(settings: dict[str, Any], folder: Path, limits: StudioConfig) -> None:
    """Refuse inputs that are too large to be read, from their heads alone.

    Args:
        settings: from :func:`source_settings`.
        folder: of the inputs; nothing else is looked at.
        limits: what is too large.

    Raises:
        InputError: an image or a video beyond the limits.
        FileError: a scene file or a video that cannot be read.
    """
    with reading_only(folder):
        if "scene" in settings:
            found = read_scene_file(Path(settings["scene"]))
            _check_numbers(found, limits)
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in _VIDEOS and file.is_file():
                frames = count_frames(file, limits.most_frames)
                if frames > limits.most_frames:
                    raise InputError(
                        f"video {file} has more than {limits.most_frames} frames, which the studio takes at most "
                        "(--most_frames); cut it, or render it with mvguide render"
                    )
            elif file.suffix.lower() in (*PICTURES, ".gif") and file.is_file():
                _check_pixels(file, limits)


def check_size(settings: Any, limits: StudioConfig) -> None:
    """Refuse numbers of a render that are beyond the limits: frames, steps, and pixels of the video or of resizing.

    Raises InputError.
    """
    _check_numbers(vars(settings), limits)


def _check_numbers(found: Any, limits: StudioConfig) -> None:
    frames, steps = found.get("num_frames"), found.get("steps")
    if frames is not None and frames > limits.most_frames:
        raise InputError(f"num_frames is {frames}; the studio makes {limits.most_frames} at most (--most_frames)")
    if steps is not None and steps > _MOST_STEPS:
        raise InputError(f"steps is {steps}; the studio makes {_MOST_STEPS} at most")
    for name, pair in (
        ("width and height", (found.get("width"), found.get("height"))),
        ("resize", found.get("resize")),
    ):
        if pair and len(pair) == 2 and all(pair) and pair[0] * pair[1] > limits.most_megapixels * 1e6:
            raise InputError(f"{name} {pair[0]} x {pair[1]} is more than {limits.most_megapixels:g} million pixels")


def _check_pixels(file: Path, limits: StudioConfig) -> None:
    """Refuse a picture of too many pixels; one that cannot be opened is left to its reader."""
    try:
        with decoding(check_readable(file, "picture"), "picture", ""), open_picture(file) as picture:
            width, height = picture.size
    except MvguideError:
        return
    if width * height > limits.most_megapixels * 1e6:
        raise InputError(
            f"picture {file} is {width} x {height}, more than the {limits.most_megapixels:g} million pixels that the "
            "studio takes (--most_megapixels); make it smaller first"
        )


def _is_capture(place: Path) -> bool:
    """Whether a folder is one that ``--cameras`` reads and finds the pictures of by itself."""
    try:
        return bool(find_formats(str(place), None))
    except MvguideError:
        return False


def _unpack(archive: Path, target: Path, limits: StudioConfig) -> None:
    """Unpack plain files of an archive; refuses names that lead out, links, and what is too much."""
    with decoding(archive.name, "archive", "pack the folder again as a .zip"), zipfile.ZipFile(archive) as packed:
        entries = [entry for entry in packed.infolist() if not entry.is_dir()]
        if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _IN_ZIP * limits.most_mib << 20:
            raise FileError(
                f"archive {archive.name} holds more than {_MOST_FILES} files or {_IN_ZIP * limits.most_mib} MiB; give "
                "a smaller one"
            )
        for entry in entries:
            name = PurePosixPath(entry.filename.replace("\\", "/"))
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if name.is_absolute() or ".." in name.parts or ":" in str(name) or kind not in (0, stat.S_IFREG):
                raise FileError(
                    f"archive {archive.name} holds {entry.filename!r}, which is a link or leads out of it; pack plain "
                    "files"
                )
            if name.parts[0] == "__MACOSX" or name.name.startswith("."):
                continue
            place = target.joinpath(*(clean_name(part) for part in name.parts))
            place.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(entry) as source, place.open("xb") as written:
                _copy(source.read, written.write, entry.file_size)


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], Any], most: int) -> None:
    """Copy as many bytes as an entry says it has; more would be a lie of its head."""
    while most >= 0 and (data := read(2**20)):
        most -= len(data)
        if most < 0:
            raise FileError("it holds more than it says")
        write(data)


def _digest(paths: Sequence[Path], names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path, name in sorted(zip(paths, names, strict=True), key=lambda pair: pair[1]):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0


def _plain_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())
