"""Thousands of damaged files for every reader: ``python -m tools.fuzz --cases 20000``.

A case fails when a reader raises anything but a `MvguideError` of one line, takes too long or too much memory, or
accepts a value that makes no sense. A case depends on the seed and its number alone: ``--only 4711`` repeats one.
"""

import argparse
import faulthandler
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mvguide.errors import MvguideError
from tests.mutations import DAMAGES, damage
from tools.fuzzing.documents import changed_arrays, changed_document, changed_tensors
from tools.fuzzing.readers import Reader, make_readers

_DOCUMENTS = (".json", ".yaml", ".npy", ".npz", ".safetensors")


class TooLong(BaseException):
    """A reader did not come back. No reader catches it, because it is no Exception."""


def run(cases: range, seed: int, folder: Path) -> list[str]:
    """Run cases, and print what happened. Returns a line for each that failed."""
    signal.signal(signal.SIGALRM, _alarm)
    (folder / "samples").mkdir()
    readers = make_readers(folder / "samples")
    names, shares = list(readers), [reader.share for reader in readers.values()]
    good = _check_samples(readers)
    failures, slowest, largest = [], (0.0, ""), (0, "")
    counts: Counter[tuple[str, str]] = Counter()
    spent: dict[str, float] = defaultdict(float)
    # What is allocated once, such as ffmpeg's and torch's own buffers, is there before the first case.
    _limit_memory()
    for number in cases:
        chance = random.Random(f"{seed} {number}")
        name = chance.choices(names, shares)[0]
        reader = readers[name]
        file = chance.choice(reader.files)
        content, how = _damaged((reader.samples / file).read_bytes(), file, chance, good)
        what = f"case {number}: {name}, {file}, {how}"
        place = folder / "case"
        shutil.copytree(reader.samples, place, copy_function=os.link)
        (place / file).unlink()
        (place / file).write_bytes(content)
        start = time.monotonic()
        with _peak() as peak:
            outcome, complaint = _one(reader, place / file, what)
        seconds = time.monotonic() - start
        shutil.rmtree(place)
        counts[name, outcome] += 1
        spent[name] += seconds
        slowest, largest = max(slowest, (seconds, what)), max(largest, (peak[0], what))
        if seconds > reader.seconds:
            complaint = complaint or f"took {seconds:.1f} s"
        if peak[0] > reader.most_bytes:
            complaint = complaint or f"took {peak[0] >> 20} MiB"
        if complaint:
            failures.append(f"{what}: {complaint}")
            print(failures[-1], flush=True)
    for name in names:
        accepted, refused = counts[name, "accepted"], counts[name, "refused"]
        print(f"{name:13} {accepted:6d} accepted {refused:6d} refused {spent[name]:7.1f} s")
    print(f"slowest: {slowest[0]:.2f} s, {slowest[1]}")
    print(f"largest: {largest[0] >> 20} MiB, {largest[1]}")
    return failures


def _one(reader: Reader, file: Path, what: str) -> tuple[str, str]:
    """(accepted or refused, what is wrong or nothing) of one damaged file."""
    faulthandler.dump_traceback_later(120, exit=True)  # where not even the alarm gets through
    signal.setitimer(signal.ITIMER_REAL, 2 * reader.seconds)
    try:
        found = reader.read(reader.target(file))
        signal.setitimer(signal.ITIMER_REAL, 0)
        reader.check(found)
    except MvguideError as error:
        return "refused", _bad_sentence(error)
    except TooLong:
        return "refused", f"did not come back in {2 * reader.seconds} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "refused", f"{type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    return "accepted", ""


def _bad_sentence(error: MvguideError) -> str:
    """What is wrong with an error: too long, several lines, or memory that ran out before anything was asked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "ran out of memory"
        cause = cause.__cause__
    text = str(error)
    return f"not one sentence: {text[:200]!r}" if "\n" in text or not 20 < len(text) < 1000 else ""


def _damaged(content: bytes, file: str, chance: random.Random, others: list[bytes]) -> tuple[bytes, str]:
    """A damaged file and the name of the damage; documents are damaged inside their format in half of the cases."""
    suffix = Path(file).suffix
    if suffix in _DOCUMENTS and chance.random() < 0.5:
        if suffix == ".safetensors":
            return changed_tensors(content, chance), "changed tensor"
        if suffix in (".npy", ".npz"):
            return changed_arrays(content, chance), "changed array"
        return changed_document(content, chance, suffix == ".yaml"), "changed document"
    kind = chance.choice(DAMAGES)
    return damage(content, kind, chance.randrange(2**32), others), kind


def _check_samples(readers: dict[str, Reader]) -> list[bytes]:
    """Every sample is accepted as it is, or refused for a known reason. Returns small files of all kinds."""
    found = []
    for name, reader in readers.items():
        outcomes, targets = [], set()
        for file in reader.files:
            target = reader.target(reader.samples / file)
            if target in targets:
                continue
            targets.add(target)
            outcome, complaint = _one(reader, reader.samples / file, f"{name}, {file}")
            assert not complaint, f"{name}, {file}: {complaint}"
            outcomes.append(outcome)
        contents = [(reader.samples / file).read_bytes() for file in reader.files]
        found += [content for content in contents if len(content) < 20_000]
        assert outcomes.count("accepted") > len(outcomes) / 2, f"{name}: good files are refused"
    return found


@contextmanager
def _peak() -> Iterator[list[int]]:
    """Bytes that the process grew by in the block, at its largest; in the list afterwards. 0 where Linux is not."""
    found = [0]
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        yield found
        return
    clear.write_text("5")  # forget the largest size so far
    before = _status("VmRSS")
    yield found
    found[0] = max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    rows = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(row.split()[1]) for row in rows if row.startswith(name))


def _limit_memory() -> None:
    """Allow 4 GiB more than there is now, so that a fault ends in an error and not in a machine that swaps."""
    now = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    if now:
        resource.setrlimit(resource.RLIMIT_AS, (now + 4 * 2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _alarm(number: int, frame: FrameType | None) -> None:
    raise TooLong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one case")
    told = parser.parse_args()
    cases = range(told.cases) if told.only is None else range(told.only, told.only + 1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        failures = run(cases, told.seed, Path(folder))
    print(f"{len(cases)} cases, seed {told.seed}: {len(failures)} failed, {time.monotonic() - start:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
