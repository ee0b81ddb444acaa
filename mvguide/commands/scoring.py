"""``mvguide evaluate`` and ``mvguide compare``. Heavy libraries are imported inside, when the command runs."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvguide.commands.rendering import render
from mvguide.commands.speaking import speaker
from mvguide.config import CompareConfig, EvaluateConfig, RenderConfig, TrajectoryConfig
from mvguide.errors import InputError
from mvguide.files.atomic import check_writable

if TYPE_CHECKING:
    from torch import Tensor

    from mvguide.evaluation.compare import Comparison
    from mvguide.evaluation.rendered import RenderedVideo
    from mvguide.evaluation.report import Evaluation
    from mvguide.evaluation.scores import Truth
    from mvguide.geometry.camera import Camera

FOR_FOLDERS = {
    *(
        "result",
        "truth",
        "frames",
        "resize",
        "crop",
        "already_cropped",
        "through_vae",
        "perceptual_weights",
        "recover_cameras",
        "out",
    ),
    *("depth", "depth_unit", "depth_offset", "depth_kind", "depth_invalid", "depth_baseline", "depth_focal"),
    *("quiet", "device", "dtype", "variant", "offload", "chunk"),
}
"""Settings that say something about a result that is already there."""


def evaluate(config: EvaluateConfig) -> "Evaluation":
    """Score a result folder, or render a scene and score that, and write the evaluation folder."""
    check_writable(config.out, folder=True)
    say = speaker(config.quiet)
    _check(config)
    from mvguide.evaluation.perceptual import load_lpips
    from mvguide.evaluation.recovery import load_pycolmap
    from mvguide.evaluation.rendered import read_result
    from mvguide.inputs.held_out import read_truth

    if config.recover_cameras:
        load_pycolmap()  # missing packages and bad files are told of before the long part
    distance = load_lpips(config.perceptual_weights) if config.perceptual_weights else None
    notes: list[str] = []
    if config.result is not None:
        video = read_result(config.result)
        truth, against = read_truth(config, video), str(config.truth)
    else:
        task = split(config, str(Path(config.out) / "render"))
        render(task.settings, task.path)
        video = read_result(task.settings.out)
        truth, against, notes = task.truth(video), task.against, task.notes
    say(f"scoring {int(truth.counted.sum())} frames")
    videos, missing = _videos(config, video, truth)
    from mvguide.evaluation.scores import score_video

    scores = {name: score_video(frames, truth, distance) for name, frames in videos.items()}
    scores["truth"] = score_video(truth.frames, truth).alone()
    if config.recover_cameras:
        from mvguide.evaluation.recovery import recover_cameras

        for name, frames in {**videos, "truth": truth.frames}.items():
            say(f"finding the cameras of {name}")
            scores[name] = scores[name].with_cameras(recover_cameras(frames, truth.cameras))
    from mvguide.evaluation.report import Evaluation

    found = Evaluation(video.folder, against, truth, videos, scores, video.settings, [*video.notes, *notes, *missing])
    found.save(config.out)
    say(found.summary())
    say(f"wrote {config.out}/: evaluation.md, evaluation.json, and errors.png, which shows where it is wrong")
    return found


def compare(config: CompareConfig) -> "Comparison":
    """Put results side by side."""
    check_writable(config.out, folder=True)
    say = speaker(config.quiet)
    from mvguide.evaluation.compare import compare_folders

    found = compare_folders(config.results, config.names)
    found.save(config.out)
    say(found.text().rstrip())
    say(f"wrote {config.out}/: sheet.png, compare.md and compare.json")
    return found


def _check(config: EvaluateConfig) -> None:
    """Refuse what does not go together, before anything is read."""
    plain = EvaluateConfig()
    if config.result is not None:
        if config.truth is None:
            raise InputError(f"what {config.result} should be is not known; give the true frames with --truth")
        changed = [f.name for f in fields(config) if getattr(config, f.name) != getattr(plain, f.name)]
        refused = [name for name in changed if name not in FOR_FOLDERS]
        if refused:
            raise InputError(
                f"--{refused[0]} is for rendering a scene, but {config.result} is a result that is already there; "
                "give one of the two"
            )
    elif config.truth is not None and config.held_out is not None:
        raise InputError("--truth and --held_out both say what the video is compared with; give one of them")


@dataclass(frozen=True)
class Task:
    """A scene to render, and what the result is to be compared with.

    Args:
        settings: of the render.
        path: its cameras; None = those of the settings.
        truth: the true frames of a result of these settings.
        against: what they are, for reports.
        notes: what is missing, a sentence each.
    """

    settings: RenderConfig
    path: "Camera | None"
    truth: "Callable[[RenderedVideo], Truth]"
    against: str
    notes: list[str]


def split(config: EvaluateConfig, out: str) -> Task:
    """What to render of a scene, and what to keep as the truth; the render is to go to the folder ``out``."""
    from mvguide.backbones.loading import find_model
    from mvguide.backbones.native_size import read_native_size
    from mvguide.geometry.camera import stack
    from mvguide.geometry.keyframes import interpolate_cameras, key_frames
    from mvguide.inputs import with_scene
    from mvguide.inputs.held_out import read_truth, split_scene, truth_of_views

    listed = config.scene or "views"
    config = with_scene(config)
    values: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(RenderConfig)}
    settings = RenderConfig(**{**values, "out": out})
    if config.truth is not None:
        # The scene's depth is that of its views, not of the truth.
        alone = replace(config, depth=None)
        return Task(settings, None, lambda video: read_truth(alone, video), config.truth, [])
    held_out = split_scene(config)
    frames = config.num_frames or max(len(held_out.views), read_native_size(find_model(config.model)).frames)
    path = interpolate_cameras(stack([view.camera for view in held_out.views]), frames)
    numbers = key_frames(len(held_out.views), frames)
    kept = [name for name in held_out.names if name not in held_out.use]
    return Task(
        replace(settings, use=held_out.use, trajectory=TrajectoryConfig(kind="views")),
        path,
        lambda video: truth_of_views(held_out.views, numbers, video),
        f"{len(kept)} held-out pictures of {Path(config.cameras or listed).name}",
        held_out.notes,
    )


def _videos(config: EvaluateConfig, video: "RenderedVideo", truth: "Truth") -> "tuple[dict[str, Tensor], list[str]]":
    """The result, and what it is judged beside: the filled warp, and the truth through the VAE."""
    from mvguide.evaluation.report import RESULT
    from mvguide.geometry.hole_filling import push_pull_fill

    videos, notes = {RESULT: video.frames[truth.numbers]}, []
    if video.warp is None:
        notes.append("no row for the filled warp: the result folder keeps no warps/")
    else:
        videos["warp + fill"] = push_pull_fill(video.warp[truth.numbers], truth.visible).clamp(0, 1)
    if config.result is None if config.through_vae is None else config.through_vae:
        from mvguide.backbones.loading import load_backbone

        backbone = load_backbone(
            str(video.settings.get("model")),
            device=config.device,
            dtype=config.dtype,
            variant=config.variant,
            offload=config.offload,
        )
        # As one video of all its frames: some decoders mix neighbours.
        decoded = backbone.decode(backbone.encode(truth.frames, config.chunk)[None], config.chunk)
        videos["truth, VAE"] = decoded.clamp(0, 1)
    return videos, notes
