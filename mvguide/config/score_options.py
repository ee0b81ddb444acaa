"""Settings of ``mvguide evaluate`` and ``mvguide compare``."""

from dataclasses import dataclass

from mvguide.config.render_options import RenderConfig


@dataclass
class EvaluateConfig(RenderConfig):
    """Score a result folder, or a scene with held-out pictures, against true frames.

    Args:
        result: result folder to score; without it the scene is rendered first, by the settings of render, into
            OUT/render.
        truth: the true frames: a folder of pictures, or a film. Pictures are paired by name where all names agree,
            else in order.
        frames: numbers of the frames that the true ones are of; all by default.
        held_out: pictures of the camera file or of views, by name or number from 0, that the video is compared with;
            all that use leaves over by default. The camera goes through the views and these, in the scene's order.
        through_vae: score the truth through the model's VAE too, the best that the model could do; unset = when a
            scene is rendered.
        perceptual_weights: LPIPS weights (.safetensors, see docs/evaluate.md) for the perceptual distance.
        recover_cameras: find the cameras again from the frames, and compare (needs pycolmap).
        out: folder for evaluation.json, evaluation.md, errors.png, errors/ and truth/.
    """

    result: str | None = None
    truth: str | None = None
    frames: list[int] | None = None
    held_out: list[str | int] | None = None
    through_vae: bool | None = None
    perceptual_weights: str | None = None
    recover_cameras: bool = False
    out: str = "out/evaluation"


@dataclass
class CompareConfig:
    """Put several results side by side, in one sheet and one table.

    Args:
        results: result folders and evaluation folders; figures and true frames are those of the evaluations.
        names: what to call them; by default their folders' names.
        out: folder for sheet.png, compare.md and compare.json.
        quiet: print nothing but errors.
    """

    results: list[str]
    names: list[str] | None = None
    out: str = "out/compare"
    quiet: bool = False
