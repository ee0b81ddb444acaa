"""Sharing a network between processes: what can be checked in one; tests/commands/test_acceleration_cli.py has two."""

import pytest
import torch

from mvguide.backbones.context_parallel import check_ranks, check_tokens, join_ranks, leads, one_voice, split_network
from mvguide.errors import ConfigError, InputError
from tests.backbones.tiny_families import build

CPU = torch.device("cpu")


def test_one_process_needs_nothing() -> None:
    check_ranks(1, CPU)
    assert join_ranks(1, CPU) == CPU
    assert leads(1)
    check_tokens(3, 1, 3, 16, 1)


def test_processes_that_torchrun_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ConfigError, match=r"is 2, but 1 process runs; start it with torchrun --nproc-per-node 2 -m mvguide"
    ):
        check_ranks(2, CPU)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="is 2, but 4 processes run; start it with torchrun --nproc-per-node 2"):
        check_ranks(2, CPU)
    check_ranks(4, CPU)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(ConfigError, match="has 4 processes on this machine, but it has 3 GPUs; start one for each GPU"):
        check_ranks(4, torch.device("cuda"))


def test_what_stops_all_is_said_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, raised in (("0", InputError), ("1", SystemExit)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(raised), one_voice(2):
            raise InputError("no picture")
    assert leads(1), "without context_parallel every process is its own"


@pytest.mark.parametrize(
    ("cells", "count", "width"),
    [((3, 2, 5), 4, 64), ((3, 1, 3), 2, 64), ((4, 1, 5), 8, 64), ((3, 1, 1), 7, 112)],
)
def test_tokens_that_cannot_be_shared(cells: tuple[int, int, int], count: int, width: int) -> None:
    with pytest.raises(
        InputError, match=f"{count} processes cannot share .* evenly; use width {width}, or another number"
    ):
        check_tokens(*cells, 16, count)
    check_tokens(*cells[:2], width // 16, 16, count)


def test_heads_that_cannot_be_shared() -> None:
    network = build("wan21").transformer
    with pytest.raises(ConfigError, match="context_parallel is 3, but the model has 2 heads; use 2$"):
        split_network(network, 3, CPU)
