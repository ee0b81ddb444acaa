"""Write to a temporary name on the same disk, then rename: a result is there whole, or not at all."""

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mvguide.errors import OutputError


def check_writable(path: str | os.PathLike[str], *, folder: bool = False) -> Path:
    """Make sure, before the long work starts, that a result can be written; creates nothing.

    A nameless file is really opened in the nearest existing folder: permission bits alone say nothing to an
    administrator, on a read-only disk or on a network drive.

    Args:
        path: the file, or with `folder` the folder, that is to be written.
        folder: the result is a folder.

    Raises:
        OutputError: a file stands where a folder is needed (or the reverse), or the folder cannot be written.
    """
    target = Path(path)
    try:
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        status = None
    except (OSError, ValueError) as error:
        raise OutputError(f"output {str(path)!r} cannot be written ({error}); choose another path") from error
    if status is not None:
        is_folder = stat.S_ISDIR(status.st_mode)
        if folder and not is_folder:
            raise OutputError(f"output folder {path} is an existing file; choose another folder")
        if not folder and is_folder:
            raise OutputError(f"output file {path} is an existing folder; add a file name")
        if not folder and not stat.S_ISREG(status.st_mode):
            raise OutputError(f"output file {path} is a pipe or a device; choose another path")
    nearest = target if folder and status is not None else _nearest_folder(target)
    if not nearest.is_dir():
        raise OutputError(f"output {path} cannot be written: {nearest} is not a folder; choose another path")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise OutputError(
            f"output {path} cannot be written: folder {nearest} refuses new files ({error.strerror}); choose another"
        ) from error
    return target


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path with the suffix of `path`; rename it to `path` at the end, or remove it on failure.

    It lies beside `path`, or in the nearest folder that exists; missing folders are made only at the end. The block
    must write the file and close it. A link is followed: what it points to is replaced.

    Args:
        path: where the result goes.

    Raises:
        OutputError: the folder cannot be written, the disk is full, or the block wrote nothing.
    """
    target = Path(os.path.realpath(check_writable(path)))
    temporary = _nearest_folder(target) / f".{target.stem[:80]}.{secrets.token_hex(4)}{target.suffix}"
    try:
        yield temporary
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(
            f"output {path} cannot be written ({error.strerror or error}); choose another path"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_folder(path: str | os.PathLike[str], *, stale: Sequence[str] = ()) -> Iterator[Path]:
    """Give an empty temporary folder to fill; move what is in it into `path` at the end, or remove it on failure.

    A result folder that already exists keeps every file that is not written anew, except those that `stale` names:
    without that, 8 new frames would stand among the last 17 of an older result.

    The temporary folder is on the same disk: inside `path` where that exists (it may be a mount), else in the nearest
    folder that does.

    Args:
        path: where the results go.
        stale: patterns of an older result's files to remove, relative to `path`: `"frames/[0-9][0-9][0-9][0-9].png"`.

    Raises:
        OutputError: the folder cannot be written, the disk is full, or a file stands where a folder is needed.
    """
    target = Path(os.path.realpath(check_writable(path, folder=True)))
    fresh = not target.exists()
    parent = _nearest_folder(target) if fresh else target
    temporary = parent / f".{target.name[:80]}.{secrets.token_hex(4)}.partial"
    try:
        temporary.mkdir()
        yield temporary
        if fresh:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(target)
        else:
            _move_into(temporary, target, stale)
    except OSError as error:
        raise OutputError(
            f"output folder {path} cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into(source: Path, target: Path, stale: Sequence[str]) -> None:
    """Move all files of `source` to the same places in `target`; look for clashes before the first move."""
    names = sorted(file.relative_to(source) for file in source.rglob("*") if not file.is_dir())
    for name in names:
        if (target / name).is_dir():
            raise OutputError(f"output file {target / name} is an existing folder; choose another output folder")
        for parent in name.parents:
            if (target / parent).exists() and not (target / parent).is_dir():
                raise OutputError(f"output folder {target / parent} is an existing file; choose another output folder")
    kept = set(names)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target / name)
    for pattern in stale:
        for file in target.glob(pattern):
            if file.is_file() and file.relative_to(target) not in kept:
                file.unlink()


def _nearest_folder(path: Path) -> Path:
    """The nearest thing that exists above a path; a folder, unless a file stands where one is needed."""
    nearest = path.absolute().parent
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest
