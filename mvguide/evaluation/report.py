"""An evaluation as a folder: figures for programs, tables and pictures for people."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.drawing.error_pictures import enlarge, error_frames, error_sheet, whole_scale
from mvguide.drawing.sheets import pick_columns
from mvguide.errors import FileError
from mvguide.evaluation.figure_tables import CAMERA_FIGURES, cell, table
from mvguide.evaluation.recovery import Recovered
from mvguide.evaluation.rendered import page_of, read_json
from mvguide.evaluation.score_pages import evaluation_page
from mvguide.evaluation.scores import COLUMNS, TEMPORAL, Scores, Truth, finite_or_none
from mvguide.files.atomic import output_folder
from mvguide.files.images import write_png
from mvguide.files.video import write_video

RESULT = "result"
"""Name of the row of the result itself."""

FPS = 7
"""Of the videos that are to be compared."""

FORMAT = "mvguide evaluation 1"

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Figures of a result and of what it is compared with.

    Args:
        result: the result folder.
        against: what the true frames are, for people.
        truth: the true frames.
        videos: row -> ``[K, 3, H, W]``; the first is the result.
        scores: row -> figures; the same rows, and mostly ``truth`` with figures of the true video alone.
        settings: of the run.
        notes: what could not be measured and why, a sentence each.
    """

    result: Path
    against: str
    truth: Truth
    videos: dict[str, Tensor]
    scores: dict[str, Scores]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def document(self, folder: str | Path = ".") -> dict[str, Any]:
        """The evaluation as JSON; the path of the result is written relative to ``folder``."""
        return {
            "format": FORMAT,
            "result": Path(os.path.relpath(self.result, folder)).as_posix(),
            "truth": self.against,
            "size": [self.truth.frames.shape[-1], self.truth.frames.shape[-2]],
            "frames": self.truth.numbers,
            "given": [number for number, pinned in zip(self.truth.numbers, self.truth.pinned, strict=True) if pinned],
            "settings": self.settings,
            "rows": {name: self._figures(name) for name in self.scores},
            "per_frame": {name: self._frames(name) for name in self.videos},
            "notes": self.notes,
        }

    def text(self) -> str:
        """The tables as Markdown."""
        width, height = self.truth.frames.shape[-1], self.truth.frames.shape[-2]
        given = [number for number, pinned in zip(self.truth.numbers, self.truth.pinned, strict=True) if pinned]
        counted = int(self.truth.counted.sum())
        listed = ", ".join(map(str, given))
        skipped = f"; not counted, because they are input views: {listed}" if given else ""
        rows = {name: self._figures(name) for name in self.scores}
        parts = [
            "# Evaluation",
            f"`{self.result}` against `{self.against}`: {counted} frames of {width} x {height}{skipped}.",
            table("", {name: rows[name] for name in self.videos}, [*COLUMNS, "perceptual"]),
        ]
        in_time = table("", rows, [*TEMPORAL, "registered", *CAMERA_FIGURES])
        if in_time:
            parts += ["## In time", in_time]
        for name in self.videos:
            numbered = {str(row["frame"]) + (" (given)" if row["given"] else ""): row for row in self._frames(name)}
            parts += [f"## Frame by frame: {name}", table("frame", numbered, ["seen share", *COLUMNS, "perceptual"])]
        parts += ["## Notes\n", "\n".join(f"* {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts) + "\n"

    def summary(self) -> str:
        """The means as one short table."""
        rows = {name: self._figures(name) for name in self.videos}
        return table("", rows, ["psnr whole", "psnr seen", "psnr holes", "ssim whole", "sharpness whole", "perceptual"])

    def save(self, folder: str | Path, made_by: str = "") -> Path:
        """Write the evaluation folder, whole or not at all.

        ``report.html``, a page with all of it; ``evaluation.json``, ``evaluation.md``, ``errors.png``, ``errors/``,
        ``truth/`` and ``side_by_side.mp4`` (truth, result and error). ``errors/0003.png`` is the error of frame 3 of
        the result, ``truth/0003.png`` what it was compared with.

        Args:
            folder: to write; an older evaluation in it is replaced.
            made_by: the command line that makes it again, for the page.

        Raises:
            OutputError: the folder cannot be written.
        """
        names = [f"{number:04d}.png" for number in self.truth.numbers]
        scale = whole_scale(self.truth.frames.shape[-1], self.truth.frames.shape[-2])
        stale = [f"{part}/[0-9][0-9][0-9][0-9].png" for part in ("errors", "truth")]
        errors = error_frames(self.videos[RESULT], self.truth.frames, self.truth.visible, scale)
        with output_folder(folder, stale=stale) as out:
            for part, pictures in {"errors": errors, "truth": self.truth.frames}.items():
                (out / part).mkdir()
                for name, picture in zip(names, pictures, strict=True):
                    write_png(out / part / name, picture)
            write_png(out / "errors.png", self.sheet())
            write_video(out / "side_by_side.mp4", self._side_by_side(errors, scale), FPS)
            document = self.document(folder)
            (out / "evaluation.json").write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
            (out / "evaluation.md").write_text(self.text())
            html = evaluation_page(self, document, page_of(self.result, folder), made_by)
            (out / "report.html").write_text(html, encoding="utf-8")
        return Path(folder)

    def _side_by_side(self, errors: Tensor, scale: int) -> Iterator[Tensor]:
        """Frames of a video of truth, result and error."""
        for truth, result, error in zip(self.truth.frames, self.videos[RESULT], errors, strict=True):
            yield torch.cat([enlarge(truth, scale), enlarge(result, scale), error], dim=-1)

    def sheet(self) -> Tensor:
        """Truth, and each video with its error under it, ``[3, H', W']``; input views are left out where others are."""
        counted = self.truth.counted.nonzero()[:, 0].tolist()
        columns = [counted[k] for k in pick_columns(len(counted))]
        notes = {}
        for name in self.videos:
            values = self.scores[name].per_frame["psnr whole"]
            notes[name] = [cell("psnr whole", values[k]) + " dB" for k in columns]
        videos = {name: frames[columns] for name, frames in self.videos.items()}
        labels = [f"frame {self.truth.numbers[k]}" for k in columns]
        return error_sheet(videos, notes, self.truth.frames[columns], self.truth.visible[columns], labels)

    def _figures(self, name: str) -> Row:
        scores = self.scores[name]
        recovered = {} if scores.recovered is None else camera_figures(scores.recovered)
        return {**scores.means, **scores.temporal, **recovered}

    def _frames(self, name: str) -> list[Row]:
        seen = self.truth.visible.mean(dim=(1, 2, 3)).tolist()
        columns = self.scores[name].per_frame
        return [
            {
                "frame": number,
                "given": bool(self.truth.pinned[k]),
                "seen share": round(seen[k], 4),
                **{column: values[k] for column, values in columns.items()},
            }
            for k, number in enumerate(self.truth.numbers)
        ]


def camera_figures(recovered: Recovered) -> Row:
    """Figures of the cameras that structure from motion found, by column."""
    found: Row = {"registered": f"{len(recovered.registered)} of {recovered.frames}"}
    if recovered.error is None:
        return {**found, "cameras": recovered.text()}
    return {**found, **{name: finite_or_none(value) for name, value in asdict(recovered.error).items()}}


def read_evaluation(folder: str | Path) -> dict[str, Any]:
    """The JSON of an evaluation folder, its rows checked.

    Raises:
        FileError: missing, damaged, or of another format.
    """
    path = Path(folder) / "evaluation.json"
    found = read_json(path, "evaluation")
    rows = found.get("rows")
    numbers = found.get("frames")
    if (
        found.get("format") != FORMAT
        or not isinstance(found.get("result"), str)
        or not isinstance(rows, dict)
        or not isinstance(rows.get(RESULT), dict)
        or not isinstance(numbers, list)
        or not all(type(number) is int and number >= 0 for number in numbers)
    ):
        raise FileError(f"evaluation {path} is not what mvguide evaluate writes; run it again")
    return found
