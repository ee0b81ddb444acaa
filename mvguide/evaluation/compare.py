"""Several results side by side: one sheet, one table."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.decoding import is_file, is_folder
from mvguide.drawing.error_pictures import enlarge, error_sheet, whole_scale
from mvguide.drawing.sheets import BACKGROUND, pick_columns, video_sheet
from mvguide.errors import FileError, InputError
from mvguide.evaluation.figure_tables import CAMERA_FIGURES, cell, table
from mvguide.evaluation.metrics import psnr
from mvguide.evaluation.rendered import RenderedVideo, page_of, read_pictures, read_result
from mvguide.evaluation.report import FPS, RESULT, read_evaluation
from mvguide.evaluation.score_pages import comparison_page
from mvguide.evaluation.scores import COLUMNS, HIGHEST_PSNR, TEMPORAL
from mvguide.files.atomic import output_folder
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.geometry.camera import Camera
from mvguide.views.view import View

SETTINGS = ("model", "guidance", "table", "solver", "steps", "seed", "seconds")
UNLIKE = 18.0
"""Pictures further apart than so many decibels, at 32 x 32 pixels, are not of the same scene and camera."""
FIGURES = (*COLUMNS, "perceptual", *TEMPORAL, "registered", *CAMERA_FIGURES)


@dataclass(frozen=True)
class Entry:
    """One of the results.

    Args:
        video: the result.
        figures: of its evaluation; empty where there is none.
        truth: frame number -> true picture, where an evaluation keeps it.
        given: numbers of frames that are input views.
    """

    video: RenderedVideo
    figures: dict[str, Any]
    truth: dict[int, Path]
    given: list[int]


@dataclass(frozen=True)
class Comparison:
    """Results side by side.

    Args:
        videos: name -> ``[C, 3, H, W]``, the frames of the sheet, of the first result's size; ``truth`` first where
            there is one.
        numbers: which frames these are.
        rows: name -> settings and figures.
        notes: what is not alike, a sentence each.
        entries: name -> the result.
        visible: ``[C, 1, H, W]`` what the views show of these frames, 1 = seen; None without a truth.
    """

    videos: dict[str, Tensor]
    numbers: list[int]
    rows: dict[str, dict[str, Any]]
    notes: list[str]
    entries: dict[str, Entry]
    visible: Tensor | None

    @property
    def has_errors(self) -> bool:
        """Whether there is a truth to show errors against."""
        return self.visible is not None

    @property
    def panels(self) -> list[str]:
        """What the video of :meth:`side_by_side` shows, from left to right."""
        return list(self.videos)

    def side_by_side(self) -> Iterator[Tensor]:
        """Frames of a video of all results, the truth at the left; grey where no true frame is known."""
        height, width = next(iter(self.videos.values())).shape[-2:]
        scale = whole_scale(width, height)
        truth = next((entry.truth for entry in self.entries.values() if entry.truth), {})
        for number in range(len(next(iter(self.entries.values())).video.frames)):
            frames = [entry.video.frames[number] for entry in self.entries.values()]
            if truth and number in truth:
                frames.insert(0, read_pictures([truth[number]])[0])
            elif truth:
                frames.insert(0, torch.full((3, height, width), BACKGROUND))
            yield torch.cat([enlarge(_fit(frame[None], (width, height))[0], scale) for frame in frames], dim=-1)

    def text(self) -> str:
        """The table as Markdown: figures, and under them settings."""
        parts = [table("", self.rows, FIGURES), table("", self.rows, SETTINGS)]
        parts.append("\n".join(f"* {note}" for note in self.notes))
        return "\n\n".join(part for part in parts if part) + "\n"

    def errors(self) -> Tensor:
        """Sheet of the truth and each result with its error, ``[3, H', W']``. Only where there is a truth."""
        assert self.visible is not None
        truth = self.videos["truth"]
        videos = {name: frames for name, frames in self.videos.items() if name != "truth"}
        notes = {
            name: [cell("psnr whole", value) + " dB" for value in psnr(frames, truth).clamp(max=HIGHEST_PSNR).tolist()]
            for name, frames in videos.items()
        }
        return error_sheet(videos, notes, truth, self.visible, [f"frame {number}" for number in self.numbers])

    def save(self, folder: str | Path, made_by: str = "") -> Path:
        """Write ``report.html``, ``side_by_side.mp4``, ``sheet.png``, ``compare.md``, ``compare.json`` and, where there
        is a truth, ``errors.png``.

        Args:
            folder: to write.
            made_by: the command line that makes it again, for the page.

        Raises:
            OutputError: the folder cannot be written.
        """
        sheet = video_sheet(self.videos, labels=[f"frame {number}" for number in self.numbers])
        pages = {name: page_of(entry.video.folder, folder) for name, entry in self.entries.items()}
        with output_folder(folder, stale=["errors.png"]) as out:
            write_video(out / "side_by_side.mp4", self.side_by_side(), FPS)
            if self.has_errors:
                write_png(out / "errors.png", self.errors())
            html = comparison_page(self, FIGURES, SETTINGS, {name: at for name, at in pages.items() if at}, made_by)
            (out / "report.html").write_text(html, encoding="utf-8")
            write_png(out / "sheet.png", sheet)
            (out / "compare.md").write_text("# Results side by side\n\n![sheet](sheet.png)\n\n" + self.text())
            document = {"frames": self.numbers, "rows": self.rows, "notes": self.notes}
            (out / "compare.json").write_text(json.dumps(document, indent=2) + "\n")
        return Path(folder)


def compare_folders(folders: Sequence[str | Path], names: Sequence[str] | None = None) -> Comparison:
    """Read result folders and evaluation folders, and put them side by side.

    Sizes may differ: pictures are brought to the first one's by covering and cropping. Numbers of frames may not.

    Args:
        folders: at least two.
        names: one for each; by default the folders' own, as much of their paths as tells them apart.

    Raises:
        FileError: a folder that is neither, or is damaged.
        InputError: fewer than two, names that are not as many or not all different, unlike numbers of frames, or
            results of different scenes, for which there is no one truth.
    """
    if len(folders) < 2:
        raise InputError("one result was given; give at least two to compare")
    titles = _titles(folders, names)
    entries = [_read(Path(folder)) for folder in folders]
    first = entries[0].video
    for folder, entry in zip(folders, entries, strict=True):
        if len(entry.video.frames) != len(first.frames):
            raise InputError(
                f"{folder} has {len(entry.video.frames)} frames, but {folders[0]} has {len(first.frames)}; "
                "only videos of as many frames can stand side by side"
            )
    apart = _other_truths(titles, entries)
    truth = next((entry.truth for entry in entries if entry.truth), {})
    given = next((entry.given for entry in entries if entry.truth), [])
    shown = [number for number in sorted(truth) if number not in given] or list(range(len(first.frames)))
    numbers = [shown[k] for k in pick_columns(len(shown))]
    size = first.size
    videos = {"truth": _fit(read_pictures([truth[number] for number in numbers]), size)} if truth else {}
    notes = _differences(titles, entries) + apart
    for title, entry in zip(titles, entries, strict=True):
        videos[title] = _fit(entry.video.frames[numbers], size)
    rows = {title: {**entry.figures, **entry.video.settings} for title, entry in zip(titles, entries, strict=True)}
    visible = None
    if truth:
        reference = next(entry for entry in entries if entry.truth)
        visible = _fit(reference.video.visible[numbers].expand(-1, 3, -1, -1), size)[:, :1].round()
    return Comparison(videos, numbers, rows, notes, dict(zip(titles, entries, strict=True)), visible)


def _read(folder: Path) -> Entry:
    if is_file(folder / "evaluation.json"):
        found = read_evaluation(folder)
        video = read_result(folder / found["result"])
        pictures = {number: folder / "truth" / f"{number:04d}.png" for number in found["frames"]}
        if any(number >= len(video.frames) or not is_file(path) for number, path in pictures.items()):
            raise FileError(
                f"evaluation {folder} does not fit its result or keeps no truth; run mvguide evaluate again"
            )
        given = found.get("given")
        numbers = [number for number in given if isinstance(number, int)] if isinstance(given, list) else []
        return Entry(video, dict(found["rows"][RESULT]), pictures, numbers)
    if is_folder(folder) and not is_folder(folder / "images"):
        raise FileError(f"folder {folder} is neither a result (images/) nor an evaluation (evaluation.json)")
    return Entry(read_result(folder), {}, {}, [])


def _titles(folders: Sequence[str | Path], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        if len(names) != len(folders):
            raise InputError(f"{len(names)} names were given for {len(folders)} results; give one for each")
        titles = [str(name) for name in names]
    else:
        parts = [Path(folder).resolve().parts for folder in folders]
        deepest = max(map(len, parts))
        for count in range(1, deepest + 1):
            titles = ["/".join(part[-count:]) for part in parts]
            if len(set(titles)) == len(titles):
                break
    twice = [title for title in titles if titles.count(title) > 1 or title == "truth"]
    if twice:
        raise InputError(f"{twice[0]!r} does not tell the results apart; give each another name with --names")
    return titles


def _fit(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames ``[F, 3, H, W]`` brought to (width, height) as views are."""
    if (frames.shape[-1], frames.shape[-2]) == size:
        return frames
    camera = Camera.from_fov(60, frames.shape[-1], frames.shape[-2])
    return torch.stack([View(frame, camera).fit(*size).image for frame in frames])


