"""What the commands share: messages, one progress bar for the whole job, and checks of settings."""

import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from tqdm import tqdm

from mvguide.config.input_options import InputConfig
from mvguide.config.manual import styled
from mvguide.config.plan_options import PlanConfig
from mvguide.diffusion.sampler import Progress
from mvguide.errors import InputError

Say = Callable[[str], None]
"""Prints a sentence."""


def speaker(quiet: bool, stream: TextIO | None = None) -> Say:
    """A print that ``--quiet`` silences; to standard error, above the progress bar, or to ``stream``."""

    def say(text: str) -> None:
        if not quiet:
            to = stream or sys.stderr
            before, found, after = text.partition("warning:")
            tqdm.write(styled(found, "yellow", to) + after if found and not before else text, file=to)

    return say


class JobBar:
    """One bar for a whole job, from its first second: it names the stage, and counts denoising steps one by one.

    The other stages count as so many steps as they take, roughly, so that the bar moves evenly. Where standard error
    is no terminal, a line for each stage and each quarter of the steps takes the place of the bar.

    Args:
        stages: name -> steps it counts for.
        quiet: show nothing.
        whole: bar of many jobs to be a part of, in place of a bar of its own.
        length: of this part of it.
        label: stands before the stage.
    """

    def __init__(
        self,
        stages: dict[str, int],
        quiet: bool = False,
        whole: "tqdm[NoReturn] | None" = None,
        length: float = 0,
        label: str = "",
    ) -> None:
        self.stages, self.begun, self.before, self.done, self.label = dict(stages), "", 0, 0, label
        self.start, self.length = (0 if whole is None else whole.n), length
        self.is_whole = whole is None
        self.as_lines = self.is_whole and not quiet and not sys.stderr.isatty()
        self.bar = progress_bar(sum(stages.values()), quiet or self.as_lines) if whole is None else whole

    @property
    def unit(self) -> float:
        """Length of a step on the bar."""
        return 1 if self.is_whole else self.length / sum(self.stages.values())

    def begin(self, stage: str, steps: int | None = None) -> None:
        """Finish the stage before, and name the next one; ``steps`` is its length where that is known only now."""
        self.before += self.stages.get(self.begun, 0)
        if steps is not None:
            self.stages[stage] = steps
            if self.is_whole:
                self.bar.total = sum(self.stages.values())
        self.begun, self.bar.n, self.done = stage, self.start + self.unit * self.before, 0
        self.bar.set_postfix_str("", refresh=False)
        self.bar.set_description_str(self.label + stage)
        if self.as_lines:
            print(stage, file=sys.stderr, flush=True)

    def watch(self, progress: Progress) -> bool | None:
        """Count a denoising step; after the last one comes decoding. Returning True would stop the run."""
        step = progress.step
        sigma, done, steps = f"sigma {float(step.sigma_next):.3g}", step.index + 1, step.num_steps
        self.bar.set_postfix_str(sigma, refresh=False)
        self.bar.update(self.unit)
        if self.as_lines and done * 4 // steps > (done - 1) * 4 // steps:
            print(f"{self.begun}: step {done} of {steps}, {sigma}", file=sys.stderr, flush=True)
        self.done += 1
        if self.done == self.stages[self.begun]:
            self.begin("decoding")
        return None

    def close(self) -> None:
        """Remove the bar, or finish its part."""
        if self.is_whole:
            self.bar.close()
        else:
            self.bar.n = self.start + self.length


def progress_bar(total: float, quiet: bool, smoothing: float = 0.3) -> "tqdm[NoReturn]":
    """A bar on standard error that vanishes at its end; ``smoothing`` 0 tells the time left by the average speed."""
    return tqdm(
        total=total,
        disable=quiet,
        bar_format="{desc:<24} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        leave=False,
        smoothing=smoothing,
    )


def size_of(config: InputConfig | PlanConfig) -> tuple[int, int] | None:
    """(width, height) that was asked for; None for the model's own size.

    Raises:
        InputError: only one of the two.
    """
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
