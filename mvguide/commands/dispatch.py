"""Who gets which job, and what follows a death: the part of the workers that does not depend on the engine."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from mvguide.commands.batch_job import Outcome, Task, write_error
from mvguide.commands.speaking import Say
from mvguide.errors import ModelError
from mvguide.files.stopping import undisturbed

_STARTS = 3  # teams in a row that may die before they have begun a job
_POLL = 0.5  # seconds after which a signal is heeded
_PATIENCE = 60.0  # seconds that processes of a shared network are given after one of them has stopped


class Team(Protocol):
    """What takes a job: a process, or several that share a network. ``task`` is the job that it is at."""

    number: int
    task: Task | None

    def start(self) -> list[Any]:
        """Answers that come when all processes are there."""
        ...

    def run(self, task: Task) -> list[Any]:
        """Answers of those who take part in a job, the leader's first."""
        ...

    def kill(self) -> None:
        """End the processes."""
        ...


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


class Dispatch:
    """Gives jobs to teams, and takes outcomes and deaths.

    Args:
        ray: the engine: ``wait`` for answers, ``get`` one, ``exceptions``.
        queue: of jobs.
        make: a new team of a number.
        count: of teams.
        retries: how often a job is given to another team after a death.
        say: prints a sentence.
    """

    def __init__(
        self, ray: Any, queue: JobQueue, make: Callable[[int], Team], count: int, retries: int, say: Say
    ) -> None:
        self.ray, self.queue, self.make, self.count, self.retries, self.say = ray, queue, make, count, retries, say
        self.underway: dict[Any, Team] = {}  # by the answers that are to come
        self.leading: dict[int, Any] = {}  # number of a team -> answer of its leader, then its outcome
        self.idle: list[Team] = []
        self.started = self.deaths = 0

    def run(self) -> Iterator[Outcome]:
        """Outcomes as they come, one for each job."""
        self._hand_out()
        while self.queue or any(team.task for team in self.underway.values()):
            answer = self._next_answer()
            team = self.underway[answer]
            is_alive = True
            try:
                outcome, is_alive = self._take(team, answer)
            except self.ray.exceptions.RayError as error:
                outcome, is_alive = self._bury(team, error), False
            if team in self.underway.values():
                continue  # its other processes have not answered
            if outcome is not None:
                yield outcome
            if is_alive:
                self.deaths, team.task = 0, None
                self.idle.append(team)
            self._hand_out()

    def _next_answer(self) -> Any:
        while True:
            with undisturbed():  # the engine turns what a signal raises into Ctrl-C, whichever it was
                ready, _ = self.ray.wait(list(self.underway), num_returns=1, timeout=_POLL)
            if ready:
                return ready[0]

    def _take(self, team: Team, answer: Any) -> tuple[Outcome | None, bool]:
        """An answer of a team: the leader's outcome, once all have answered, and whether the team can go on.

        Raises:
            RayError: a process died, or the leader waits for one that has failed.
        """
        found, leading = self._answer(team, answer), self.leading[team.number]
        del self.underway[answer]
        others = [other for other, owner in self.underway.items() if owner is team]
        if answer is leading:
            self.leading[team.number] = leading = found
        waiting: list[Any] = []
        if others and found is not None and found.status != "done":
            # Alone, no process gets further: what stopped one stops all, or they wait for it.
            here, waiting = self.ray.wait(others, num_returns=len(others), timeout=_PATIENCE)
            if leading in waiting:
                raise self.ray.exceptions.RayError(f"a process of it failed: {found.sentence}")
            for other in others:
                del self.underway[other]
            leading = self._answer(team, leading) if leading in here else leading
        elif others or leading is None:
            return None, True
        can_go_on = not waiting and not leading.is_device_lost
        if not can_go_on:
            team.kill()
        return leading, can_go_on

    def _answer(self, team: Team, answer: Any) -> Outcome | None:
        try:
            return self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:  # what a job raises is its outcome: this is a fault of ours
            if team.task is None:
                raise
            return Outcome(team.task.name, "failed", f"{type(error).__name__}: {error}"[:500])

    def _hand_out(self) -> None:
        """Give jobs to all that are free, and start teams that are missing."""
        while self.queue and self.idle:
            team = self.idle.pop()
            task = self.queue.take(team.number)
            assert task is not None  # for the type checker: the queue is not empty
            self._wait_for(team, team.run(task))
        teams = {team.number: team for team in self.underway.values()}
        starting = sum(team.task is None for team in teams.values())
        for _ in range(min(self.count - len(teams) - len(self.idle), len(self.queue) - starting)):
            self.started += 1
            team = self.make(self.started)
            self._wait_for(team, team.start())

    def _wait_for(self, team: Team, answers: list[Any]) -> None:
        self.leading[team.number] = answers[0]
        self.underway.update(dict.fromkeys(answers, team))

    def _bury(self, team: Team, error: Exception) -> Outcome | None:
        """After a death its job goes back into the queue, or fails where it has killed too many."""
        team.kill()  # it may only be out of reach: two must not work on one job
        for answer in [answer for answer, owner in self.underway.items() if owner is team]:
            del self.underway[answer]
        reason, task = " ".join(str(error).split())[:300], team.task
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
