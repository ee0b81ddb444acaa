"""One job of a batch: skipped where it is done, continued where it was begun, and never the end of the others."""

import json
import shutil
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Literal

from mvguide.commands.job import read_job
from mvguide.commands.rendering import STAGES, render_with
from mvguide.commands.scoring import check_scoring, render_settings, score_render
from mvguide.commands.sharing import Shared, free_memory_of_models
from mvguide.commands.speaking import JobBar
from mvguide.config.render_options import RenderConfig
from mvguide.config.score_options import EvaluateSceneConfig
from mvguide.decoding import is_file
from mvguide.errors import ConfigError, FileError, InUseError, MvguideError
from mvguide.evaluation.overview import ERROR, EVALUATION, read_entry
from mvguide.evaluation.rendered import read_json
from mvguide.files.atomic import atomic_path, check_writable, claim_folder
from mvguide.files.stopping import raise_stop
from mvguide.geometry.camera import Camera
from mvguide.inputs.held_out import HeldOut, hold_out
from mvguide.memory import is_out_of_memory
from mvguide.pipeline.checkpoint import CHECKPOINTS

BEGUN = "begun.json"
"""File of a job's folder that says what its checkpoint is of; it goes with it."""
_SAY_NOTHING: Callable[[str], None] = lambda text: None  # noqa: E731


