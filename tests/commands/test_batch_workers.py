"""Workers: who gets which job, what follows a death, and a real Ray on this machine with a worker that is killed."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mvguide.cli import main
from mvguide.commands import workers
from mvguide.commands.batch_job import Outcome, Task
from mvguide.commands.dispatch import Dispatch, JobQueue
from mvguide.commands.workers import Crew, shared_by
from mvguide.config.batch_options import BatchConfig
from mvguide.config.score_options import EvaluateSceneConfig
from mvguide.errors import ConfigError, ModelError
from mvguide.evaluation.overview import read_entry
from mvguide.pipeline.latents import load_latents
from tests.backbones.tiny_families import HEIGHT, PROMPT, WIDTH
from tests.commands.test_batch import files_of, rows, strays
from tests.evaluation.test_overview import check_page

SLOW = os.environ.get("MVGUIDE_SLOW") == "1"


def tasks(*sizes: int, out: str = "out") -> list[list[Task]]:
    """Groups of so many jobs: a0, a1, b0, ..."""
    return [
        [Task(f"{'abcdefgh'[group]}{k}", EvaluateSceneConfig(out=f"{out}/x"), "", "") for k in range(size)]
        for group, size in enumerate(sizes)
    ]


def test_a_worker_stays_in_its_group_and_then_helps_in_the_longest() -> None:
    queue = JobQueue(tasks(2, 4, 1))

    def take(worker: int) -> str | None:
        task = queue.take(worker)
        return None if task is None else task.name

    assert [take(1), take(2), take(1), take(2)] == ["a0", "b0", "a1", "b1"]
    assert take(1) == "c0", "a group that nobody is in comes first"
    assert take(1) == "b3", "then the end of the longest"
    queue.put_back(tasks(1)[0][0])
    assert len(queue) == 2
    assert [take(2), take(1), take(1), take(2)] == ["a0", "b2", None, None]
    assert len(queue) == 0


def test_every_job_is_given_once_whatever_the_order() -> None:
    chance = random.Random(0)
    for _ in range(200):
        sizes = [chance.randrange(6) for _ in range(chance.randrange(1, 7))]
        queue, given = JobQueue(tasks(*sizes)), []
        while queue:
            task = queue.take(chance.randrange(4))
            assert task is not None
            given.append(task.name)
            if chance.random() < 0.2:
                queue.put_back(task)
                given.pop()
        assert sorted(given) == sorted(task.name for group in tasks(*sizes) for task in group)
        assert queue.take(0) is None


@dataclass(eq=False)
class Answer:
    """Stands for what a process will answer: None, an outcome, or an error."""

    team: "FakeTeam"
    content: Any


class FakeRay:
    """Ray as far as the dispatch uses it: answers come in a random order, and never those that nobody gives."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    def __init__(self, seed: int, deadly: dict[str, int], stillborn: int = 0, size: int = 1) -> None:
        self.chance, self.deadly, self.stillborn, self.size = random.Random(seed), dict(deadly), stillborn, size
        self.alive, self.most, self.killed = 0, 0, 0

    def make(self, number: int) -> "FakeTeam":
        self.alive += 1
        self.most = max(self.most, self.alive)
        return FakeTeam(self, number)

    def wait(self, answers: list[Answer], num_returns: int, timeout: float | None = None) -> Any:
        ready = [answer for answer in answers if answer.content != "never"]
        if num_returns == 1 and (timeout or 0) < 1:
            assert ready, "the dispatch waits for ever"
            return [self.chance.choice(ready)], []
        return ready, [answer for answer in answers if answer not in ready]

    def get(self, answer: Answer) -> Any:
        assert not answer.team.is_dead
        if isinstance(answer.content, Exception):
            raise answer.content
        return answer.content


