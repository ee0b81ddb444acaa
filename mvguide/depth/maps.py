"""Depth maps from files: whatever is stored comes out as z along the optical axis in scene units."""

import math
import os
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mvguide.depth.kind import disparity_evidence, disparity_to_depth
from mvguide.errors import FileError, InputError
from mvguide.files.depth_formats import read_stored

DepthKind = Literal["depth", "disparity"]

MOST_ENLARGED = 16.0
"""A map is enlarged to the image by so much at most: a pixel of more would stand for too much of the image."""

_ADVICE = "if it is inverse depth, declare it with --depth_kind disparity"


@dataclass(frozen=True)
class Depth:
    """A depth map: z along the optical axis (not the length of the ray), rows from the top."""

    values: Tensor
    """float32 [H, W], scene units, > 0 where valid, 0 elsewhere."""
    valid: Tensor
    """bool [H, W]: true where the depth is known."""
    is_metric: bool
    """False where the scale is invented (relative inverse depth), true where it is the file's times the given unit."""
    enlarged: float = 1.0
    """By how much `fit_depth` enlarged the map of the file along a side; at least 1."""

    @property
    def height(self) -> int:
        """Rows."""
        return self.values.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.values.shape[1]

    @property
    def median(self) -> float:
        """Median of the valid depths, in scene units; NaN where there are none."""
        return float(self.values[self.valid].median()) if bool(self.valid.any()) else math.nan

    def to(self, device: torch.device | str) -> "Depth":
        """The same map on another device."""
        return replace(self, values=self.values.to(device), valid=self.valid.to(device))

    def crop(self, left: int, top: int, width: int, height: int) -> "Depth":
        """The cut-out of columns [left, left + width) and rows [top, top + height).

        Args:
            left: first column, from 0.
            top: first row, from 0.
            width: columns, at least 1.
            height: rows, at least 1.

        Returns:
            `Depth` [height, width], which shares its memory with this one.

        Raises:
            InputError: a cut-out that leaves the map.
        """
        if min(left, top) < 0 or min(width, height) < 1 or left + width > self.width or top + height > self.height:
            raise InputError(
                f"crop {width} x {height} at ({left}, {top}) leaves the depth map of {self.width} x {self.height}; it "
                "must lie inside"
            )
        rows, columns = slice(top, top + height), slice(left, left + width)
        return replace(self, values=self.values[rows, columns], valid=self.valid[rows, columns])

    def resize(self, width: int, height: int) -> "Depth":
        """The map resized by taking the nearest pixel, so that near and far never mix into a depth that nothing has.

        Column x of the result is column `floor((x + 1/2) * old / new)` of the map.

        Args:
            width: columns wanted, at least 1.
            height: rows wanted, at least 1.

        Raises:
            InputError: no pixels wanted.
        """
        if width < 1 or height < 1:
            raise InputError(f"depth cannot be resized to {width} x {height}; both must be at least 1")
        rows = ((2 * torch.arange(height) + 1) * self.height) // (2 * height)
        columns = ((2 * torch.arange(width) + 1) * self.width) // (2 * width)
        return replace(self, values=self.values[rows][:, columns], valid=self.valid[rows][:, columns])


