"""Parameters of the exact rule whose table comes nearest to measured weights."""

import numpy as np
from scipy.optimize import minimize

from mvguide.tables.rules import RULES, Array

V1_RANGE = (1e-9, 1.0)
"""v1 / v2: below, weights are 0 or 1 but for a hair; above, all are 1/2."""
V3_RANGE = (1e-9, 10.0)
"""v3 / v2: below, the warp is trusted to the lowest sigma of any schedule; above, the model at the largest."""
_POINTS = 30


def fit_exact(weights: Array, sigma_n: Array, distance: Array) -> tuple[tuple[float, float, float], float]:
    """(v1, 1, v3) of the exact rule with the least mean square difference to the weights, and its root.

    The best of a grid of 30 x 30, logarithmic, is where a simplex search starts.

    Args:
        weights: ``[N, F]`` in [0, 1].
        sigma_n: ``[N]`` sigma / largest sigma.
        distance: ``[F]`` distance / largest distance; frames at 0 have weight 1 whatever the parameters, and do not
            count.
    """
    moving = distance > 0
    if not moving.any():
        return (V1_RANGE[0], 1.0, V3_RANGE[0]), 0.0
    wanted, distance = weights[:, moving], distance[moving]

    def loss(v1: Array, v3: Array) -> Array:
        made = RULES["exact"].weights(sigma_n, distance, v1[..., None, None], 1.0, v3[..., None, None])
        return ((made - wanted) ** 2).mean(axis=(-2, -1))

    low, high = np.log([V1_RANGE[0], V3_RANGE[0]]), np.log([V1_RANGE[1], V3_RANGE[1]])
    axes = np.linspace(low, high, _POINTS, axis=-1)
    # Row by row: all at once would take half a gigabyte for 100 sigmas and 121 frames.
    losses = np.stack([loss(np.full(_POINTS, v1), np.exp(axes[1])) for v1 in np.exp(axes[0])])
    row, column = np.unravel_index(int(losses.argmin()), losses.shape)
    start = np.array([axes[0, row], axes[1, column]])

    def loss_at(at: Array) -> float:
        return float(loss(*np.exp(at)[:, None])[0])

    bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    found = minimize(loss_at, start, method="Nelder-Mead", bounds=bounds)
    v1, v3 = np.exp(found.x)
    return (float(v1), 1.0, float(v3)), float(np.sqrt(found.fun))
