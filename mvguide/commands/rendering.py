"""``mvguide render``, ``mvguide decode`` and ``mvguide demo``."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import Any

from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.backbones.context_parallel import leads, one_voice
from mvguide.backbones.offload import check_offload
from mvguide.backbones.pretrained import EMBEDDED, choose_device
from mvguide.commands.job import read_job
from mvguide.commands.sharing import Shared
from mvguide.commands.speaking import JobBar, Say, at_least_one, speaker
from mvguide.config.command_line import command_line
from mvguide.config.parsing import load_settings
from mvguide.config.render_options import DecodeConfig, DemoConfig, ModelOptions, RenderConfig
from mvguide.decoding import is_file, is_folder
from mvguide.errors import DecodeError, InputError
from mvguide.files.atomic import claim_folder
from mvguide.geometry.camera import Camera
from mvguide.pipeline.checkpoint import CHECKPOINT, Checkpoint, SavedRun, environment
from mvguide.pipeline.latents import LATENTS, DenoisedRun, load_latents
from mvguide.pipeline.pipeline import MultiViewPipeline
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

KEPT = ("dtype", "variant", "chunk", "vae_tiling")
"""Settings of a render that hold for decoding it later, unless others are given."""

DECODE_STAGES = {"reading": 1, "loading the model": 4, "decoding": 10, "writing": 3}

FULL_SIZE = "stabilityai/stable-video-diffusion-img2vid-xt --variant fp16"


def render(config: RenderConfig, path: Camera | None = None) -> Result:
    """Render a camera move and write the result folder; ``path`` are F cameras in place of those of the settings."""
    leading = leads(config.context_parallel)
    bar = JobBar(STAGES, config.quiet or not leading)
    try:
        with one_voice(config.context_parallel), claim_folder(config.out) if leading else nullcontext():
            return render_with(Shared(), config, path, speaker(config.quiet or not leading), bar)
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
    plan = read_job(config, path, say, shared.inputs, shared.available)
    found = _found(config, plan.checkpoint, say)
    bar.begin("loading the model")
    job = shared.load(plan)
    changed = differences(found[-1].environment, environment(job.pipe.backbone.device)) if found else []
    if changed:
        say(f"warning: the last digits may differ from an unbroken run: the checkpoint's {', '.join(changed)}")
    bar.begin("warping")
    context = shared.context(job)
    say(_about(context))
    warnings = diagnose(context.views, context.trajectory, context.warps)
    for warning in warnings:
        say(f"warning: {warning}")
    bar.begin("encoding")
    table = shared.table(job, context)
    if table is not None and table.source.startswith("calibrated"):
        say(table.source)
    if config.cache_file is not None and not is_file(Path(config.cache_file)):
        say(f"cache mag: this run measures the model and skips nothing; later runs skip by {config.cache_file}")
    passes = 2 if context.anchor_frames else 1
    left = passes * len(context.schedule) - sum(run.index for run in found[:passes])
    bar.begin("denoising", left)
    if not left:
        bar.begin("decoding")
    command = asdict(config)
    try:
        result = job.sample(context, table, watch=bar.watch)
    except DecodeError as error:
        if not leads(config.context_parallel):
            raise
        error.run.save_latents(Path(config.out) / LATENTS, command)
        words = f"mvguide decode {quote(config.out)} --chunk 1"
        raise DecodeError(f"{error}: decode them with {words}, or on another device: --device cpu", error.run) from None
    bar.begin("writing")
    if leads(config.context_parallel):
        result.save(
            config.out,
            fps=config.fps,
            command={**command, **(about or {})},
            keep_latents=config.save_latents,
            warnings=warnings,
            made_by=command_line("render", replace(config, resume=False)),
        )
    seen = result.warps.seen
    say(f"seen by the warp: {seen[1:].mean():.0%} of the frames on average, {seen[-1]:.0%} of the last")
    say(f"wrote {config.out}/: look at report.html first; the video is video.mp4")
    return result


def _found(config: RenderConfig, checkpoint: Checkpoint | None, say: Say) -> list[SavedRun]:
    """The checkpoints to go on from, one for each segment that was begun; says where the run starts."""
    path = Path(config.out) / CHECKPOINT
    if not config.resume or checkpoint is None:
        if is_file(path):
            say(f"warning: {path} holds an unfinished run; this one starts from the beginning, without --resume")
        return []
    saved = (replace(checkpoint, segment=segment).saved() for segment in range(2))  # anchors, and what lies between
    found = [run for run in saved if run is not None]
    if not found:
        say(f"there is no {path} to go on from; starting from the beginning")
    else:
        say(f"going on after step {sum(run.index for run in found)} of {sum(run.num_steps for run in found)}")
    return found


def _about(context: Context) -> str:
    """Which model runs, and at what size; that the embedded one is a toy."""
    size = f"{context.trajectory.width} x {context.trajectory.height}"
    about = f"model {context.backbone.name}: {context.num_frames} frames of {size}, {len(context.schedule)} steps"
    if len(context.windows) > 1:
        about += f", in {len(context.windows)} windows of {context.window_frames} frames"
    if context.anchor_frames:
        about += f" after {len(context.anchor_frames)} anchors"
    if context.backbone.name in EMBEDDED:
        about += f". It is a toy to try mvguide with; for a full-size model on a GPU: --model {FULL_SIZE}"
    return about


def decode(config: DecodeConfig) -> Result:
    """Decode the latents that a render kept, and write the result folder as the render would have."""
    bar = JobBar(DECODE_STAGES, config.quiet)
    try:
        return _decode(config, speaker(config.quiet), bar)
    finally:
        bar.close()


def _decode(config: DecodeConfig, say: Say, bar: JobBar) -> Result:
    bar.begin("reading")
    if not config.latents:
        raise InputError(f"no latents were given; give a result folder that has {LATENTS}, or that file")
    file = Path(config.latents)
    file = file / LATENTS if is_folder(file) else file
    device = choose_device(config.device)
    offload = check_offload(config.offload, device)
    run, command = load_latents(file)
    before = load_settings(ModelOptions, **{name: command.get(name) for name in KEPT if command.get(name) is not None})
    chunk = before.chunk if config.chunk is None else config.chunk
    at_least_one("chunk", 1 if chunk is None else chunk)
    with claim_folder(config.out or file.parent) as out:
        bar.begin("loading the model")
        pipe = MultiViewPipeline.from_pretrained(
            _model(config, run),
            device=config.device,
            dtype=before.dtype if config.dtype == "auto" else config.dtype,
            variant=config.variant or before.variant,
            # The network is not needed: it waits in memory.
            offload="model" if offload == "none" and device.type != "cpu" else offload,
            acceleration=AccelerationOptions(vae_tiling=config.vae_tiling or before.vae_tiling),
        )
        bar.begin("decoding")
        try:
            result = pipe.decode(run, chunk)
        except DecodeError as error:
            raise DecodeError(f"{error} in {file}; decode them on another device: --device cpu", run) from None
        bar.begin("writing")
        result.save(out, command=command, keep_latents=command.get("save_latents") is True)
    say(f"wrote {config.out or file.parent}/: look at report.html first")
    return result


def _model(config: DecodeConfig, run: DenoisedRun) -> str:
    """The model that made the latents. Raises InputError where another one is given."""
    made_by = str(run.settings["model"])
    if config.model is None:
        return made_by
    if Path(config.model).name != Path(made_by).name:
        raise InputError(
            f"the latents are of model {made_by}, but --model is {config.model}; leave it out, or give the place where "
            f"{Path(made_by).name} is now"
        )
    return config.model


def demo(config: DemoConfig) -> Result:
    """Render a packaged scene along its own camera path."""
    scene = packaged_scene(config.scene)
    given = {name: value for name, value in vars(config).items() if name != "scene"}
    return render(load_settings(RenderConfig, scene=str(scene.settings), model="tiny", **given))
