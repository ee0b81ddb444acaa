"""``mvguide batch``: many renders, in this process or by workers."""

import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from mvguide.commands.batch_job import JobRunner, Outcome, Task, stages
from mvguide.commands.sharing import in_order
from mvguide.commands.speaking import JobBar, Say, at_least_one, progress_bar, speaker
from mvguide.commands.workers import Crew, shared_by
from mvguide.config.batch_options import BatchConfig
from mvguide.config.manifest import BatchJob, Manifest, read_manifest
from mvguide.errors import BatchError, ConfigError, InUseError, ModelError, MvguideError
from mvguide.evaluation.overview import ERROR, INDEX, TABLE, Overview
from mvguide.files.atomic import check_writable, claim_folder
from mvguide.files.stopping import note_resumable

_MOST_LISTED = 20


def batch(config: BatchConfig) -> None:
    """Run the jobs of a manifest, each into a folder of its own; write index.html and results.csv.

    Raises:
        MvguideError: a manifest or jobs that cannot be used; nothing was run.
        BatchError: jobs failed; the others are done.
    """
    if not config.manifest:
        raise ConfigError("no manifest was given; give a YAML file of jobs, such as docs/long.md has")
    at_least_one("checkpoint_every", config.checkpoint_every)
    at_least_one("retries", config.retries + 1)
    crew = Crew.of(config)
    manifest = read_manifest(config.manifest)
    jobs, part = take_shard(manifest.jobs, config.shard)
    out = check_writable(config.out, folder=True)
    if crew is not None:  # workers have other working folders
        out = out.absolute()
    with claim_folder(out if part is None else out / f"shard_{part}"):
        _batch(config, crew, manifest, jobs, out)


