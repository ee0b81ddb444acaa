"""What the viewer shows: of a path before it is rendered, or of a result folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mvguide.cameras.colmap import find_colmap, read_colmap
from mvguide.cameras.transforms import read_transforms
from mvguide.decoding import is_file, is_folder
from mvguide.drawing.sheets import mark_holes, pick_columns
from mvguide.errors import FileError
from mvguide.evaluation.rendered import read_json
from mvguide.files.images import read_image
from mvguide.geometry.camera import Camera
from mvguide.pipeline.latents import LATENTS, DenoisedRun, load_latents
from mvguide.pipeline.prepare import WarpedPath
from mvguide.views.view import View, scene_points

_SAME_SURFACE = 0.05
"""Depths within this share are of one surface."""
_FOLLOWED = 32
"""Frames of a path, spread evenly, that say which share of it sees a point."""
_ADVICE = "give a folder that mvguide render wrote, a scene file, or a folder of posed images"


class Frames(Protocol):
    """F pictures ``[C, H, W]`` in [0, 1]: a tensor ``[F, C, H, W]``, or read from files when they are asked for."""

    def __getitem__(self, number: int, /) -> Tensor:
        """The picture of a frame."""


class FolderFrames:
    """Pictures of a folder, each read when it is asked for: a result may have thousands.

    Args:
        paths: F files, all of which are there.
        size: (width, height) that each of them has.
    """

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size

    def __getitem__(self, number: int, /) -> Tensor:
        """The picture ``[3, H, W]``. Raises FileError where it is damaged, or has another size."""
        picture = read_image(self.paths[number])
        if (picture.shape[-1], picture.shape[-2]) != self.size:
            found, wanted = f"{picture.shape[-1]} x {picture.shape[-2]}", "{} x {}".format(*self.size)
            raise FileError(f"image {self.paths[number]} is {found}, but its camera is {wanted}; render it again")
        return picture


@dataclass(frozen=True)
class Shown:
    """A scene, a path through it, and what its frames show.

    Args:
        title: for the window.
        views: input views; depth is not needed.
        points: ``[N, 3]`` in the world.
        colours: ``[N, 3]`` in [0, 1].
        trajectory: F cameras.
        frames: what the frames show, by name: F pictures each.
        start: the camera that new paths start from, of the video's size.
        posed: paths may start anywhere; otherwise they are moved so that they start at ``start``.
        visible: F masks, 1 = seen; None where that is not known.
        confidence: F maps in [0, 1]; None where that is not known.
        depth: ``[F, 1, H, W]`` z of what is seen, or None: then points hidden behind others count as seen.
        problems: of the path and how to fix them, a sentence each.
    """

    title: str
    views: list[View]
    points: Tensor
    colours: Tensor
    trajectory: Camera
    frames: Mapping[str, Frames]
    start: Camera
    posed: bool
    visible: Frames | None = None
    confidence: Frames | None = None
    depth: Tensor | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def share_names(self) -> list[str]:
        """What :attr:`point_shares` has, without computing it."""
        known = {"seen": self.visible, "confidence": self.confidence}
        return [name for name, there in known.items() if there is not None and self.visible is not None]

    @cached_property
    def point_shares(self) -> dict[str, Tensor]:
        """What is known of each point, ``[N]`` in [0, 1] by name.

        ``seen``: share of the frames that show it; ``confidence``: its mean over these. Of a long path 32 frames count.
        """
        if self.visible is None or not len(self.points):
            return {}
        numbers = pick_columns(len(self.trajectory), _FOLLOWED)
        points = self.points.double()
        seen, sure = torch.zeros(len(points)), torch.zeros(len(points))
        for number in numbers:
            pixels, z = self.trajectory[number].project(points)
            inside = (z > 0) & (pixels >= 0).all(-1)
            inside &= (pixels[:, 0] < self.trajectory.width) & (pixels[:, 1] < self.trajectory.height)
            columns, rows = pixels[inside].floor().long().unbind(-1)
            shown = self.visible[number][0, rows, columns] > 0.5
            if self.depth is not None:
                surface = self.depth[number, 0, rows, columns].double()
                shown &= (z[inside] - surface).abs() <= _SAME_SURFACE * z[inside]
            seen[inside] += shown
            if self.confidence is not None:
                sure[inside] += shown * self.confidence[number][0, rows, columns]
        shares = {"seen": seen / len(numbers)}
        return shares if self.confidence is None else {**shares, "confidence": sure / seen.clamp(min=1)}


def show_path(
    path: WarpedPath, start: Camera, *, posed: bool, count: int, title: str, problems: Sequence[str] = ()
) -> Shown:
    """A path before it is rendered.

    Args:
        path: the views warped along it.
        start: the camera that new paths start from, of the video's size.
        posed: whether new paths may start elsewhere.
        count: points to show, at most about.
        title: for the window.
        problems: of the path, a sentence each.
    """
    points, colours = scene_points(path.views, count)
    warps = path.warps
    frames: dict[str, Frames] = {"warp": mark_holes(warps.image, warps.visible), "mask": warps.visible}
    return Shown(
        title,
        list(path.views),
        points,
        colours,
        path.trajectory,
        {**frames, "confidence": warps.confidence},
        start,
        posed,
        warps.visible,
        warps.confidence,
        warps.depth,
        list(problems),
    )


def is_result(folder: str | Path) -> bool:
    """Whether a folder is a result of ``mvguide render``, rather than a folder of posed images."""
    place = Path(folder)
    return is_folder(place) and (is_folder(place / "warps") or is_file(place / LATENTS) or _is_report(place))


def read_shown(folder: str | Path, count: int) -> Shown:
    """A result folder: what is there of cameras, images, warps, masks, confidence, points and latents.

    Args:
        folder: a result; ``transforms.json`` or ``latents.safetensors`` must be in it, for the cameras.
        count: points to show, at most about.

    Raises:
        FileError: no cameras, parts that are damaged, or that lack a frame.
    """
    place = Path(folder)
    run = load_latents(place / LATENTS)[0] if is_file(place / LATENTS) else None
    cameras, names = _cameras(place, run)
    size = cameras.width, cameras.height
    parts: dict[str, Frames] = {}
    for part in ("images", "warps", "masks", "confidence"):
        if is_folder(place / part):
            paths = [place / part / name for name in names]
            missing = next((path for path in paths if not is_file(path)), None)
            if missing is not None:
                raise FileError(f"result {folder} has {len(names)} cameras, but no {missing}; render it again")
            parts[part] = FolderFrames(paths, size)
    if run is not None:
        parts.setdefault("warps", run.warps.image)
        parts.setdefault("masks", run.warps.visible)
        parts.setdefault("confidence", run.warps.confidence)
    report = read_json(place / "report.json", "report") if _is_report(place) else {}
    points, colours = _points(place, run, count)
    titles = {"images": "result", "warps": "warp", "masks": "mask", "confidence": "confidence"}
    return Shown(
        place.name,
        list(run.views) if run is not None else _given(report, parts, cameras),
        points,
        colours,
        cameras,
        {title: parts[part] for part, title in titles.items() if part in parts},
        cameras[0],
        _is_posed(report),
        parts.get("masks"),
        parts.get("confidence"),
        None if run is None else run.warps.depth,
    )


def _is_report(place: Path) -> bool:
    return is_file(place / "report.json")


def _cameras(place: Path, run: DenoisedRun | None) -> tuple[Camera, list[str]]:
    """Cameras of the frames, and the names of their files."""
    if is_file(place / "transforms.json"):
        found = read_transforms(place / "transforms.json")
        return found.cameras, [Path(name).name for name in found.image_names]
    if run is not None:
        return run.trajectory, [f"{number:04d}.png" for number in range(len(run.trajectory))]
    raise FileError(f"{place} has no transforms.json, so its cameras are not known; {_ADVICE}")


def _points(place: Path, run: DenoisedRun | None, count: int) -> tuple[Tensor, Tensor]:
    """Points of the views' depth; those of ``sparse/0`` where depth is not kept."""
    if run is not None:
        return scene_points(run.views, count)
    if find_colmap(place) is not None:
        found = read_colmap(place)
        if found.points is not None:
            return found.points, found.extra["point_colors"].float() / 255
    return torch.zeros(0, 3), torch.zeros(0, 3)


def _given(report: Mapping[str, Any], parts: Mapping[str, Frames], cameras: Camera) -> list[View]:
    """The frames that are input views, as far as the folder says."""
    frames, listed = parts.get("warps", parts.get("images")), report.get("pinned")
    if frames is None or not isinstance(listed, list):
        return []
    numbers = [number for number in listed if type(number) is int and 0 <= number < len(cameras)]
    return [View(frames[number], cameras[number], name=f"frame {number}") for number in numbers]


def _is_posed(report: Mapping[str, Any]) -> bool:
    """Whether the inputs had cameras of their own; if the report does not say so, paths are taken to be moved."""
    settings = report.get("settings")
    command = settings.get("command") if isinstance(settings, dict) else None
    if not isinstance(command, dict):
        return False
    views = command.get("views")
    listed = [view for view in views if isinstance(view, dict)] if isinstance(views, list) else []
    return command.get("cameras") is not None or any(view.get("camera_to_world") is not None for view in listed)