class FakeTeam:
    """A team of processes; how they end a job is in the job's name."""

    def __init__(self, ray: FakeRay, number: int) -> None:
        self.ray, self.number, self.is_dead = ray, number, False
        self.task: Task | None = None

    def start(self) -> list[Answer]:
        content: list[Any] = [None] * self.ray.size
        if self.ray.stillborn:
            self.ray.stillborn -= 1
            content[-1] = self.ray.exceptions.RayError("no memory")
        return [Answer(self, answer) for answer in content]

    def run(self, task: Task) -> list[Answer]:
        assert not self.is_dead
        assert self.task is None
        self.task = task
        name, fine = task.name, Outcome(task.name, "done")
        content: list[Any] = [fine] * self.ray.size
        if self.ray.deadly.get(name, 0) > 0:
            self.ray.deadly[name] -= 1
            content = ["never"] * (self.ray.size - 1) + [self.ray.exceptions.RayError("killed by signal 9")]
        elif name == "b1":
            content[0] = self.ray.exceptions.RayTaskError("a fault of ours")
        elif name == "c0":
            content[0] = Outcome(name, "failed", "CUDA error", is_device_lost=True)
        elif name == "b3":
            content = [Outcome(name, "failed", "no such picture")] * self.ray.size
        elif name == "a2":
            content = [Outcome(name, "busy", "in use")] + ["never"] * (self.ray.size - 1)
        elif name == "b2" and task.attempt == 1 and self.ray.size > 1:
            content = ["never"] * (self.ray.size - 1) + [Outcome(name, "failed", "alone")]
        return [Answer(self, answer) for answer in content]

    def kill(self) -> None:
        assert not self.is_dead
        self.is_dead = True
        self.ray.alive -= 1
        self.ray.killed += 1


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_deaths_are_followed_by_another_worker_and_at_last_by_a_sentence(seed: int, size: int, tmp_path: Path) -> None:
    groups = tasks(3, 4, 2, 1, out=str(tmp_path))
    said: list[str] = []
    ray = FakeRay(seed, {"a1": 2, "b0": 1, "d0": 9}, stillborn=2, size=size)
    found = list(Dispatch(ray, JobQueue(groups), ray.make, 3, 2, said.append).run())
    assert Counter(outcome.name for outcome in found) == Counter(task.name for group in groups for task in group)
    outcomes = {outcome.name: outcome for outcome in found}
    assert {name for name, outcome in outcomes.items() if outcome.status == "failed"} == {"b1", "b3", "c0", "d0"}
    assert outcomes["a2"].status == "busy"
    assert "3 workers died with it" in outcomes["d0"].sentence
    assert "a fault of ours" in outcomes["b1"].sentence
    assert outcomes["b3"].sentence == "no such picture"
    assert (tmp_path / "x" / "error.txt").read_text().startswith("3 workers died with it")
    assert ray.most <= 3
    again = sum("another goes on with it" in text for text in said)
    assert again == 2 + 1 + 2 + (size > 1), "a1, b0, d0, and b2, whose leader waited for one that had failed"
    # Two that did not start, each death, the lost GPU, and the team whose others never heard that a2 was in use.
    assert ray.killed == 2 + again + 1 + 1 + (size > 1)


def test_workers_that_never_start_end_the_batch() -> None:
    ray = FakeRay(0, {}, stillborn=99)
    with pytest.raises(ModelError, match="workers die before they have begun"):
        list(Dispatch(ray, JobQueue(tasks(3)), ray.make, 2, 2, lambda text: None).run())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"workers": "0"}, "workers is '0'; give a number of processes, at least 1, or auto"),
        ({"workers": "two"}, "workers is 'two'"),
        ({"workers": "-1"}, "workers is '-1'"),
        ({"workers": "2", "gpus_per_worker": -1}, "gpus_per_worker is -1"),
        ({"gpus_per_worker": 2}, "gpus_per_worker is for workers; give their number"),
    ],
)
def test_wrong_crews_give_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        Crew.of(BatchConfig(**given))


def test_without_ray_a_sentence_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    assert Crew.of(BatchConfig()) is None
    with pytest.raises(ConfigError, match=re.escape("install it with: pip install 'mvguide[cluster]'")):
        Crew.of(BatchConfig(workers="2"))


