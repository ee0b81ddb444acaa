"""Workers: processes on one machine or many that keep a model loaded, and take jobs as they become free.

The engine is Ray: it starts the processes, gives each its GPUs, carries jobs and outcomes, and notices a death.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from secrets import token_hex
from typing import Any

from mvguide.commands.batch_job import JobRunner, Outcome, Task, stages
from mvguide.commands.dispatch import Dispatch, JobQueue
from mvguide.commands.speaking import JobBar, Say
from mvguide.config.batch_options import BatchConfig
from mvguide.errors import ConfigError, ModelError


class Worker:
    """Runs jobs in a process of its own; an actor of Ray.

    Args:
        device: of the jobs that name none.
    """

    def __init__(self, device: str) -> None:
        self.device, self.runner, self.rank = device, JobRunner(), 0

    def address(self) -> tuple[str, int]:
        """Where the other processes of a network that is shared can meet this one."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), int(free.getsockname()[1])

    def join(self, rank: int, size: int, address: tuple[str, int]) -> None:
        """Be one of the processes that share a network, as if torchrun had started it."""
        self.rank = rank
        # Ray shows each process its own GPUs only: for torch it is alone on its machine.
        here = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        there = {"MASTER_ADDR": address[0], "MASTER_PORT": address[1]}
        os.environ.update({name: str(value) for name, value in (here | there).items()})

    def ready(self) -> None:
        """Answer as soon as the process is there."""

    def run(self, task: Task) -> Outcome:
        """Run a job, or take part in it."""
        if task.config.device == "auto":
            task = replace(task, config=replace(task.config, device=self.device))
        return self.runner.follow(task) if self.rank else self.runner.run(task, JobBar(stages(task), quiet=True))


class RayTeam:
    """What takes a job: a worker, or several that share a network.

    Args:
        ray: the engine.
        number: of the team.
        size: workers in it; the first leads.
        gpus: of each of them.
    """

    def __init__(self, ray: Any, number: int, size: int, gpus: int) -> None:
        self.ray, self.number = ray, number
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0}
        self.group = None
        if size > 1:  # on one machine, and all of them or none
            self.group = ray.util.placement_group(
                [{"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1}] * size, "STRICT_PACK"
            )
            options["scheduling_strategy"] = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(self.group)
        actor = ray.remote(**options)(Worker)
        self.members = [actor.remote("cuda" if gpus else "cpu") for _ in range(size)]
        self.task: Task | None = None

    def start(self) -> list[Any]:
        """Answers that come when all are there."""
        if len(self.members) == 1:
            return [self.members[0].ready.remote()]
        place = self.members[0].address.remote()
        return [member.join.remote(rank, len(self.members), place) for rank, member in enumerate(self.members)]

    def run(self, task: Task) -> list[Any]:
        """Answers to a job, the leader's first. The others have nothing to do where the network is not shared."""
        self.task = task
        members = self.members if task.config.context_parallel > 1 else self.members[:1]
        return [member.run.remote(task) for member in members]

    def kill(self) -> None:
        """End the processes; a network that is shared needs all of them."""
        for member in self.members:
            self.ray.kill(member)
        if self.group is not None:
            self.ray.util.remove_placement_group(self.group)


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
                raise ConfigError("gpus_per_worker is for workers; give their number with --workers, or auto")
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
        tasks = [task for group in groups for task in group]
        size = shared_by(tasks)
        if mine:
            _start_ray(self.address, None if self.count is None else self.count * size)
        import ray

        try:
            count, gpus = self.fitted(size, ray.cluster_resources())
            count = min(count, len(tasks))
            owned = f" with {gpus} GPU{'s' if gpus > 1 else ''} each" if gpus else ""
            say(f"{count} worker{'s' if count > 1 else ''}{owned}")
            make = partial(RayTeam, ray, size=size, gpus=gpus // size)
            yield from Dispatch(ray, JobQueue(groups), make, count, retries, say).run()
        finally:
            if mine:
                ray.shutdown()

    def fitted(self, size: int, there: Mapping[str, float]) -> tuple[int, int]:
        """How many workers, and GPUs of each, where resources are ``there``.

        Args:
            size: processes of a worker.
            there: number of CPU and GPU, as Ray counts them.

        Raises:
            ConfigError: there is not room for so many.
        """
        cores, gpus_there = int(there.get("CPU", 1)), int(there.get("GPU", 0))
        gpus = (size if gpus_there else 0) if self.gpus is None else self.gpus
        if gpus % size:
            raise ConfigError(
                f"gpus_per_worker is {gpus}, but jobs have context_parallel {size}, a GPU for each process; give {size}"
            )
        # On the CPU of this machine there may be more processes than cores; elsewhere they would never start.
        room = gpus_there // gpus if gpus else cores // size if self.count is None or self.address else self.count
        if not room or (self.count or 0) > room:
            each = f"{gpus or size} {'GPU' if gpus else 'CPU core'}{'s' if (gpus or size) > 1 else ''}"
            has = f"{gpus_there} GPUs" if gpus else f"{cores} CPU cores"
            raise ConfigError(
                f"{self.count or 'as many as possible'} workers of {each} each were asked for, but there are {has}; "
                "ask for less with --workers or --gpus_per_worker"
            )
        return self.count or room, gpus


def shared_by(tasks: Iterable[Task]) -> int:
    """How many processes share a network, where jobs have ``context_parallel``; 1 where none has.

    Raises:
        ConfigError: jobs ask for unlike numbers: a worker has one.
    """
    sizes = {task.config.context_parallel: task.name for task in tasks if task.config.context_parallel > 1}
    if len(sizes) > 1:
        (one, name), (other, name_of_other) = list(sizes.items())[:2]
        raise ConfigError(
            f"job {name} has context_parallel {one} and job {name_of_other} {other}; the workers of a batch have one "
            "number, make it two batches"
        )
    return next(iter(sizes), 1)


def _start_ray(address: str | None, processes: int | None) -> None:
    """Join a cluster, or start Ray on this machine: no news to anybody, no dashboard, no lines from its processes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"num_cpus": processes, "include_dashboard": False, "object_store_memory": 2**28}
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
