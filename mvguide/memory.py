"""How much memory is free, asked before a size from a file or an option takes it; and a sentence where it runs out."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING

from mvguide.errors import InputError, OutOfMemoryError

if TYPE_CHECKING:
    import torch

_NOT_WORTH_ASKING = 2**24
_CGROUPS = Path("/sys/fs/cgroup")
_RUN_OUT = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""Words of the messages of torch's allocators, cuBLAS and cuDNN."""


def check_memory(bytes_needed: float, what: str, way_out: str) -> None:
    """Refuse work that needs more memory than is free, before it starts.

    Args:
        bytes_needed: an estimate of the most that is held at one time.
        what: what needs it, the start of the sentence: "picture a.png of 8000 x 9000".
        way_out: how to need less, its end.

    Raises:
        InputError: there is not so much; the sentence has both numbers.
    """
    if bytes_needed <= _NOT_WORTH_ASKING:
        return
    free = free_memory()
    if free is not None and bytes_needed > free:
        raise InputError(
            f"{what} needs about {size_words(bytes_needed)} of memory, and {size_words(free)} are free; {way_out}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch says that memory, of the processor or of a GPU, has run out."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _RUN_OUT)


@contextmanager
def enough_memory(what: str, way_out: str) -> Iterator[None]:
    """Turn running out of memory within this context into one sentence.

    Args:
        what: what takes the memory, the start of the sentence: "denoising 25 frames of 1024 x 576".
        way_out: how to need less, its end.

    Raises:
        OutOfMemoryError: memory ran out. It does not keep what was in memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        clear_frames(error.__traceback__)  # else the error keeps alive what the functions that it went through held
        asked = _asked_for(str(error))
        raise OutOfMemoryError(f"{what} needs more memory than there is{asked}; {way_out}") from error


def free_gpu_memory(device: "torch.device") -> int | None:
    """Bytes that are free on a CUDA device, with those that torch keeps to use again; None for other devices."""
    if device.type != "cuda":
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_memory() -> int | None:
    """Bytes that this process can still take, as far as system, container and ulimit say; None where none of them does.

    Memory of caches that the system gives back counts as free. Swap does not.
    """
    found = [_of_system(), _of_limit(), *_of_containers()]
    known = [max(0, free) for free in found if free is not None]
    return min(known) if known else None


def peak_memory() -> dict[str, int]:
    """The most memory that this process has held so far, MiB: ``process``, and ``cuda`` where CUDA is used."""
    found = {}
    with suppress(ImportError):
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        found["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.max_memory_allocated() // 2**20
    return found


def size_words(num_bytes: float) -> str:
    """A number of bytes as people read it: 350 MiB, 4.8 GiB."""
    unit, name = (2**20, "MiB") if num_bytes < 2**30 else (2**30, "GiB") if num_bytes < 2**50 else (2**50, "PiB")
    value = num_bytes / unit
    return f"{value:.0f} {name}" if value >= 100 or unit == 2**20 else f"{value:.1f} {name}"


def _asked_for(message: str) -> str:
    """How much was asked for and how much there is in all, as far as a message of torch's allocators says."""
    asked = re.search(r"tried to allocate ([\d.]+) ?(\w+)", message, re.IGNORECASE)
    if asked is None:
        return ""
    amount = size_words(float(asked[1])) if asked[2] == "bytes" else f"{asked[1]} {asked[2]}"
    total = re.search(r"total capacity of ([\d.]+ \w+)(?: of which ([\d.]+ \w+) is free)?", message)
    if total is None:
        return f" ({amount} more were asked for)"
    return f" ({amount} more were asked for, and {total[2] or 'less'} of {total[1]} is free)"


def _of_system() -> int | None:
    """Linux's own estimate; elsewhere all that the machine has, where Python can tell."""
    with suppress(OSError, ValueError, KeyError):
        return 1024 * _table(Path("/proc/meminfo"))["MemAvailable"]
    with suppress(OSError, ValueError, AttributeError):  # Windows has no sysconf
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_limit() -> int | None:
    """What `ulimit -v` leaves."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            return limit - taken
    return None


def _of_containers() -> list[int]:
    """What the control groups that this process is in leave, from its own up to the outermost; versions 1 and 2."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers in ("", "memory"):
                top = _CGROUPS / controllers
                group = top / name.lstrip("/")
                # In a container the path is often that of the host, which is not there: then the top is the own group.
                groups = [group, *group.parents] if group.is_dir() else [top]
                found += [
                    free for place in groups if place.is_relative_to(top) and (free := _left_in(place)) is not None
                ]
    return found


def _left_in(group: Path) -> int | None:
    for limit, taken, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # no such file, or the word "max"
            left = int((group / limit).read_text()) - int((group / taken).read_text())
            with suppress(OSError, ValueError, KeyError):
                left += _table(group / "memory.stat")[cache]
            return left
    return None


def _table(path: Path) -> dict[str, int]:
    """Lines of a name and a number, as the kernel writes them."""
    rows = (line.replace(":", " ").split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}
