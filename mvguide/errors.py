"""Errors that a user can fix: each carries one sentence with what was given, what is needed and the way out."""

from typing import Any


class MvguideError(ValueError):
    """Base of every error that mvguide raises for bad input; the command line prints it and exits with code 2."""

    exit_code = 2


class InputError(MvguideError):
    """An argument, or the data given with it, cannot be used."""


class FileError(MvguideError):
    """A file is missing, unreadable, or does not hold what it should."""


class ConfigError(MvguideError):
    """A configuration or a combination of settings cannot be used."""


class NumericalError(MvguideError):
    """Values that are not finite came up during a run."""


class OutOfMemoryError(MvguideError):
    """A run needs more memory than there is."""


class DecodeError(MvguideError):
    """A run is denoised, but cannot be decoded: memory ran out, or the frames are not finite.

    Args:
        message: the sentence.
        run: the run, a :class:`mvguide.pipeline.latents.DenoisedRun`, to be saved or decoded elsewhere.
    """

    def __init__(self, message: str, run: Any = None) -> None:
        super().__init__(message)
        self.run = run


class ModelError(MvguideError):
    """A model cannot be found, loaded or used for what was asked."""


class OutputError(MvguideError):
    """A result cannot be written."""


class InUseError(OutputError):
    """Another run has the folder."""


class BatchError(MvguideError):
    """Some jobs of a batch failed, and the others are done."""

    exit_code = 1
