"""The result of a run, and how it is written to a folder."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mvguide.cameras.colmap_text import write_colmap
from mvguide.cameras.transforms import write_transforms
from mvguide.decoding import is_folder
from mvguide.drawing import page
from mvguide.drawing.notebook import data_uri, picture_png
from mvguide.drawing.path_plot import plot_path
from mvguide.drawing.sheets import BACKGROUND, mark_holes, pick_columns, video_sheet
from mvguide.drawing.table_plot import plot_table
from mvguide.files.atomic import output_folder
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.pipeline.checkpoint import CHECKPOINTS
from mvguide.pipeline.latents import LATENTS, DenoisedRun
from mvguide.pipeline.result_page import result_page
from mvguide.views.view import scene_points

REPORTED_PACKAGES = ("mvguide", "torch", "diffusers", "transformers", "numpy", "scipy", "pillow", "imageio-ffmpeg")


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(DenoisedRun):
    """A rendered trajectory: a run and its frames.

    Args:
        frames: ``[F, 3, H, W]`` float32 in [0, 1] on the CPU.
    """

    frames: Tensor

    def __repr__(self) -> str:
        """One line: a video, and what made it."""
        count, _, height, width = self.frames.shape
        made = ", ".join(
            f"{name} {self.settings[name]}" for name in ("model", "guidance", "seed") if name in self.settings
        )
        return f"Result({count} frames of {width} x {height}{', ' if made else ''}{made}, {len(self.schedule)} steps)"

    def _repr_html_(self) -> str:
        """The video and the sheet, for notebooks."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "video.mp4"
            write_video(file, self.frames, self.fps)
            video = data_uri(file.read_bytes(), "video/mp4")
        return page.side_by_side(
            page.video(video, "the rendered video", repr(self)),
            page.image(data_uri(picture_png(self.sheet())), "input, warps and video, frame by frame"),
        )

    @property
    def fps(self) -> int:
        """Frames per second that the model was conditioned on."""
        return int(self.settings.get("conditioning", {}).get("fps", 7))

    def report(self, command: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Settings, seed, versions, input frames, share seen and distance of each frame, and seconds per stage.

        Args:
            command: settings of the command that made the result, to be kept beside those of the run.
        """
        return {
            "settings": self.settings if command is None else {**self.settings, "command": dict(command)},
            "table": None if self.table is None else self.table.source,
            "sigmas": [float(f"{sigma:.6g}") for sigma in self.schedule.sigmas.tolist()],
            "pinned": self.warps.pinned.nonzero()[:, 0].tolist(),
            "seen": [round(share, 4) for share in self.warps.seen.tolist()],
            "distances": [round(distance, 5) for distance in self.warps.distances.tolist()],
            "seconds": self.seconds,
            "versions": {name: version(name) for name in REPORTED_PACKAGES} | {"python": platform.python_version()},
        }

    def sheet(self) -> Tensor:
        """Picture of the whole run, ``[3, H', W']``: inputs, warps with holes marked, and video in rows."""
        columns, size = pick_columns(len(self.frames)), (self.trajectory.width, self.trajectory.height)
        shown = self.warps.shares.argmax(0)[columns].tolist()
        # Each input once, above the first frame that shows most of it.
        inputs = torch.full_like(self.frames[columns], BACKGROUND)
        for index in set(shown):
            inputs[shown.index(index)] = self.views[index].fit(*size).image
        rows = {
            "input": inputs,
            "warp": mark_holes(self.warps.image[columns], self.warps.visible[columns]),
            "result": self.frames[columns],
        }
        seen = self.warps.seen.tolist()
        notes = ["given" if self.warps.pinned[frame] else f"{100 * seen[frame]:.0f}% seen" for frame in columns]
        return video_sheet(rows, notes, labels=[f"frame {frame}" for frame in columns])

    def side_by_side(self) -> Iterator[Tensor]:
        """Frames ``[3, H, 3 W]`` of a video of input, warp with holes marked, and result."""
        given = self.view.image
        for frame, warp, visible in zip(self.frames, self.warps.image, self.warps.visible, strict=True):
            yield torch.cat([given, mark_holes(warp, visible), frame], dim=-1)

    def save(
        self,
        folder: str | Path,
        fps: int | None = None,
        command: Mapping[str, Any] | None = None,
        *,
        keep_latents: bool = False,
        warnings: Sequence[str] = (),
        made_by: str = "",
    ) -> Path:
        """Write everything to a folder, whole or not at all. A checkpoint in it has done its work, and goes.

        ``report.html``, a page with all of it; ``video.mp4``, ``images/0000.png`` ..., ``masks/`` (255 = seen by a
        view), ``confidence/`` (0 ... 255), ``warps/`` (the targets of guidance, black in holes), ``warps.mp4``,
        ``side_by_side.mp4``, ``sheet.png``, ``path.png``, ``lambda_table.npz`` and ``.png`` (with guidance),
        ``report.json``; the cameras as ``transforms.json`` (nerfstudio) and ``sparse/0``
        (COLMAP text, with points of the views' depth): nerfstudio and gsplat train on the folder as it is.

        Args:
            folder: to write; an older result in it is replaced.
            fps: frames per second of the films; those of the conditioning by default.
            command: settings of the command that made the result, for the report.
            keep_latents: write ``latents.safetensors`` too, to decode again.
            warnings: what the diagnosis of the path said, for the page.
            made_by: the command line that makes it again, for the page.

        Raises:
            OutputError: the folder cannot be written.
        """
        fps = fps or self.fps
        names = [f"{index:04d}.png" for index in range(len(self.frames))]
        stale = [f"{part}/[0-9][0-9][0-9][0-9].png" for part in ("images", "masks", "confidence", "warps")]
        stale += ["lambda_table.npz", "lambda_table.png", LATENTS, *CHECKPOINTS]
        resumable = is_folder(Path(folder)) and any(any(Path(folder).glob(pattern)) for pattern in CHECKPOINTS)
        with output_folder(folder, stale=stale, durable=resumable) as out:
            parts = {"images": self.frames, "masks": self.warps.visible, "confidence": self.warps.confidence}
            parts["warps"] = self.warps.image
            for part, pictures in parts.items():
                (out / part).mkdir()
                for name, picture in zip(names, pictures, strict=True):
                    write_png(out / part / name, picture)
            write_video(out / "video.mp4", self.frames, fps)
            write_video(out / "warps.mp4", map(mark_holes, self.warps.image, self.warps.visible), fps)
            write_video(out / "side_by_side.mp4", self.side_by_side(), fps)
            write_png(out / "sheet.png", self.sheet())
            cameras = [view.camera for view in self.views]
            plot_path(out / "path.png", cameras, self.trajectory, scene_points(self.views, 6_000))
            places = [f"images/{name}" for name in names]
            masks = [{"mask_path": f"masks/{name}"} for name in names]
            write_transforms(out / "transforms.json", self.trajectory, places, frame_extra=masks)
            write_colmap(out / "sparse" / "0", self.trajectory, names, *scene_points(self.views, 20_000))
            if self.table is not None:
                self.table.save(out / "lambda_table.npz")
                columns = "frame" if self.table.num_frames == len(self.frames) else "latent frame"
                plot_table(self.table, out / "lambda_table.png", columns)
            if keep_latents:
                self.save_latents(out / LATENTS, command)
            (out / "report.json").write_text(json.dumps(self.report(command), indent=2) + "\n")
            title = f"mvguide: {Path(folder).name}"
            (out / "report.html").write_text(result_page(self, title, warnings, made_by), encoding="utf-8")
        return Path(folder)
