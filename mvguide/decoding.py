"""What every reader does first: refuse what is not a plain file, and turn a decoder's failure into a sentence."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path

from mvguide.errors import FileError, MvguideError

MOST_YAML_CHARACTERS, MOST_YAML_LEVELS, MOST_YAML_ENTRIES, MOST_YAML_VALUES = 200_000, 20, 1_000, 20_000
_READABLE: ContextVar[tuple[Path, ...] | None] = ContextVar("readable", default=None)


def check_readable(path: str | os.PathLike[str], what: str) -> Path:
    """The path of a plain, readable, non-empty file.

    Pipes and devices are refused too: reading one may never end.

    Args:
        path: where the file should be.
        what: what it should hold, for the message: "image", "depth map".

    Raises:
        FileError: nothing is there, a folder is, the file is empty or may not be read, or :func:`reading_only` holds
            and it is outside.
    """
    if not _may_read(path):
        raise FileError(f"{what} {path} is not among the files that were given; add it to them")
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
        return _may_read(path) and path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False too for names that the system refuses (too long, a zero byte, no permission)."""
    try:
        return _may_read(path) and path.is_dir()
    except (OSError, ValueError):
        return False


@contextmanager
def reading_only(*folders: Path) -> Iterator[None]:
    """Within the block, treat every file outside of these folders as if it were not there.

    For files of people who must not see the rest of the disk: a scene file may name any path. Links are followed
    first, so that one cannot lead out. It holds for this thread, and for what asks :func:`check_readable`,
    :func:`is_file` or :func:`is_folder` before it opens a file: every reader of mvguide.
    """
    token = _READABLE.set(tuple(Path(os.path.realpath(folder)) for folder in folders))
    try:
        yield
    finally:
        _READABLE.reset(token)


def _may_read(path: str | os.PathLike[str]) -> bool:
    folders = _READABLE.get()
    if folders is None:
        return True
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError):  # a name that no disk can hold
        return False
    return any(real.is_relative_to(folder) for folder in folders)


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


def check_yaml(text: str, what: str) -> None:
    """Refuse a YAML document that takes for ever: too long, too deep, or small as text and enormous with its aliases.

    It is only looked at, node by node; damaged YAML passes, for the parser that follows to complain about.

    Args:
        text: the document.
        what: what it is, for the message: "scene file a.yaml".

    Raises:
        FileError: beyond 200 000 characters, 20 levels, 1 000 entries in one list, or 20 000 values in all.
    """
    import yaml

    if len(text) > MOST_YAML_CHARACTERS:
        raise FileError(f"{what} has {len(text)} characters; settings have at most {MOST_YAML_CHARACTERS}")
    sizes: dict[str, int] = {}  # values below each anchor, aliases among them counted in full
    levels: list[tuple[str | None, int, int]] = [(None, 0, 0)]  # anchor, values and entries of what is open
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                levels.append((event.anchor, 0, 0))
                if len(levels) > MOST_YAML_LEVELS:
                    raise FileError(f"{what} is nested more than {MOST_YAML_LEVELS} deep; settings are not")
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                anchor, size, _ = levels.pop()
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor in {open_anchor for open_anchor, _, _ in levels}:
                    raise FileError(f"{what} has a part, {str(event.anchor)[:40]}, that contains itself; write it out")
                anchor, size = None, sizes.get(str(event.anchor), 1)
            elif isinstance(event, yaml.ScalarEvent):
                anchor, size = event.anchor, 0
            else:
                continue
            if anchor is not None:
                sizes[anchor] = size + 1
            outer, values, entries = levels.pop()
            levels.append((outer, values + size + 1, entries + 1))
            if entries + 1 > MOST_YAML_ENTRIES or values + size + 1 > MOST_YAML_VALUES:
                raise FileError(
                    f"{what} has more than {MOST_YAML_ENTRIES} entries in one place or {MOST_YAML_VALUES} values in "
                    "all, aliases counted in full; settings are shorter"
                )
    except yaml.YAMLError:
        return


def _reason(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