@pytest.mark.parametrize(
    ("crew", "size", "there", "wanted"),
    [
        (Crew(None, None, None), 1, {"CPU": 8.0}, (8, 0)),
        (Crew(3, None, None), 1, {"CPU": 8.0}, (3, 0)),
        (Crew(3, None, None), 1, {"CPU": 2.0}, (3, 0)),
        (Crew(None, None, None), 2, {"CPU": 9.0}, (4, 0)),
        (Crew(None, None, None), 1, {"CPU": 8.0, "GPU": 4.0}, (4, 1)),
        (Crew(None, None, None), 2, {"CPU": 8.0, "GPU": 5.0}, (2, 2)),
        (Crew(None, None, 2), 1, {"CPU": 64.0, "GPU": 8.0}, (4, 2)),
        (Crew(None, None, 0), 1, {"CPU": 8.0, "GPU": 4.0}, (8, 0)),
        (Crew(5, "auto", None), 1, {"CPU": 8.0, "GPU": 4.0}, "5 workers of 1 GPU each were asked for, but .* 4 GPUs"),
        (Crew(None, None, 8), 1, {"CPU": 8.0, "GPU": 4.0}, "as many as possible workers of 8 GPUs each .* 4 GPUs"),
        (
            Crew(9, "auto", None),
            1,
            {"CPU": 8.0},
            "9 workers of 1 CPU core each were asked for, but there are 8 CPU cores",
        ),
        (Crew(1, None, 1), 1, {"CPU": 8.0}, "1 workers of 1 GPU each were asked for, but there are 0 GPUs"),
        (Crew(1, None, 3), 2, {"CPU": 8.0, "GPU": 4.0}, "gpus_per_worker is 3, but jobs have context_parallel 2"),
    ],
)
def test_how_many_workers(crew: Crew, size: int, there: dict[str, float], wanted: Any) -> None:
    if isinstance(wanted, str):
        with pytest.raises(ConfigError, match=wanted):
            crew.fitted(size, there)
    else:
        assert crew.fitted(size, there) == wanted


def test_a_shared_network_needs_workers_of_one_size() -> None:
    def task(name: str, count: int) -> Task:
        return Task(name, EvaluateSceneConfig(context_parallel=count), "", "")

    assert shared_by([]) == 1
    assert shared_by([task("a", 1), task("b", 2), task("c", 2)]) == 2
    with pytest.raises(ConfigError, match="job a has context_parallel 2 and job b 4"):
        shared_by([task("a", 2), task("b", 4)])


JOBS = """
shared: {model: tiny, device: cpu, steps: 24, num_frames: 4, width: 64, height: 64}
jobs:
  - {scene: hall}
  - {scene: marbles, num_frames: 8, steps: 60}
  - {scene: courtyard, guidance.table: tiny_25x8, name: wrong}
grid: {seed: [0, 1, 2]}
"""


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="starts Ray, which takes a minute: set MVGUIDE_SLOW=1")
def test_a_worker_is_killed_and_every_job_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.yaml").write_text(JOBS)
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # as workers have it
    command = [sys.executable, "-m", "mvguide", "batch", "jobs.yaml", "--quiet", "--checkpoint_every", "3", "--out"]
    assert subprocess.run([*command, "serial"], env=alone, stderr=subprocess.DEVNULL).returncode == 1
    crew = subprocess.Popen([*command, "out", "--workers", "2"], env=alone, stderr=subprocess.PIPE, text=True)
    killed = kill_a_worker(Path("out"), crew)
    _, said = crew.communicate(timeout=400)
    assert crew.returncode == 1, said
    assert "3 of 9 jobs failed" in said
    assert said.count("lambda table has") == 3
    assert said.count("\n") == 4, f"nothing but the errors: {said}"
    found = {path.name: read_entry(path) for path in Path("out").iterdir() if path.is_dir()}
    assert Counter(entry.status for entry in found.values()) == {"done": 6, "failed": 3}
    assert len({entry.run for entry in found.values() if entry.status == "done"}) == 1
    for name, entry in found.items():
        if entry.status == "done":
            assert files_of(Path("out", name)) == files_of(Path("serial", name)), name
    assert read_entry(Path("out", killed)).status == "done"
    assert "9 jobs: 6 done, 3 failed." in check_page(Path("out/index.html")).text
    assert Counter(row["status"] for row in rows().values()) == {"done": 6, "failed": 3}
    assert strays(Path("out")) == []
    # Nothing is left to do, and no worker is started for it.
    before = {path: path.stat().st_ino for path in Path("out").glob("*/report.json")}
    Path("jobs.yaml").write_text(JOBS.replace("  - {scene: courtyard, guidance.table: tiny_25x8, name: wrong}\n", ""))
    assert main([*command[3:], "out", "--workers", "2", "--resume"]) == 0
    assert {path: path.stat().st_ino for path in before} == before


