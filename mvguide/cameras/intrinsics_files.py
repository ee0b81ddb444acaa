"""Intrinsics in a text file beside a file of poses: K.txt and its like, and KITTI's calib.txt.

Convention of the files: fx 0 cx, 0 fy cy, 0 0 1, with a fourth column and row or without (3 x 3, 3 x 4, 4 x 4), or the
four numbers fx fy cx cy. In KITTI's calib.txt the camera's name and a colon stand before the 12 numbers of a 3 x 4
matrix; the first camera counts, whose intrinsics all of them share.
"""

from pathlib import Path

from mvguide.decoding import is_file
from mvguide.errors import FileError
from mvguide.files.text import finite_numbers, read_lines

INTRINSICS_FILES = ("K.txt", "intrinsics.txt", "intrinsic.txt", "camera-intrinsics.txt", "calib.txt")
"""Names that are looked for, in this order."""

_WHAT = "intrinsics file"
_KITTI = ("P0:", "P_rect_00:", "P2:", "P_rect_02:")
_RULE = "give the intrinsics with --intrinsics '[fx,fy,cx,cy]'"
_SIDES = {9: 3, 12: 4, 16: 4}


def find_intrinsics(path: Path) -> Path | None:
    """The intrinsics file of poses: beside the file or in the folder, or where KITTI has it; None: there is none."""
    here = path.parent if is_file(path) else path
    for folder in (here, here.parent / "sequences" / path.stem):
        for name in INTRINSICS_FILES:
            if is_file(folder / name):
                return folder / name
    return None


def read_intrinsics(path: Path) -> list[float]:
    """fx, fy, cx, cy of an intrinsics file.

    Args:
        path: the file.

    Raises:
        FileError: missing, damaged, or no such matrix.
    """
    lines = [line.replace(",", " ").split() for _, line in read_lines(path, _WHAT, _RULE)]
    named = {words[0]: words[1:] for words in lines if words[0].endswith(":")}
    name = next((name for name in _KITTI if name in named), None)
    if named and name is None:
        raise FileError(f"{_WHAT} {path} has none of the cameras {' '.join(_KITTI)}; {_RULE}")
    words = [word for line in lines for word in line] if name is None else named[name]
    numbers = finite_numbers(words, f"{_WHAT} {path}")
    if len(numbers) == 4:
        return numbers
    side = _SIDES.get(len(numbers))
    if side is None:
        raise FileError(f"{_WHAT} {path} has {len(numbers)} numbers; it is no 3 x 3 matrix and no fx fy cx cy: {_RULE}")
    rows = [numbers[start : start + side] for start in range(0, 3 * side, side)]
    if rows[0][1] != 0 or rows[1][0] != 0 or rows[2][:3] != [0, 0, 1]:
        raise FileError(f"{_WHAT} {path} is no intrinsic matrix fx 0 cx, 0 fy cy, 0 0 1; {_RULE}")
    return [rows[0][0], rows[1][1], rows[0][2], rows[1][2]]