def take_shard(jobs: Sequence[BatchJob], shard: str | None) -> tuple[list[BatchJob], str | None]:
    """The jobs of a part such as ``3/16``, and its name for a file; all jobs without one.

    A part is a stretch of the manifest: neighbours have most in common.

    Raises:
        ConfigError: not K/N with K from 1 to N.
    """
    if shard is None:
        return list(jobs), None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        raise ConfigError(f"shard is {shard!r}; it must be K/N with K from 1 to N, such as 3/16")
    return list(jobs[(number - 1) * len(jobs) // count : number * len(jobs) // count]), f"{number}_of_{count}"


def _batch(config: BatchConfig, crew: Crew | None, manifest: Manifest, jobs: Sequence[BatchJob], out: Path) -> None:
    say, runner = speaker(config.quiet), JobRunner()
    bar = progress_bar(len(jobs), config.quiet, smoothing=0)
    try:
        tasks = _tasks(config, manifest, jobs, out)
        waiting = [task for task in tasks if not (config.resume and task.is_done())]
        size = shared_by(waiting)
        if size > 1 and crew is None:
            raise ConfigError(f"jobs have context_parallel {size}; only workers share a network, give --workers")
        groups = [[waiting[k] for k in group] for group in in_order([task.config for task in waiting])]
        lengths = _check(groups, runner, bar, elsewhere=crew is not None)
        if len(waiting) < len(tasks):
            say(f"{len(tasks) - len(waiting)} of {len(tasks)} jobs are done already")
        out.mkdir(parents=True, exist_ok=True)
        _tidy(out, [task.name for task in tasks])
        own = {job.name: job.own for job in manifest.jobs}
        overview = Overview(out, manifest.path.name, manifest.shared, own, {job.name for job in jobs})
        bar.reset(sum(lengths.values()))
        if crew is None or not waiting:
            outcomes = _run_here(groups, lengths, runner, bar)
        else:
            outcomes = crew.run(groups, config.retries, say)
        failed = _follow(outcomes, lengths, overview, bar, say, isolated=crew is not None)
    finally:
        bar.close()
    say(f"wrote {config.out}/: {INDEX}, an overview of the results, and {TABLE}")
    if failed:
        listed = [f"\n  {name}: {sentence}" for name, sentence in list(failed.items())[:_MOST_LISTED]]
        more = f"\n  and {len(failed) - _MOST_LISTED} more" if len(failed) > _MOST_LISTED else ""
        raise BatchError(f"{len(failed)} of {len(tasks)} jobs failed; {ERROR} in their folders{''.join(listed)}{more}")


def _tidy(out: Path, names: Collection[str]) -> None:
    """Remove what killed runs left of jobs, also of those that are done and skipped."""
    found = (re.fullmatch(r"\.(.+?)\.(?:lock|[0-9a-f]{8}\..+)", name) for name in os.listdir(out))  # noqa: PTH208
    for name in {match[1] for match in found if match} & set(names):
        with suppress(InUseError), claim_folder(out / name):
            pass


def _tasks(config: BatchConfig, manifest: Manifest, jobs: Sequence[BatchJob], out: Path) -> list[Task]:
    """The jobs with their settings. Raises ConfigError with a sentence for each whose settings do not fit."""
    run, tasks, wrong = secrets.token_hex(4), [], {}
    for job in jobs:
        try:
            settings = manifest.settings(job)
        except MvguideError as error:
            wrong[job.name] = str(error)
            continue
        digest = manifest.digest(settings)
        # What a step cache or a shared network has is not in a checkpoint: such a job starts again.
        is_kept = settings.cache == "none" and settings.context_parallel == 1
        every = config.checkpoint_every if is_kept else None
        settings = replace(settings, out=str(out / job.name), quiet=True, checkpoint_every=every)
        tasks.append(Task(job.name, settings, digest, run, config.resume))
    _refuse(wrong, len(jobs))
    return tasks


def _check(
    groups: Sequence[Sequence[Task]], runner: JobRunner, bar: "tqdm[NoReturn]", elsewhere: bool
) -> dict[str, float]:
    """Read the inputs of all jobs and check their settings; how long each will take, in any unit.

    Raises:
        ConfigError: with a sentence for each job that cannot run.
    """
    lengths, wrong = {}, {}
    bar.set_description_str("checking")
    for task in (task for group in groups for task in group):
        try:
            lengths[task.name] = runner.check(task, elsewhere)
        except MvguideError as error:
            wrong[task.name] = str(error)
        bar.update()
    _refuse(wrong, len(lengths) + len(wrong))
    return lengths


def _refuse(wrong: Mapping[str, str], count: int) -> None:
    if not wrong:
        return
    listed = [f"job {name}: {sentence}" for name, sentence in list(wrong.items())[:_MOST_LISTED]]
    if len(wrong) == 1:
        raise ConfigError(f"{listed[0]} (nothing was run)")
    more = f"\n  and {len(wrong) - _MOST_LISTED} more" if len(wrong) > _MOST_LISTED else ""
    lines = "".join(f"\n  {line}" for line in listed)
    raise ConfigError(f"{len(wrong)} of {count} jobs cannot run, so nothing was run:{lines}{more}")


def _run_here(
    groups: Sequence[Sequence[Task]], lengths: Mapping[str, float], runner: JobRunner, bar: "tqdm[NoReturn]"
) -> Iterator[Outcome]:
    """Run the jobs in this process, one after the other."""
    for number, task in enumerate((task for group in groups for task in group), 1):
        part = JobBar(stages(task), whole=bar, length=lengths[task.name], label=f"{number}/{len(lengths)} ")
        yield runner.run(task, part)
        part.close()


def _follow(
    outcomes: Iterator[Outcome],
    lengths: Mapping[str, float],
    overview: Overview,
    bar: "tqdm[NoReturn]",
    say: Say,
    isolated: bool,
) -> dict[str, str]:
    """Take the outcomes as they come, and let page and table grow; the sentences of jobs that failed, by name."""
    failed: dict[str, str] = {}
    try:
        overview.save()
        note_resumable(overview.folder / INDEX, f"0 of {len(lengths)} jobs")
        for number, outcome in enumerate(outcomes, 1):
            if isolated:
                bar.n += lengths[outcome.name]
                bar.set_description_str(f"{number}/{len(lengths)} jobs")
            for warning in outcome.warnings:
                say(f"{outcome.name}: {warning}")
            if outcome.status == "failed":
                failed[outcome.name] = outcome.sentence
            word = f"{outcome.status}{': ' if outcome.sentence else ''}{outcome.sentence}"
            say(f"{outcome.name}: {word}" + (f" in {outcome.seconds:.1f} s" if outcome.status == "done" else ""))
            overview.read([outcome.name])
            overview.save()
            note_resumable(overview.folder / INDEX, f"{number} of {len(lengths)} jobs")
            if outcome.is_device_lost and not isolated:
                raise ModelError(
                    f"the GPU cannot be used any more after job {outcome.name} ({outcome.sentence}); use --resume"
                )
    except BaseException:
        with suppress(MvguideError):  # the reason to stop counts
            overview.save(at_last=True)
        raise
    overview.save(at_last=True)
    return failed
