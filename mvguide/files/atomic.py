"""Write to a temporary name on the same disk, then rename: a result is there whole, or not at all."""

import errno
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path

from mvguide.errors import InUseError, MvguideError, OutputError
from mvguide.files.locks import lock_file, names_like, remove_leftovers, short_name
from mvguide.files.replacing import OLD, WHOLE, finish, replace_folder
from mvguide.files.stopping import note_written, undisturbed

_PARTIAL = ".partial"
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP}
"""What a disk answers that cannot say when something is on it."""
_CLAIMED: ContextVar[frozenset[Path]] = ContextVar("claimed", default=frozenset())


def check_writable(path: str | os.PathLike[str], *, folder: bool = False) -> Path:
    """Make sure, before the long work starts, that a result can be written; creates nothing.

    A nameless file is really opened in the nearest existing folder: permission bits alone say nothing to an
    administrator, on a read-only disk or on a network drive.

    Args:
        path: the file, or with `folder` the folder, that is to be written.
        folder: the result is a folder.

    Raises:
        OutputError: the path is empty, a file stands where a folder is needed (or the reverse), or the folder cannot
            be written.
    """
    if not os.fspath(path):  # an unset variable in a script; Path("") would be the current folder
        current = "a folder, or . for the current one" if folder else "a file name"
        raise OutputError(f"the path of the output is empty; give {current}")
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
def atomic_path(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path with the suffix of `path`; rename it to `path` at the end, or remove it on failure.

    It lies beside `path`, or in the nearest folder that exists; missing folders are made only at the end. The block
    must write the file and close it. A link is followed: what it points to is replaced. What killed runs left of the
    same file is removed.

    Args:
        path: where the result goes.
        durable: also whole, the older file or the new one, when the power goes: it is on the disk before it is renamed.

    Raises:
        OutputError: the folder cannot be written, the disk is full, or the block wrote nothing.
    """
    target = Path(os.path.realpath(check_writable(path)))
    place, stem = _nearest_folder(target), short_name(target.stem)
    temporary = place / f".{stem}.{secrets.token_hex(4)}{target.suffix}"
    # An unfinished folder is removed with all that is in it, so its files need no lock and no note.
    inside = any(parent.name.endswith(_PARTIAL) for parent in target.parents)
    held = None
    try:
        if not inside:
            remove_leftovers(place, re.escape(f".{stem}.") + "[0-9a-f]{8}" + re.escape(target.suffix))
            held = lock_file(temporary, wait=True)
        yield temporary
        if temporary.stat().st_size == 0:
            raise OSError("nothing was written")
        if durable:
            _flush(temporary)
        with undisturbed():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
            if durable:
                _flush(target.parent)
            if not inside:
                note_written(Path(path))
    except (OSError, MvguideError) as error:
        raise _named(error, temporary, path, "output {} cannot be written ({}); choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


@contextmanager
def claim_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Keep a result folder for this run: another run into it is refused, and leftovers of killed runs are removed.

    `output_folder` does this while it writes. A command that works long before it writes should do it from its start;
    inside the block the same thread may write into the folder as often as it likes.

    A file `.NAME.lock` beside the folder holds the claim (inside it, where nothing can be written beside it). The
    system gives the lock back when a process ends, however it ends.

    Args:
        path: the result folder; need not exist yet.

    Raises:
        InUseError: another run has the folder; the sentence says which.
        OutputError: it cannot be written.
    """
    target = Path(os.path.realpath(check_writable(path, folder=True)))
    if target in _CLAIMED.get():
        yield target
        return
    made = [parent for parent in target.parents if not parent.exists()]
    lock = _place_of(target)[0] / f".{short_name(target.name)}.lock"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        held = lock_file(lock)
    except BlockingIOError:
        words = ""
        with suppress(OSError):  # the other run may end meanwhile
            words = lock.read_text(errors="replace").strip()[:200]
        raise InUseError(
            f"output folder {path} is in use by another run ({words or 'it just started'}); wait until it has ended, "
            "or choose another folder"
        ) from None
    except OSError as error:
        raise OutputError(
            f"output folder {path} cannot be written ({lock}: {error.strerror}); choose another"
        ) from error
    token = _CLAIMED.set(_CLAIMED.get() | {target})
    try:
        if held is not None:
            since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            try:
                os.write(held, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
                _tidy(target)
            except OSError as error:
                raise OutputError(
                    f"output folder {path} cannot be written ({error.strerror}); choose another folder"
                ) from error
        yield target
    finally:
        _CLAIMED.reset(token)
        lock.unlink(missing_ok=True)
        if held is not None:
            os.close(held)
        for folder in made:
            with suppress(OSError):  # not empty: it has the result
                folder.rmdir()


@contextmanager
def output_folder(path: str | os.PathLike[str], *, stale: Sequence[str] = (), durable: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder to fill; at the end it takes the place of `path`, or is removed on failure.

    A result folder that already exists is replaced in one step, so a reader (and a run that is killed) finds the older
    result or the new one. Files in it that are not written anew are carried over, except those that `stale` names:
    without that, 8 new frames would stand among the last 17 of an older result. `replacing` says what happens where a
    folder cannot be renamed.

    Args:
        path: where the results go.
        stale: patterns of files of an older result to leave out, relative to `path`: `"frames/*.png"`.
        durable: the new files are on the disk before the older ones go, also when the power goes.

    Raises:
        OutputError: the folder cannot be written, the disk is full, a file stands where a folder is needed, or another
            run has the folder.
    """
    with claim_folder(path) as target:
        place, beside = _place_of(target)
        temporary = place / f".{short_name(target.name)}.{secrets.token_hex(4)}{_PARTIAL}"
        try:
            temporary.mkdir()
            yield temporary
            if durable:
                for found in [*temporary.rglob("*"), temporary]:
                    _flush(found)
            with undisturbed():
                replace_folder(temporary, target, stale, beside=beside)
                if not any(parent.name.endswith(_PARTIAL) for parent in target.parents):
                    note_written(Path(path))
        except (OSError, MvguideError) as error:
            words = "output folder {} cannot be written ({}); choose another folder"
            raise _named(error, temporary, path, words) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _named(error: OSError | MvguideError, temporary: Path, path: str | os.PathLike[str], words: str) -> MvguideError:
    """The error in a sentence that names the user's path, and never the hidden one."""
    if isinstance(error, OSError):
        return OutputError(words.format(path, error.strerror or error))
    return type(error)(str(error).replace(str(temporary), str(path)))


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # Windows opens no folders
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _place_of(target: Path) -> tuple[Path, bool]:
    """Where temporary names of a folder go: beside it, or inside it where it is a mounted disk or that is refused."""
    if target.exists() and (target.is_mount() or not os.access(target.parent, os.W_OK | os.X_OK)):
        return target, False
    return target.parent, True


def _tidy(target: Path) -> None:
    """Mend or remove what killed runs left of a folder that is claimed: nobody else works in it."""
    name = re.escape(f".{short_name(target.name)}.") + "[0-9a-f]{8}"
    for place in (target.parent, target):
        for found in names_like(place, f"{name}({re.escape(OLD)})"):
            if not target.exists():  # it was killed between two renames
                found.rename(target)
        for found in names_like(place, f"{name}({re.escape(WHOLE)})"):
            finish(found, target)
        for found in names_like(place, f"{name}({re.escape(_PARTIAL)}|{re.escape(OLD)})"):
            shutil.rmtree(found, ignore_errors=True)
    remove_leftovers(target, r"\..+\.[0-9a-f]{8}(\.\w+)?")


def _nearest_folder(path: Path) -> Path:
    """The nearest thing that exists above a path; a folder, unless a file stands where one is needed."""
    nearest = path.absolute().parent
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest
