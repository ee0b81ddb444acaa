"""Everything up to the targets and nothing after: what a path will show, and what is wrong with it, without a model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mvguide.drawing.path_plot import plot_path
from mvguide.drawing.sheets import mark_holes, video_sheet
from mvguide.files.atomic import output_folder
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.geometry.camera import Camera
from mvguide.views.diagnosis import diagnose
from mvguide.views.moments import Moments
from mvguide.views.view import View, fit_camera, scene_points
from mvguide.views.warps import Warps, parallax, warp_views

_SAMPLES = 10_000
"""Pixels of a frame that stand for all of them in a quantile."""


@dataclass(frozen=True)
class Preview:
    """What a trajectory shows of the views.

    Args:
        views: as given.
        trajectory: F cameras at the video's size.
        warps: what guidance would aim at.
        parallax: ``[F]`` median motion of the first view's points since frame 0, in pixels of the video.
        warnings: what is wrong and how to mend it, a sentence each; empty when nothing is.
    """

    views: Sequence[View]
    trajectory: Camera
    warps: Warps
    parallax: Tensor
    warnings: list[str]

    def table(self) -> list[dict[str, Any]]:
        """A row for each frame: share seen, share from each view, confidence, parallax, range of depth."""
        rows = []
        for frame in range(len(self.trajectory)):
            visible = self.warps.visible[frame] > 0
            depth = self.warps.depth[frame][visible & (self.warps.depth[frame] > 0)]
            sample = depth[:: max(1, len(depth) // _SAMPLES)]
            near, far = (float(sample.quantile(q)) if len(sample) else None for q in (0.01, 0.99))
            rows.append(
                {
                    "frame": frame,
                    "seen": round(float(self.warps.seen[frame]), 4),
                    "from_views": [round(share, 4) for share in self.warps.shares[:, frame].tolist()],
                    "confidence": round(float(self.warps.confidence[frame][visible].mean()), 4) if visible.any() else 0,
                    "parallax_pixels": round(float(self.parallax[frame]), 2),
                    "depth_near": near,
                    "depth_far": far,
                }
            )
        return rows

    def text(self) -> str:
        """The table as text, and the warnings under it."""
        lines = ["frame   seen  confidence  parallax px        depth  from views"]
        for row in self.table():
            depth = "-" if row["depth_near"] is None else f"{row['depth_near']:.3g} to {row['depth_far']:.3g}"
            shares = " ".join(f"{share:.0%}" for share in row["from_views"])
            lines.append(
                f"{row['frame']:5d} {row['seen']:6.0%} {row['confidence']:11.2f} {row['parallax_pixels']:12.1f} "
                f"{depth:>12}  {shares}"
            )
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def save(self, folder: str | Path, fps: int = 7) -> Path:
        """Write ``warps.mp4``, ``sheet.png``, ``path.png`` and ``preview.json``, whole or not at all.

        Raises OutputError when the folder cannot be written.
        """
        marked = mark_holes(self.warps.image, self.warps.visible)
        notes = [f"{share:.0%} seen" for share in self.warps.seen.tolist()]
        with output_folder(folder, stale=()) as out:
            write_video(out / "warps.mp4", marked, fps)
            write_png(out / "sheet.png", video_sheet({"warp": marked, "confidence": self._confidence()}, notes))
            plot_path(
                out / "path.png", [view.camera for view in self.views], self.trajectory, scene_points(self.views, 6000)
            )
            document = {"warnings": self.warnings, "frames": self.table()}
            (out / "preview.json").write_text(json.dumps(document, indent=2) + "\n")
        return Path(folder)

    def _confidence(self) -> Tensor:
        return self.warps.confidence.expand(-1, 3, -1, -1)


def preview(
    views: Sequence[View],
    trajectory: Camera,
    size: tuple[int, int],
    *,
    moments: Moments | None = None,
    hole_radius: int = 0,
) -> Preview:
    """Warp and judge a trajectory; takes what the pipeline takes, and no model.

    Args:
        views: pictures with depth and cameras.
        trajectory: F cameras of the first picture's size.
        size: (width, height) of the video.
        moments: as in the pipeline.
        hole_radius: as in the pipeline.

    Raises:
        InputError: as :func:`mvguide.views.warps.warp_views`.
    """
    path = fit_camera(trajectory, *size)
    warps = warp_views(views, path, moments=moments, hole_radius=hole_radius)
    moved = parallax(views[int(warps.shares[:, 0].argmax())].fit(*size), path)
    return Preview(views, path, warps, moved, diagnose(views, path, warps))