def read_depth(
    path: str | os.PathLike[str],
    *,
    unit: float = 1.0,
    offset: float = 0.0,
    kind: DepthKind | None = None,
    invalid: float | None = None,
    median_depth: float | None = None,
    baseline: float | None = None,
    focal: float | None = None,
) -> Depth:
    """Read a depth map from `.npy`, `.npz` (one array, or one named `depth`), `.pfm`, `.png`, `.tif` or `.exr`.

    Depth is `z = unit * stored + offset`. There is no data where the file stores 0, +infinity, `invalid`, or in 16-bit
    integers 65535 (the sensors' mark). NaN is refused unless `invalid=nan` declares it: undeclared, it is
    nearly always the trace of a mistake further up.

    Inverse depth (`kind="disparity"`, larger = nearer) becomes depth by `disparity_to_depth`: negatives are shifted to
    0, 0 is far away (and valid), and the median depth is `median_depth`. No data: +infinity and `invalid` alone.

    Stereo disparity (`kind="disparity"` with `baseline` and `focal`) is in pixels between two rectified cameras, and
    metric: `z = baseline * focal / (unit * stored + offset)`. There is no data where the file stores 0, +infinity or
    `invalid` (and 65535 in 16-bit integers), as for depth.

    Args:
        path: the file.
        unit: scene units in one stored unit (0.001 for millimetres in a scene in metres); negative only with an offset,
            for files that store nearness (`8 (1 - v/255)` is unit -8/255, offset 8). For stereo disparity pixels in
            one stored unit (1/256 for KITTI), above 0.
        offset: scene units added; for stereo disparity pixels (Middlebury's doffs).
        kind: what is stored. None: depth, but refused where `looks_like_disparity` is true; "depth": trusted,
            and only negative values are refused.
        invalid: one more stored value that means "no data"; may be NaN.
        median_depth: scene units; for relative disparity only, 1 by default.
        baseline: distance of the two cameras, scene units.
        focal: focal length in pixels of this map, not of an image of another size.

    Returns:
        `Depth` of the file's size; metric but for relative inverse depth.

    Raises:
        FileError: missing, damaged, not a depth map, no valid value, negative depth, undeclared NaN, or inverse depth
            that was not declared.
        InputError: options that do not fit together.
    """
    _check_options(unit, offset, kind, median_depth)
    is_stereo = _check_stereo(kind, unit, offset, median_depth, baseline, focal)
    stored = read_stored(path)
    is_relative = kind == "disparity" and not is_stereo
    known = _known(stored, path, is_relative, invalid)
    depth = np.zeros(stored.shape)
    if baseline is not None and focal is not None:
        depth[known] = _stereo_depth(unit * stored[known].astype(np.float64) + offset, path, baseline * focal)
    elif is_relative:
        # Disparity 0 everywhere would put all of the scene on the far plane: no map at all.
        if not known.any() or (stored[known].max() <= 0 and np.ptp(stored[known]) == 0):
            raise FileError(f"disparity map {path} has no value above 0: nothing in it is near; write it again")
        depth[known] = disparity_to_depth(stored[known], 1.0 if median_depth is None else median_depth)
    else:
        with np.errstate(over="ignore"):
            depth[known] = unit * stored[known].astype(np.float64) + offset
        _check_depth(depth, known, path, kind)
    with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, which is no data
        values = torch.from_numpy(depth.astype(np.float32))
    # What is nearer than this has no inverse in float32.
    valid = torch.isfinite(values) & (values >= torch.finfo(torch.float32).tiny)
    if not bool(valid.any()):
        raise FileError(f"depth map {path} has no depth that can be told from 0 or infinity; check unit {unit:g}")
    return Depth(torch.where(valid, values, 0.0), valid, is_metric=not is_relative)


def _check_options(unit: float, offset: float, kind: str | None, median_depth: float | None) -> None:
    if kind not in (None, "depth", "disparity"):
        raise InputError(f"depth_kind is {kind!r}; it is 'depth' or 'disparity'")
    if not (math.isfinite(unit) and math.isfinite(offset)) or unit == 0 or (unit < 0 and offset <= 0):
        raise InputError(f"depth_unit is {unit:g} with offset {offset:g}; give scene units per stored unit, above 0")
    if median_depth is not None and kind != "disparity":
        raise InputError("median_depth sets the scale of inverse depth; for depth give depth_unit instead")
    if median_depth is not None and not (math.isfinite(median_depth) and median_depth > 0):
        raise InputError(f"median_depth is {median_depth:g}; give a distance above 0 in scene units")


def _check_stereo(
    kind: str | None,
    unit: float,
    offset: float,
    median_depth: float | None,
    baseline: float | None,
    focal: float | None,
) -> bool:
    """Whether the disparity is that of a stereo pair; refuses half of the numbers that it needs."""
    if baseline is None and focal is None:
        if kind == "disparity" and (unit != 1 or offset != 0):
            given = f"depth_unit is {unit:g}" if unit != 1 else f"depth_offset is {offset:g}"
            raise InputError(
                f"{given}, but relative inverse depth has no unit; leave it out and give median_depth, "
                "or for stereo give baseline and focal"
            )
        return False
    if baseline is None or focal is None:
        given, lacking = ("baseline", "focal") if focal is None else ("focal", "baseline")
        raise InputError(f"{given} was given without {lacking}; stereo disparity needs both, relative disparity none")
    if kind != "disparity":
        raise InputError(f"baseline and focal belong to stereo disparity, but depth_kind is {kind!r}; use 'disparity'")
    if not (0 < baseline < math.inf and 0 < focal < math.inf):
        raise InputError(f"baseline is {baseline:g} and focal {focal:g}; both must be above 0 (scene units, pixels)")
    if median_depth is not None:
        raise InputError("median_depth sets the scale of relative disparity; baseline and focal already give one")
    if unit < 0:
        raise InputError(f"depth_unit is {unit:g}; for stereo disparity give pixels in one stored unit, above 0")
    return True