def kill_a_worker(out: Path, crew: "subprocess.Popen[str]") -> str:
    """Kill the worker of a job that has a checkpoint, as the lock beside its folder names it; the name of the job."""
    limit = time.monotonic() + 300
    while time.monotonic() < limit and crew.poll() is None:
        for checkpoint in out.glob("marbles*/checkpoint.safetensors"):
            name = checkpoint.parent.name
            holder = re.match(r"process (\d+) ", (out / f".{name}.lock").read_text())
            if holder:
                os.kill(int(holder[1]), signal.SIGKILL)
                return name
        time.sleep(0.005)
    raise AssertionError("no job was ever half done")


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="starts Ray, which takes a minute: set MVGUIDE_SLOW=1")
def test_a_crew_that_is_terminated_leaves_no_process_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.yaml").write_text(JOBS)
    command = [sys.executable, "-m", "mvguide", "batch", "jobs.yaml", "--quiet", "--out", "out", "--workers", "2"]
    crew = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 300
    while not list(Path("out").glob("*/checkpoint.safetensors")) and time.monotonic() < limit:
        time.sleep(0.02)
    pids = {int(re.findall(r"\d+", path.read_text())[0]) for path in Path("out").glob(".*.lock")}
    crew.send_signal(signal.SIGTERM)
    _, said = crew.communicate(timeout=60)
    assert crew.returncode == 143, said
    assert "the same command with --resume goes on after" in said
    time.sleep(2)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert main([*command[3:], "--resume"]) == 1
    assert Counter(row["status"] for row in rows().values()) == {"done": 6, "failed": 3}
    settings = json.loads(Path("out/hall_seed0/report.json").read_text())["settings"]
    assert settings["threads"] == 1
    assert strays(Path("out")) == []


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="starts Ray, which takes a minute: set MVGUIDE_SLOW=1")
def test_processes_of_a_worker_share_a_network(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shared = f"model: {tiny_folder('wan21')}, device: cpu, steps: 2, num_frames: 9, save_latents: true, scene: marbles"
    text = f"shared: {{{shared}, width: {WIDTH}, height: {HEIGHT}, prompt: {PROMPT!r}"
    Path("alone.yaml").write_text(f"{text}}}\ngrid: {{seed: [0, 1]}}\n")
    assert main(["batch", "alone.yaml", "--out", "alone", "--quiet"]) == 0
    uneven = "{width: 48, height: 16, name: uneven}"
    jobs = f"{text}, context_parallel: 2}}\njobs: [{{}}, {uneven}]\ngrid: {{seed: [0, 1]}}\n"
    Path("jobs.yaml").write_text(jobs)
    assert main(["batch", "jobs.yaml", "--out", "out"]) == 2, "one process shares with nobody"
    command = [sys.executable, "-m", "mvguide", "batch", "jobs.yaml", "--out", "out", "--workers", "1", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 1, done.stderr
    assert {name: row["status"] for name, row in rows().items()} == {
        "seed0": "done", "seed1": "done", "uneven_seed0": "failed", "uneven_seed1": "failed",
    }, done.stderr  # fmt: skip
    assert "2 processes cannot share" in Path("out/uneven_seed0/error.txt").read_text()
    for name in ("seed0", "seed1"):
        found, expected = (load_latents(Path(out, name, "latents.safetensors"))[0].latents for out in ("out", "alone"))
        assert float((found - expected).abs().max()) < 1e-4
