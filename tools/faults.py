"""Commands that are killed or stopped at random moments, and go on: ``python -m tools.faults`` (``make faults``).

After each signal the result folder holds the older result or the new one, whole, and a checkpoint that can be read.
The same command then succeeds, gives the bytes of a run that nobody stopped, and leaves no temporary file. A command
is a row of `CASES`. The seed decides the moments; they are drawn from the length of a run, which is measured first.
"""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mvguide.cli import main as mvguide
from mvguide.evaluation.overview import INDEX, TABLE
from mvguide.files.images import write_png
from mvguide.files.video import read_video
from mvguide.pipeline.checkpoint import CHECKPOINTS, read_checkpoint
from mvguide.scenes import packaged_scene

SIZE = ["--width", "32", "--height", "32", "--quiet"]
SMALL = ["--num_frames", "4", *SIZE]
LONG = ["--num_frames", "7", "--window", "4", *SIZE]
SCENE = ["--scene", "marbles"]
TRUTH = "TRUTH"
"""Stands for a folder with the true frames, in the words of a case."""
BATCH, OLDER_BATCH = "BATCH", "OLDER_BATCH"
"""Stand for config files of a batch: two manifests with the same jobs' names."""
KEPT = [*CHECKPOINTS, "calibration.npz", "begun.json"]
"""What an unfinished run may leave for the next one, beside a whole result or none; patterns of names."""
GROWING = [INDEX, TABLE]
"""What shows how far a batch is."""

