"""Settings of ``mvguide evaluate`` and ``mvguide compare``."""

from dataclasses import dataclass
from typing import ClassVar

from mvguide.config.input_options import CropOptions, DepthFileOptions
from mvguide.config.render_options import ModelOptions, RenderConfig


@dataclass
class ScoreOptions:
    """True frames, and what is measured against them.

    Args:
        truth: true frames: a folder of images, or a video. Images are paired by name where all names agree, else in
            order.
        frames: numbers of the frames that the true ones are of; all by default.
        through_vae: score the truth through the model's VAE too, the best that the model could do; if unset, only
            where a scene is rendered.
        perceptual_weights: LPIPS weights (.safetensors, see docs/evaluate.md) for the perceptual distance.
        recover_cameras: find the cameras again from the frames, and compare (needs pycolmap).
    """

    heading: ClassVar[str] = "scores"

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

    heading: ClassVar[str] = "output"
    first: ClassVar[str] = "truth frames through_vae depth depth_unit device out"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide evaluate out/render --truth true_frames/",
        "mvguide evaluate --scene nerfstudio --use 0 --out out/held_out",
        "mvguide evaluate --scene nerfstudio --help-all",
    )

    result: str = ""
    out: str = "out/evaluation"
    quiet: bool = False


@dataclass
class EvaluateSceneConfig(ScoreOptions, RenderConfig):
    """Render a scene into OUT/render, and score it against true frames or held-out images of the scene.

    Args:
        held_out: images of the camera file or of views, by name or number from 0, that the video is compared with;
            all that use leaves over by default. The camera goes through the views and these, in the scene's order.
        out: folder for report.html, evaluation.json, evaluation.md, side_by_side.mp4, errors.png, errors/, truth/
            and render/.
    """

    heading: ClassVar[str] = "scores"
    first: ClassVar[str] = "scene cameras use held_out truth depth num_frames model seed out"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide evaluate --scene nerfstudio --use 0",
        "mvguide evaluate --cameras transforms.json --use 0 4 --held_out 1 2 3 --out out/held_out",
    )

    held_out: list[str | int] | None = None
    out: str = "out/evaluation"


@dataclass
class CompareConfig:
    """Put several results side by side, in one sheet and one table.

    Args:
        results: result folders and evaluation folders; figures and true frames are those of the evaluations.
        names: names of the results in the sheet and the table; those of their folders by default.
        out: folder for report.html, side_by_side.mp4, sheet.png, errors.png, compare.md and compare.json.
        quiet: print nothing but errors.
    """

    heading: ClassVar[str] = "output"
    examples: ClassVar[tuple[str, ...]] = ("mvguide compare out/a out/b --names blend top_share --out out/compare",)

    results: list[str]
    names: list[str] | None = None
    out: str = "out/compare"
    quiet: bool = False
