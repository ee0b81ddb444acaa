"""How the weight follows from the errors of model and warp: the published script's rule, and the exact one.

The error of ``w X + (1 - w) D`` is at most ``w E_I + (1 - w) E_D`` with the model's error ``E_D = v2 sigma_n``
(sigma_n = sigma / largest sigma) and the warp's error ``E_I = v3 dp`` at camera distance dp in [0, 1]. With
``lambda = w/(1-w)``, the regulariser ``v1 |log lambda|`` and ``Q = v3 dp - v2 sigma_n`` the best lambda depends on
``q = Q/v1`` alone (NVS-Solver, You et al. 2025, arXiv 2405.15364, section 3.2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RuleName = Literal["released", "exact"]


@dataclass(frozen=True)
class Rule:
    """How lambda follows from q = Q/v1.

    Args:
        lambda_of: q of any shape -> lambda of that shape; NaN where the rule has no answer.
        favours_target: the weight exceeds 0.5 when ``q <= favours_target`` (``<`` and ``<=`` differ in no table found).
        favours_model: the rule has no answer for q strictly between the two bounds.
    """

    lambda_of: Callable[[Array], Array]
    favours_target: float
    favours_model: float

    def weights(
        self, sigma_n: Array, distance: Array, v1: Array | float, v2: Array | float, v3: Array | float
    ) -> Array:
        """Weights ``[..., N, F]``; v1, v2, v3 may be arrays that broadcast against ``[N, F]``.

        Args:
            sigma_n: ``[N]`` sigma / largest sigma.
            distance: ``[F]`` camera distance / largest distance; frames at 0 are input views, of weight 1.
            v1: weight of the regulariser, positive.
            v2: error of the model at the largest sigma, positive.
            v3: error of the warp at the largest distance, positive.
        """
        lambda_ = self.lambda_of((v3 * distance[None, :] - v2 * sigma_n[:, None]) / v1)
        return np.where(distance[None, :] > 0, lambda_ / (1 + lambda_), 1.0)


def exact_lambda(q: Array) -> Array:
    """Minimiser of ``w Q + v1 |log lambda|``: 1 for ``|q| <= 4``, else the root of ``L^2 + (2 - |q|) L + 1`` above 1.

    For q > 4 its mirror image, ``lambda(q) = 1 / lambda(-q)``.
    """
    size = np.maximum(np.abs(q), 4.0)
    root = 0.5 * ((size - 2) + np.sqrt((size - 2) ** 2 - 4))
    return np.where(q < 0, root, 1 / root)


def released_lambda(q: Array) -> Array:
    """What the published script computes, to the last digit.

    It solves ``k v1 L^2 + (2 k v1 + k Q) L + (k v1 + b Q) = 0`` (k = 0.8, b = -0.2) with ``2 v1`` where the formula
    has ``2 k v1`` outside the root, tries the roots for +v1 wanting L > 1, then those for -v1 wanting 0 < L <= 1,
    and takes the first that fits. NaN where none does, which is the case for -5 < q < 5.0625.
    """
    k, b = 0.8, -0.2
    found = np.full(np.shape(q), np.nan)
    for sign, low, high in ((1.0, 1.0, np.inf), (-1.0, 0.0, 1.0)):
        scaled = sign * np.asarray(q, dtype=np.float64)
        square = (2 * k + k * scaled) ** 2 - 4 * k * (k + b * scaled)
        with np.errstate(invalid="ignore"):
            spread = sign * np.sqrt(square)
            for root in ((-(2 + k * scaled) + spread) / (2 * k), (-(2 + k * scaled) - spread) / (2 * k)):
                fits = np.isnan(found) & (root > low) & (root <= high)
                found = np.where(fits, root, found)
    return found


RULES: dict[str, Rule] = {
    "released": Rule(released_lambda, favours_target=-5.0, favours_model=5.0625),
    "exact": Rule(exact_lambda, favours_target=-4.0, favours_model=-4.0),
}
