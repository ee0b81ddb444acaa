"""Depth maps of a video: relative inverse depth of all frames is brought to one scale, or the scene would pump."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mvguide.depth.kind import disparity_to_depth
from mvguide.depth.maps import Depth, DepthKind, read_depth
from mvguide.files.depth_formats import read_stored


def read_depths(
    paths: Sequence[str | Path],
    *,
    unit: float = 1.0,
    offset: float = 0.0,
    kind: DepthKind | None = None,
    invalid: float | None = None,
    baseline: float | None = None,
    focal: float | None = None,
) -> list[Depth]:
    """Read the depth maps of a video's frames.

    As `read_depth` for each; but the unknown shift and scale of relative inverse depth are
    taken from all frames together: `z = m / d` with m the median of all.

    Args:
        paths: one for each frame.
        unit: scene units in one stored unit.
        offset: added after the unit.
        kind: `depth` or `disparity`; None = depth, refused if it looks inverse.
        invalid: stored value that means "no data".
        baseline: for stereo disparity: distance of the two cameras, scene units.
        focal: for stereo disparity: focal length in pixels of the maps.

    Returns:
        A `Depth` for each, of its file's size.

    Raises:
        FileError, InputError: as `read_depth`.
    """
    depths = [
        read_depth(path, unit=unit, offset=offset, kind=kind, invalid=invalid, baseline=baseline, focal=focal)
        for path in paths
    ]
    if kind != "disparity" or baseline is not None:
        return depths
    masks = [depth.valid.numpy() for depth in depths]
    stored = [read_stored(path).astype(np.float64)[mask] for path, mask in zip(paths, masks, strict=True)]
    together = disparity_to_depth(np.concatenate(stored))
    parts = np.split(together, np.cumsum([len(part) for part in stored])[:-1])
    for index, (depth, part) in enumerate(zip(depths, parts, strict=True)):
        values = torch.zeros_like(depth.values)
        values[depth.valid] = torch.from_numpy(part).to(values)
        depths[index] = replace(depth, values=values)
    return depths
