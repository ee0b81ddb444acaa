"""Poses as lines of text: what the formats without intrinsics share."""

from collections.abc import Sequence
from pathlib import Path

from mvguide.cameras.posed import WHAT
from mvguide.errors import FileError
from mvguide.files.text import read_lines, read_row

Line = tuple[int, str]
"""Number of a line in its file, from 1, and its text."""


def read_blocks(path: Path, lines_per_camera: int, rule: str) -> list[list[Line]]:
    """Lines of a text file, without comments and empty ones, as so many for each camera.

    Args:
        path: the file.
        lines_per_camera: 5 for a Redwood .log.
        rule: the end of a message: "a Redwood .log has 5 for each camera, ids and a 4 x 4 matrix".

    Returns:
        For each camera its lines.

    Raises:
        FileError: missing, no text, no lines, or a number of lines that is no multiple.
    """
    lines = read_lines(path, WHAT, f"give a text file: {rule}")
    if not lines or len(lines) % lines_per_camera:
        raise FileError(f"{WHAT} {path} has {len(lines)} lines; {rule}")
    return [lines[start : start + lines_per_camera] for start in range(0, len(lines), lines_per_camera)]


def read_matrix(file: Path, lines: Sequence[Line], columns: int = 4) -> list[list[float]]:
    """Lines of numbers as the rows of a matrix.

    Args:
        file: the file that they are from, for messages.
        lines: R lines.
        columns: numbers in each, C.

    Returns:
        R rows of C numbers.

    Raises:
        FileError: at the first line with another count, or with what is no finite number.
    """
    rule = f"a row of a {len(lines)} x {columns} matrix has {columns}"
    return [read_row(line.split(), columns, f"{WHAT} {file}, line {number}", rule) for number, line in lines]
