"""A denoised run before it is decoded, and the file that keeps it: decoding can wait for a device with more memory."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.decoding import check_readable, decoding
from mvguide.depth.maps import Depth
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import FileError
from mvguide.files.atomic import atomic_path
from mvguide.geometry.camera import Camera
from mvguide.pipeline.prepare import WarpedPath
from mvguide.tables.table import LambdaTable
from mvguide.views.view import View
from mvguide.views.warps import Warps

LATENTS = "latents.safetensors"
"""File of a result folder that keeps a run that is not decoded, or was to be kept."""
_FORMAT = 1  # of that file
_HEADER = "mvguide"
_ADVICE = "give the latents.safetensors that mvguide render wrote, or render again"


@dataclass(frozen=True, kw_only=True, repr=False)
class DenoisedRun:
    """A run whose latents are clean: all of a result but its frames. ``MultiViewPipeline.decode`` makes the result.

    Args:
        warps: the views as each camera sees them.
        views: all input views, as given.
        trajectory: F cameras at the video's size.
        schedule: noise levels of the run.
        table: weights of the run; None without guidance.
        latents: clean latents ``[1, L, C, h, w]`` on the CPU.
        settings: of the run, in plain values.
        seconds: time of each stage.
    """

    warps: Warps
    views: Sequence[View]
    trajectory: Camera
    schedule: SigmaSchedule
    table: LambdaTable | None
    latents: Tensor
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def view(self) -> View:
        """The input view that the model was conditioned on, at the video's size."""
        return WarpedPath(views=self.views, trajectory=self.trajectory, moments=None, warps=self.warps).first_view

    def save_latents(self, path: str | Path, command: Mapping[str, Any] | None = None) -> Path:
        """Write everything to one ``.safetensors`` file, so that decoding needs nothing but it and the model.

        Args:
            path: the file.
            command: settings of the command that made the run, for the report of the result.

        Raises:
            OutputError: the file cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        tensors = {"latents": self.latents, "sigmas": self.schedule.sigmas}
        tensors |= {f"warps.{name}": value for name, value in vars(self.warps).items()}
        tensors |= _of_camera("trajectory", self.trajectory)
        if self.table is not None:
            tensors |= {"table.weights": self.table.weights, "table.sigmas": self.table.sigmas}
        for index, view in enumerate(self.views):
            depth = view.require_depth()
            tensors |= _of_camera(f"views.{index}", view.camera)
            tensors |= {f"views.{index}.image": view.image, f"views.{index}.depth": depth.values}
            tensors[f"views.{index}.valid"] = depth.valid
            for name in ("confidence", "background"):
                if getattr(view, name) is not None:
                    tensors[f"views.{index}.{name}"] = getattr(view, name)
        header = {
            "format": _FORMAT,
            "schedule": self.schedule.name,
            "table": None if self.table is None else self.table.source,
            "views": [{"name": view.name, "is_metric": view.require_depth().is_metric} for view in self.views],
            "settings": self.settings,
            "seconds": self.seconds,
            "command": dict(command or {}),
        }
        arrays = {name: _packed(tensor.detach().cpu()).contiguous().numpy() for name, tensor in tensors.items()}
        with atomic_path(path) as temporary:
            try:
                save_file(arrays, temporary, {_HEADER: json.dumps(header)})
            except SafetensorError as error:  # a full disk is no OSError there
                raise OSError(str(error).rpartition("I/O error: ")[2]) from error
        return Path(path)


def load_latents(path: str | Path) -> tuple[DenoisedRun, dict[str, Any]]:
    """Read what :meth:`DenoisedRun.save_latents` wrote: the run, and the settings of the command that made it.

    Raises:
        FileError: missing, damaged, or not such a file.
    """
    from safetensors import safe_open

    file = check_readable(path, "latents file")
    with decoding(file, "latents file", _ADVICE), safe_open(file, framework="pt") as stored:
        text = (stored.metadata() or {}).get(_HEADER)
        if text is None:
            raise FileError(f"latents file {path} holds no run of mvguide; {_ADVICE}")
        header = json.loads(text)
        if header["format"] != _FORMAT:
            raise FileError(f"latents file {path} is of format {header['format']!r}, not {_FORMAT}; {_ADVICE}")
        found = {name: _unpacked(stored.get_tensor(name)) for name in stored.keys()}  # noqa: SIM118  # no mapping
        run = _run(found, header)
        _check(run, file)
        return run, dict(header["command"])


def _run(found: Mapping[str, Tensor], header: Mapping[str, Any]) -> DenoisedRun:
    warps = Warps(**{part.name: found[f"warps.{part.name}"] for part in fields(Warps)})
    views = []
    for index, about in enumerate(header["views"]):
        part = f"views.{index}"
        image, confidence, background = (found.get(f"{part}.{name}") for name in ("image", "confidence", "background"))
        if image is None:
            raise ValueError(f"it lacks {part}.image")
        depth = Depth(found[f"{part}.depth"], found[f"{part}.valid"], bool(about["is_metric"]))
        camera = _camera(found, part, image)
        views.append(View(image, camera, depth, str(about["name"]), confidence, background))
    table = None
    if header["table"] is not None:
        table = LambdaTable(found["table.weights"], found["table.sigmas"], str(header["table"]))
    return DenoisedRun(
        warps=warps,
        views=views,
        trajectory=_camera(found, "trajectory", warps.image),
        schedule=SigmaSchedule(found["sigmas"], str(header["schedule"])),
        table=table,
        latents=found["latents"],
        settings=dict(header["settings"]),
        seconds={str(stage): float(time) for stage, time in header["seconds"].items()},
    )


def _check(run: DenoisedRun, file: Path) -> None:
    """Raise FileError for tensors that do not fit together, or settings without what decoding needs."""
    count, size = len(run.trajectory), (run.trajectory.height, run.trajectory.width)
    cells, wide = (count, 1, *size), (len(run.views), count)
    shapes = {"image": (count, 3, *size), "pinned": (count,), "distances": (count,), "shares": wide}
    wrong = [name for name, value in vars(run.warps).items() if tuple(value.shape) != shapes.get(name, cells)]
    depths = [view.require_depth() for view in run.views]
    wrong += ["valid" for depth in depths if depth.valid.shape != depth.values.shape]
    if wrong or not run.views or run.latents.ndim != 5:
        raise FileError(
            f"latents file {file} has {', '.join(wrong) or 'views or latents'} of shapes that do not fit; {_ADVICE}"
        )
    kinds = {"pinned": torch.bool, "guessed": torch.bool}
    floats = [run.latents, *(value for name, value in vars(run.warps).items() if name not in kinds)]
    masks = [getattr(run.warps, name) for name in kinds] + [depth.valid for depth in depths]
    model, conditioning = run.settings.get("model"), run.settings.get("conditioning")
    fps = conditioning.get("fps") if isinstance(conditioning, dict) else None
    if not isinstance(model, str) or not isinstance(fps, int) or not 1 <= fps <= 1000:
        raise FileError(f"latents file {file} does not say what model, or how many frames a second; {_ADVICE}")
    if not all(value.is_floating_point() for value in floats) or any(mask.dtype != torch.bool for mask in masks):
        raise FileError(f"latents file {file} has numbers of kinds that do not fit; {_ADVICE}")


def _of_camera(name: str, camera: Camera) -> dict[str, Tensor]:
    return {f"{name}.intrinsics": camera.intrinsics, f"{name}.world_to_camera": camera.world_to_camera}


def _camera(found: Mapping[str, Tensor], name: str, image: Tensor) -> Camera:
    """A camera of the size of an image ``[..., H, W]``."""
    height, width = image.shape[-2:]
    camera = Camera(found[f"{name}.intrinsics"], found[f"{name}.world_to_camera"], width, height)
    camera.check()
    return camera


def _packed(values: Tensor) -> Tensor:
    """Floats that all are whole numbers of 1/255, as masks and most images are, as bytes: nothing is lost."""
    if values.dtype != torch.float32 or values.ndim < 2 or not bool(((values >= 0) & (values <= 1)).all()):
        return values
    whole = (values * 255).round().to(torch.uint8)
    return whole if torch.equal(_unpacked(whole), values) else values


def _unpacked(values: Tensor) -> Tensor:
    return values.float() / 255 if values.dtype == torch.uint8 else values
