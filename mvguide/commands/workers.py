"""Workers: processes on one machine or many that keep a model loaded, and take jobs as they become free.

The engine is Ray: it starts the processes, gives each its GPUs, carries jobs and outcomes, and notices a death. What is
here is which job goes to whom, and what follows a death.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from secrets import token_hex
from typing import Any

from mvguide.commands.batch_job import JobRunner, Outcome, Task, stages, write_error
from mvguide.commands.speaking import JobBar, Say
from mvguide.config.batch_options import BatchConfig
from mvguide.errors import ConfigError, ModelError

_STARTS = 3  # workers in a row that may die before they have begun a job


class JobQueue:
    """Jobs that wait, in groups that have model, inputs and path in common.

    A worker stays in its group, so that it uses again what it has; a free one takes a group that nobody is in, and when
    there is none, the last job of the longest.

    Args:
        groups: of jobs.
    """

    def __init__(self, groups: Sequence[Sequence[Task]]) -> None:
        self._untouched = deque(deque(group) for group in groups if group)
        self._begun: dict[int, deque[Task]] = {}  # by worker
        self._again: deque[Task] = deque()
        self._left = sum(map(len, groups))

    def __len__(self) -> int:
        return self._left

    def take(self, worker: int) -> Task | None:
        """The next job of a worker; None where none is left."""
        if not self._left:
            return None
        self._left -= 1
        if self._again:
            return self._again.popleft()
        if not self._begun.get(worker) and self._untouched:
            self._begun[worker] = self._untouched.popleft()
        if self._begun.get(worker):
            return self._begun[worker].popleft()
        return max(self._begun.values(), key=len).pop()

    def put_back(self, task: Task) -> None:
        """A job whose worker died; it goes to the next that is free."""
        self._again.append(task)
        self._left += 1


class Worker:
    """Runs jobs in a process of its own; an actor of Ray.

    Args:
        device: of the jobs that name none.
    """

    def __init__(self, device: str) -> None:
        self.device, self.runner = device, JobRunner()

    def ready(self) -> None:
        """Answer as soon as the process is there."""

    def run(self, task: Task) -> Outcome:
        """Run a job."""
        if task.config.device == "auto":
            task = replace(task, config=replace(task.config, device=self.device))
        return self.runner.run(task, JobBar(stages(task), quiet=True))


@dataclass(frozen=True)
class Crew:
    """Which workers there are.

    Args:
        count: of them; None: one for each share of GPUs, or each CPU core.
        address: of a Ray cluster; None: this machine.
        gpus: that each owns; None: 1 where there are GPUs, else 0.
    """

    count: int | None
    address: str | None
    gpus: int | None

    @classmethod
    def of(cls, config: BatchConfig) -> "Crew | None":
        """The crew that is asked for; None: this process does the work.

        Raises:
            ConfigError: a number out of range, or Ray is not installed.
        """
        if config.gpus_per_worker is not None and config.gpus_per_worker < 0:
            raise ConfigError(f"gpus_per_worker is {config.gpus_per_worker}; it is a number of GPUs, 0 for none")
        if config.workers is None and config.cluster is None:
            if config.gpus_per_worker is not None:
                raise ConfigError("gpus_per_worker is for workers; say how many with --workers, or auto")
            return None
        count = None
        if config.workers not in (None, "auto"):
            if not str(config.workers).isdecimal() or not int(str(config.workers)):
                raise ConfigError(f"workers is {config.workers!r}; give a number of processes, at least 1, or auto")
            count = int(str(config.workers))
        if find_spec("ray") is None:
            raise ConfigError(
                "workers need Ray, which is not installed; install it with: pip install 'mvguide[cluster]'"
            )
        return cls(count, config.cluster, config.gpus_per_worker)

    def run(self, groups: Sequence[Sequence[Task]], retries: int, say: Say) -> Iterator[Outcome]:
        """Run jobs; outcomes come as they are ready.

        Args:
            groups: of jobs that have much in common, see :func:`mvguide.commands.sharing.in_order`.
            retries: how often a job is given to another worker after the one that had it died.
            say: prints a sentence.

        Raises:
            ConfigError: more workers than there is room for, or a cluster that does not answer.
            ModelError: workers die before they have begun.
        """
        mine = "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
        if mine:
            _start_ray(self.address, self.count)
        import ray

        try:
            count, gpus = self._fitted(ray.cluster_resources())
            count = min(count, sum(map(len, groups)))
            say(f"{count} workers" + (f" with {gpus} GPU{'s' if gpus > 1 else ''} each" if gpus else ""))
            yield from _Dispatch(ray, JobQueue(groups), count, gpus, retries, say).run()
        finally:
            if mine:
                ray.shutdown()

    def _fitted(self, there: dict[str, float]) -> tuple[int, int]:
        """How many workers, and GPUs of each."""
        gpus_there = int(there.get("GPU", 0))
        gpus = min(1, gpus_there) if self.gpus is None else self.gpus
        room = gpus_there // gpus if gpus else int(there.get("CPU", 1))
        if not room or (self.count is not None and self.count > room and (gpus or self.address)):
            each = f"{gpus} GPU{'s' if gpus != 1 else ''}" if gpus else "a CPU core"
            has = f"{gpus_there} GPUs" if gpus else f"{room} CPU cores"
            raise ConfigError(
                f"{self.count or 'workers'} workers of {each} each were asked for, but there are {has}; "
                "ask for fewer with --workers or --gpus_per_worker"
            )
        return self.count or room, gpus


class _Dispatch:
    """Gives jobs to workers, and takes outcomes and deaths."""

    def __init__(self, ray: Any, queue: JobQueue, count: int, gpus: int, retries: int, say: Say) -> None:
        self.ray, self.queue, self.count, self.gpus, self.retries, self.say = ray, queue, count, gpus, retries, say
        self.underway: dict[Any, tuple[int, Any, Task | None]] = {}  # answer -> worker, its actor, its job
        self.idle: dict[int, Any] = {}
        self.started = self.deaths = 0

    def run(self) -> Iterator[Outcome]:
        self._hand_out()
        while self.queue or any(task for _, _, task in self.underway.values()):
            (answer,), _ = self.ray.wait(list(self.underway), num_returns=1)
            worker, actor, task = self.underway.pop(answer)
            outcome: Outcome | None = None
            try:
                outcome = self.ray.get(answer)
                self.deaths = 0
            except self.ray.exceptions.RayTaskError as error:  # what is raised is an outcome, but for faults of our own
                if task is None:
                    raise
                outcome = Outcome(task.name, "failed", f"{type(error).__name__}: {error}"[:500])
            except self.ray.exceptions.RayError as error:
                outcome = self._bury(actor, task, error)
                actor = None
            if outcome is not None:
                yield outcome
                if outcome.is_device_lost:
                    self.ray.kill(actor)
                    actor = None
            if actor is not None:
                self.idle[worker] = actor
            self._hand_out()

    def _start(self) -> None:
        self.started += 1
        options = self.ray.remote(num_cpus=1, num_gpus=self.gpus, max_restarts=0)
        actor = options(Worker).remote("cuda" if self.gpus else "cpu")
        self.underway[actor.ready.remote()] = self.started, actor, None

    def _hand_out(self) -> None:
        """Give jobs to all that are free, and start workers that are missing."""
        while self.queue and self.idle:
            worker, actor = self.idle.popitem()
            task = self.queue.take(worker)
            self.underway[actor.run.remote(task)] = worker, actor, task
        starting = sum(task is None for _, _, task in self.underway.values())
        for _ in range(min(self.count - len(self.underway) - len(self.idle), len(self.queue) - starting)):
            self._start()

    def _bury(self, actor: Any, task: Task | None, error: Exception) -> Outcome | None:
        """After a death its job goes back into the queue, or fails where it has killed too many."""
        self.ray.kill(actor)  # it may only be out of reach: two must not work on one job
        reason = " ".join(str(error).split())[:300]
        if task is None:
            self.deaths += 1
            if self.deaths >= _STARTS:
                raise ModelError(f"workers die before they have begun ({reason}); try the batch without --workers")
            return None
        if task.attempt <= self.retries:
            self.say(f"warning: the worker with {task.name} died; another goes on with it")
            self.queue.put_back(replace(task, attempt=task.attempt + 1))
            return None
        sentence = f"{task.attempt} workers died with it, perhaps for want of memory ({reason})"
        write_error(task, sentence)
        return Outcome(task.name, "failed", sentence)


def _start_ray(address: str | None, count: int | None) -> None:
    """Join a cluster, or start Ray on this machine: no news to anybody, no dashboard, no lines from its processes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"num_cpus": count, "include_dashboard": False, "object_store_memory": 2**28}
        # Its processes listen to the network, and run what they are sent: nobody else shall have the token.
        for name, value in (
            ("RAY_AUTH_MODE", "token"),
            ("RAY_AUTH_TOKEN", token_hex(32)),
            ("RAY_worker_niceness", "0"),
        ):
            os.environ.setdefault(name, value)
    else:
        options |= {"address": address}
    import ray

    ends = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        if address is None:
            raise ModelError(f"Ray does not start here ({reason}); run the batch without --workers") from error
        raise ConfigError(f"no Ray cluster answers at {address!r} ({reason}); check --cluster") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in ends.items():  # Ray puts its own in their place
                signal.signal(number, handler)
