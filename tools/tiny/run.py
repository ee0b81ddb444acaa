"""One training run: optimiser, random numbers, log and checkpoints, so that it can be stopped at any moment."""

import csv
import math
import time
from typing import Any

import torch

from tools.tiny.compute import Compute, rank_and_world
from tools.tiny.optim import Optimizer
from tools.tiny.settings import Settings


class Run:
    """One training: its optimiser, its generator, its log, its checkpoint (one file for each process).

    Args:
        optimizer: of the model on the device.
        settings: of the run.
        compute: where it runs.
        name: of the files: ``NAME.csv``, ``NAME.rank0.safetensors``, ...
        columns: of the log, after step, seconds and gradient.
    """

    def __init__(
        self, optimizer: Optimizer, settings: Settings, compute: Compute, name: str, columns: tuple[str, ...]
    ) -> None:
        self.rank, self.world = rank_and_world()
        self.optimizer, self.settings, self.compute, self.name = optimizer, settings, compute, name
        self.generator = torch.Generator().manual_seed(settings.seed * 1000 + self.rank)
        torch.manual_seed(settings.seed * 1000 + 500 + self.rank)
        self.checkpoint = settings.root / f"{name}.rank{self.rank}.safetensors"
        self.log = settings.root / f"{name}.csv"
        self.columns = ("step", "seconds", "gradient", *columns)
        self.started = time.perf_counter()
        if self.checkpoint.exists():
            optimizer.load(self.checkpoint, self.generator)
            if self.rank == 0:
                self.forget_after(self.log)
        elif self.rank == 0:
            self.write_row(self.log, self.columns, new=True)

    @property
    def step(self) -> int:
        return self.optimizer.step_count

    def forget_after(self, log: Any) -> None:
        """Drop the rows of a log that a run stopped between two checkpoints had written, and will write again."""
        if not log.exists():
            return
        with log.open(newline="") as stream:
            header, *rows = list(csv.reader(stream))
        self.write_row(log, header, new=True)
        for row in rows:
            if int(row[0]) <= self.step:
                self.write_row(log, row)

    def write_row(self, log: Any, row: Any, new: bool = False) -> None:
        """Append a row to a log, or begin one."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w" if new else "a", newline="") as stream:
            csv.writer(stream).writerow(row)

    def end_of_step(self, gradient: float, values: dict[str, float], last: bool) -> None:
        """Log every tenth step, save now and then."""
        if self.rank == 0 and (self.step % 10 == 0 or last):
            row = [self.step, round(time.perf_counter() - self.started, 1), round(gradient, 4)]
            row += [round(values.get(column, math.nan), 5) for column in self.columns[3:]]
            self.write_row(self.log, row)
            print(self.name, *row, flush=True)
        if self.step % self.settings.save_every == 0 or last:
            self.optimizer.save(self.checkpoint, self.generator)
