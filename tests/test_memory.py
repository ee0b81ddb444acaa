"""Memory is asked for before it is taken."""

import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from mvguide import memory
from mvguide.errors import ConfigError, InputError, OutOfMemoryError
from mvguide.memory import check_memory, enough_memory, free_gpu_memory, free_memory, is_out_of_memory, size_words


def test_more_than_is_free_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 3 * 2**30)
    with pytest.raises(InputError, match=r"^video a needs about 4\.8 GiB of memory, and 3\.0 GiB are free; cut it$"):
        check_memory(4.8 * 2**30, "video a", "cut it")
    check_memory(2.9 * 2**30, "video a", "cut it")
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    check_memory(1e30, "video a", "cut it")


def test_this_machine_says_what_is_free() -> None:
    free = free_memory()
    assert free is not None
    assert 2**24 < free < 2**50
    with pytest.raises(InputError, match=r"needs about 8882 PiB"):
        check_memory(1e19, "x", "y")


def test_words() -> None:
    assert [size_words(n) for n in (5e6, 350e6, 1.5 * 2**30, 120 * 2**30)] == ["5 MiB", "334 MiB", "1.5 GiB", "120 GiB"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_ulimit_counts() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from mvguide.memory import free_memory; print(free_memory())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**20 < int(run.stdout) < 2**30


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_containers_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    limit, taken, stat = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "cache 7\ntotal_inactive_file 1000000\n"),
        2: ("memory.max", "memory.current", "anon 7\ninactive_file 1000000\n"),
    }[version]
    group = tmp_path / ("memory" if version == 1 else "")
    group.mkdir(exist_ok=True)
    (group / limit).write_text("50000000\n")
    (group / taken).write_text("21000000\n")
    (group / "memory.stat").write_text(stat)
    assert memory._left_in(group) == 30_000_000
    (group / limit).write_text("max\n")
    assert memory._left_in(group) is None


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError(), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ConfigError("ran out of memory"), False),
    ],
)
def test_running_out_is_told_from_other_errors(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one
    with pytest.raises(OutOfMemoryError if is_one else type(error)), enough_memory("work", "do less"):
        raise error


def test_the_sentence_does_not_keep_what_was_in_memory() -> None:
    held = []

    def work() -> None:
        large = torch.zeros(1000)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("Tried to allocate 4.00 GiB.")

    with pytest.raises(OutOfMemoryError) as caught, enough_memory("work on a video", "do less"):
        work()
    assert caught.match(r"^work on a video needs more memory than there is \(4\.00 GiB more were asked for\); do less$")
    assert held[0]() is None


def test_only_gpus_have_memory_of_their_own() -> None:
    assert free_gpu_memory(torch.device("cpu")) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_torch_keeps_to_use_again_is_free() -> None:
    device = torch.device("cuda")
    before = free_gpu_memory(device)
    block = torch.zeros(2**28, dtype=torch.uint8, device=device)
    during = free_gpu_memory(device)
    del block
    after = free_gpu_memory(device)
    assert before is not None
    assert during is not None
    assert after is not None
    assert before - during > 2**27
    assert abs(before - after) < 2**27
