"""``mvguide render`` and ``mvguide demo``. Heavy libraries are imported inside, when the command runs."""

from typing import TYPE_CHECKING

from mvguide.commands.job import prepare
from mvguide.commands.speaking import progress_bar, speaker
from mvguide.config import DemoConfig, RenderConfig, TrajectoryConfig
from mvguide.files.atomic import check_writable

if TYPE_CHECKING:
    from mvguide.geometry.camera import Camera
    from mvguide.pipeline.result import Result


def render(config: RenderConfig, path: "Camera | None" = None) -> "Result":
    """Render a camera move and write the result folder; ``path`` are cameras in place of those of the settings."""
    check_writable(config.out, folder=True)
    say = speaker(config.quiet)
    job = prepare(config, path, say)
    result = job.run(watch=None if config.quiet else progress_bar(len(job.schedule)))
    result.save(config.out, fps=config.fps)
    seen = result.warps.seen
    say(f"seen by the warp: {seen[1:].mean():.0%} of the frames on average, {seen[-1]:.0%} of the last")
    say(f"wrote {config.out}/: video.mp4, and sheet.png, which shows it at one look")
    return result


def demo(config: DemoConfig) -> "Result":
    """Render a packaged scene along its own camera path."""
    from mvguide.scenes import packaged_scene

    scene = packaged_scene(config.scene)
    return render(
        RenderConfig(
            image=str(scene.image),
            depth=str(scene.depth),
            depth_unit=scene.depth_unit,
            depth_kind="depth",
            intrinsics=scene.intrinsics,
            trajectory=TrajectoryConfig(kind="file", file=str(scene.cameras)),
            model="tiny",
            steps=config.steps,
            seed=config.seed,
            out=config.out,
            quiet=config.quiet,
        )
    )
