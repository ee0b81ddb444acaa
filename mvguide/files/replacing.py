"""A finished folder takes the place of an older one in one step, and what the user keeps there stays."""

import ctypes
import errno
import json
import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mvguide.errors import OutputError

WHOLE, OLD = ".whole", ".old"
"""Ends of the names of a finished folder that is being moved in, and of an older one that was renamed away."""

_STALE_LIST = ".stale.json"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_UNKNOWN_TO_DISK = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def replace_folder(new: Path, target: Path, stale: Sequence[str], *, beside: bool) -> None:
    """Give the folder `new` the name `target`; files of the older folder that `new` has not are carried over.

    Where the two folders can be renamed, readers see the older result or the new one, never a mixture. Where they
    cannot (a mount point, a folder that somebody works in, a parent that may not be written), the files move in one by
    one; `finish` goes on with that if it is interrupted.

    Args:
        new: the finished folder, on the disk of `target`.
        target: the place; may not exist yet.
        stale: patterns of files of an older result that are not carried over, relative to `target`.
        beside: whether `new` lies beside `target`, where it can be renamed.

    Raises:
        OutputError: a file stands where the result has a folder, or the reverse.
        OSError: the folder cannot be written.
    """
    if not target.exists():
        new.rename(target)
        return
    matched = {file.relative_to(target) for pattern in stale for file in target.glob(pattern) if not file.is_dir()}
    older, has_mounts = _compare(target, new)
    gone, kept = [name for name in older if name in matched], [name for name in older if name not in matched]
    # Removing an older folder would empty a disk that is mounted in it.
    if beside and not has_mounts and not _is_worked_in(target):
        _carry(target, new, kept)
        if _swap(new, target):
            return
    (new / _STALE_LIST).write_text(json.dumps([name.as_posix() for name in gone]))
    whole = new.with_name(new.name.rpartition(".")[0] + WHOLE)
    new.rename(whole)
    finish(whole, target)


def finish(whole: Path, target: Path) -> None:
    """Move the files of a finished folder into their places one by one; may be called again after an interruption."""
    with suppress(FileNotFoundError):  # it is removed last
        for name in json.loads((whole / _STALE_LIST).read_text()):
            (target / name).unlink(missing_ok=True)
    for folder, _, files in os.walk(whole):
        place = target / Path(folder).relative_to(whole)
        place.mkdir(exist_ok=True)
        for name in files:
            if name != _STALE_LIST:
                (Path(folder) / name).replace(place / name)
    shutil.rmtree(whole)


def _compare(old: Path, new: Path) -> tuple[list[Path], bool]:
    """Names in `old` that `new` has not (files, links, and empty folders), and whether a disk is mounted in `old`."""
    kept: list[Path] = []
    device, has_mounts = old.stat().st_dev, False
    waiting = [Path()]
    while waiting:
        place = waiting.pop()
        with os.scandir(old / place) as entries:
            for entry in entries:
                name = place / entry.name
                try:
                    mode = (new / name).lstat().st_mode
                except (FileNotFoundError, NotADirectoryError):
                    mode = None
                if entry.is_dir(follow_symlinks=False):
                    if mode is not None and not stat.S_ISDIR(mode):
                        raise OutputError(
                            f"output file {old / name} is an existing folder; choose another output folder"
                        )
                    has_mounts |= entry.stat(follow_symlinks=False).st_dev != device
                    waiting.append(name)
                    if mode is None:
                        kept.append(name)
                elif mode is None:
                    kept.append(name)
                elif stat.S_ISDIR(mode):
                    raise OutputError(f"output folder {old / name} is an existing file; choose another output folder")
    return kept, has_mounts


def _carry(old: Path, new: Path, names: Sequence[Path]) -> None:
    """Give the new folder the files and the rights of the older one; a file has two names until the older is gone."""
    for name in names:
        source, place = old / name, new / name
        if source.is_dir() and not source.is_symlink():
            place.mkdir(exist_ok=True)
            _copy_rights(source, place)
            continue
        try:
            os.link(source, place, follow_symlinks=False)
        except (OSError, NotImplementedError):  # a disk or a system without hard links
            shutil.copy2(source, place, follow_symlinks=False)
    _copy_rights(old, new)


def _copy_rights(old: Path, new: Path) -> None:
    found = old.stat()
    with suppress(OSError, AttributeError):  # only an administrator gives files away
        os.chown(new, found.st_uid, found.st_gid)
    new.chmod(stat.S_IMODE(found.st_mode))


def _swap(new: Path, target: Path) -> bool:
    """Rename both folders; the older one is removed afterwards. False where they may not be renamed."""
    away = new.with_name(new.name.rpartition(".")[0] + OLD)
    try:
        if _exchange(new, target):
            away = new
        else:
            target.rename(away)
            try:
                new.rename(target)
            except BaseException:
                away.rename(target)
                raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        return False
    shutil.rmtree(away, ignore_errors=True)
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Two names change places in one step. False where system or disk do not know how."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN_TO_DISK:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _is_worked_in(target: Path) -> bool:
    """Whether this process, and likely the user's shell, stands in the folder: it would stand in a removed one."""
    try:
        return Path.cwd().is_relative_to(target)
    except OSError:
        return False
