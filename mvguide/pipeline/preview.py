"""Preview of a path without a model: what each frame will see of the views, and what is wrong with the path."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.drawing.path_plot import plot_path
from mvguide.drawing.sheets import mark_holes, pick_columns, video_sheet
from mvguide.files.atomic import output_folder
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.geometry.camera import Camera
from mvguide.pipeline.prepare import check_trajectory
from mvguide.views.diagnosis import diagnose_path
from mvguide.views.moments import Moments
from mvguide.views.view import View, fit_camera, scene_points
from mvguide.views.warps import Warps, parallax, warp_stretches

_WORTH_A_WORD = 0.01  # share of a depth map without depth from which it is mentioned
_SAMPLES = 10_000
"""Pixels of a frame that stand for all of them in a quantile."""
_FRAMES, _PIXELS = 16, 2**22
"""Frames that are in memory at a time: at most so many, of so many pixels."""


@dataclass(frozen=True)
class Preview:
    """What a trajectory shows of the views.

    Args:
        views: warped along it.
        trajectory: F cameras at the video's size.
        rows: for each frame: share seen, share from each view, confidence, parallax since frame 0 (pixels of the
            video), range of depth.
        warnings: problems of the path and how to fix them, a sentence each.
    """

    views: Sequence[View]
    trajectory: Camera
    rows: list[dict[str, Any]]
    warnings: list[str]

    def text(self) -> str:
        """The table as text, what its columns mean, and the warnings under it."""
        several = len(self.views) > 1
        lines = ["frame   seen  confidence  parallax px        depth" + ("  from views" if several else "")]
        for row in self.rows:
            depth = "-" if row["depth_near"] is None else f"{row['depth_near']:.3g} to {row['depth_far']:.3g}"
            moved = "-" if row["parallax_pixels"] is None else f"{row['parallax_pixels']:.1f}"
            shares = " ".join(f"{share:.0%}" for share in row["from_views"]) if several else ""
            line = f"{row['frame']:5d} {row['seen']:6.0%} {row['confidence']:11.2f} {moved:>12} {depth:>12}  {shares}"
            lines.append(line.rstrip())
        size = f"{self.trajectory.width} x {self.trajectory.height}"
        lines.append(
            f"seen: share of a frame of {size} that a view shows; confidence: how well it is known there, 0 to 1; "
            "parallax: how far the scene has moved since frame 0; depth: of what is seen, scene units"
            + ("; from views: share of the frame taken from each view" if several else "")
        )
        for view in self.views:
            missing = 1 - float(view.require_depth().valid.float().mean())
            if missing > _WORTH_A_WORD:
                lines.append(
                    f"{missing:.0%} of {view.name} has no depth: its place is guessed, and it does not count as seen"
                )
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def write_preview(
    folder: str | Path,
    views: Sequence[View],
    trajectory: Camera,
    size: tuple[int, int],
    *,
    moments: Moments | None = None,
    hole_radius: int = 0,
    fps: int = 7,
) -> Preview:
    """Warp views along a path, judge it, and write ``warps.mp4``, ``sheet.png``, ``path.png`` and ``preview.json``.

    No model is needed. Some frames are in memory at a time, however many there are.

    Args:
        folder: to write, whole or not at all.
        views: V input images with depth and cameras.
        trajectory: F cameras of the first image's size.
        size: (width, height) of the video, pixels. Cameras and depth are resized to cover it and cropped.
        moments: which views show which frames; by default every view shows every frame.
        hole_radius: grow holes by this many pixels.
        fps: frames per second of the video.

    Raises:
        InputError: no views, a view without depth, or a trajectory of another size than the first image.
        OutputError: the folder cannot be written.
    """
    check_trajectory(views, trajectory)
    path = fit_camera(trajectory, *size)
    length = max(2, min(_FRAMES, _PIXELS // (size[0] * size[1])))
    stretches = warp_stretches(views, path, length, moments=moments, hole_radius=hole_radius)
    columns = pick_columns(len(path))
    rows: list[dict[str, Any]] = []
    seen, pinned = torch.zeros(len(path)), torch.zeros(len(path), dtype=torch.bool)
    shown: dict[str, list[Tensor]] = {"warp": [], "confidence": []}

    def film() -> Iterator[Tensor]:
        """The frames one by one; notes down what is said of each."""
        for warps in stretches:
            seen[len(rows) : len(rows) + len(warps.image)] = warps.seen
            pinned[len(rows) : len(rows) + len(warps.image)] = warps.pinned
            for index, image in enumerate(warps.image):
                picture = mark_holes(image, warps.visible[index])
                if len(rows) in columns:
                    shown["warp"].append(picture)
                    shown["confidence"].append(warps.confidence[index].expand(3, -1, -1).clone())
                rows.append(_row(len(rows), warps, index))
                yield picture
            del warps, image  # not beside the next

    with output_folder(folder, stale=()) as out:
        write_video(out / "warps.mp4", film(), fps)
        first = max(range(len(views)), key=lambda index: rows[0]["from_views"][index])
        for row, moved in zip(rows, parallax(views[first].fit(*size), path).tolist(), strict=True):
            row["parallax_pixels"] = round(moved, 2) if math.isfinite(moved) else None
        notes = [f"{rows[frame]['seen']:.0%} seen" for frame in columns]
        pictures = {title: torch.stack(frames) for title, frames in shown.items()}
        write_png(out / "sheet.png", video_sheet(pictures, notes, labels=[f"frame {frame}" for frame in columns]))
        plot_path(out / "path.png", [view.camera for view in views], path, scene_points(views, 6000))
        warnings = diagnose_path(views, path, seen, pinned)
        (out / "preview.json").write_text(json.dumps({"warnings": warnings, "frames": rows}, indent=2) + "\n")
    return Preview(views, path, rows, warnings)


def _row(frame: int, warps: Warps, index: int) -> dict[str, Any]:
    """What is said of a frame, ``index`` of these warps; its parallax follows."""
    visible = warps.visible[index] > 0
    depth = warps.depth[index][visible & (warps.depth[index] > 0)]
    sample = depth[:: max(1, len(depth) // _SAMPLES)]
    near, far = (float(sample.quantile(q)) if len(sample) else None for q in (0.01, 0.99))
    return {
        "frame": frame,
        "seen": round(float((visible & ~warps.guessed[index]).float().mean()), 4),
        "from_views": [round(share, 4) for share in warps.shares[:, index].tolist()],
        "confidence": round(float(warps.confidence[index][visible].mean()), 4) if visible.any() else 0,
        "parallax_pixels": None,
        "depth_near": near,
        "depth_far": far,
    }
