"""Which files Python opens, by its audit hook."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SEEN: list[Path] = []
_WATCHING = False


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _WATCHING and event in ("open", "os.listdir", "os.scandir", "subprocess.Popen"):
        for argument in arguments:
            for one in argument if isinstance(argument, list) else [argument]:
                if isinstance(one, str | bytes | os.PathLike) and one:
                    _SEEN.append(Path(os.path.realpath(os.fsdecode(one))))


sys.addaudithook(_note)  # for ever: it cannot be taken back


@contextmanager
def opened() -> Iterator[list[Path]]:
    """Paths that are opened, listed or given to a program within the block, links followed."""
    global _WATCHING
    _SEEN.clear()
    _WATCHING = True
    try:
        yield _SEEN
    finally:
        _WATCHING = False
