"""Settings of ``mvguide batch``."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class BatchConfig:
    """Run many renders: the jobs of a manifest, each into a folder of its own.

    Args:
        manifest: YAML file with shared settings, jobs and grid (see docs/long.md), or the name of one that comes with
            mvguide.
        out: folder for the jobs' folders, index.html and results.csv.
        resume: skip jobs that are done with these settings, and go on with those that were begun.
        checkpoint_every: steps after which a job writes where it stands, so that it can go on from there.
        shard: run one part of the manifest, such as 3/16; the parts may run at the same time into one folder.
        workers: number of processes with a model each, or auto, one for each GPU or else CPU core; one process without
            Ray if unset.
        cluster: address of a running Ray cluster to take the workers from, such as auto or ray://head:10001.
        gpus_per_worker: GPUs that each worker owns; 1 where there are GPUs, else 0.
        retries: number of times that a job is given to another worker after the one that had it died.
        quiet: print nothing but errors.
    """

    heading: ClassVar[str] = "output"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide batch grid --out out/batch",
        "mvguide batch grid --out out/batch --resume --workers 2",
    )

    manifest: str = ""
    out: str = "out/batch"
    resume: bool = False
    checkpoint_every: int = 5
    shard: str | None = None
    workers: str | None = None
    cluster: str | None = None
    gpus_per_worker: int | None = None
    retries: int = 2
    quiet: bool = False
