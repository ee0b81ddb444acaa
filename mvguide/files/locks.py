"""Locks that end with their process, and the temporary files of processes that have ended."""

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: runs are not kept apart there, and leftovers stay
    fcntl = None  # type: ignore[assignment]


def lock_file(path: Path, *, new: bool = True, wait: bool = False) -> int | None:
    """Open a file, made where it is `new`, and lock it until its descriptor is closed.

    Args:
        path: of the file.
        new: make it, or empty it.
        wait: until nobody else holds it.

    Returns:
        The descriptor, or None where system or disk have no locks.

    Raises:
        BlockingIOError: somebody else holds it.
        OSError: it cannot be opened.
    """
    if fcntl is None:
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if new else 0), 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:
            os.close(descriptor)
            return None
        # Between the two calls its holder may have removed it: then this is the lock of a file without a name.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                if new:
                    os.ftruncate(descriptor, 0)
                return descriptor
        os.close(descriptor)


def remove_leftovers(place: Path, pattern: str) -> None:
    """Remove temporary files in a folder whose process is gone: nobody holds their lock."""
    for found in names_like(place, pattern):
        with suppress(OSError):
            held = lock_file(found, new=False) if stat.S_ISREG(found.lstat().st_mode) else None
            if held is not None:
                found.unlink()
                os.close(held)


def names_like(place: Path, pattern: str) -> list[Path]:
    """What lies in a folder under a name of that pattern; nothing where it cannot be listed."""
    try:
        return [place / name for name in os.listdir(place) if re.fullmatch(pattern, name)]  # noqa: PTH208
    except OSError:
        return []


def short_name(name: str) -> str:
    """A name that leaves room for what is put around it."""
    return name if len(os.fsencode(name)) <= 200 else hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
