"""Result folders, read back: frames, what the warps saw, cameras and the main settings."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.cameras.transforms import read_transforms
from mvguide.decoding import check_readable, decoding, is_file, is_folder
from mvguide.errors import FileError
from mvguide.files.images import read_image
from mvguide.geometry.camera import Camera

_ADVICE = "give a folder that mvguide render wrote"


@dataclass(frozen=True)
class RenderedVideo:
    """What a result folder holds.

    Args:
        folder: where it is.
        names: names of the frames, F.
        frames: ``[F, 3, H, W]`` in [0, 1].
        visible: ``[F, 1, H, W]``: 1 = seen by a view, 0 = hole.
        cameras: F cameras.
        warp: ``[F, 3, H, W]`` what guidance saw, or None in folders that do not keep it.
        pinned: ``[F]`` bool: frames that are input views.
        settings: model, guidance, table, solver, steps, seconds and what else the report says of them.
        notes: what the folder does not say, a sentence each.
    """

    folder: Path
    names: list[str]
    frames: Tensor
    visible: Tensor
    cameras: Camera
    warp: Tensor | None
    pinned: Tensor
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames.shape[-1], self.frames.shape[-2]


def read_result(folder: str | Path) -> RenderedVideo:
    """Read a result folder.

    Raises:
        FileError: no such folder, parts missing, damaged, or of counts and sizes that do not fit together.
    """
    place = Path(folder)
    if not is_folder(place):
        raise FileError(f"result {folder} is not a folder; {_ADVICE}")
    frames = _pictures(place, "images")
    names = [path.name for path in frames]
    video = read_pictures(frames)
    masks = [place / "masks" / name for name in names]
    visible = (read_pictures(masks)[:, :1] > 0.5).float()
    _same_size(place, "masks", visible, video)
    cameras = read_transforms(place / "transforms.json").cameras
    if len(cameras) != len(video) or (cameras.height, cameras.width) != tuple(video.shape[-2:]):
        raise FileError(
            f"result {folder} has {len(video)} frames of {video.shape[-1]} x {video.shape[-2]}, but its "
            f"transforms.json has {len(cameras)} cameras of {cameras.width} x {cameras.height}; {_ADVICE}"
        )
    warp = None
    if is_folder(place / "warps"):
        warp = read_pictures([place / "warps" / name for name in names])
        _same_size(place, "warps", warp, video)
    report = read_json(place / "report.json", "report")
    pinned, notes = _pinned(report, len(video), place)
    return RenderedVideo(place, names, video, visible, cameras, warp, pinned, main_settings(report), notes)


def page_of(result: Path, folder: str | Path) -> str:
    """Path of a result's own page, seen from another folder; empty where it has none."""
    page = result / "report.html"
    return Path(os.path.relpath(page, folder)).as_posix() if is_file(page) else ""


def read_pictures(paths: list[Path]) -> Tensor:
    """Pictures of one size as ``[F, 3, H, W]`` in [0, 1].

    Raises:
        FileError: a picture that is missing or damaged, or unlike sizes.
    """
    pictures = [read_image(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise FileError(
                f"picture {path} is {picture.shape[2]} x {picture.shape[1]}, but {paths[0].name} beside it is "
                f"{pictures[0].shape[2]} x {pictures[0].shape[1]}; all frames of a video have one size"
            )
    return torch.stack(pictures)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        FileError: missing, damaged, or no object.
    """
    file = check_readable(path, what)
    with decoding(file, what, _ADVICE):
        found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise FileError(f"{what} {path} holds a {type(found).__name__}, not an object; {_ADVICE}")
    return found


def main_settings(report: dict[str, Any]) -> dict[str, Any]:
    """The settings that tell one run from another: model, guidance, table, solver, steps, seed, seconds."""
    settings, seconds = report.get("settings"), report.get("seconds")
    settings = settings if isinstance(settings, dict) else {}
    times = list(seconds.values()) if isinstance(seconds, dict) else []
    spent = sum(time for time in times if isinstance(time, int | float))
    found = {name: settings.get(name) for name in ("model", "guidance", "solver", "steps", "seed")}
    return {**found, "table": report.get("table"), "seconds": round(spent, 2) if times else None}


def _pictures(place: Path, part: str) -> list[Path]:
    found = sorted((place / part).glob("*.png")) if is_folder(place / part) else []
    if not found:
        raise FileError(f"result {place} has no {part}/*.png; {_ADVICE}")
    return found


def _same_size(place: Path, part: str, pictures: Tensor, video: Tensor) -> None:
    if pictures.shape[-2:] != video.shape[-2:]:
        raise FileError(
            f"result {place} has {part} of {pictures.shape[-1]} x {pictures.shape[-2]}, but images of "
            f"{video.shape[-1]} x {video.shape[-2]}; {_ADVICE}"
        )


def _pinned(report: dict[str, Any], count: int, place: Path) -> tuple[Tensor, list[str]]:
    pinned = torch.zeros(count, dtype=torch.bool)
    listed = report.get("pinned")
    if listed is None:
        return pinned, ["the result does not say which frames are input views (no pinned in report.json): all count"]
    if not isinstance(listed, list) or not all(type(k) is int and 0 <= k < count for k in listed):
        raise FileError(f"report {place / 'report.json'}: pinned is no list of frame numbers from 0 to {count - 1}")
    pinned[listed] = True
    return pinned, []
