"""All figures of a video against the truth: frame by frame, their means, and what only the whole video shows."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mvguide.errors import InputError
from mvguide.evaluation.metrics import BORDER, psnr, sharpness_ratio, ssim
from mvguide.evaluation.motion import flicker, reprojection_error
from mvguide.evaluation.recovery import Recovered
from mvguide.geometry.camera import Camera

METRICS = {"psnr": psnr, "ssim": ssim, "sharpness": sharpness_ratio}
REGIONS = ("whole", "seen", "holes")
COLUMNS = tuple(f"{metric} {region}" for metric in METRICS for region in REGIONS)
TEMPORAL = ("flicker", "flicker ratio", "reprojection", "reprojection ratio")
HIGHEST_PSNR = 100.0
"""PSNR of equal frames, which would be infinite, counts as this."""

SMALLEST_REGION = 0.005
"""Seen pixels or holes that are a smaller share of a frame than this are not scored: so few pixels say little."""

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Truth:
    """What videos are compared with: K true frames and all that is known of them.

    Args:
        frames: ``[K, 3, H, W]`` in [0, 1].
        visible: ``[K, 1, H, W]``: 1 = seen by an input view, 0 = hole.
        cameras: K cameras of the frames' size.
        numbers: which frames of the video they are.
        pinned: ``[K]`` bool: input views; they do not count.
        depth: ``[K, H, W]`` z, scene units, or None.
        valid: ``[K, H, W]`` bool: where the depth is known.

    Raises:
        InputError: no frame that counts, or sizes that differ.
    """

    frames: Tensor
    visible: Tensor
    cameras: Camera
    numbers: list[int]
    pinned: Tensor
    depth: Tensor | None = None
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that there is something to score."""
        count, _, height, width = self.frames.shape
        parts = [(self.visible, (count, 1, height, width)), (self.pinned, (count,))]
        parts += [(part, (count, height, width)) for part in (self.depth, self.valid) if part is not None]
        if any(tuple(part.shape) != shape for part, shape in parts) or len(self.numbers) != count:
            raise InputError(f"truth of {count} frames {width} x {height} has masks, depth or numbers of another size")
        if bool(self.pinned.all()):
            raise InputError("every true frame is one of the input views, so nothing is left to score; add others")

    @property
    def counted(self) -> Tensor:
        """``[K]`` bool: frames that count."""
        return ~self.pinned


@dataclass(frozen=True)
class Scores:
    """Figures of one video.

    Args:
        per_frame: name -> a value for each of the K true frames, None where a region is empty.
        means: name -> mean over the frames that count and have a value, None where none has.
        temporal: flicker and reprojection error, and their ratios to the truth's; None where not measured.
        recovered: what structure from motion found, where it was asked for.
    """

    per_frame: dict[str, list[float | None]]
    means: dict[str, float | None]
    temporal: dict[str, float | None]
    recovered: Recovered | None = field(default=None)

    def alone(self) -> "Scores":
        """Only what a video shows without any other: the truth's own figures."""
        own = {name: None if name.endswith("ratio") else value for name, value in self.temporal.items()}
        return Scores({}, {}, own, self.recovered)

    def with_cameras(self, recovered: Recovered) -> "Scores":
        """The same with a camera error."""
        return replace(self, recovered=recovered)


def score_video(frames: Tensor, truth: Truth, distance: Distance | None = None) -> Scores:
    """Score a video.

    PSNR, SSIM and the sharpness ratio over whole frames, what the views see and holes, where these are at least
    :data:`SMALLEST_REGION` of what the metric looks at; frames that are input views have figures of their own but are
    in no mean. Temporal figures leave out only what lies between input views; where every pair of neighbours holds an
    input view, there is no reprojection error.

    Args:
        frames: ``[K, 3, H, W]`` in [0, 1]: the frames of the video that the truth is of.
        truth: what they should be.
        distance: a perceptual distance of ``[N, 3, H, W]`` images, such as LPIPS.

    Returns:
        figures for each frame, their means, and those of the whole video.

    Raises:
        InputError: another shape than the truth's, or frames too small for a metric.
    """
    if frames.shape != truth.frames.shape:
        raise InputError(f"frames {list(frames.shape)} do not fit the true ones, {list(truth.frames.shape)}")
    masks = {"whole": None, "seen": truth.visible, "holes": 1 - truth.visible}
    found = {}
    for metric, function in METRICS.items():
        for region, mask in masks.items():
            values = function(frames, truth.frames, mask)
            if metric == "psnr":
                values = values.clamp(max=HIGHEST_PSNR)
            if mask is not None:
                values[_share(mask, metric) < SMALLEST_REGION] = torch.nan
            found[f"{metric} {region}"] = values.tolist()
    if distance is not None:
        found["perceptual"] = distance(frames, truth.frames).tolist()
    per_frame = {name: [finite_or_none(value) for value in values] for name, values in found.items()}
    counted = truth.counted.tolist()
    means = {name: _mean(values, counted) for name, values in per_frame.items()}
    return Scores(per_frame, means, _temporal(frames, truth))


def finite_or_none(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON cannot hold."""
    return float(value) if math.isfinite(value) else None


def _share(mask: Tensor, metric: str) -> Tensor:
    """Share of a frame that a metric looks at through a mask ``[K, 1, H, W]``: SSIM at whole windows' centres only."""
    looked = mask[..., BORDER:-BORDER, BORDER:-BORDER] if metric == "ssim" else mask
    return looked.mean(dim=(1, 2, 3))


def _mean(values: list[float | None], counted: list[bool]) -> float | None:
    kept = [value for value, counts in zip(values, counted, strict=True) if counts and value is not None]
    return sum(kept) / len(kept) if kept else None


def _temporal(frames: Tensor, truth: Truth) -> dict[str, float | None]:
    own = _temporal_figures(frames, truth)
    true = _temporal_figures(truth.frames, truth)
    found: dict[str, float | None] = {}
    for name in own:
        mine, reference = finite_or_none(own[name]), finite_or_none(true[name])
        found[name] = mine
        found[f"{name} ratio"] = mine / reference if mine is not None and reference else None
    return {name: found.get(name) for name in TEMPORAL}


def _temporal_figures(frames: Tensor, truth: Truth) -> dict[str, float]:
    found = {"flicker": flicker(frames, truth.counted)}
    counted = truth.counted
    # An input view warped into its neighbour is what a filled warp shows there: with no other pair, the error would be
    # near 0 by construction.
    informative = bool((counted[1:] & counted[:-1]).any())
    if informative and truth.depth is not None and truth.valid is not None:
        found["reprojection"] = reprojection_error(frames, truth.depth, truth.valid, truth.cameras, counted)
    return found
