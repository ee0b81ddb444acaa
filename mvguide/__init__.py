"""Move a camera through a picture with a pretrained video diffusion model, without training.

The public names are loaded when they are first used, so that importing the package (and ``mvguide --help``) is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, load_sigmas, save_sigmas
    from mvguide.errors import MvguideError
    from mvguide.geometry.camera import Camera
    from mvguide.geometry.keyframes import interpolate_cameras
    from mvguide.geometry.trajectory import (
        dolly,
        ellipse,
        make_trajectory,
        orbit,
        pan,
        pedestal,
        roll,
        spiral,
        tilt,
        truck,
        zoom,
    )
    from mvguide.guidance.guides import GuidanceSettings
    from mvguide.pipeline.pipeline import MultiViewPipeline
    from mvguide.pipeline.result import Result
    from mvguide.tables.search import SearchResult, search_hypers
    from mvguide.tables.table import LambdaTable
    from mvguide.views.moments import Moments
    from mvguide.views.view import View

_TRAJECTORIES = "orbit ellipse dolly truck pedestal pan tilt roll zoom spiral make_trajectory"
_HOMES = {
    "mvguide.diffusion.schedule": "SigmaSchedule karras_sigmas load_sigmas save_sigmas",
    "mvguide.errors": "MvguideError",
    "mvguide.geometry.camera": "Camera",
    "mvguide.geometry.keyframes": "interpolate_cameras",
    "mvguide.geometry.trajectory": _TRAJECTORIES,
    "mvguide.guidance.guides": "GuidanceSettings",
    "mvguide.tables.search": "SearchResult search_hypers",
    "mvguide.tables.table": "LambdaTable",
    "mvguide.views.moments": "Moments",
    "mvguide.pipeline.pipeline": "MultiViewPipeline",
    "mvguide.pipeline.result": "Result",
    "mvguide.views.view": "View",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Camera",
    "GuidanceSettings",
    "LambdaTable",
    "Moments",
    "MultiViewPipeline",
    "MvguideError",
    "Result",
    "SearchResult",
    "SigmaSchedule",
    "View",
    "dolly",
    "ellipse",
    "interpolate_cameras",
    "karras_sigmas",
    "load_sigmas",
    "make_trajectory",
    "orbit",
    "pan",
    "pedestal",
    "roll",
    "save_sigmas",
    "search_hypers",
    "spiral",
    "tilt",
    "truck",
    "zoom",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'mvguide' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted(__all__)
