"""What ``mvguide search-hypers --objective score`` tries tables on. Heavy libraries are imported inside."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mvguide.commands.job import Job, prepare
from mvguide.commands.scoring import split
from mvguide.config import EvaluateConfig, SearchConfig
from mvguide.errors import ConfigError

if TYPE_CHECKING:
    from mvguide.evaluation.rendered import RenderedVideo
    from mvguide.evaluation.scores import Truth
    from mvguide.pipeline.pipeline import MultiViewPipeline
    from mvguide.pipeline.result import Result
    from mvguide.tables.study import Study

Say = Callable[[str], None]


def make_study(config: SearchConfig, say: Say) -> "Study":
    """The study: mean PSNR of the frames that were not given, over all scenes.

    Raises:
        ConfigError: no scenes, or Optuna is not installed.
    """
    from mvguide.tables.study import Study, check_optuna

    if not config.scenes:
        raise ConfigError("objective 'score' has nothing to compare with; name scenes with held-out pictures: --scenes")
    check_optuna()
    pipe: MultiViewPipeline | None = None
    scenes: list[tuple[Job, Callable[[RenderedVideo], Truth]]] = []
    for scene in config.scenes:
        say(f"scene {scene}")
        told = EvaluateConfig(
            scene=scene,
            model=config.model,
            device=config.device,
            dtype=config.dtype,
            sigmas=config.sigmas,
            seed=config.seed,
            quiet=True,
        )
        task = split(told, str(Path(config.study).parent))
        job = prepare(task.settings, task.path, lambda text: None, pipe)
        pipe = job.pipe
        scenes.append((job, task.truth))

    def score(v1: float, v2: float, v3: float) -> float:
        return sum(_score(job, truth, (v1, v2, v3)) for job, truth in scenes) / len(scenes)

    about = f"{config.model}, {config.sigmas}, seed {config.seed}: {', '.join(config.scenes)}"
    journal = Path(config.study)
    return Study(score, config.trials, journal, about, config.seed, journal.parent, say)


def _score(job: Job, truth: "Callable[[RenderedVideo], Truth]", triple: tuple[float, float, float]) -> float:
    """Mean PSNR in dB of one scene's frames that were not given."""
    from mvguide.evaluation.metrics import psnr
    from mvguide.tables.search import search_hypers

    v1, v2, v3 = ([value] for value in triple)
    result = job.run(
        lambda known: (
            search_hypers(known.schedule, distances=known.warps.distances, rule="exact", v1=v1, v2=v2, v3=v3).table
        )
    )
    wanted = truth(_as_video(result))
    found = result.frames[wanted.numbers].clamp(0, 1)
    return float(psnr(found, wanted.frames)[wanted.counted].mean())


def _as_video(result: "Result") -> "RenderedVideo":
    """The result as :func:`mvguide.evaluation.rendered.read_result` would read it, without the files."""
    from mvguide.evaluation.rendered import RenderedVideo

    names = [f"{frame:04d}.png" for frame in range(len(result.frames))]
    warps = result.warps
    return RenderedVideo(
        Path(), names, result.frames, warps.visible.cpu(), result.trajectory, warps.image.cpu(), warps.pinned.cpu()
    )
