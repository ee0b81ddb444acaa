"""Ctrl-C and the signals that end a process: all stop a run in the same way, and none in the middle of a rename."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass
class Notes:
    """What a command has done so far.

    Args:
        written: finished files and folders. Files inside a result folder are not listed.
        resumable: a file that holds where its work stands, and the words for that place: "step 7 of 25".
        stop: what a signal raised.
    """

    written: list[Path] = field(default_factory=list)
    resumable: tuple[Path, str] | None = None
    stop: KeyboardInterrupt | None = None


_NOTES: ContextVar[Notes | None] = ContextVar("notes", default=None)


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived. Cleans up as Ctrl-C does.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stoppable() -> Iterator[Notes]:
    """Make SIGTERM and SIGHUP raise `Stopped`, and take notes of what the block does and of Ctrl-C.

    A signal that is ignored (nohup) or that the caller handles stays as it is. Outside the main thread, where Python
    takes no handlers, only the notes are kept.

    Returns:
        The notes; they grow.
    """
    notes = Notes()
    token = _NOTES.set(notes)
    plain = (signal.SIG_DFL, signal.default_int_handler)
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING) if _is_main()}
    mine = {number: handler for number, handler in found.items() if handler in plain}
    for number in mine:
        signal.signal(number, _stop)
    try:
        yield notes
    finally:
        for number, handler in mine.items():
            signal.signal(number, handler)
        _NOTES.reset(token)


def stop_sentence(error: KeyboardInterrupt, notes: Notes) -> tuple[str, int]:
    """What to tell of a stop, and the exit code: 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        error: what ended the run.
        notes: what `stoppable` gave.
    """
    word = "interrupted" if not isinstance(error, Stopped) else f"stopped by {error}"
    listed = ", ".join(str(path) for path in dict.fromkeys(notes.written) if os.path.lexists(path))
    done = f"{listed} had been written, nothing else" if listed else "nothing was written"
    if notes.resumable is not None and notes.resumable[0].exists():  # the finished result removes it
        done += f"; the same command with --resume goes on after {notes.resumable[1]}"
    return f"{word}; {done}", 128 + getattr(error, "number", int(signal.SIGINT))


def raise_stop() -> None:
    """Raise what a signal has raised before: libraries turn it into errors of their own, torch while it reads weights.

    To be called where a block has failed, before its error is believed.
    """
    notes = _NOTES.get()
    if notes is not None and notes.stop is not None:
        raise notes.stop


def note_written(path: Path) -> None:
    """Add a finished file or folder to the notes of `stoppable`."""
    notes = _NOTES.get()
    if notes is not None:
        notes.written.append(path)


def note_resumable(path: Path, place: str) -> None:
    """Note for `stoppable` that the work can go on from a file, and at which place."""
    notes = _NOTES.get()
    if notes is not None:
        notes.resumable = path, place


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back what Ctrl-C and the ending signals raise until the block is done; it should be short.

    Signals without a handler still end the process at once.
    """
    arrived: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING) if _is_main()}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda *which: arrived.append(which))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in arrived[:1]:
            handler = handlers[number]
            assert callable(handler)  # for the type checker: others were left out above
            handler(number, frame)


def _stop(number: int, frame: FrameType | None) -> None:
    stop = KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)
    notes = _NOTES.get()
    if notes is not None:
        notes.stop = stop
    raise stop


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
