"""What the studio shows before a render: the inputs, and three warps of a path that follow a slider at once."""

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from huggingface_hub.constants import HF_HUB_CACHE

import mvguide
from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.backbones.native_size import read_native_size
from mvguide.backbones.pretrained import find_model
from mvguide.commands.speaking import size_of
from mvguide.config.input_options import InputConfig
from mvguide.config.parsing import load_settings
from mvguide.config.render_options import ModelOptions, RenderConfig
from mvguide.config.studio_options import StudioConfig
from mvguide.decoding import is_folder, packaged_folder
from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import TRAJECTORIES
from mvguide.inputs.loading import Inputs, load_inputs
from mvguide.pipeline.prepare import WarpedPath, warp_path
from mvguide.views.diagnosis import diagnose
from mvguide.views.view import View

SIDE = 512
"""Longest side of the warps that are shown, pixels."""
_JUDGED = 96
"""Longest side of the warps of all frames that the path is judged by."""
_KEPT = 8
"""Inputs that are kept in memory, of all visitors together."""


@dataclass(frozen=True)
class PathSize:
    """The setting that says how far a kind of path goes, and the range of its slider.

    Args:
        name: of the setting.
        least, most, step: of the slider.
        unit: in words; empty where the name says it.
    """

    name: str
    least: float
    most: float
    step: float
    unit: str

    def usual(self, kind: str) -> float:
        """The default of the kind of path."""
        return float(inspect.signature(TRAJECTORIES[kind]).parameters[self.name].default)


_ANGLE = PathSize("degrees", -60, 60, 0.5, "")
_LENGTH = PathSize("distance", -0.6, 0.6, 0.01, "share of the depth")
SIZES = {
    "orbit": _ANGLE,
    "ellipse": PathSize("radius_x", 0, 0.5, 0.01, "half width, share of the depth"),
    "spiral": PathSize("radius", 0, 0.5, 0.01, "radius, share of the depth"),
    "dolly": _LENGTH,
    "truck": _LENGTH,
    "pedestal": _LENGTH,
    "pan": _ANGLE,
    "tilt": _ANGLE,
    "roll": _ANGLE,
    "zoom": PathSize("factor", 0.5, 3, 0.05, "times the focal length"),
}
"""Kinds of path with a size; views, still and file have none."""


@dataclass(frozen=True)
class Loaded:
    """Inputs that were read, and what was said while reading them."""

    inputs: Inputs
    notes: list[str]
    small: list[View]
    """The views at the size of the warps that are shown."""
    tiny: list[View]
    """The views at the size at which all frames are judged."""


@dataclass(frozen=True)
class Look:
    """Three frames of a path.

    Args:
        path: the views warped into them.
        frames: their numbers.
        num_frames: F of the whole path.
    """

    path: WarpedPath
    frames: list[int]
    num_frames: int


class Studio:
    """What all visitors share: the settings, and the inputs that were read last.

    Args:
        config: of the studio.
    """

    def __init__(self, config: StudioConfig) -> None:
        self.config, self.out = config, Path(config.out).absolute()
        self._base: dict[str, RenderConfig] = {}
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = Lock()

    def settings(self, source: Mapping[str, Any], **given: Any) -> RenderConfig:
        """Settings of a render, with those of the studio for all that a visitor may not choose.

        Args:
            source: the inputs, from :func:`mvguide.studio.intake.source_settings`, or ``scene`` by name.
            given: what the visitor chose.

        Raises:
            InputError, FileError: what cannot be used.
        """
        fixed = {name: getattr(self.config, name) for name in ("model", "depth_model", *_OF_MODEL)}
        return load_settings(RenderConfig, **{**source, **given, **fixed, "quiet": False})

    def base(self, source: Mapping[str, Any]) -> RenderConfig:
        """What the inputs alone say. Its files do not change: their folder is named after what they hold."""
        key = repr(sorted(source.items()))
        if key not in self._base:
            if len(self._base) > 100:
                self._base.clear()
            self._base[key] = self.settings(source)
        return self._base[key]

    def readable(self, visitor: Path) -> list[Path]:
        """Folders that a visitor's settings may lead to: their own, those of mvguide, and the models."""
        found = [visitor, Path(mvguide.__file__).parent, packaged_folder("configs"), packaged_folder("sigmas")]
        for model in (self.config.model, self.config.depth_model):
            if model is not None:
                cached = Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
                found.append(Path(model) if is_folder(Path(model)) else cached)
        return found

    def num_frames(self) -> int:
        """Frames of a video of the model, where the visitor does not say."""
        return read_native_size(find_model(self.config.model)).frames

    def load(self, settings: InputConfig) -> Loaded:
        """Inputs of settings, read or kept from the last time.

        Raises:
            MvguideError: inputs that cannot be used, in the words of the command line.
        """
        key = repr([(name, value) for name, value in vars(settings).items() if name in _OF_INPUTS])
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                return self._loaded[key]
        notes: list[str] = []
        inputs = load_inputs(settings, notes.append)
        for view in inputs.views:
            view.require_depth()
        sizes = [shown_size(inputs.start.camera, settings, side) for side in (SIDE, _JUDGED)]
        loaded = Loaded(inputs, notes, *([view.cover(*size) for view in inputs.views] for size in sizes))
        with self._lock:
            self._loaded[key] = loaded
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        return loaded


_OF_MODEL = {field.name for options in (AccelerationOptions, ModelOptions) for field in fields(options)}
_OF_INPUTS = set(inspect.signature(InputConfig).parameters) - {
    "trajectory",
    "num_frames",
    "hole_radius",
    "fps",
    "quiet",
}


def shown_size(camera: Camera, settings: InputConfig, most: int) -> tuple[int, int]:
    """(width, height) of warps that are shown: of the video's shape, their longer side ``most`` or the camera's."""
    native = read_native_size(find_model(settings.model))
    width, height = size_of(settings) or native.default_size(camera.width, camera.height)
    scale = min(most, max(camera.width, camera.height)) / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def look(loaded: Loaded, settings: InputConfig, num_frames: int) -> Look:
    """The warps of three frames: a third of the way, two thirds, and its end.

    Args:
        loaded: the inputs.
        settings: with the path.
        num_frames: F of the path.

    Raises:
        InputError: a path that cannot be made.
    """
    last = num_frames - 1
    frames = sorted({round(last / 3), round(2 * last / 3), last})
    return Look(_warped(loaded, settings, num_frames, frames, loaded.small, SIDE), frames, num_frames)


def judge(loaded: Loaded, settings: InputConfig, num_frames: int) -> list[str]:
    """What the doctor says about the whole path, from small warps of all frames."""
    path = _warped(loaded, settings, num_frames, list(range(num_frames)), loaded.tiny, _JUDGED)
    return diagnose(path.views, path.trajectory, path.warps)


def _warped(
    loaded: Loaded, settings: InputConfig, num_frames: int, frames: list[int], views: list[View], side: int
) -> WarpedPath:
    trajectory = loaded.inputs.trajectory(settings.trajectory, num_frames)[torch.tensor(frames)]
    moments = loaded.inputs.moments(num_frames)
    if moments is not None:
        moments = replace(moments, shows=moments.shows[:, frames], fills=moments.fills[:, frames])
    trajectory = trajectory.resize(views[0].camera.width, views[0].camera.height)
    size = shown_size(loaded.inputs.start.camera, settings, side)
    return warp_path(views, trajectory, size, moments=moments, hole_radius=settings.hole_radius or 0)
