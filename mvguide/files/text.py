"""Numbers out of text files, each error with its line, and back into them without loss."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError
from mvguide.files.atomic import atomic_path


def read_lines(path: Path, what: str, advice: str) -> list[tuple[int, str]]:
    """Lines of a text file that are not empty and no comment (#), stripped, each with its number from 1.

    Args:
        path: the file.
        what: what it should hold, for messages: "camera file".
        advice: the way out where it is no text, for messages.

    Returns:
        For each line that is left its number and its text.

    Raises:
        FileError: missing, or bytes that are no text.
    """
    file = check_readable(path, what)
    with decoding(file, what, advice):
        text = file.read_text(encoding="utf-8-sig")
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def finite_numbers(words: Sequence[str], where: str) -> list[float]:
    """Words as numbers. Raises FileError, starting with `where`, at the first that is no finite number."""
    numbers = []
    for word in words:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise FileError(f"{where} has {word[:40]!r} where a finite number is needed; check the format of the file")
        numbers.append(number)
    return numbers


def read_row(words: Sequence[str], count: int, where: str, rule: str) -> list[float]:
    """Words of a line as so many finite numbers.

    Args:
        words: of the line.
        count: numbers that the line must have.
        where: the start of a message: "camera file x.log, line 3".
        rule: its end: "a row of a 4 x 4 matrix has 4".

    Returns:
        `count` numbers.

    Raises:
        FileError: another count, or a word that is no finite number.
    """
    numbers = finite_numbers(words, where)
    if len(numbers) != count:
        raise FileError(f"{where} has {len(numbers)} numbers; {rule}")
    return numbers


def exact_words(numbers: Sequence[float]) -> str:
    """Numbers in the fewest digits that read back as the same floats."""
    return " ".join(map(repr, numbers))


def write_lines(path: str | os.PathLike[str], lines: Sequence[str]) -> None:
    """Write lines of text, whole or not at all. Raises OutputError where the file cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