def _other_truths(titles: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    """Notes on results of another path than the first one with a truth. Raises InputError for another scene."""
    reference = next((k for k, entry in enumerate(entries) if entry.truth), None)
    if reference is None:
        return []
    notes = []
    true = entries[reference].truth
    for title, entry in zip(titles, entries, strict=True):
        own = _pictures_of_the_scene(entry, list(true))
        apart = {number: _apart(read_pictures([true[number]])[0], picture) for number, picture in own.items()}
        if apart and max(apart.values()) < UNLIKE:
            raise InputError(
                f"{title} shows another scene than {titles[reference]}: what frame {min(apart)} should be differs by "
                f"{apart[min(apart)]:.0f} dB; compare results of one scene at a time"
            )
        unlike = [number for number, likeness in apart.items() if likeness < UNLIKE]
        if unlike:
            notes.append(
                f"{title} is of another camera path than {titles[reference]}: what frame {unlike[0]} should be "
                f"differs; the truth on the sheet is that of {titles[reference]}"
            )
    return notes


def _pictures_of_the_scene(entry: Entry, numbers: Sequence[int]) -> dict[int, Tensor]:
    """Frame number -> picture of what is really there: true frames, or else the input views that frames show."""
    if entry.truth:
        return {number: read_pictures([entry.truth[number]])[0] for number in numbers if number in entry.truth}
    if entry.video.warp is None:
        return {}
    pinned = entry.video.pinned.nonzero()[:, 0].tolist()
    return {number: entry.video.warp[number] for number in numbers if number in pinned}


def _apart(a: Tensor, b: Tensor) -> float:
    """PSNR of two pictures at 32 x 32, whichever of the two was cropped from the other's shape."""
    sizes = ((a.shape[-1], a.shape[-2]), (b.shape[-1], b.shape[-2]))
    likeness = []
    for size in dict.fromkeys(sizes):
        pair = [interpolate(_fit(picture[None], size), (32, 32), mode="bilinear", antialias=True) for picture in (a, b)]
        likeness.append(float(psnr(*pair)))
    return max(likeness)


def _differences(titles: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    """What makes figures or pictures of the entries hard to compare."""
    notes = []
    first = entries[0].video.size
    for title, entry in zip(titles, entries, strict=True):
        if entry.video.size != first:
            notes.append(
                f"{title} is {entry.video.size[0]} x {entry.video.size[1]}, {titles[0]} {first[0]} x {first[1]}: "
                "brought to the same size on the sheet; figures are of each one's own size"
            )
        if not entry.figures and any(other.figures for other in entries):
            notes.append(f"{title} has no figures: it is a result folder; give the folder of mvguide evaluate")
    scored = {title: sorted(set(entry.truth) - set(entry.given)) for title, entry in zip(titles, entries, strict=True)}
    kept = {title: frames for title, frames in scored.items() if frames}
    if len({tuple(frames) for frames in kept.values()}) > 1:
        notes.append("the evaluations are of unlike frames: " + ", ".join(f"{t} {f}" for t, f in kept.items()))
    return notes
