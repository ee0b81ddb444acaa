"""Preview of a path without a model: what each frame will see of the views, and what is wrong with the path."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mvguide.drawing.path_plot import plot_path
from mvguide.drawing.sheets import mark_holes, pick_columns, video_sheet
from mvguide.files.atomic import output_folder
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.pipeline.prepare import WarpedPath
from mvguide.views.diagnosis import diagnose
from mvguide.views.view import scene_points
from mvguide.views.warps import parallax

_WORTH_A_WORD = 0.01  # share of a depth map without depth from which it is mentioned
_SAMPLES = 10_000
"""Pixels of a frame that stand for all of them in a quantile."""


@dataclass(frozen=True)
class Preview:
    """What a trajectory shows of the views.

    Args:
        path: the views warped along it.
        parallax: ``[F]`` median motion of the first view's points since frame 0, in pixels of the video.
        warnings: problems of the path and how to fix them, a sentence each.
    """

    path: WarpedPath
    parallax: Tensor
    warnings: list[str]

    def table(self) -> list[dict[str, Any]]:
        """A row for each frame: share seen, share from each view, confidence, parallax, range of depth."""
        rows, warps = [], self.path.warps
        seen = warps.seen.tolist()
        for frame in range(len(self.path.trajectory)):
            visible = warps.visible[frame] > 0
            depth = warps.depth[frame][visible & (warps.depth[frame] > 0)]
            moved = self.parallax[frame]
            sample = depth[:: max(1, len(depth) // _SAMPLES)]
            near, far = (float(sample.quantile(q)) if len(sample) else None for q in (0.01, 0.99))
            rows.append(
                {
                    "frame": frame,
                    "seen": round(seen[frame], 4),
                    "from_views": [round(share, 4) for share in warps.shares[:, frame].tolist()],
                    "confidence": round(float(warps.confidence[frame][visible].mean()), 4) if visible.any() else 0,
                    "parallax_pixels": round(float(moved), 2) if moved.isfinite() else None,
                    "depth_near": near,
                    "depth_far": far,
                }
            )
        return rows

    def text(self) -> str:
        """The table as text, what its columns mean, and the warnings under it."""
        several = len(self.path.views) > 1
        lines = ["frame   seen  confidence  parallax px        depth" + ("  from views" if several else "")]
        for row in self.table():
            depth = "-" if row["depth_near"] is None else f"{row['depth_near']:.3g} to {row['depth_far']:.3g}"
            moved = "-" if row["parallax_pixels"] is None else f"{row['parallax_pixels']:.1f}"
            shares = " ".join(f"{share:.0%}" for share in row["from_views"]) if several else ""
            line = f"{row['frame']:5d} {row['seen']:6.0%} {row['confidence']:11.2f} {moved:>12} {depth:>12}  {shares}"
            lines.append(line.rstrip())
        size = f"{self.path.trajectory.width} x {self.path.trajectory.height}"
        lines.append(
            f"seen: share of a frame of {size} that a view shows; confidence: how well it is known there, 0 to 1; "
            "parallax: how far the scene has moved since frame 0; depth: of what is seen, scene units"
            + ("; from views: share of the frame taken from each view" if several else "")
        )
        for view in self.path.views:
            missing = 1 - float(view.require_depth().valid.float().mean())
            if missing > _WORTH_A_WORD:
                lines.append(
                    f"{missing:.0%} of {view.name} has no depth: its place is guessed, and it does not count as seen"
                )
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def save(self, folder: str | Path, fps: int = 7) -> Path:
        """Write ``warps.mp4``, ``sheet.png``, ``path.png`` and ``preview.json``, whole or not at all.

        Raises OutputError when the folder cannot be written.
        """
        warps = self.path.warps
        with output_folder(folder, stale=()) as out:
            # A frame at a time: there may be thousands.
            write_video(out / "warps.mp4", map(mark_holes, warps.image, warps.visible), fps)
            write_png(out / "sheet.png", self._sheet())
            plot_path(
                out / "path.png",
                [view.camera for view in self.path.views],
                self.path.trajectory,
                scene_points(self.path.views, 6000),
            )
            document = {"warnings": self.warnings, "frames": self.table()}
            (out / "preview.json").write_text(json.dumps(document, indent=2) + "\n")
        return Path(folder)

    def _sheet(self) -> Tensor:
        warps = self.path.warps
        columns = pick_columns(len(warps.image))
        shown = {
            "warp": mark_holes(warps.image[columns], warps.visible[columns]),
            "confidence": warps.confidence[columns].expand(-1, 3, -1, -1),
        }
        notes = [f"{share:.0%} seen" for share in warps.seen[columns].tolist()]
        return video_sheet(shown, notes, labels=[f"frame {index}" for index in columns])


def preview(path: WarpedPath) -> Preview:
    """Judge a warped path; no model is needed.

    Args:
        path: from :func:`mvguide.pipeline.prepare.warp_path`, or a context of the pipeline.
    """
    moved = parallax(path.first_view, path.trajectory)
    return Preview(path, moved, diagnose(path.views, path.trajectory, path.warps))
