"""``mvguide render`` and ``mvguide demo``."""

from dataclasses import asdict

from mvguide.commands.job import prepare_job
from mvguide.commands.speaking import Say, progress_bar, speaker
from mvguide.config.input_options import TrajectoryOptions
from mvguide.config.render_options import DemoConfig, RenderConfig
from mvguide.files.atomic import claim_folder
from mvguide.geometry.camera import Camera
from mvguide.pipeline.result import Result
from mvguide.scenes import packaged_scene
from mvguide.views.diagnosis import diagnose


def render(config: RenderConfig, path: Camera | None = None) -> Result:
    """Render a camera move and write the result folder; ``path`` are F cameras in place of those of the settings."""
    with claim_folder(config.out):
        return _render(config, path, speaker(config.quiet))


def _render(config: RenderConfig, path: Camera | None, say: Say) -> Result:
    job = prepare_job(config, path, say)
    context = job.context()
    for warning in diagnose(context.views, context.trajectory, context.warps):
        say(f"warning: {warning}")
    table = job.table(context)
    if table is not None and config.guidance.table == "calibrated":
        say(table.source)
    result = job.sample(context, table, None if config.quiet else progress_bar(len(job.schedule)))
    result.save(config.out, fps=config.fps, command=asdict(config))
    seen = result.warps.seen
    say(f"seen by the warp: {seen[1:].mean():.0%} of the frames on average, {seen[-1]:.0%} of the last")
    say(f"wrote {config.out}/: video.mp4, and sheet.png, an overview of the result")
    return result


def demo(config: DemoConfig) -> Result:
    """Render a packaged scene along its own camera path."""
    scene = packaged_scene(config.scene)
    return render(
        RenderConfig(
            image=str(scene.image),
            depth=str(scene.depth),
            depth_unit=scene.depth_unit,
            depth_kind="depth",
            intrinsics=scene.intrinsics,
            trajectory=TrajectoryOptions(kind="file", file=str(scene.cameras)),
            model="tiny",
            steps=config.steps,
            seed=config.seed,
            out=config.out,
            quiet=config.quiet,
        )
    )
