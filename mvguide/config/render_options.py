"""Settings of ``mvguide render`` and ``mvguide demo``."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from mvguide.backbones.acceleration import AccelerationOptions, TilingOptions
from mvguide.config.generated import options_of
from mvguide.config.input_options import InputConfig
from mvguide.diffusion.solvers import SOLVERS
from mvguide.guidance.guides import GUIDES, Guide, make_guide
from mvguide.guidance.targets import MaskOptions


@options_of(GUIDES)
@dataclass(frozen=True)
class GuidanceConfig(MaskOptions):
    """How the warped views steer the model.

    A preset gives defaults here and in the settings around it; what is given wins. nvs_solver_dgs and nvs_solver_post
    are the released NVS-Solver scripts for one image; see :mod:`mvguide.config.presets`.

    Args:
        preset: settings of a released NVS-Solver script: nvs_solver_dgs or nvs_solver_post.
        kind: kind of guidance: blend pulls the estimate by the weight; top_share replaces the share of elements that
            agree best; posterior_gradient moves the latents down the gradient of the error; none leaves the model
            alone.
        table: source of the weights: search (search_hypers), calibrated (the errors of model and warp, measured on
            this input before the run; kept in the result folder), constant, a .npz file, or model (search for Stable
            Video Diffusion, calibrated for other models).
        rule: rule of table search: exact (the closed form, with the model's own parameters where they were measured)
            or released (the published script).
        objective: objective of table search: coverage (the published count, or the model's own parameters), or
            calibrated (the exact rule as near as it comes to the weights that table calibrated would measure).
        distances: distances of table search: camera (real camera motion against the scene's depth) or frame (the frame
            number).
        weight: weight of every cell of table constant.
        depth_error: relative error of depth that table calibrated assumes where one view alone cannot show it.
        resample: number of rounds that a step is repeated with fresh noise; each costs as much as the step itself.
        resample_until: share of the steps that are repeated, from the noisy end.
    """

    heading: ClassVar[str] = "guidance"

    preset: Literal["nvs_solver_dgs", "nvs_solver_post"] | None = None
    kind: str = "blend"
    table: str = "model"
    rule: Literal["exact", "released"] = "exact"
    objective: Literal["coverage", "calibrated"] = "coverage"
    distances: Literal["camera", "frame"] = "camera"
    weight: float = 1.0
    depth_error: float = 0.05
    resample: int = 0
    resample_until: float = 0.5

    def guide(self) -> Guide:
        """The guide with its options. Raises ConfigError for options out of range, also for those of other guides."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return {name: make_guide(name, **given) for name in GUIDES}[self.kind]


@dataclass
class ModelOptions(TilingOptions):
    """Where and how the model runs.

    Args:
        device: device that the model runs on: auto, cpu, cuda, cuda:1.
        dtype: number type of the networks: auto (float16 on a GPU, else float32), float32, float16, bfloat16.
        variant: variant of the model's weights, such as fp16.
        offload: networks that leave the GPU: none, or all but the network at work (model; also --offload alone), or
            all but its layers at work (group; the least memory, slower).
        chunk: number of frames encoded or decoded at a time; if unset, as many as the GPU's memory allows, 8 at most.
    """

    heading: ClassVar[str] = "model"

    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    variant: str | None = None
    offload: Literal["none", "model", "group"] = "none"
    chunk: int | None = None


@dataclass
class ConditioningConfig:
    """What the model is given besides the images, and the memory that it takes.

    Args:
        prompt: text of what the video shows, for models that read text.
        negative_prompt: text of what the video should not show, for models that read text.
        embedded_guidance: guidance scale that a distilled model takes as an input, such as HunyuanVideo; the model's
            default if unset.
        warp_condition: give the warped video to a model that takes one natively, such as WanVACE.
        motion_bucket_id: amount of motion that the model is conditioned on; from the real optical flow, or the model's
            default, if unset.
        noise_aug_strength: strength of the noise that is added to the conditioning image.
        cfg_chunked: run the two halves of classifier-free guidance one after the other; half the memory of activations.
        memory: choice of the settings of memory: auto chooses offload, chunk, cfg_chunked, vae_tiling, and
            checkpointing and tiles of the gradient, for the memory of the GPU, as mvguide plan would; given leaves
            them, and warns where they may not fit.
    """

    heading: ClassVar[str] = "model"

    prompt: str | None = None
    negative_prompt: str | None = None
    embedded_guidance: float | None = None
    warp_condition: bool = True
    motion_bucket_id: float | None = None
    noise_aug_strength: float = 0.02
    cfg_chunked: bool = False
    memory: Literal["given", "auto"] = "given"


@dataclass
class SamplingConfig:
    """How the latents are denoised.

    Args:
        sigmas: sigma schedule by name (sigmas_25) or .npy file; the model's own if unset.
        steps: number of steps of the model's own schedule; 25 if unset.
        solver: solver of the steps: euler, ancestral, heun, dpmpp_2m (see docs/choosing.md), or model, that of the
            model's own scheduler.
        cfg_min: classifier-free guidance of the first frame; the model's own default if unset (SVD: 1).
        cfg_max: classifier-free guidance of the last frame (SVD: 3); 1 switches it off.
        seed: random seed for the noise; the same seed gives the same video.
    """

    heading: ClassVar[str] = "sampling"

    sigmas: str | None = None
    steps: int | None = None
    solver: Literal["model", *SOLVERS] = "model"  # type: ignore[valid-type]
    cfg_min: float | None = None
    cfg_max: float | None = None
    seed: int = 0


@dataclass
class RenderConfig(SamplingConfig, AccelerationOptions, ConditioningConfig, ModelOptions, InputConfig):
    """Render a camera move through an image, as a video.

    Args:
        guidance: guidance of the model by the warped views.
        checkpoint_every: number of steps after which the run is written to checkpoint.safetensors in the result folder,
            again and again; the finished result removes it.
        resume: go on from checkpoint.safetensors, to the same video as if the run had never stopped.
        save_latents: keep latents.safetensors in the result folder, for mvguide decode; about 13 MB a frame of
            1024 x 576.
        out: folder for the results.
    """

    heading: ClassVar[str] = "output"
    first: ClassVar[str] = "image cameras video depth fov trajectory.kind num_frames model seed out"
    """The ten options that ``--help`` describes; ``--help-all`` describes the others too."""
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide render --image photo.jpg --depth depth.npy --trajectory orbit --trajectory.degrees 10",
        "mvguide render --cameras transforms.json --use 0 2 --trajectory views --out out/between",
        "mvguide render --video clip.mp4 --depth clip_depth --moment 4 --trajectory orbit",
        "mvguide render --image photo.jpg --model stabilityai/stable-video-diffusion-img2vid-xt --variant fp16",
        "mvguide render --config orbit --guidance.table calibrated --seed 3",
    )

    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    checkpoint_every: int | None = None
    resume: bool = False
    save_latents: bool = False
    out: str = "out/render"


@dataclass
class DecodeConfig(ModelOptions):
    """Decode the latents that a render kept, and write its result folder.

    On a GPU the network waits in memory, so that the decoder has the GPU for itself. What is not given is as it was in
    the render.

    Args:
        latents: result folder with latents.safetensors, or that file.
        model: place of the model, if it was moved; its name (the last part) must be the same.
        out: folder for the results; the folder of the latents if unset.
        quiet: print nothing but errors.
    """

    heading: ClassVar[str] = "output"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide decode out/render",
        "mvguide decode out/render --chunk 1 --device cpu",
    )

    latents: str = ""
    model: str | None = None
    out: str | None = None
    quiet: bool = False


@dataclass
class DemoConfig:
    """Render a scene that comes with mvguide, with the embedded model.

    Args:
        scene: name of a packaged scene: marbles, blocks, courtyard, gallery, corner, hall or carousel.
        steps: number of steps.
        seed: random seed for the noise; the same seed gives the same video.
        out: folder for the results.
        quiet: print nothing but errors.
    """

    heading: ClassVar[str] = "output"
    examples: ClassVar[tuple[str, ...]] = ("mvguide demo", "mvguide demo --scene hall --seed 1 --out out/hall")

    scene: str = "marbles"
    steps: int = 25
    seed: int = 0
    out: str = "out/demo"
    quiet: bool = False
