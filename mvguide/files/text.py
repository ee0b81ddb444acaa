"""Numbers out of text files, with the line to blame, and back into them without loss."""

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
        what: what it should hold, for the message.
        advice: the way out where it is no text.

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


def read_matrix(file: Path, lines: Sequence[tuple[int, str]]) -> list[list[float]]:
    """Lines of four numbers, as `read_lines` gives them. Raises FileError at the first that has not four."""
    rows = []
    for number, line in lines:
        where = f"camera file {file}, line {number}"
        row = finite_numbers(line.split(), where)
        if len(row) != 4:
            raise FileError(f"{where} has {len(row)} numbers; a row of a 4 x 4 matrix has 4")
        rows.append(row)
    return rows


def exact_words(numbers: Sequence[float]) -> str:
    """Numbers in the fewest digits that read back as the same floats."""
    return " ".join(map(repr, numbers))


def write_lines(path: str | os.PathLike[str], lines: Sequence[str]) -> None:
    """Write lines of text, whole or not at all. Raises OutputError where the file cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
