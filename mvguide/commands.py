"""What each command does. Heavy libraries are imported inside, when the command runs."""

import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from mvguide.config import (
    DemoConfig,
    GuidanceConfig,
    InputConfig,
    PreviewConfig,
    RenderConfig,
    SearchConfig,
    SigmasMakeConfig,
    SigmasShowConfig,
    TrajectoryConfig,
)
from mvguide.errors import ConfigError, InputError
from mvguide.files.atomic import atomic_path, check_writable

if TYPE_CHECKING:
    from mvguide.diffusion.sampler import Progress
    from mvguide.geometry.camera import Camera
    from mvguide.guidance.guides import GuidanceSettings
    from mvguide.guidance.table import LambdaTable
    from mvguide.pipeline import MultiViewPipeline
    from mvguide.preview import Preview
    from mvguide.result import Result
    from mvguide.targets import Prepared

    MakeTable = Callable[[Prepared], LambdaTable]


def render(config: RenderConfig, path: "Camera | None" = None) -> "Result":
    """Render a camera move and write the result folder; ``path`` are cameras in place of those of the settings."""
    check_writable(config.out, folder=True)
    say = _speaker(config.quiet)
    say("reading the pictures")
    import torch

    from mvguide.backbones.base import Conditioning
    from mvguide.backbones.format import read_format
    from mvguide.backbones.loading import find_model
    from mvguide.diagnosis import diagnose
    from mvguide.diffusion.schedule import load_sigmas
    from mvguide.inputs import load_inputs, with_scene
    from mvguide.pipeline import DEFAULT_STEPS, MultiViewPipeline
    from mvguide.presets import with_preset

    config = with_preset(with_scene(config))
    guidance = _guidance_settings(config.guidance)
    inputs = load_inputs(config, say)
    for view in inputs.views:
        view.require_depth()
    schedule = load_sigmas(config.sigmas) if config.sigmas else None
    table = _given_table(config.guidance)
    num_frames = read_format(find_model(config.model)).frames if config.num_frames is None else config.num_frames
    if path is not None:
        num_frames = len(path)
    trajectory = inputs.trajectory(config.trajectory, num_frames) if path is None else path
    # A bad path is refused before the model is loaded.
    say(f"loading model {config.model}")
    pipe = MultiViewPipeline.from_pretrained(
        config.model, device=config.device, dtype=config.dtype, variant=config.variant, offload=config.offload
    )
    steps = DEFAULT_STEPS if config.steps is None else config.steps
    schedule = schedule or pipe.backbone.schedule(_at_least_one("steps", steps))

    def make_table(known: "Prepared") -> "LambdaTable":
        """Say what is wrong with the path as soon as it is known, before the long part."""
        for warning in diagnose(inputs.views, known.trajectory, known.warps):
            say(f"warning: {warning}")
        return _make_table(config, pipe, table, known, say)

    result = pipe(
        inputs.views,
        trajectory,
        moments=inputs.moments(num_frames),
        schedule=schedule,
        table=make_table,
        guidance=guidance,
        solver=config.solver,
        size=_size(config),
        conditioning=Conditioning(
            num_frames,
            motion_bucket_id=config.motion_bucket_id,
            fps=_at_least_one("fps", config.fps),
            noise_aug_strength=config.noise_aug_strength,
            cfg_min=config.cfg_min,
            cfg_max=config.cfg_max,
            cfg_chunked=config.cfg_chunked,
        ),
        hole_radius=config.hole_radius or 0,
        chunk=_at_least_one("chunk", config.chunk),
        generator=torch.Generator().manual_seed(config.seed),
        watch=None if config.quiet else _progress_bar(len(schedule)),
    )
    result.settings["command"] = asdict(config)
    result.save(config.out, fps=config.fps)
    seen = result.warps.seen
    say(f"seen by the warp: {seen[1:].mean():.0%} of the frames on average, {seen[-1]:.0%} of the last")
    say(f"wrote {config.out}/: video.mp4, and sheet.png, which shows it at one look")
    return result


def preview(config: PreviewConfig) -> "Preview":
    """Warp along the path, judge it, and write the preview folder."""
    check_writable(config.out, folder=True)
    say = _speaker(config.quiet)
    from mvguide.backbones.format import read_format
    from mvguide.backbones.loading import find_model
    from mvguide.inputs import load_inputs, with_scene
    from mvguide.preview import preview as make_preview

    config = with_scene(config)
    inputs = load_inputs(config, say)
    for view in inputs.views:
        view.require_depth()
    model = read_format(find_model(config.model))
    num_frames = model.frames if config.num_frames is None else config.num_frames
    trajectory = inputs.trajectory(config.trajectory, num_frames)
    size = _size(config) or model.default_size(trajectory.width, trajectory.height)
    found = make_preview(
        inputs.views, trajectory, size, moments=inputs.moments(num_frames), hole_radius=config.hole_radius or 0
    )
    found.save(config.out, fps=_at_least_one("fps", config.fps))
    _speaker(config.quiet, sys.stdout)(found.text())
    say(f"wrote {config.out}/: warps.mp4, sheet.png, path.png (the cameras from above) and preview.json")
    return found


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


