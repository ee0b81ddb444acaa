"""What a batch has made so far: a page to look at, and a table for programs. Both are read from the jobs' folders."""

import csv
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Literal
from urllib.parse import quote

from mvguide.decoding import is_file
from mvguide.errors import MvguideError
from mvguide.evaluation.rendered import main_settings, read_json
from mvguide.evaluation.report import HEADS, RESULT, cell, read_evaluation
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
            for page in pages:
                path = self.folder / page_name(page)
                if page == 0 or page in self._old or not path.exists():
                    with atomic_path(path) as temporary:
                        temporary.write_text(self.page(page, len(pages)), encoding="utf-8")
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
                writer.writerow([name, entry.status, *row, entry.error.split("\n")[0]])

    def page(self, number: int, count: int) -> str:
        """HTML of a page; it opens from the disk, and asks for nothing outside the folder."""
        names = self.names[number * JOBS_OF_A_PAGE : (number + 1) * JOBS_OF_A_PAGE]
        links = [f"<b>{k + 1}</b>" if k == number else f'<a href="{page_name(k)}">{k + 1}</a>' for k in range(count)]
        return _PAGE.substitute(
            title=escape(self.title),
            summary=self._summary() if number == 0 else "",
            pages=f"<nav>Pages: {' '.join(links)}</nav>" if count > 1 else "",
            jobs="\n".join(self._card(name) for name in names),
        )

    def _summary(self) -> str:
        counts = {status: 0 for status in ("done", "failed", "waiting")}
        for entry in self.entries.values():
            counts[entry.status] += 1
        words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        shared = (
            f"<details><summary>Settings of all jobs</summary>{_list(self.shared)}</details>" if self.shared else ""
        )
        failed = [name for name in self.names if self.entries[name].status == "failed"]
        listed = "".join(f"<li><b>{escape(name)}</b>: {_sentence(self.entries[name])}</li>" for name in failed[:100])
        return (
            f'<p>{len(self.names)} jobs: {words}. All settings and figures: <a href="{TABLE}">{TABLE}</a></p>'
            f"{shared}{f'<h2>Failed</h2><ul>{listed}</ul>' if listed else ''}"
        )

    def _card(self, name: str) -> str:
        entry, place = self.entries[name], quote(name)
        parts = [f'<article id="{escape(name)}"><h2>{escape(name)} <small>{entry.status}</small></h2>']
        if entry.status == "done":
            poster = f"{place}/images/{entry.frames // 2:04d}.png"
            parts.append(
                f'<video src="{place}/video.mp4" poster="{poster}" controls loop muted playsinline preload="none" '
                f'aria-label="video of {escape(name)}"></video>'
            )
        if entry.error:
            parts.append(f'<p class="error">{_sentence(entry)}</p>')
        parts.append(_list(self.jobs[name]))
        parts.append(_list({HEADS.get(key, key): cell(key, _rounded(key, entry)) for key in _told(entry)}))
        files = ["sheet.png", "report.json", f"{EVALUATION}/evaluation.md", f"{EVALUATION}/errors.png", ERROR]
        links = [f'<a href="{place}/{file}">{file}</a>' for file in files if is_file(self.folder / name / file)]
        parts.append(f"<p>{' '.join(links)}</p></article>")
        return "".join(parts)


def page_name(number: int) -> str:
    """File name of a page, counted from 0."""
    return INDEX if number == 0 else f"index_{number + 1}.html"


def _told(entry: Entry) -> list[str]:
    return [name for name in ("seconds", "seen", *_SHOWN) if entry.figures.get(name) is not None]


def _rounded(name: str, entry: Entry) -> Any:
    value = entry.figures[name]
    return f"{100 * value:.0f} %" if name == "seen" else value


def _sentence(entry: Entry) -> str:
    return escape(entry.error.split("\n")[0])


def _list(values: Mapping[str, Any]) -> str:
    rows = (f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in values.items())
    return f"<dl>{''.join(rows)}</dl>" if values else ""


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


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; overflow-wrap: anywhere }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem }
article { border: 1px solid #8886; border-radius: 6px; padding: .8rem }
h2 { font-size: 1rem; margin: 0 0 .5rem } small { font-weight: normal; opacity: .75 }
video { width: 100%; image-rendering: auto; background: #8882 }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .8rem; margin: .5rem 0 } dd { margin: 0 }
.error { border-left: 3px solid #c33; padding-left: .6rem }
</style>
</head>
<body>
<h1>$title</h1>
$summary
$pages
<main>
$jobs
</main>
$pages
</body>
</html>
""")