def _stereo_depth(disparity: np.ndarray, path: str | os.PathLike[str], product: float) -> np.ndarray:
    """Depth baseline * focal / d; infinite, which is no data, where d is 0."""
    behind = float((disparity < 0).mean())
    if behind > 0:
        raise FileError(
            f"stereo disparity {path} is negative in {behind:.1%} of its pixels; if one negative number means no data, "
            "declare it with --depth_invalid"
        )
    with np.errstate(divide="ignore", over="ignore"):
        return product / disparity


def _known(stored: np.ndarray, path: str | os.PathLike[str], is_relative: bool, invalid: float | None) -> np.ndarray:
    """Where the file holds data, bool [H, W]; refuses NaN, -infinity and a map without data."""
    known = np.ones(stored.shape, dtype=bool)
    if invalid is not None:
        known &= ~np.isnan(stored) if math.isnan(invalid) else stored != invalid
    if not is_relative:
        known &= stored != 0
        if stored.dtype.kind in "iu" and stored.dtype.itemsize == 2:
            known &= stored != 65535
    share = float(np.isnan(stored[known]).mean()) if known.any() else 0.0
    if share > 0:
        raise FileError(
            f"depth map {path} is NaN in {share:.1%} of its pixels; if that means no data, use --depth_invalid nan"
        )
    if np.isneginf(stored[known]).any():
        raise FileError(f"depth map {path} holds -infinity; write no data as 0")
    known &= np.isfinite(stored)
    if not known.any():
        raise FileError(
            f"depth map {path} has no valid value: every pixel is 0 or marked as no data; check how it was written"
        )
    return known


def _check_depth(depth: np.ndarray, known: np.ndarray, path: str | os.PathLike[str], kind: str | None) -> None:
    """Refuse depth behind the camera, and inverse depth that nobody declared."""
    behind = float((depth[known] < 0).mean())
    if behind > 0:
        raise FileError(
            f"depth map {path} is negative in {behind:.1%} of its pixels; {_ADVICE}; "
            "if one negative number means no data, declare it with --depth_invalid"
        )
    if kind is None:
        evidence = disparity_evidence(depth)
        if evidence.is_strong:
            raise FileError(
                f"depth map {path} looks like inverse depth, because {evidence}; {_ADVICE}; "
                "if its values really are distances, use --depth_kind depth"
            )


def fit_depth(depth: Depth, width: int, height: int) -> Depth:
    """A depth map of the image's size: resized where the shapes agree, refused where it shows something else.

    `Depth.enlarged` of the result has how much larger it became.

    Args:
        depth: the map.
        width: of the image.
        height: of the image.

    Returns:
        `Depth` [height, width]; the map itself where it has that size.

    Raises:
        InputError: the two shapes differ by more than a pixel of the smaller one, or the map is more than
            `MOST_ENLARGED` times smaller.
    """
    if (depth.width, depth.height) == (width, height):
        return depth
    # Rounding may have cost a pixel of the smaller of the two, which is `scale` pixels of the image.
    scale = min(width / depth.width, height / depth.height)
    if abs(width - depth.width * scale) > max(1.0, scale) or abs(height - depth.height * scale) > max(1.0, scale):
        raise InputError(
            f"depth is {depth.width} x {depth.height}, but the image is {width} x {height}: another shape, so they "
            "do not show the same; cut the image to what the map shows with --resize, --crop and --already_cropped, "
            "with intrinsics of the cut-out, or give a map of the whole image"
        )
    enlarged = max(width / depth.width, height / depth.height)
    if enlarged > MOST_ENLARGED:
        raise InputError(
            f"depth is {depth.width} x {depth.height}, but the image is {width} x {height}: {enlarged:.3g} times "
            f"larger, and {MOST_ENLARGED:g} is the most; give a larger map, or a smaller image"
        )
    return replace(depth.resize(width, height), enlarged=max(1.0, enlarged))
