"""What the commands share: messages, the progress bar, and checks of settings."""

import sys
from collections.abc import Callable

from tqdm import tqdm

from mvguide.config.input_options import InputConfig
from mvguide.diffusion.sampler import Progress
from mvguide.errors import InputError

Say = Callable[[str], None]
"""Prints a sentence."""


def speaker(quiet: bool, stream: object = None) -> Say:
    """A print that ``--quiet`` silences; to standard error, where the progress bar is too, or to ``stream``."""

    def say(text: str) -> None:
        if not quiet:
            print(text, file=stream or sys.stderr)  # type: ignore[arg-type]

    return say


def progress_bar(num_steps: int) -> Callable[[Progress], None]:
    """A watcher that shows steps, sigma and the time left; the bar appears with the first step."""
    bar: tqdm | None = None

    def watch(progress: Progress) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=num_steps, desc="denoising", unit="step", leave=True)
        bar.set_postfix_str(f"sigma {float(progress.step.sigma_next):.3g}", refresh=False)
        bar.update()
        if progress.step.index + 1 == num_steps:
            bar.close()

    return watch


def size_of(config: InputConfig) -> tuple[int, int] | None:
    """(width, height) that was asked for; one of the two alone keeps the picture's shape."""
    if config.width is None and config.height is None:
        return None
    if config.width is not None and config.height is not None:
        return config.width, config.height
    given = "width" if config.height is None else "height"
    raise InputError(f"only {given} was given; give both width and height, or neither for the model's own size")


def at_least_one(name: str, value: int) -> int:
    """``value``, refused with the setting's ``name`` where it is below 1.

    Raises:
        InputError: it is.
    """
    if value < 1:
        raise InputError(f"{name} is {value}; it must be at least 1")
    return value
