"""Memory, handles and threads after a piece of work and after ten times as much: ``python -m tools.flat``.

A tenth of each work and all of it run in processes of their own. It fails where ten times the work needs over a tenth
more memory, or leaves more open files or threads.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mvguide.cli import main as mvguide

MOST = 1.1
"""Times the memory of a tenth of the work that all of it may take."""


def preview(count: int, folder: Path) -> None:
    """Preview so many frames."""
    words = ["--scene", "marbles", "--trajectory.kind", "orbit", "--width", "64", "--height", "64", "--quiet"]
    assert mvguide(["preview", *words, "--num_frames", str(count), "--out", str(folder / "out")]) == 0


def frames(count: int, folder: Path) -> None:
    """Render a video of so many frames in windows, and write it."""
    words = ["--scene", "marbles", "--trajectory.kind", "orbit", "--steps", "2", "--width", "64", "--height", "64"]
    words += ["--long", "windows", "--num_frames", str(count), "--quiet", "--out", str(folder / "out")]
    assert mvguide(["render", *words]) == 0


def jobs(count: int, folder: Path) -> None:
    """Render and write so many videos of two frames, as a batch in one process."""
    grid = {"seed": list(range(-(-count // 7))), "trajectory.degrees": list(range(1, min(7, count) + 1))}
    shared = {"scene": "marbles", "trajectory": "orbit", "steps": 1, "num_frames": 2, "width": 32, "height": 32}
    (folder / "jobs.yaml").write_text(json.dumps({"shared": shared, "grid": grid}))
    assert mvguide(["batch", str(folder / "jobs.yaml"), "--out", str(folder / "out"), "--quiet"]) == 0


WORKS: dict[str, tuple[Callable[[int, Path], None], int]] = {
    "preview": (preview, 1000),
    "frames": (frames, 200),
    "jobs": (jobs, 300),
}
"""name -> what does so many, and how many."""


def measure(work: Callable[[int, Path], None], count: int) -> tuple[float, int, int]:
    """Do so many. Returns peak memory of the process so far, MiB, and what is open at the end: files, and threads."""
    with tempfile.TemporaryDirectory() as folder:
        work(count, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peak, len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208


def alone(name: str, count: int) -> tuple[float, int, int]:
    """What :func:`measure` gives in a process of its own: what an earlier work left behind must not count."""
    command = [sys.executable, "-m", "tools.flat", name, "--count", str(count), "--alone"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peak, files, threads = done.stdout.split()[-3:]
    return float(peak), int(files), int(threads)


def is_flat(name: str, count: int) -> bool:
    """Measure a tenth of a work and all of it. Returns whether it stays flat."""
    start = time.monotonic()
    (before, files, threads), (after, files_after, threads_after) = (alone(name, n) for n in (count // 10, count))
    print(
        f"{name} {count // 10} and {count}: {before:.0f} and {after:.0f} MiB ({after / before:.2f} times), files "
        f"{files} and {files_after}, threads {threads} and {threads_after}; {time.monotonic() - start:.0f} s",
        flush=True,
    )
    return after <= MOST * before and files_after <= files and threads_after <= threads


def main() -> int:
    """Measure the works. Returns 1 if one of them grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("works", nargs="*", help=f"of {', '.join(WORKS)}; all by default")
    parser.add_argument("--count", type=int, help="of the larger work, instead of its own number")
    parser.add_argument("--alone", action="store_true", help="one work of this count, in this process")
    options = parser.parse_args()
    names = options.works or list(WORKS)
    if options.alone:
        print(*measure(WORKS[names[0]][0], options.count))
        return 0
    grows = [name for name in names if not is_flat(name, options.count or WORKS[name][1])]
    return 1 if grows else 0


if __name__ == "__main__":
    sys.exit(main())
