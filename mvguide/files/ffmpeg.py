"""The ffmpeg program of imageio-ffmpeg as a child that cannot hang for ever, and whose end is told in words."""

import os
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import imageio_ffmpeg

from mvguide.errors import MvguideError

PATIENCE_SECONDS = 60
"""A program that neither takes nor gives anything for so long is ended."""


class Ffmpeg:
    """A running ffmpeg. On leaving the block it is gone, whatever happened.

    Args:
        arguments: of the command line, without the program.
        task: what cannot be done without it, the start of a sentence: "video a.mp4 cannot be read".
        error: what to raise where there is no ffmpeg, or it cannot be started.
        grows: a file that the program writes: while it grows there is progress.
    """

    def __init__(
        self, arguments: list[str], task: str, error: type[MvguideError], *, grows: Path | None = None
    ) -> None:
        program = "ffmpeg"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        try:
            program = imageio_ffmpeg.get_ffmpeg_exe()
            self._process = subprocess.Popen(
                [program, "-y", "-v", "error", "-nostdin", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                # A group of its own: where the program is a script, what it started is ended with it.
                start_new_session=True,
            )
        except (OSError, RuntimeError) as failure:
            self._log.close()
            words = failure.strerror if isinstance(failure, OSError) else str(failure)
            raise error(
                f"{task}: the program ffmpeg cannot be started ({program}: {words}); reinstall imageio-ffmpeg, or name "
                "a program in the environment variable IMAGEIO_FFMPEG_EXE"
            ) from failure
        self.stdout = cast(BinaryIO, self._process.stdout)
        self._stdin = cast(BinaryIO, self._process.stdin)
        self._grows = grows
        self._idle, self._killed, self._was_stuck = 0, False, False
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._end_if_stuck, daemon=True)
        self._watch.start()

    def write(self, data: memoryview) -> None:
        """Give bytes to its standard input. A program that has stopped by itself is not an error here: see `finish`."""
        try:
            self._stdin.write(data)
        except BrokenPipeError:
            return
        self.note_progress()

    def note_progress(self) -> None:
        """Something came out of it, or went in."""
        self._idle = 0

    def finish(self) -> str:
        """Wait for its end. Returns what went wrong, in its own words where it has any; empty where nothing did."""
        with suppress(BrokenPipeError):
            self._stdin.close()
        code = self._process.wait()
        if self._was_stuck:
            return f"ffmpeg made no progress for {PATIENCE_SECONDS} seconds and was ended"
        if code == 0 or self._killed:
            return ""
        if code < 0:
            return f"ffmpeg was ended by {signal.Signals(-code).name}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"ffmpeg ended with exit code {code}"

    @property
    def was_ended(self) -> bool:
        """Whether somebody else, or too long a silence, ended it."""
        return self._was_stuck or (not self._killed and (self._process.poll() or 0) < 0)

    def kill(self) -> None:
        """End it: nothing more is wanted."""
        self._killed = True
        self._end()

    def __enter__(self) -> "Ffmpeg":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._process.poll() is None:
            self._end()
        self._process.wait()
        self._watch.join()
        for stream in (self.stdout, self._log):
            stream.close()
        with suppress(BrokenPipeError):
            self._stdin.close()

    def _end(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except AttributeError:  # Windows has no groups
            self._process.kill()
        except ProcessLookupError:
            pass

    def _end_if_stuck(self) -> None:
        """Count seconds in which nothing happened; a machine that sleeps does not count them."""
        size = -1
        while not self._ended.wait(1):
            found = _size(self._grows)
            self._idle = self._idle + 1 if found == size else 0
            size = found
            if self._idle >= PATIENCE_SECONDS and self._process.poll() is None:
                self._was_stuck = True
                self._end()


def _size(file: Path | None) -> int:
    try:
        return 0 if file is None else file.stat().st_size
    except OSError:
        return 0
