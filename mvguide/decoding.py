"""What every reader does first: refuse what is not a plain file, and turn a decoder's failure into a sentence."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from mvguide.errors import FileError, MvguideError


def check_readable(path: str | os.PathLike[str], what: str) -> Path:
    """The path of a plain, readable, non-empty file.

    Pipes and devices are refused too: reading one may never end.

    Args:
        path: where the file should be.
        what: what it should hold, for the message: "picture", "depth map".

    Raises:
        FileError: nothing is there, a folder is, the file is empty or may not be read.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise FileError(f"{what} {path} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{what} {str(path)!r} cannot be read ({_reason(error)}); check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{what} {path} is a folder; give the path of one file in it")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{what} {path} is a pipe or a device, not a file; save it to a file first")
    if status.st_size == 0:
        raise FileError(f"{what} {path} is empty (0 bytes); write it again")
    if not os.access(path, os.R_OK):
        raise FileError(f"{what} {path} may not be read; change its permissions")
    return Path(path)


def is_file(path: Path) -> bool:
    """Whether a file is there; False too for names that the system refuses (too long, a zero byte, no permission)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False too for names that the system refuses (too long, a zero byte, no permission)."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def packaged_folder(name: str) -> Path:
    """Folder of files that come with mvguide: inside the package in a wheel, beside it in a checkout."""
    root = Path(str(files("mvguide")))
    return root / name if is_folder(root / name) else root.parent / name


@contextmanager
def decoding(path: str | os.PathLike[str], what: str, advice: str) -> Iterator[None]:
    """Run a decoder: whatever it raises on damaged bytes comes out as one FileError.

    Decoders of third parties raise almost any exception on hostile bytes (struct.error, IndexError, SyntaxError,
    zlib.error, MemoryError, ...), which is why this is the one place that catches all of them.

    Args:
        path: the file being decoded, for the message.
        what: what it should hold.
        advice: the way out, the end of the sentence.

    Raises:
        FileError: the block raised; an error that already is a MvguideError passes through unchanged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except MvguideError:
            raise
        except Exception as error:
            raise FileError(f"{what} {path} cannot be read ({_reason(error)}); {advice}") from error


def _reason(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
