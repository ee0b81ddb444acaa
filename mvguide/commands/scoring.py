"""``mvguide evaluate`` and ``mvguide compare``."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from torch import Tensor

from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.backbones.base import Backbone
from mvguide.backbones.chunks import decode_latents, encode_frames
from mvguide.backbones.pretrained import load_backbone
from mvguide.commands.rendering import render
from mvguide.commands.speaking import speaker
from mvguide.config.command_line import command_line
from mvguide.config.render_options import ModelOptions, RenderConfig
from mvguide.config.score_options import CompareConfig, EvaluateResultConfig, EvaluateSceneConfig, ScoreOptions
from mvguide.decoding import is_file, is_folder
from mvguide.errors import ConfigError, FileError, InputError
from mvguide.evaluation.compare import Comparison, compare_folders
from mvguide.evaluation.perceptual import load_lpips
from mvguide.evaluation.recovery import load_pycolmap, recover_cameras
from mvguide.evaluation.rendered import RenderedVideo, read_result
from mvguide.evaluation.report import RESULT, Evaluation
from mvguide.evaluation.scores import Truth, score_video
from mvguide.files.atomic import check_writable, claim_folder
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.inputs.held_out import HeldOut, hold_out, read_truth


def evaluate_result(config: EvaluateResultConfig) -> Evaluation:
    """Score a result folder, and write the evaluation folder."""
    with claim_folder(config.out):
        return _evaluate_result(config)


def _evaluate_result(config: EvaluateResultConfig) -> Evaluation:
    if not config.result:
        raise InputError(
            "no result was given; give a result folder (mvguide evaluate RESULT --truth FRAMES), or a scene to render "
            "first (mvguide evaluate --scene SCENE)"
        )
    if config.truth is None:
        raise InputError(f"what {config.result} should be is not known; give the true frames with --truth")
    _check_tools(config)
    video = read_result(config.result)
    truth = read_truth(config.truth, config.frames, config, config, video)
    videos, notes = _videos(video, truth)
    if config.through_vae:
        videos["truth, VAE"] = _through_vae(truth, str(video.settings.get("model")), config)
    return _score(config, video, config.truth, truth, videos, notes)


def evaluate_scene(config: EvaluateSceneConfig) -> Evaluation:
    """Render a scene, score the result, and write the evaluation folder."""
    if config.context_parallel > 1:
        raise ConfigError("context_parallel is for mvguide render; score its result with mvguide evaluate RESULT")
    with claim_folder(config.out):
        return _evaluate_scene(config)


def _evaluate_scene(config: EvaluateSceneConfig) -> Evaluation:
    check_scoring(config)
    settings = render_settings(config, str(Path(config.out) / "render"))
    held_out = hold_out(settings, config.held_out) if config.truth is None else None
    if held_out is None:
        render(settings)
    else:
        render(held_out.settings, held_out.path)
    return score_render(config, settings.out, held_out)


def render_settings(config: EvaluateSceneConfig, out: str) -> RenderConfig:
    """The settings of a scene that are those of its render, which goes into a folder of its own."""
    values = {field.name: getattr(config, field.name) for field in fields(RenderConfig)}
    return RenderConfig(**{**values, "out": out})


def score_render(
    config: EvaluateSceneConfig, folder: str, held_out: HeldOut | None, backbone: Backbone | None = None
) -> Evaluation:
    """Score the result folder of a scene, and write the evaluation folder.

    Args:
        config: the settings.
        folder: the result.
        held_out: images to compare it with; None: the true frames of the settings.
        backbone: the model, where it is loaded.
    """
    video = read_result(folder)
    if held_out is None:
        # The scene's depth is that of its views, not of the truth.
        truth, against = read_truth(str(config.truth), config.frames, None, config, video), str(config.truth)
        notes: Sequence[str] = []
    else:
        truth, against, notes = held_out.truth(video), held_out.against, held_out.notes
    videos, missing = _videos(video, truth)
    if config.through_vae is not False:
        videos["truth, VAE"] = _through_vae(truth, config.model, config, backbone)
    return _score(config, video, against, truth, videos, [*notes, *missing])


def compare(config: CompareConfig) -> Comparison:
    """Put results side by side."""
    check_writable(config.out, folder=True)
    say = speaker(config.quiet)
    found = compare_folders(config.results, config.names)
    found.save(config.out, made_by=command_line("compare", config, positional="results"))
    say(found.text().rstrip())
    say(f"wrote {config.out}/: look at report.html first; compare.md and compare.json have the figures")
    return found


def check_scoring(config: EvaluateSceneConfig) -> None:
    """Refuse before the render what would be refused after it."""
    if config.truth is not None and config.held_out is not None:
        raise InputError("--truth and --held_out both say what the video is compared with; give one of them")
    if config.truth is not None and not is_file(Path(config.truth)) and not is_folder(Path(config.truth)):
        raise FileError(f"truth {config.truth} is not there; give a folder of images, or a video")
    _check_tools(config)


def _check_tools(config: ScoreOptions) -> None:
    """Missing packages and bad files are refused before the long part."""
    if config.recover_cameras:
        load_pycolmap()
    if config.perceptual_weights:
        load_lpips(config.perceptual_weights)


def _videos(video: RenderedVideo, truth: Truth) -> tuple[dict[str, Tensor], list[str]]:
    """The result and the filled warp at the true frames, and what is missing, a sentence each."""
    videos, notes = {RESULT: video.frames[truth.numbers]}, []
    if video.warp is None:
        notes.append("no row for the filled warp: the result folder keeps no warps/")
    else:
        videos["warp + fill"] = push_pull_fill(video.warp[truth.numbers], truth.visible).clamp(0, 1)
    return videos, notes


def _through_vae(truth: Truth, model: str, options: ModelOptions, backbone: Backbone | None = None) -> Tensor:
    """The true frames encoded and decoded by the model's VAE."""
    backbone = backbone or load_backbone(
        model,
        device=options.device,
        dtype=options.dtype,
        variant=options.variant,
        offload=options.offload,
        acceleration=AccelerationOptions(vae_tiling=options.vae_tiling),
    )
    # As one video of all its frames: some decoders mix neighbours.
    latents = encode_frames(backbone, truth.frames, options.chunk)
    return decode_latents(backbone, latents[None], options.chunk)[0].clamp(0, 1)


def _score(
    config: EvaluateResultConfig | EvaluateSceneConfig,
    video: RenderedVideo,
    against: str,
    truth: Truth,
    videos: dict[str, Tensor],
    notes: Sequence[str],
) -> Evaluation:
    """Measure the videos, and write the evaluation folder."""
    say = speaker(config.quiet)
    say(f"scoring {int(truth.counted.sum())} frames")
    distance = load_lpips(config.perceptual_weights) if config.perceptual_weights else None
    scores = {name: score_video(frames, truth, distance) for name, frames in videos.items()}
    scores["truth"] = score_video(truth.frames, truth).alone()
    if config.recover_cameras:
        for name, frames in {**videos, "truth": truth.frames}.items():
            say(f"finding the cameras of {name}")
            scores[name] = scores[name].with_cameras(recover_cameras(frames, truth.cameras))
    found = Evaluation(video.folder, against, truth, videos, scores, video.settings, [*video.notes, *notes])
    of_result = "result" if isinstance(config, EvaluateResultConfig) else ""
    made = replace(config, resume=False) if isinstance(config, EvaluateSceneConfig) else config
    found.save(config.out, made_by=command_line("evaluate", made, positional=of_result))
    say(found.summary())
    say(f"wrote {config.out}/: look at report.html first; evaluation.md and evaluation.json have the figures")
    return found