@dataclass(frozen=True)
class Task:
    """A job and how it is to be run.

    Args:
        name: of its folder.
        config: settings; ``out`` is the folder.
        digest: of the settings.
        run: of this batch, so that a result of an earlier one is not taken for its own.
        resume: take results and checkpoints of earlier runs.
        attempt: counted from 1; further ones take what the earlier have left.
    """

    name: str
    config: EvaluateSceneConfig
    digest: str
    run: str
    resume: bool = False
    attempt: int = 1

    @property
    def folder(self) -> Path:
        """Where its result goes."""
        return Path(self.config.out)

    @property
    def is_scored(self) -> bool:
        """Whether there is a truth to compare it with."""
        return self.config.truth is not None or self.config.held_out is not None

    def is_rendered(self) -> bool:
        """Whether its result is there, and need not be made again."""
        found = read_entry(self.folder)
        return found.status == "done" and found.digest == self.digest and self._counts(found.run)

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_rendered() and (not self.is_scored or is_file(self.folder / EVALUATION / "evaluation.json"))

    def is_begun(self) -> bool:
        """Whether there is a checkpoint of it."""
        with suppress(MvguideError):
            begun = read_json(self.folder / BEGUN, "note")
            return begun.get("digest") == self.digest and self._counts(begun.get("run")) and bool(self.checkpoints())
        return False

    def checkpoints(self) -> list[Path]:
        """Files that hold where its run stands."""
        return [path for pattern in CHECKPOINTS for path in self.folder.glob(pattern)]

    def _counts(self, run: object) -> bool:
        return self.resume or (self.attempt > 1 and run == self.run)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        name: of the job.
        status: done; skipped (it was done); failed; busy (another run is at it).
        sentence: why it failed.
        seconds: that it took.
        warnings: of its render, a sentence each.
        is_device_lost: the process can use its GPU no more.
    """

    name: str
    status: Literal["done", "skipped", "failed", "busy"]
    sentence: str = ""
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    is_device_lost: bool = False


class JobRunner:
    """Runs jobs one after the other in this process; the model stays loaded."""

    def __init__(self) -> None:
        self.shared = Shared()

    def check(self, task: Task, elsewhere: bool = False) -> float:
        """Read the inputs of a job and check its settings, without the model.

        Args:
            task: the job.
            elsewhere: it will run on another machine, which may have a GPU.

        Returns:
            How long it will take, in steps times frames.

        Raises:
            MvguideError: whatever cannot be used.
        """
        check_writable(task.folder, folder=True)
        cache = task.config.cache_file
        if cache is not None and not is_file(Path(cache)):
            raise ConfigError(
                f"cache_file {cache} is not there, and jobs that skip by what the first of them measures would depend "
                "on their order; render once with it before the batch"
            )
        settings, path, _ = self._plan(task)
        if elsewhere:
            if settings.device not in ("auto", "cpu", "cuda"):
                raise ConfigError(f"device is {settings.device}, but a worker has GPUs of its own; leave device out")
            # What needs a GPU, or its other processes, is checked where they are.
            settings = replace(settings, device="cpu", offload="none", quantize="none", context_parallel=1)
        # The memory of a GPU is planned when it is there to be filled.
        plan = read_job(settings, path, _SAY_NOTHING, self.shared.inputs, lambda device: None)
        steps = plan.schedule if isinstance(plan.schedule, int) else len(plan.schedule)
        return len(plan.trajectory) * (sum(stages(task).values()) - STAGES["denoising"] + steps)

    def run(self, task: Task, bar: JobBar) -> Outcome:
        """Run a job. Whatever goes wrong is the outcome, and is written into its folder; only signals are raised."""
        begin = perf_counter()
        try:
            with claim_folder(task.folder):
                found = self._run(task, bar)
        except InUseError as error:
            return Outcome(task.name, "busy", str(error))
        except MvguideError as error:  # the folder cannot be claimed
            return Outcome(task.name, "failed", str(error))
        return replace(found, seconds=perf_counter() - begin)

    def follow(self, task: Task) -> Outcome:
        """Take part in a job whose network is shared, and whose folder another process has."""
        try:
            settings, path, _ = self._plan(task)
            render_with(self.shared, settings, path, _SAY_NOTHING, JobBar(STAGES, quiet=True))
            return Outcome(task.name, "done")
        except Exception as error:
            sentence, is_lost = _sentence(error), _is_device_lost(error)
        self.shared.forget()
        free_memory_of_models()
        return Outcome(task.name, "failed", sentence, is_device_lost=is_lost)

    def _run(self, task: Task, bar: JobBar) -> Outcome:
        if task.is_done():
            return Outcome(task.name, "skipped")
        warnings: list[str] = []
        try:
            self._work(task, bar, warnings)
            return Outcome(task.name, "done", warnings=warnings)
        except Exception as error:  # the other jobs go on
            raise_stop()
            sentence, is_lost = _sentence(error), _is_device_lost(error)
            write_error(task, sentence, "" if isinstance(error, MvguideError) else traceback.format_exc())
        self.shared.forget()
        free_memory_of_models()
        return Outcome(task.name, "failed", sentence, is_device_lost=is_lost)

    def _work(self, task: Task, bar: JobBar, warnings: list[str]) -> None:
        def say(text: str) -> None:
            if text.startswith("warning: "):
                warnings.append(text)

        settings, path, held_out = self._plan(task)
        (task.folder / ERROR).unlink(missing_ok=True)
        if not task.is_rendered():
            resume = task.is_begun()
            shutil.rmtree(task.folder / EVALUATION, ignore_errors=True)  # it is of the older result
            about = {"digest": task.digest, "run": task.run}
            with atomic_path(task.folder / BEGUN) as temporary:
                temporary.write_text(json.dumps(about))
            try:
                if not resume:
                    _start_afresh(task)
                render_with(self.shared, replace(settings, resume=resume), path, say, bar, about)
            except (ConfigError, FileError):
                if not resume:
                    raise
                # The checkpoint may be damaged, or of images that have changed since.
                _start_afresh(task)
                render_with(self.shared, replace(settings, resume=False), path, say, bar, about)
        if task.is_scored:
            bar.begin("scoring")
            scored = replace(task.config, out=str(task.folder / EVALUATION))
            score_render(scored, str(task.folder), held_out, self.shared.backbone)
        (task.folder / BEGUN).unlink(missing_ok=True)

    def _plan(self, task: Task) -> tuple[RenderConfig, Camera | None, HeldOut | None]:
        """Settings and path of the render, and what the result is compared with."""
        check_scoring(task.config)
        settings = render_settings(task.config, task.config.out)
        if task.config.held_out is None:
            return settings, None, None
        held_out = hold_out(settings, task.config.held_out)
        return held_out.settings, held_out.path, held_out


def stages(task: Task) -> dict[str, int]:
    """Stages of a job, as :data:`mvguide.commands.rendering.STAGES`."""
    return {**STAGES, "scoring": 4} if task.is_scored else STAGES


def write_error(task: Task, sentence: str, details: str = "") -> None:
    """Leave the sentence in the job's folder; nothing where that cannot be written."""
    with suppress(OSError, MvguideError), atomic_path(task.folder / ERROR) as temporary:
        temporary.write_text(f"{sentence}\n\n{details}".strip() + "\n", encoding="utf-8")


def _start_afresh(task: Task) -> None:
    for path in task.checkpoints():
        path.unlink(missing_ok=True)


def _sentence(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, MvguideError):
        return str(error)
    words = str(error).strip().splitlines() or [""]
    if is_out_of_memory(error):
        said = f" ({words[0][:200]})" if words[0] else ""
        return f"memory ran out{said}; ask for fewer frames or a smaller size, or give memory: auto"
    return f"{type(error).__name__}: {words[0][:300]}"


def _is_device_lost(error: Exception) -> bool:
    """Whether a kernel failed on the GPU: after that, every further call of the process fails."""
    return isinstance(error, RuntimeError) and not is_out_of_memory(error) and "CUDA error" in str(error)
