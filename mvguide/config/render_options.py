"""Settings of ``mvguide render`` and ``mvguide demo``."""

from dataclasses import dataclass, field
from typing import Literal

from mvguide.config.input_options import InputConfig


@dataclass
class GuidanceConfig:
    """How the warped view steers the model.

    A preset fills what is left unset here and in the settings around it; what is given wins. nvs_solver_dgs and
    nvs_solver_post are the released NVS-Solver scripts for one picture: sigmas sigmas_100 (100 Euler steps; not used if
    sigmas or steps are given), cfg_min 1, cfg_max 3, hole_radius 2 (their dilation by 5 x 5), and here table search,
    rule released, distances frame, floor 0.2, cell_coverage 0.8125 (they drop a cell of which a fifth or more is hidden),
    count_holes on; kind top_share, or kind posterior_gradient with step_size 0.02 and through_network
    off. For films they have floor 0.6. Not repeated: latents of targets divided by 5.6 instead of the VAE's own factor,
    the gradient on four fixed tiles, each normalised by itself, and its network half with the picture but without its
    embedding.

    Args:
        preset: nvs_solver_dgs or nvs_solver_post.
        kind: blend (default) pulls the estimate by the weight; top_share replaces the share of elements that agree
            best; posterior_gradient moves the latents down the gradient of the error; none leaves the model alone.
        table: where the weights come from: search (search_hypers; default), calibrated (the errors of model and warp,
            measured on this input before the run; kept in the result folder), constant, or a .npz file.
        rule: search: exact (default; the closed form, with the model's own parameters where they were measured) or
            released (the published script).
        objective: search: coverage (default; the published count, or the model's own parameters), or calibrated (the
            exact rule as near as it comes to the weights that table calibrated would measure).
        distances: search: camera (default; real camera motion against the scene's depth) or frame (the frame number).
        weight: constant: the weight of every cell.
        depth_error: calibrated: relative error of depth that is assumed where one view alone cannot tell.
        floor: top_share, posterior_gradient: smallest share of the seen elements; 0 if unset.
        count_holes: top_share, posterior_gradient: miscount holes as the released code does; off if unset.
        step_size: posterior_gradient: length of the move; 0.02 if unset.
        through_network: posterior_gradient: off leaves the network out of the derivative, as the released scripts do by
            detaching its input; on if unset.
        checkpointing: posterior_gradient: recompute activations on the way back; less memory, more time.
        tiles: posterior_gradient: number of overlapping tiles that the gradient is computed on; less memory, more time.
        tile_overlap: posterior_gradient: share of a tile's side that overlaps the next.
        resample: rounds that a step is repeated with fresh noise; each costs as much as the step itself.
        resample_until: share of the steps that are repeated, from the noisy end.
        mask: hard counts a latent cell whole or not at all, by cell_coverage; soft (default) by the share of it that is
            seen.
        cell_coverage: guide a latent cell when at least this share of its pixels is seen, and make the mask hard; 0.5 with
            a hard mask if unset.
        ramp: cells over which the weight rises with the distance to a hole.
        confidence: exponent of the warp's confidence, which scales what a cell counts; 0 = not at all.
        hole_weight: pull of unseen cells towards the fill from around.
        hole_table: a table (.npz) for that pull instead of one number.
    """

    preset: Literal["nvs_solver_dgs", "nvs_solver_post"] | None = None
    kind: Literal["blend", "top_share", "posterior_gradient", "none"] | None = None
    table: str | None = None
    rule: Literal["exact", "released"] | None = None
    objective: Literal["coverage", "calibrated"] = "coverage"
    distances: Literal["camera", "frame"] | None = None
    weight: float = 1.0
    depth_error: float = 0.05
    floor: float | None = None
    count_holes: bool | None = None
    step_size: float | None = None
    through_network: bool | None = None
    checkpointing: bool = True
    tiles: int = 1
    tile_overlap: float = 0.25
    resample: int = 0
    resample_until: float = 0.5
    mask: Literal["hard", "soft"] | None = None
    cell_coverage: float | None = None
    ramp: float = 0.0
    confidence: float = 0.0
    hole_weight: float = 0.0
    hole_table: str | None = None


@dataclass
class RenderConfig(InputConfig):
    """Render a camera move through a picture.

    Args:
        device: auto, cpu, cuda, cuda:1.
        dtype: auto (float16 on a GPU, else float32), float32, float16, bfloat16.
        variant: which weights of the model to read, such as fp16.
        offload: keep only the module at work on the GPU.
        sigmas: sigma schedule by name (sigmas_25) or .npy file; the model's own if unset.
        steps: number of steps of the model's own schedule; 25 if unset.
        solver: euler, ancestral, heun or dpmpp_2m.
        guidance: how the warped view steers the model.
        motion_bucket_id: amount of motion the model is told; from the real flow, or the model's default, if unset.
        noise_aug_strength: noise added to the conditioning picture.
        cfg_min: classifier-free guidance of the first frame; the model's own default if unset (SVD: 1).
        cfg_max: classifier-free guidance of the last frame (SVD: 3); 1 switches it off.
        cfg_chunked: its two halves one after the other; half the memory of activations.
        chunk: frames encoded or decoded at a time.
        seed: of the noise; the same seed gives the same video.
        out: folder for the results.
    """

    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    variant: str | None = None
    offload: bool = False
    sigmas: str | None = None
    steps: int | None = None
    solver: Literal["euler", "ancestral", "heun", "dpmpp_2m"] = "euler"
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    motion_bucket_id: float | None = None
    noise_aug_strength: float = 0.02
    cfg_min: float | None = None
    cfg_max: float | None = None
    cfg_chunked: bool = False
    chunk: int = 8
    seed: int = 0
    out: str = "out/render"


@dataclass
class DemoConfig:
    """Render a scene that comes with mvguide, with the embedded model.

    Args:
        scene: marbles, blocks, courtyard, gallery, corner, hall or carousel.
        steps: number of steps.
        seed: of the noise.
        out: folder for the results.
        quiet: print nothing but errors.
    """

    scene: str = "marbles"
    steps: int = 25
    seed: int = 0
    out: str = "out/demo"
    quiet: bool = False
