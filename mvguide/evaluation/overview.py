"""What a batch has made so far: a page to look at, and a table for programs. Both are read from the jobs' folders."""

import csv
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mvguide.decoding import is_file
from mvguide.drawing import page
from mvguide.errors import MvguideError
from mvguide.evaluation.figure_tables import HEADS, cell
from mvguide.evaluation.rendered import main_settings, read_json
from mvguide.evaluation.report import RESULT, read_evaluation
from mvguide.evaluation.scores import COLUMNS, TEMPORAL
from mvguide.files.atomic import atomic_path
from mvguide.files.locks import lock_file

INDEX, TABLE, ERROR, EVALUATION = "index.html", "results.csv", "error.txt", "evaluation"
JOBS_OF_A_PAGE = 100
_FIGURES = ("seconds", "seen", *COLUMNS, "perceptual", *TEMPORAL)
_SHOWN = ("psnr whole", "psnr seen", "psnr holes", "ssim whole", "sharpness whole", "perceptual", "flicker ratio")
_OVERHEAD = 20  # writing takes at most a part of the time between two writings that is one by this


@dataclass(frozen=True)
class Entry:
    """What a job's folder tells.

    Args:
        status: waiting (no result, or one that cannot be read), done or failed.
        digest: of the settings that the result was made with, where it is of a batch.
        run: of the batch that it was made in.
        frames: of the video.
        figures: by column.
        error: why it failed.
    """

    status: Literal["waiting", "done", "failed"] = "waiting"
    digest: str = ""
    run: str = ""
    frames: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def read_entry(folder: Path) -> Entry:
    """Read what is there of a job; nothing that is damaged counts."""
    if is_file(folder / ERROR):
        with suppress(OSError):
            return Entry("failed", error=(folder / ERROR).read_text(encoding="utf-8", errors="replace").strip())
    if not is_file(folder / "report.json"):
        return Entry()
    try:
        report = read_json(folder / "report.json", "report")
        command, seen = report["settings"]["command"], report["seen"]
        figures = {"seconds": main_settings(report)["seconds"], "seen": round(sum(seen) / len(seen), 4)}
        evaluation = folder / EVALUATION
        if is_file(evaluation / "evaluation.json"):
            row = read_evaluation(evaluation)["rows"][RESULT]
            figures |= {name: row.get(name) for name in _FIGURES if isinstance(row.get(name), int | float)}
        return Entry("done", str(command.get("digest", "")), str(command.get("run", "")), len(seen), figures)
    except (MvguideError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return Entry()


class Overview:
    """The page and the table of a batch. They grow with it; every file is there whole, the older one or the new one.

    Several processes may write those of one folder, each with some of the jobs: whoever ends last has read them all.

    Args:
        folder: of the batch; the folders of its jobs are in it.
        title: of the page.
        shared: settings of all jobs.
        jobs: name -> settings of its own, of all jobs of the manifest.
        mine: names of those that this process works on.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        shared: Mapping[str, Any],
        jobs: Mapping[str, Mapping[str, Any]],
        mine: Collection[str],
    ) -> None:
        self.folder, self.title, self.shared, self.jobs = folder, title, shared, jobs
        self.names = list(jobs)
        self.others = set(jobs) - set(mine)
        self.entries = dict.fromkeys(jobs, Entry())
        self._places = {name: number for number, name in enumerate(self.names)}
        self._old: set[int] = set()  # pages that are to be written again
        self._next = 0.0
        self.read(self.names)

    def read(self, names: Iterable[str]) -> None:
        """Read the folders of jobs again."""
        for name in names:
            found = read_entry(self.folder / name)
            if found != self.entries[name]:
                self.entries[name] = found
                self._old.add(self._places[name] // JOBS_OF_A_PAGE)

    def save(self, *, at_last: bool = False) -> None:
        """Write what has changed; not more often than costs a twentieth of the time, except ``at_last``.

        Raises:
            OutputError: the folder cannot be written.
        """
        begin = time.monotonic()
        if begin < self._next and not at_last:
            return
        with _alone(self.folder):
            self.read(self.others if at_last else [n for n in self.others if self.entries[n].status == "waiting"])
            pages = range(-(-len(self.names) // JOBS_OF_A_PAGE))
            for number in pages:
                path = self.folder / page_name(number)
                if number == 0 or number in self._old or not path.exists():
                    with atomic_path(path) as temporary:
                        temporary.write_text(self.page(number, len(pages)), encoding="utf-8")
            self._old.clear()
            for path in self.folder.glob("index_*.html"):
                if path.name not in map(page_name, pages):
                    path.unlink(missing_ok=True)
            with atomic_path(self.folder / TABLE) as temporary:
                self.write_table(temporary)
        self._next = time.monotonic() + _OVERHEAD * (time.monotonic() - begin)

    def write_table(self, path: Path) -> None:
        """One row for each job: its name and status, its own settings, its figures, and why it failed."""
        settings = list(dict.fromkeys(name for own in self.jobs.values() for name in own))
        figures = [name for name in _FIGURES if any(name in entry.figures for entry in self.entries.values())]
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["job", "status", *settings, *figures, "error"])
            for name, own in self.jobs.items():
                entry = self.entries[name]
                row = [own.get(setting) for setting in settings] + [entry.figures.get(figure) for figure in figures]
                writer.writerow([name, entry.status, *row, _sentence(entry)])

    def page(self, number: int, count: int) -> str:
        """HTML of a page, from 0; it opens from the disk, and asks for nothing outside the folder."""
        names = self.names[number * JOBS_OF_A_PAGE : (number + 1) * JOBS_OF_A_PAGE]
        links = " ".join(
            page.link(page_name(k), str(k + 1)) if k != number else f"<b>{k + 1}</b>" for k in range(count)
        )
        pages = f"<nav><p>Pages: {links}</p></nav>" if count > 1 else ""
        summary = self._summary() if number == 0 else []
        return page.page(self.title, *summary, pages, page.cards(map(self._card, names)), pages)

    def _summary(self) -> list[str]:
        counts = Counter(entry.status for entry in self.entries.values())
        words = ", ".join(f"{counts[status]} {status}" for status in ("done", "failed", "waiting") if counts[status])
        parts = [
            page.paragraph(f"{len(self.names)} jobs: {words}."),
            f"<p>All settings and figures: {page.link(TABLE, TABLE)}</p>",
        ]
        if self.shared:
            parts.append(f"<details><summary>Settings of all jobs</summary>{page.pairs(self.shared)}</details>")
        failed = [name for name in self.names if self.entries[name].status == "failed"]
        if failed:
            lines = [f"{name}: {_sentence(self.entries[name])}" for name in failed[:JOBS_OF_A_PAGE]]
            parts += [page.heading("Failed"), page.bullets(lines)]
        return parts

    def _card(self, name: str) -> str:
        entry, place, parts = self.entries[name], quote(name), []
        if entry.status == "done":
            poster = f"{place}/images/{entry.frames // 2:04d}.png"
            parts.append(page.video(f"{place}/video.mp4", f"video of {name}", poster=poster))
        else:
            parts.append(page.paragraph(f"{entry.status}{': ' if entry.error else ''}{_sentence(entry)}"))
        figures = {HEADS.get(key, key): cell(key, entry.figures.get(key)) for key in ("seconds", *_SHOWN)}
        figures = {"seen": f"{entry.figures['seen']:.0%}", **figures} if "seen" in entry.figures else {}
        parts.append(page.pairs({**self.jobs[name], **{key: text for key, text in figures.items() if text != "-"}}))
        files = ["report.html", "sheet.png", f"{EVALUATION}/report.html", f"{EVALUATION}/errors.png", ERROR]
        links = [page.link(f"{place}/{file}", file) for file in files if is_file(self.folder / name / file)]
        return page.card(name, *parts, f"<p>{' '.join(links)}</p>" if links else "")


def page_name(number: int) -> str:
    """File name of a page, counted from 0."""
    return INDEX if number == 0 else f"index_{number + 1}.html"


def _sentence(entry: Entry) -> str:
    return entry.error.split("\n")[0]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only process that writes the overview of a folder."""
    lock = folder / ".index.lock"
    held = lock_file(lock, wait=True)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        if held is not None:
            os.close(held)
