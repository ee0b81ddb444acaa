"""What ``mvguide search-hypers --objective score`` tries tables on."""

from pathlib import Path

from mvguide.commands.job import Job, load_model, read_job
from mvguide.commands.speaking import Say
from mvguide.config.parsing import load_settings
from mvguide.config.render_options import RenderConfig
from mvguide.config.table_options import SearchConfig
from mvguide.errors import ConfigError
from mvguide.evaluation.metrics import psnr
from mvguide.evaluation.rendered import RenderedVideo
from mvguide.inputs.held_out import HeldOut, hold_out
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.pipeline.prepare import Context
from mvguide.pipeline.result import Result
from mvguide.tables.search import search_hypers
from mvguide.tables.study import Study, check_optuna


def make_study(config: SearchConfig, say: Say) -> Study:
    """The study: mean PSNR of the frames that were not given, over all scenes.

    Raises:
        ConfigError: no scenes, or Optuna is not installed.
    """
    if not config.scenes:
        raise ConfigError("objective 'score' has nothing to compare with; name scenes with held-out images: --scenes")
    check_optuna()
    pipe: MultiViewPipeline | None = None
    scenes: list[tuple[Job, Context, HeldOut]] = []
    for scene in config.scenes:
        say(f"scene {scene}")
        settings = load_settings(
            RenderConfig,
            scene=scene,
            model=config.model,
            device=config.device,
            dtype=config.dtype,
            sigmas=config.sigmas,
            seed=config.seed,
            quiet=True,
        )
        held_out = hold_out(settings)
        plan = read_job(held_out.settings, held_out.path, lambda text: None)
        pipe = pipe or load_model(plan.config)
        job = plan.load(pipe)
        scenes.append((job, job.context(), held_out))

    def score(v1: float, v2: float, v3: float) -> float:
        return sum(_score(*scene, (v1, v2, v3)) for scene in scenes) / len(scenes)

    about = f"{config.model}, {config.sigmas}, seed {config.seed}: {', '.join(config.scenes)}"
    journal = Path(config.study)
    return Study(score, config.trials, journal, about, config.seed, journal.parent, say)


def _score(job: Job, context: Context, held_out: HeldOut, triple: tuple[float, float, float]) -> float:
    """Mean PSNR in dB of one scene's frames that were not given."""
    v1, v2, v3 = ([value] for value in triple)
    distances = context.distances
    table = search_hypers(context.schedule, distances=distances, rule="exact", v1=v1, v2=v2, v3=v3).table
    result = job.sample(context, table)
    wanted = held_out.truth(_as_video(result))
    found = result.frames[wanted.numbers].clamp(0, 1)
    return float(psnr(found, wanted.frames)[wanted.counted].mean())


def _as_video(result: Result) -> RenderedVideo:
    """The result as :func:`mvguide.evaluation.rendered.read_result` would read it, without the files."""
    names = [f"{frame:04d}.png" for frame in range(len(result.frames))]
    warps = result.warps
    return RenderedVideo(
        Path(), names, result.frames, warps.visible.cpu(), result.trajectory, warps.image.cpu(), warps.pinned.cpu()
    )
