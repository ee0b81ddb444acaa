"""Presets: settings of known methods, as defaults that anything given overrides.

``nvs_solver_dgs`` and ``nvs_solver_post`` are the released NVS-Solver scripts for one image. For videos they have
floor 0.6. Not repeated: latents of targets divided by 5.6 instead of the VAE's own factor, the gradient on four fixed
tiles, each normalised by itself, and its network half with the image but without its embedding.
"""

from typing import Any

_GUIDANCE: dict[str, Any] = {
    "table": "search",
    "rule": "released",
    "distances": "frame",
    "floor": 0.2,
    "count_holes": True,
    # They drop a cell of which a fifth or more is hidden: 13 of 64 pixels (or 4 of 16), so 52 (13) must be seen.
    "cell_coverage": 0.8125,
}
_AROUND: dict[str, Any] = {
    "sigmas": "sigmas_100",  # 100 Euler steps
    "cfg_min": 1.0,  # the stock pipeline's ramp
    "cfg_max": 3.0,
    "hole_radius": 2,  # their dilation by 5 x 5 pixels
}

PRESETS: dict[str, dict[str, Any]] = {
    "nvs_solver_dgs": {**_AROUND, "guidance": {**_GUIDANCE, "kind": "top_share"}},
    "nvs_solver_post": {
        **_AROUND,
        "guidance": {
            **_GUIDANCE,
            "kind": "posterior_gradient",
            "step_size": 0.02,
            # They detach the network's input, so that only the skip connection is differentiated.
            "through_network": False,
        },
    },
}
"""Settings of ``mvguide render`` by the name of the preset."""


def preset_settings(name: str, *, steps_given: bool) -> dict[str, Any]:
    """Settings of a preset; its sigmas give way to a given number of steps."""
    return {key: value for key, value in PRESETS[name].items() if key != "sigmas" or not steps_given}
