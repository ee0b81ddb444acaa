"""``mvguide render`` and ``mvguide demo``."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mvguide.backbones.pretrained import EMBEDDED
from mvguide.commands.job import read_job
from mvguide.commands.sharing import Shared
from mvguide.commands.speaking import JobBar, Say, speaker
from mvguide.config.parsing import load_settings
from mvguide.config.render_options import DemoConfig, RenderConfig
from mvguide.decoding import is_file
from mvguide.files.atomic import claim_folder
from mvguide.geometry.camera import Camera
from mvguide.pipeline.checkpoint import CHECKPOINT, Checkpoint, SavedRun, environment
from mvguide.pipeline.prepare import Context
from mvguide.pipeline.result import Result
from mvguide.pipeline.resuming import differences
from mvguide.scenes import packaged_scene
from mvguide.views.diagnosis import diagnose

STAGES = {
    "reading": 3,
    "loading the model": 4,
    "warping": 1,
    "encoding": 1,
    "denoising": 25,
    "decoding": 2,
    "writing": 3,
}
"""Stages of a render, and how many denoising steps of the embedded model each takes, roughly."""

FULL_SIZE = "stabilityai/stable-video-diffusion-img2vid-xt --variant fp16"


def render(config: RenderConfig, path: Camera | None = None) -> Result:
    """Render a camera move and write the result folder; ``path`` are F cameras in place of those of the settings."""
    bar = JobBar(STAGES, config.quiet)
    try:
        with claim_folder(config.out):
            return render_with(Shared(), config, path, speaker(config.quiet), bar)
    finally:
        bar.close()


def render_with(
    shared: Shared,
    config: RenderConfig,
    path: Camera | None,
    say: Say,
    bar: JobBar,
    about: Mapping[str, Any] | None = None,
) -> Result:
    """Render with what earlier renders of this process have left, and write the result folder.

    Args:
        shared: the model, and what else can be used again.
        config: the settings.
        path: F cameras in place of those of the settings.
        say: prints a sentence.
        bar: shows the stages.
        about: is kept in the report beside the settings.
    """
    bar.begin("reading")
    plan = read_job(config, path, say, shared.inputs)
    found = _found(config, plan.checkpoint, say)
    bar.begin("loading the model")
    job = plan.load(shared.model(config))
    changed = differences(found.environment, environment(job.pipe.backbone.device)) if found is not None else []
    if changed:
        say(f"warning: the last digits may differ from an unbroken run: the checkpoint's {', '.join(changed)}")
    bar.begin("warping")
    context = shared.context(job)
    say(_about(context))
    for warning in diagnose(context.views, context.trajectory, context.warps):
        say(f"warning: {warning}")
    bar.begin("encoding")
    table = shared.table(job, context)
    if table is not None and table.source.startswith("calibrated"):
        say(table.source)
    left = len(context.schedule) - (0 if found is None else found.index)
    bar.begin("denoising", left)
    if not left:
        bar.begin("decoding")
    result = job.sample(context, table, watch=bar.watch)
    bar.begin("writing")
    result.save(config.out, fps=config.fps, command={**asdict(config), **(about or {})})
    seen = result.warps.seen
    say(f"seen by the warp: {seen[1:].mean():.0%} of the frames on average, {seen[-1]:.0%} of the last")
    say(f"wrote {config.out}/: video.mp4, and sheet.png, an overview of the result")
    return result


def _found(config: RenderConfig, checkpoint: Checkpoint | None, say: Say) -> SavedRun | None:
    """The checkpoint to go on from, if there is one; says where the run starts."""
    path = Path(config.out) / CHECKPOINT
    if not config.resume or checkpoint is None:
        if is_file(path):
            say(f"warning: {path} holds an unfinished run; this one starts from the beginning, without --resume")
        return None
    found = checkpoint.saved()
    if found is None:
        say(f"there is no {path} to go on from; starting from the beginning")
    else:
        say(f"going on after step {found.index} of {found.num_steps}")
    return found


def _about(context: Context) -> str:
    """Which model runs, and at what size; that the embedded one is a toy."""
    size = f"{context.trajectory.width} x {context.trajectory.height}"
    about = f"model {context.backbone.name}: {context.num_frames} frames of {size}, {len(context.schedule)} steps"
    if context.backbone.name in EMBEDDED:
        about += f". It is a toy to try mvguide with; for a full-size model on a GPU: --model {FULL_SIZE}"
    return about


def demo(config: DemoConfig) -> Result:
    """Render a packaged scene along its own camera path."""
    scene = packaged_scene(config.scene)
    given = {name: value for name, value in vars(config).items() if name != "scene"}
    return render(load_settings(RenderConfig, scene=str(scene.settings), model="tiny", **given))
