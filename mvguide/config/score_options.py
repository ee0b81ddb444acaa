"""Settings of ``mvguide evaluate`` and ``mvguide compare``."""

from dataclasses import dataclass

from mvguide.config.input_options import CropOptions, DepthFileOptions
from mvguide.config.render_options import ModelOptions, RenderConfig


@dataclass
class ScoreOptions:
    """True frames, and what is measured against them.

    Args:
        truth: the true frames: a folder of pictures, or a video. Pictures are paired by name where all names agree,
            else in order.
        frames: numbers of the frames that the true ones are of; all by default.
        through_vae: score the truth through the model's VAE too, the best that the model could do; unset = when a
            scene is rendered.
        perceptual_weights: LPIPS weights (.safetensors, see docs/evaluate.md) for the perceptual distance.
        recover_cameras: find the cameras again from the frames, and compare (needs pycolmap).
    """

    truth: str | None = None
    frames: list[int] | None = None
    through_vae: bool | None = None
    perceptual_weights: str | None = None
    recover_cameras: bool = False


@dataclass
class EvaluateResultConfig(ScoreOptions, DepthFileOptions, CropOptions, ModelOptions):
    """Score a result folder against true frames.

    Args:
        result: result folder to score.
        out: folder for report.html, evaluation.json, evaluation.md, side_by_side.mp4, errors.png, errors/ and truth/.
        quiet: print nothing but errors.
    """

    result: str = ""
    out: str = "out/evaluation"
    quiet: bool = False


@dataclass
class EvaluateSceneConfig(ScoreOptions, RenderConfig):
    """Render a scene into OUT/render, and score it against true frames or held-out pictures of the scene.

    Args:
        held_out: pictures of the camera file or of views, by name or number from 0, that the video is compared with;
            all that use leaves over by default. The camera goes through the views and these, in the scene's order.
        out: folder for report.html, evaluation.json, evaluation.md, side_by_side.mp4, errors.png, errors/, truth/
            and render/.
    """

    held_out: list[str | int] | None = None
    out: str = "out/evaluation"


@dataclass
class CompareConfig:
    """Put several results side by side, in one sheet and one table.

    Args:
        results: result folders and evaluation folders; figures and true frames are those of the evaluations.
        names: what to call them; by default their folders' names.
        out: folder for report.html, side_by_side.mp4, sheet.png, errors.png, compare.md and compare.json.
        quiet: print nothing but errors.
    """

    results: list[str]
    names: list[str] | None = None
    out: str = "out/compare"
    quiet: bool = False
