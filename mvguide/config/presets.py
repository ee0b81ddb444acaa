"""Presets: settings of known methods, filled in where nothing was given."""

from dataclasses import replace
from typing import Any

from mvguide.config import RenderConfig

NVS_SOLVER: dict[str, Any] = {"sigmas": "sigmas_100", "cfg_min": 1.0, "cfg_max": 3.0, "hole_radius": 2}
"""The released scripts, around guidance: their sigmas, the stock pipeline's ramp, and holes dilated by 5 x 5 pixels."""

_NVS_SOLVER_GUIDANCE: dict[str, Any] = {
    "table": "search",
    "rule": "released",
    "distances": "frame",
    "floor": 0.2,
    "count_holes": True,
    # They drop a cell of which a fifth or more is hidden: 13 of 64 pixels (or 4 of 16), so 52 (13) must be seen.
    "cell_coverage": 0.8125,
}

GUIDANCE: dict[str, dict[str, Any]] = {
    "nvs_solver_dgs": {**_NVS_SOLVER_GUIDANCE, "kind": "top_share"},
    "nvs_solver_post": {
        **_NVS_SOLVER_GUIDANCE,
        "kind": "posterior_gradient",
        "step_size": 0.02,
        "through_network": False,
    },
}
"""Guidance of each preset; see :class:`mvguide.config.GuidanceConfig` for what they repeat and what they do not."""


def with_preset(config: RenderConfig) -> RenderConfig:
    """Settings with those of their preset where they were left unset; given ones win.

    The preset's sigmas give way to a given number of steps too.
    """
    guidance = config.guidance
    if guidance.preset is None:
        return config
    around = {name: value for name, value in NVS_SOLVER.items() if name != "sigmas" or config.steps is None}
    return replace(
        config, **_unset(config, around), guidance=replace(guidance, **_unset(guidance, GUIDANCE[guidance.preset]))
    )


def _unset(config: object, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if getattr(config, name) is None}