def search_hypers(config: SearchConfig) -> None:
    """Find a lambda table, write it, and draw it."""
    from mvguide.diffusion.schedule import load_sigmas
    from mvguide.guidance import search

    for path in filter(None, (config.out, config.plot)):
        check_writable(path)
    num_frames = config.num_frames
    if num_frames is None and config.distances is None:
        num_frames = 25
    found = search.search_hypers(
        load_sigmas(config.sigmas),
        num_frames=num_frames,
        distances=config.distances,
        rule=config.rule,
        v1=config.v1 or search.V1_GRID,
        v2=config.v2 or search.V2_GRID,
        v3=config.v3 or search.V3_GRID,
    )
    with atomic_path(config.out) as temporary:
        found.table.save(temporary)
    if config.plot:
        from mvguide.evaluation.pictures import plot_table

        with atomic_path(config.plot) as temporary:
            plot_table(found.table, temporary)
    say = _speaker(config.quiet, sys.stdout)
    rows, columns = found.table.weights.shape
    say(f"v1 = {found.v1:g}, v2 = {found.v2:g}, v3 = {found.v3:g}: {found.score:.1%} of the cells trust the warp more")
    say(f"wrote {config.out} ({rows} sigmas x {columns} frames)" + (f" and {config.plot}" if config.plot else ""))


def sigmas_make(config: SigmasMakeConfig) -> None:
    """Make a schedule and write it."""
    from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, save_sigmas

    schedule = SigmaSchedule(karras_sigmas(config.steps, config.sigma_min, config.sigma_max, config.rho))
    with atomic_path(config.out) as path:
        save_sigmas(path, schedule)
    print(f"wrote {config.out} ({len(schedule)} steps from {config.sigma_max:g} to {config.sigma_min:g}, then 0)")


def sigmas_show(config: SigmasShowConfig) -> None:
    """Print a schedule: each step's level, and how far the step goes."""
    from mvguide.diffusion.schedule import load_sigmas

    schedule = load_sigmas(config.sigmas)
    print(f"{schedule.name}: {len(schedule)} steps")
    print(" step        sigma   next/sigma")
    for index, (sigma, following) in enumerate(zip(schedule.sigmas[:-1], schedule.sigmas[1:], strict=True)):
        print(f"{index:5d} {sigma:12.5f} {following / sigma:12.3f}")


def _given_table(config: GuidanceConfig) -> "LambdaTable | MakeTable | None":
    """The table of a file or a constant, refused now if it cannot be used; None = made once there is a model."""
    from mvguide.guidance.table import LambdaTable, check_weight

    if config.table in (None, "search", "calibrated"):
        return None
    if config.table == "constant":
        check_weight(config.weight)
        return lambda known: LambdaTable.constant(config.weight, known.schedule, len(known.warps.image))
    return LambdaTable.load(config.table)


def _make_table(
    config: RenderConfig,
    pipe: "MultiViewPipeline",
    given: "LambdaTable | MakeTable | None",
    known: "Prepared",
    say: Callable[[str], None],
) -> "LambdaTable":
    """The table that was given, measured, or searched."""
    from mvguide.calibration import CALIBRATION, calibrate

    told = config.guidance
    if told.table == "calibrated":
        return calibrate(known, depth_error=told.depth_error, cache=Path(config.out) / CALIBRATION, say=say)
    if given is None:
        rule, by_frame = told.rule or "exact", told.distances == "frame"
        return pipe.search_table(known.schedule, known.warps, rule=rule, by_frame=by_frame)
    return given(known) if callable(given) else given


def _guidance_settings(config: GuidanceConfig) -> "GuidanceSettings":
    """Settings of the guide, refused now if they cannot be used."""
    from mvguide.guidance.guides import GuidanceSettings
    from mvguide.guidance.table import LambdaTable

    if config.hole_table is not None and config.hole_weight:
        raise ConfigError("both hole_weight and hole_table were given; drop one")
    names = {field.name for field in fields(GuidanceSettings)}
    given = {name: value for name, value in vars(config).items() if name in names and value is not None}
    if config.hole_table is not None:
        given["hole_weight"] = LambdaTable.load(config.hole_table)
    return GuidanceSettings(**given)


def _size(config: InputConfig) -> tuple[int, int] | None:
    """(width, height) that was asked for; one of the two alone keeps the picture's shape."""
    if config.width is None and config.height is None:
        return None
    if config.width is not None and config.height is not None:
        return config.width, config.height
    given = "width" if config.height is None else "height"
    raise InputError(f"only {given} was given; give both width and height, or neither for the model's own size")


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name} is {value}; it must be at least 1")
    return value


def _speaker(quiet: bool, stream: object = None) -> Callable[[str], None]:
    """A print that ``--quiet`` silences; to standard error, where the progress bar is too."""

    def say(text: str) -> None:
        if not quiet:
            print(text, file=stream or sys.stderr)  # type: ignore[arg-type]

    return say


def _progress_bar(num_steps: int) -> "Callable[[Progress], None]":
    """A watcher that shows steps, sigma and the time left; the bar appears with the first step."""
    from tqdm import tqdm

    bar: tqdm | None = None

    def watch(progress: "Progress") -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=num_steps, desc="denoising", unit="step", leave=True)
        bar.set_postfix_str(f"sigma {float(progress.step.sigma_next):.3g}", refresh=False)
        bar.update()
        if progress.step.index + 1 == num_steps:
            bar.close()

    return watch
