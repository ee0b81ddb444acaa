"""``mvguide evaluate`` and ``mvguide compare``. Heavy libraries are imported inside, when the command runs."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvguide.commands.common import speaker
from mvguide.commands.rendering import render
from mvguide.config import CompareConfig, EvaluateConfig, RenderConfig, TrajectoryConfig
from mvguide.errors import InputError
from mvguide.files.atomic import check_writable

if TYPE_CHECKING:
    from torch import Tensor

    from mvguide.compare import Comparison
    from mvguide.evaluation.folders import RenderedVideo
    from mvguide.evaluation.report import Evaluation
    from mvguide.evaluation.scores import Truth

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
    from mvguide.evaluation.folders import read_result
    from mvguide.evaluation.perceptual import load_lpips
    from mvguide.evaluation.recovery import load_pycolmap
    from mvguide.truth import read_truth

    if config.recover_cameras:
        load_pycolmap()  # missing packages and bad files are told of before the long part
    distance = load_lpips(config.perceptual_weights) if config.perceptual_weights else None
    notes: list[str] = []
    if config.result is not None:
        video = read_result(config.result)
        truth, against = read_truth(config, video), str(config.truth)
    else:
        video, truth, against, notes = _render(config)
    say(f"scoring {int(truth.counted.sum())} frames")
    videos, missing = _videos(config, video, truth)
    from mvguide.evaluation.scores import score

    scores = {name: score(frames, truth, distance) for name, frames in videos.items()}
    scores["truth"] = score(truth.frames, truth).alone()
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
    from mvguide.compare import compare_folders

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


def _render(config: EvaluateConfig) -> "tuple[RenderedVideo, Truth, str, list[str]]":
    """Render the scene into OUT/render; the result as it was written, and its truth."""
    from mvguide.backbones.format import read_format
    from mvguide.backbones.loading import find_model
    from mvguide.evaluation.folders import read_result
    from mvguide.geometry.camera import stack
    from mvguide.geometry.keyframes import key_frames, through
    from mvguide.inputs import with_scene
    from mvguide.truth import read_truth, split_scene, truth_of_views

    listed = config.scene or "views"
    config = with_scene(config)
    out = str(Path(config.out) / "render")
    values: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(RenderConfig)}
    settings = RenderConfig(**{**values, "out": out})
    if config.truth is not None:
        render(settings)
        video = read_result(out)
        # The scene's depth is that of its views, not of the truth.
        return video, read_truth(replace(config, depth=None), video), config.truth, []
    held_out = split_scene(config)
    frames = config.num_frames or max(len(held_out.views), read_format(find_model(config.model)).frames)
    path = through(stack([view.camera for view in held_out.views]), frames)
    render(replace(settings, use=held_out.use, trajectory=TrajectoryConfig(kind="views")), path)
    video = read_result(out)
    truth = truth_of_views(held_out.views, key_frames(len(held_out.views), frames), video)
    kept = [name for name in held_out.names if name not in held_out.use]
    return video, truth, f"{len(kept)} held-out pictures of {Path(config.cameras or listed).name}", held_out.notes


def _videos(config: EvaluateConfig, video: "RenderedVideo", truth: "Truth") -> "tuple[dict[str, Tensor], list[str]]":
    """The result, and what it is judged beside: the filled warp, and the truth through the VAE."""
    from mvguide.evaluation.report import RESULT
    from mvguide.geometry.masks import push_pull_fill

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