_TIMES = ("run", "seconds", "resumed_after", "resume", "peak_memory_mib")
"""Of a report: what may differ between an unbroken run and one that was stopped."""
_TIMES_ON_PAGE = re.compile(
    rb"\d+\.\d\d s\b|<tr><th>resumed after</th>.*?</tr>|<th scope=.row.>seconds</th><td>[^<]*</td>"
)
_MOST_TRIES = 30
_LATEST = 0.9
"""Moments are drawn from so much of a run: near its end most runs are done before the signal comes."""
_PRELOADED = [
    *(
        "mvguide.commands.rendering",
        "mvguide.commands.scoring",
        "mvguide.commands.previewing",
        "mvguide.commands.batch",
        "mvguide.config.parsing",
    ),
    *("diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "PIL.PngImagePlugin", "PIL.JpegImagePlugin"),
]


@dataclass(frozen=True)
class Case:
    """A command that is attacked.

    Args:
        words: the command, without ``--out``.
        older: words added to make another result, which is there before half of the attacks.
        again: words added to go on.
        parts: folders in the result that are whole or not for themselves: the command writes them one after the other.
        kills: how many, if not told otherwise.
        stops: how often Ctrl-C and SIGTERM, each.
    """

    words: Sequence[str]
    older: Sequence[str]
    again: Sequence[str] = ()
    parts: Sequence[str] = ()
    kills: int = 10
    stops: int = 2


CASES = {
    "render": Case(
        ["render", *SCENE, "--steps", "12", *SMALL, "--checkpoint_every", "1"], ["--seed", "3"], ["--resume"], kills=80
    ),
    "windows": Case(
        ["render", *SCENE, "--long", "windows", "--steps", "6", *LONG, "--checkpoint_every", "1"],
        ["--seed", "3"],
        ["--resume"],
        kills=40,
    ),
    "anchors": Case(
        ["render", *SCENE, "--long", "anchors", "--steps", "6", *LONG, "--checkpoint_every", "1"],
        ["--seed", "3"],
        ["--resume"],
        kills=40,
    ),
    "evaluate": Case(
        ["evaluate", *SCENE, "--truth", TRUTH, "--steps", "8", *SMALL, "--checkpoint_every", "1"],
        ["--seed", "3"],
        ["--resume"],
        parts=["render"],
        kills=40,
    ),
    "preview": Case(["preview", *SCENE, *SMALL], ["--num_frames", "3"], kills=8),
    "batch": Case(
        ["batch", "--config", BATCH, "--checkpoint_every", "1", "--quiet"],
        ["--config", OLDER_BATCH],
        ["--resume"],
        parts=["marbles", "hall", "blocks"],
        kills=40,
    ),
}
"""A command that is added here is attacked as the others are."""

Contents = dict[str, Any]


@dataclass
class Attacked:
    """What came of a case.

    Args:
        found: how often after a signal the folder held which result, and how far a checkpoint was.
        sent: signals that met a running command, by name.
        ended: how many of the last runs went on from a checkpoint, and how many had the bytes of an unbroken one.
        failures: a line each.
    """

    found: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Range:
    """A folder in which one case is attacked, with the two unbroken results.

    Args:
        case: the command.
        folder: an empty folder to work in.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.log = folder / "log.txt"
        self.server = get_context("forkserver")  # a process for each run, without loading torch each time
        self.server.set_forkserver_preload(_PRELOADED)
        truth = folder / "truth"
        truth.mkdir()
        for index, frame in enumerate(read_video(packaged_scene("marbles").truth, 4)):
            write_png(truth / f"{index:04d}.png", frame)
        self.files = {TRUTH: truth, BATCH: self._batch(0), OLDER_BATCH: self._batch(1)}
        self.words = self._with_files(case.words)
        self.older, self.newer = folder / "older", folder / "newer"
        for place, words in ((self.older, self._with_files(case.older)), (self.newer, [])):
            place.mkdir()
            code, self.seconds = self.run(place, words)  # the last one counts: the first run reads more from the disk
            if code:
                raise SystemExit(f"the command fails by itself: {self.log.read_text()}")
        self.whole = {"older": self._read(self.older / "out"), "newer": self._read(self.newer / "out")}

    def _with_files(self, words: Sequence[str]) -> list[str]:
        return [str(self.files.get(word, word)) for word in words]

    def _batch(self, seed: int) -> Path:
        """A config file of a batch with three jobs."""
        shared = {"seed": seed, "steps": 6, "num_frames": 3, "width": 32, "height": 32, "device": "cpu"}
        manifest = {"shared": shared, "grid": {"scene": ["marbles", "hall", "blocks"]}}
        file, config = self.folder / f"jobs_{seed}.yaml", self.folder / f"batch_{seed}.yaml"
        file.write_text(json.dumps(manifest))
        config.write_text(json.dumps({"manifest": str(file)}))
        return config

    def run(self, place: Path, words: Sequence[str], number: int = 0, after: float = 0) -> tuple[int, float]:
        """Run the command in a folder and send it a signal after some seconds. Returns exit code and seconds."""
        here, there = self.server.Pipe(duplex=False)
        words = [*self.words, *words, "--out", "out"]
        process = self.server.Process(target=_command, args=(words, place, self.log, there))
        self.log.write_text("")
        process.start()
        here.recv()  # before that the process is none of mvguide's
        start = time.monotonic()
        if number:
            process.join(after)
            if process.is_alive():
                assert process.pid is not None
                os.kill(process.pid, number)
        process.join()
        assert process.exitcode is not None
        return process.exitcode, time.monotonic() - start

    def attack(self, number: int, chance: random.Random, seen: Attacked) -> None:
        """Stop a command twice on its way, then let it end."""
        case, name = self.case, signal.Signals(number).name
        place = Path(tempfile.mkdtemp(dir=self.folder))
        older = chance.random() < 0.5
        if older:
            shutil.copytree(self.older / "out", place / "out")
        again: Sequence[str] = []
        hits = tries = 0
        while hits < 2:
            tries += 1
            if tries > _MOST_TRIES:
                seen.failures.append(f"{name}: it met the command {hits} times in {_MOST_TRIES} runs")
                break
            after = chance.uniform(0, _LATEST * self.seconds / (1 + hits))
            what = (
                f"{name} after {after:.3f} s{', going on' if again else ''}{', over an older result' if older else ''}"
            )
            code, _ = self.run(place, again, number, after)
            if code != 0:
                hits += 1
                seen.sent[name] += 1
            complaints = [*self._wrong_end(code, number), *self._wrong_folder(place, older, seen)]
            if number != signal.SIGKILL:
                complaints += _strays(place)
            seen.failures += [f"{what}: {complaint}" for complaint in complaints]
            again = case.again
        went_on = bool(again and _checkpoints(place / "out"))
        seen.ended["went on"] += went_on
        code, seconds = self.run(place, again)
        self.seconds = min(self.seconds, seconds) if code == 0 and not went_on else self.seconds
        complaints = [] if code == 0 else [f"exit code {code}: {self.log.read_text()[-300:]}"]
        different = _differences(self._read(place / "out"), self.whole["newer"])
        seen.ended["same bytes" if not different else "other bytes"] += 1
        complaints += different + _strays(place) + _broken_table(place / "out", finished=True)
        seen.failures += [f"the run after {what}: {complaint}" for complaint in complaints]
        shutil.rmtree(place)

    def _wrong_end(self, code: int, number: int) -> list[str]:
        """What is wrong with exit code and words of a run that was stopped; a run that was done before is right."""
        said = self.log.read_text()
        if code == 0:
            return []
        if number == signal.SIGKILL:
            return [] if code == -number else [f"exit code {code}: {said[-300:]}"]
        if code != 128 + number or said.count("\n") != 1 or not said.startswith("mvguide: "):
            return [f"exit code {code}, said {said[-300:]!r}"]
        return []

    def _wrong_folder(self, place: Path, older: bool, seen: Attacked) -> list[str]:
        """What is wrong with a result folder after a signal."""
        contents = self._read(place / "out", KEPT)
        states, complaints = [], []
        for part in ("", *self.case.parts):
            mine = _part(contents, part, self.case.parts)
            same = [name for name, whole in self.whole.items() if mine == _part(whole, part, self.case.parts)]
            states.append(same[0] if same else "nothing" if not mine else "a mixture")
        seen.found[" and ".join(states)] += 1
        if "a mixture" in states or (older and "nothing" in states):
            complaints.append(f"the folder holds {' and '.join(states)}: {sorted(contents)}")
        if states[0] == "newer" and set(states) != {"newer"}:
            complaints.append(f"the whole is newer than its parts: {states}")
        for file in _checkpoints(place / "out"):
            seen.found["checkpoint"] += 1
            read_checkpoint(file)
        return complaints + _broken_table(place / "out")

    def _read(self, out: Path, without: Sequence[str] = ()) -> Contents:
        """Files of a result, without what may differ between two runs."""
        files = [file for file in out.rglob("*") if file.is_file() and not _is_like(file.name, [*without, *GROWING])]
        names = [str(file.relative_to(out)) for file in files]
        return {name: _content(out / name) for name in names if not f"/{name}".count("/.")}


def _command(words: list[str], place: Path, log: Path, ready: Connection) -> None:
    """A command in a process of its own."""
    os.chdir(place)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    ready.send(True)
    sys.exit(mvguide(words))


def _is_like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _checkpoints(out: Path) -> list[Path]:
    return [file for file in out.rglob("*.safetensors") if _is_like(file.name, CHECKPOINTS)]


def _broken_table(out: Path, finished: bool = False) -> list[str]:
    """What is wrong with the table of a batch; nothing where there is none."""
    if not (out / TABLE).is_file():
        return []
    rows = list(csv.reader((out / TABLE).open(newline="", encoding="utf-8")))
    if len({len(row) for row in rows}) != 1 or not (out / INDEX).read_text(encoding="utf-8").endswith("</html>\n"):
        return [f"{TABLE} or {INDEX} is cut"]
    states = {row[1] for row in rows[1:]}
    return [f"{TABLE} has jobs that are {' and '.join(states)}"] if finished and states != {"done"} else []


def _content(file: Path) -> Any:
    if file.suffix == ".json":
        return _without_times(json.loads(file.read_text()))
    return _TIMES_ON_PAGE.sub(b"", file.read_bytes())


def _without_times(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _without_times(value) for name, value in document.items() if name not in _TIMES}
    return document


def _part(contents: Contents, part: str, parts: Sequence[str]) -> Contents:
    """Files of a part, or of all that is in none."""
    if part:
        return {name: value for name, value in contents.items() if name.startswith(f"{part}/")}
    return {name: value for name, value in contents.items() if not name.startswith(tuple(f"{one}/" for one in parts))}


def _differences(found: Contents, wanted: Contents) -> list[str]:
    differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    return [f"differs from an unbroken run in {', '.join(differing)}"] if differing else []


def _strays(place: Path) -> list[str]:
    found = [str(file.relative_to(place)) for file in place.rglob("*") if file.name.startswith(".")]
    found += [file.name for file in place.iterdir() if file.name != "out"]
    return [f"left behind: {', '.join(sorted(set(found)))}"] if found else []


def attack(case: Case, folder: Path, seed: str, kills: int, stops: int, first: int = 0) -> Attacked:
    """Kill a command so often (an even number), stop it so often by Ctrl-C and by SIGTERM, and tell what came of it.

    Args:
        case: the command.
        folder: an empty folder to work in.
        seed: of the moments.
        kills: signals that no program sees.
        stops: Ctrl-C, and as many SIGTERM.
        first: number of the first of each, for a list that is done in parts.
    """
    place, seen = Range(case, folder), Attacked()
    for number, count in ((signal.SIGKILL, kills), (signal.SIGINT, stops), (signal.SIGTERM, stops)):
        for index in range(first, first + count, 2):
            place.attack(number, random.Random(f"{seed} {number} {index}"), seen)
            print(f"  {signal.Signals(number).name} {index + 2 - first} of {count}", file=sys.stderr, flush=True)
    return seen


def main() -> int:
    """Attack the cases, print what was found, and write it where ``--out`` says. Returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--kills", type=int, help="for each case, instead of its own number")
    parser.add_argument("--stops", type=int, help="Ctrl-C and SIGTERM, each, for each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill and stop, an even one")
    parser.add_argument("--out", type=Path, help="a JSON file of what was found")
    options = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"  # locks of processes that were killed
    os.environ["OMP_NUM_THREADS"] = "1"
    told: dict[str, dict[str, Any]] = {}
    failed = 0
    for name in options.cases or CASES:
        case = CASES[name]
        kills = case.kills if options.kills is None else options.kills
        stops = case.stops if options.stops is None else options.stops
        with tempfile.TemporaryDirectory() as folder:
            seen = attack(case, Path(folder), f"{options.seed} {name}", kills, stops, options.first)
        told[name] = {key: dict(value) for key, value in vars(seen).items() if key != "failures"}
        told[name]["failures"] = seen.failures
        failed += len(seen.failures)
        listed = _listed(seen.sent), _listed(seen.ended), _listed(seen.found)
        print("{}: {}; in the end {}; the folder held {}".format(name, *listed), flush=True)
        for failure in seen.failures:
            print(f"  {failure}", flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(told, indent=2) + "\n")
    print(f"{failed} failures")
    return 1 if failed else 0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
