"""Move a camera through a picture with a pretrained video diffusion model, without training.

The public names are loaded when they are first used, so that importing the package (and ``mvguide --help``) is quick.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvguide.backbones.acceleration import AccelerationOptions
    from mvguide.backbones.base import ConditioningOptions
    from mvguide.cameras.formats import read_cameras
    from mvguide.config.input_options import (
        CropOptions,
        DepthOptions,
        LensOptions,
        SourceOptions,
        TrajectoryOptions,
        ViewOptions,
    )
    from mvguide.depth.align import align_to_points
    from mvguide.depth.maps import Depth, read_depth
    from mvguide.depth.plane_sweep import plane_sweep
    from mvguide.diffusion.resampling import Resampling
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
    from mvguide.guidance.gradient import PosteriorGradient
    from mvguide.guidance.guides import Blend, NoGuidance, TopShare
    from mvguide.guidance.targets import MaskOptions
    from mvguide.inputs.loading import Inputs, load_views
    from mvguide.pipeline.calibration import calibrate
    from mvguide.pipeline.checkpoint import Checkpoint
    from mvguide.pipeline.guided_scheduler import GuidedScheduler
    from mvguide.pipeline.pipeline import MultiViewPipeline
    from mvguide.pipeline.prepare import Context
    from mvguide.pipeline.result import Result
    from mvguide.tables.search import SearchResult, search_hypers
    from mvguide.tables.table import LambdaTable
    from mvguide.views.moments import Moments
    from mvguide.views.view import View

_HOMES = {
    "mvguide.backbones.acceleration": "AccelerationOptions",
    "mvguide.backbones.base": "ConditioningOptions",
    "mvguide.cameras.formats": "read_cameras",
    "mvguide.config.input_options": "CropOptions DepthOptions LensOptions SourceOptions TrajectoryOptions ViewOptions",
    "mvguide.depth.align": "align_to_points",
    "mvguide.depth.maps": "Depth read_depth",
    "mvguide.depth.plane_sweep": "plane_sweep",
    "mvguide.diffusion.resampling": "Resampling",
    "mvguide.diffusion.schedule": "SigmaSchedule karras_sigmas load_sigmas save_sigmas",
    "mvguide.errors": "MvguideError",
    "mvguide.geometry.camera": "Camera",
    "mvguide.geometry.keyframes": "interpolate_cameras",
    "mvguide.geometry.trajectory": "orbit ellipse dolly truck pedestal pan tilt roll zoom spiral make_trajectory",
    "mvguide.guidance.gradient": "PosteriorGradient",
    "mvguide.guidance.guides": "Blend NoGuidance TopShare",
    "mvguide.guidance.targets": "MaskOptions",
    "mvguide.inputs.loading": "Inputs load_views",
    "mvguide.pipeline.calibration": "calibrate",
    "mvguide.pipeline.checkpoint": "Checkpoint",
    "mvguide.pipeline.guided_scheduler": "GuidedScheduler",
    "mvguide.pipeline.pipeline": "MultiViewPipeline",
    "mvguide.pipeline.prepare": "Context",
    "mvguide.pipeline.result": "Result",
    "mvguide.tables.search": "SearchResult search_hypers",
    "mvguide.tables.table": "LambdaTable",
    "mvguide.views.moments": "Moments",
    "mvguide.views.view": "View",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AccelerationOptions",
    "Blend",
    "Camera",
    "Checkpoint",
    "ConditioningOptions",
    "Context",
    "CropOptions",
    "Depth",
    "DepthOptions",
    "GuidedScheduler",
    "Inputs",
    "LambdaTable",
    "LensOptions",
    "MaskOptions",
    "Moments",
    "MultiViewPipeline",
    "MvguideError",
    "NoGuidance",
    "PosteriorGradient",
    "Resampling",
    "Result",
    "SearchResult",
    "SigmaSchedule",
    "SourceOptions",
    "TopShare",
    "TrajectoryOptions",
    "View",
    "ViewOptions",
    "align_to_points",
    "calibrate",
    "dolly",
    "ellipse",
    "interpolate_cameras",
    "karras_sigmas",
    "load_sigmas",
    "load_views",
    "make_trajectory",
    "orbit",
    "pan",
    "pedestal",
    "plane_sweep",
    "read_cameras",
    "read_depth",
    "roll",
    "save_sigmas",
    "search_hypers",
    "spiral",
    "tilt",
    "truck",
    "zoom",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name == "__version__":
        return version("mvguide")
    if name not in _HOME:
        raise AttributeError(f"module 'mvguide' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted(__all__)
