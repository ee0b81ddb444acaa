"""Is a map depth or inverse depth? Evidence from its values alone, and the conversion of one to the other."""

from dataclasses import dataclass

import numpy as np

FAR = 100.0
"""Inverse depth 0 is infinitely far; it is put at this many median depths, where parallax is a hundredth."""


@dataclass(frozen=True)
class DisparityEvidence:
    """Figures of a map that show whether it is inverse depth; see `disparity_evidence` for how each is measured."""

    negative: float
    """Share of values below 0."""
    fading: float | None
    """Share of pixels beside exact zeros whose value is under a tenth of the median; None: too few such pixels."""
    row_correlation: float
    """Rank correlation of value and row in [-1, 1]."""
    straightness: float | None
    """Share in [0, 1] of surface samples that are straight in the value, against straight in 1/value; None: too few."""

    @property
    def is_certain(self) -> bool:
        """True for values below 0: a distance in front of the camera cannot be negative."""
        return self.negative > 0

    @property
    def is_strong(self) -> bool:
        """True where the map should not be used as depth unless its kind was declared."""
        if self.is_certain or (self.fading is not None and self.fading > 0.3 and self.row_correlation > 0.2):
            return True
        return self.straightness is not None and self.row_correlation + 2 * (self.straightness - 0.5) > 0.9

    def __str__(self) -> str:
        """The strongest evidence, in words that end a sentence starting with "because"."""
        if self.is_certain:
            return f"{self.negative:.1%} of its values are negative"
        parts = [f"values {'grow' if self.row_correlation > 0 else 'fall'} towards the bottom of the image"]
        if self.fading is not None and self.fading > 0.3:
            parts.insert(0, "values fade smoothly to 0")
        if self.straightness is not None and self.straightness > 0.5:
            parts.append("flat surfaces are straight in the value, not in its inverse")
        return ", ".join(parts)


def looks_like_disparity(values: np.ndarray) -> bool:
    """Whether a map that is offered as depth looks like inverse depth; True only on strong evidence.

    Values below 0 are certain evidence, and `read_depth` refuses them as depth in any case. The rest is soft: a caller
    that gets True should ask for the kind to be declared, and trust the declaration. Strong means either of

    * values fade to an exact 0 (more than 0.3 of its border) and grow down the image (correlation above 0.2): a sky
      in inverse depth. Holes of real depth have hard edges;
    * `row_correlation + 2 (straightness - 1/2) > 0.9`: values grow down the image *and* flat surfaces are straight in
      them.

    Args:
        values: [H, W], as stored; 0 and values that are not finite may stand for no data.
    """
    return disparity_evidence(values).is_strong


def disparity_evidence(values: np.ndarray) -> DisparityEvidence:
    """Measure how much a map looks like inverse depth.

    * negative: relative inverse depth is known up to a shift, so it may be below 0. Depth may not.
    * fading: inverse depth runs smoothly into the 0 of the sky; depth jumps from its smallest value to "no data".
    * row_correlation: in most images what is lower is nearer, so depth falls with the row and inverse depth grows.
    * straightness: a plane `n . X = c` seen by a pinhole camera has `1/z = n . K^-1 (u, v, 1) / c`: inverse depth is
      affine in the pixel, depth is not. For three pixels in a line at equal steps with values a, b, c that means
      b = (a+c)/2 for inverse depth and b = 2ac/(a+c) for depth. Each triple with b near one of the two means is a vote
      (steps of 4 % and 8 % of the image; a and c at least 10 % apart).

    Args:
        values: [H, W], as stored; 0 and values that are not finite may stand for no data.
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    numbers = np.where(finite, numbers, 0.0)
    negative = float((numbers < 0).sum() / max(1, finite.sum()))
    # As evidence of negatives is certain by itself, the other figures are only ever needed on values >= 0.
    numbers = np.maximum(numbers, 0.0)
    positive = numbers > 0
    return DisparityEvidence(
        negative=negative,
        fading=_fading(numbers, positive, finite),
        row_correlation=_row_correlation(numbers, positive),
        straightness=_straightness(numbers),
    )


def _fading(values: np.ndarray, positive: np.ndarray, finite: np.ndarray) -> float | None:
    zero = finite & ~positive
    beside = np.zeros_like(zero)
    beside[1:] |= zero[:-1]
    beside[:-1] |= zero[1:]
    beside[:, 1:] |= zero[:, :-1]
    beside[:, :-1] |= zero[:, 1:]
    beside &= positive
    if beside.sum() < 20:
        return None
    return float((values[beside] < 0.1 * np.median(values[positive])).mean())


def _row_correlation(values: np.ndarray, positive: np.ndarray) -> float:
    """Spearman's rank correlation over at most some 50 000 pixels; 0 where either side is constant."""
    rows, columns = np.nonzero(positive)
    step = max(1, len(rows) // 50_000)
    if len(rows) < 3:
        return 0.0
    ranks = [_ranks(x[::step]) for x in (rows, values[rows, columns])]
    a, b = (rank - rank.mean() for rank in ranks)
    spread = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / spread) if spread > 0 else 0.0


def _ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _straightness(values: np.ndarray) -> float | None:
    in_value = in_inverse = 0
    for axis in (0, 1):
        lines = np.moveaxis(values, axis, 0)
        stride = max(1, lines.shape[1] // 256), max(1, lines.shape[0] // 256)
        for share in (0.04, 0.08):
            step = max(1, round(share * lines.shape[0]))
            if lines.shape[0] <= 2 * step:
                continue
            a, b, c = (lines[i * step : lines.shape[0] - (2 - i) * step][:: stride[1], :: stride[0]] for i in range(3))
            rises = np.abs(a - c) > 0.1 * b
            between = (np.minimum(a, c) < b) & (b < np.maximum(a, c)) & (np.minimum(a, c) > 0)
            a, b, c = (x[rises & between] for x in (a, b, c))
            arithmetic, harmonic = (a + c) / 2, 2 * a * c / (a + c)
            place = (b - harmonic) / np.maximum(arithmetic - harmonic, 1e-300)
            in_value += int((np.abs(place - 1) < 0.25).sum())
            in_inverse += int((np.abs(place) < 0.25).sum())
    votes = in_value + in_inverse
    return in_value / votes if votes >= 200 else None


def disparity_to_depth(disparity: np.ndarray, median_depth: float = 1.0) -> np.ndarray:
    """Relative inverse depth to depth: `z = median_depth * m / max(d, m / FAR)` with m the median of all d > 0.

    Where values are negative their smallest is first moved to 0 (the shift of relative inverse depth is unknown; 0 is
    then the farthest point seen). The unknown scale is fixed by the median: half of what is not infinitely far is
    nearer than `median_depth`.

    Args:
        disparity: [...], finite, larger = nearer, 0 = infinitely far; at least two different values or one above 0.
        median_depth: in scene units, > 0.

    Returns:
        float64 [...], in (0, FAR * median_depth].
    """
    shifted = np.asarray(disparity, dtype=np.float64)
    # Brought to about 1 first, so that neither the shift nor the ratio leaves the range of floats.
    shifted = shifted / np.abs(shifted).max()
    shifted = shifted - min(0.0, float(shifted.min()))
    median = float(np.median(shifted[shifted > 0]))
    return median_depth * median / np.maximum(shifted, median / FAR)
