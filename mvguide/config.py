"""Settings of the command line. One dataclass is options, YAML file and documentation at once; nothing heavy here."""

from dataclasses import dataclass, field
from typing import Any, Literal

TrajectoryKind = Literal[
    "orbit", "ellipse", "dolly", "truck", "pedestal", "pan", "tilt", "roll", "zoom", "spiral", "views", "still", "file"
]


@dataclass
class TrajectoryConfig:
    """The camera path. Lengths are shares of the target depth, angles degrees; unset values take the kind's default.

    Args:
        kind: if unset, views for several posed pictures, still for a film that is not stopped, else orbit.
            orbit, ellipse and spiral go round the point at target_depth; dolly, truck and pedestal move straight; pan,
            tilt, roll and zoom stay in place; views runs from view to view; still does not move; file follows a camera
            file.
        file: cameras to follow, in any format that --cameras reads. Where the pictures have cameras of their own it
            is in their world; else the path is moved so that it starts at the picture.
        degrees: orbit, pan, tilt, roll: angle in all; to the right, up, or clockwise if positive.
        elevation: orbit: rise in degrees.
        distance: dolly, truck, pedestal: length as a share of the target depth; forward, right or up if positive.
        factor: zoom: by how much the focal length grows.
        radius: spiral: largest radius.
        radius_x: ellipse: half width.
        radius_y: ellipse: half height.
        turns: ellipse, spiral: rounds.
        forward: spiral: move along the axis.
        look_at: ellipse, spiral: keep the target in the middle.
        easing: linear, or smooth for a soft start and end.
        target_depth: depth of the point on the optical axis that the path is measured by; the median depth if unset.
    """

    kind: TrajectoryKind | None = None
    file: str | None = None
    degrees: float | None = None
    elevation: float | None = None
    distance: float | None = None
    factor: float | None = None
    radius: float | None = None
    radius_x: float | None = None
    radius_y: float | None = None
    turns: float | None = None
    forward: float | None = None
    look_at: bool | None = None
    easing: Literal["linear", "smooth"] | None = None
    target_depth: float | None = None

    def params(self) -> dict[str, Any]:
        """Parameters of the kind that were set."""
        common = ("kind", "file", "target_depth")
        return {name: value for name, value in vars(self).items() if name not in common and value is not None}


@dataclass
class GuidanceConfig:
    """How the warped view steers the model.

    A preset fills what is left unset here and in the settings around it; what is given wins. nvs_solver_dgs and
    nvs_solver_post are the released NVS-Solver scripts for one picture: sigmas sigmas_100 (100 Euler steps; not used if
    sigmas or steps are given), cfg_min 1, cfg_max 3, hole_radius 2 (their dilation by 5 x 5), and here table search,
    rule released, distances frame, floor 0.2, cell_share 0.8125 (they drop a cell of which a fifth or more is hidden),
    count_holes on; kind top_share, or kind posterior_gradient with step_size 0.02 and through_network off. For films
    they have floor 0.6. Not repeated: latents of targets divided by 5.6 instead of the VAE's own factor, the gradient
    on four fixed tiles, each normalised by itself, and its network half with the picture but without its embedding.

    Args:
        preset: nvs_solver_dgs or nvs_solver_post.
        kind: blend (default) pulls the estimate by the weight; top_share replaces the share of elements that agree
            best; posterior_gradient moves the latents down the gradient of the error; none leaves the model alone.
        table: where the weights come from: search (search_hypers; default), calibrated (the errors of model and warp,
            measured on this input before the run; kept in the result folder), constant, or a .npz file.
        rule: search: exact (default; the closed form, with the model's own parameters where they were measured) or
            released (the published script).
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
        mask: hard counts a latent cell whole or not at all, by cell_share; soft by the share of it that is seen.
        cell_share: mask hard: guide a latent cell when at least this share of its pixels is seen; 0.5 if unset.
        ramp: cells over which the weight rises with the distance to a hole.
        confidence: exponent of the warp's confidence, which scales what a cell counts; 0 = not at all.
        hole_weight: pull of unseen cells towards the fill from around.
        hole_table: a table (.npz) for that pull instead of one number.
    """

    preset: Literal["nvs_solver_dgs", "nvs_solver_post"] | None = None
    kind: Literal["blend", "top_share", "posterior_gradient", "none"] | None = None
    table: str | None = None
    rule: Literal["exact", "released"] | None = None
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
    mask: Literal["hard", "soft"] = "hard"
    cell_share: float | None = None
    ramp: float = 0.0
    confidence: float = 0.0
    hole_weight: float = 0.0
    hole_table: str | None = None


@dataclass
class ViewConfig:
    """One of several pictures.

    Args:
        image: the picture.
        depth: its depth map.
        fov: horizontal field of view in degrees.
        intrinsics: [fx, fy, cx, cy] in pixels of the picture, instead of fov.
        camera_to_world: 4 x 4 matrix, rows; OpenCV axes (x right, y down, z forward).
    """

    image: str
    depth: str | None = None
    fov: float | None = None
    intrinsics: list[float] | None = None
    camera_to_world: list[list[float]] | None = None


@dataclass
class InputConfig:
    """What is seen, and where the camera goes.

    Args:
        scene: a scene file (YAML with these settings; its paths start at its folder), or a nerfstudio or COLMAP
            folder, which is the same as --cameras.
        image: one picture (any format that Pillow reads; grey, RGBA, 16-bit and rotated ones come out right).
        views: several pictures of a still scene, each with its camera: image, depth, fov or intrinsics,
            camera_to_world.
        cameras: camera file or folder that names the pictures (transforms.json, COLMAP, LLFF, MVSNet, 7-Scenes) or
            holds their cameras in order (.log, TUM), then with --images.
        images: folder of the pictures of a camera file, where that does not name them.
        use: which pictures of the camera file are the views, by name or number from 0; all by default.
        video: a film, or a folder of its frames, with a depth map for each.
        moment: video: stop time at this frame (negative: from the end) and move the camera through it.
        fill: video: so many neighbouring frames on each side fill holes where nothing moved.
        depth: depth map (.npy, .npz, .pfm, .png, .tif, .exr); for several pictures a folder, or a path with {stem} in
            place of the picture's name.
        depth_unit: scene units for one stored unit, such as 0.001 for millimetres.
        depth_offset: added after the unit.
        depth_kind: depth or disparity (inverse depth); unset = depth, refused if it looks inverse.
        depth_invalid: stored value that means "no data", besides 0.
        depth_baseline: for stereo disparity: distance of the two cameras, scene units.
        depth_focal: for stereo disparity: focal length in pixels of the disparity map.
        depth_source: where depth comes from that --depth and the camera file do not give: auto (a depth model that is
            on this machine, else a plane sweep of posed pictures), file (nowhere), model or sweep.
        depth_model: depth model for it, a folder or hub id; unset = depth-anything/Depth-Anything-V2-Small-hf.
        depth_align: what gives estimated and relative depth its scale: auto (the first of these that is there), points
            (the camera file's sparse points), bounds (LLFF's), view (depth of another posed picture), sweep (a plane
            sweep of posed pictures), or none.
        depth_center: scale the depth so that the middle of the picture is at this distance, scene units.
        fov: horizontal field of view in degrees; 60 if intrinsics are not given either.
        intrinsics: [fx, fy, cx, cy] in pixels of the picture, instead of fov.
        pixel_center: where the given cx, cy put the first pixel's centre; 0.5 (COLMAP, nerfstudio), 0.0 (OpenCV).
        camera_size: [width, height] that the intrinsics of the camera file are for, where that is not the picture.
        resize: [width, height] to bring every picture to first, its camera and depth with it.
        crop: [left, top, width, height] to cut out of every picture after that, its camera and depth with it.
        already_cropped: cameras and depths are of the resized and cropped picture already (as DTU's are): resize and
            crop the pictures alone.
        trajectory: the camera path.
        num_frames: frames of the video; the model's own number if unset.
        width: of the video; with height unset, follows the picture's shape.
        height: of the video.
        model: tiny (embedded), a folder in diffusers layout, or a hub id; preview asks it for its size only.
        hole_radius: grow holes by this many pixels; 0 if unset.
        fps: frames per second, for the model and the video file.
        quiet: print nothing but errors.
    """

    scene: str | None = None
    image: str | None = None
    views: list[ViewConfig] | None = None
    cameras: str | None = None
    images: str | None = None
    use: list[str | int] | None = None
    video: str | None = None
    moment: int | None = None
    fill: int = 0
    depth: str | None = None
    depth_unit: float = 1.0
    depth_offset: float = 0.0
    depth_kind: Literal["depth", "disparity"] | None = None
    depth_invalid: float | None = None
    depth_baseline: float | None = None
    depth_focal: float | None = None
    depth_source: Literal["auto", "file", "model", "sweep"] = "auto"
    depth_model: str | None = None
    depth_align: Literal["auto", "points", "bounds", "view", "sweep", "none"] = "auto"
    depth_center: float | None = None
    fov: float | None = None
    intrinsics: list[float] | None = None
    pixel_center: float = 0.5
    camera_size: list[int] | None = None
    resize: list[int] | None = None
    crop: list[int] | None = None
    already_cropped: bool = False
    trajectory: TrajectoryConfig = field(default_factory=TrajectoryConfig)
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    model: str = "tiny"
    hole_radius: int | None = None
    fps: int = 7
    quiet: bool = False


@dataclass
class PreviewConfig(InputConfig):
    """Show what a camera move will see of the pictures, and what is wrong with it; no model is loaded.

    Args:
        out: folder for warps.mp4, sheet.png, path.png and preview.json.
    """

    out: str = "out/preview"


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


@dataclass
class EvaluateConfig(RenderConfig):
    """Score a result folder, or a scene with held-out pictures, against true frames.

    Args:
        result: result folder to score; without it the scene is rendered first, by the settings of render, into
            OUT/render.
        truth: the true frames: a folder of pictures, or a film. Pictures are paired by name where all names agree,
            else in order.
        frames: numbers of the frames that the true ones are of; all by default.
        held_out: pictures of the camera file, by name or number, that the video is compared with; all that use leaves
            over by default. The camera goes through the views and these, in the order of the file.
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


@dataclass
class SearchConfig:
    """Find a lambda table without rendering.

    Args:
        sigmas: sigma schedule by name (sigmas_25, sigmas_50, sigmas_100) or .npy file.
        num_frames: frames of the table, evenly spaced; 25 if distances are not given either.
        distances: camera distance of each frame instead, 0 for input views: a list.
        rule: released (the published script, to the last digit) or exact (the closed form).
        v1: grid of the regulariser's weight; the published grid if unset.
        v2: grid of the model's error.
        v3: grid of the warp's error.
        out: .npz file to write.
        plot: .png file to draw the table into.
        quiet: print nothing but errors.
    """

    sigmas: str = "sigmas_25"
    num_frames: int | None = None
    distances: list[float] | None = None
    rule: Literal["released", "exact"] = "released"
    v1: list[float] | None = None
    v2: list[float] | None = None
    v3: list[float] | None = None
    out: str = "lambda_table.npz"
    plot: str | None = None
    quiet: bool = False


@dataclass
class SigmasMakeConfig:
    """Make a Karras sigma schedule.

    Args:
        steps: number of steps N; the file has N + 1 values, the last 0.
        sigma_min: smallest level above 0.
        sigma_max: largest level.
        rho: how strongly the levels crowd at the clean end.
        out: .npy file to write.
    """

    steps: int = 25
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    out: str = "sigmas.npy"


@dataclass
class SigmasShowConfig:
    """Check a sigma schedule and print it.

    Args:
        sigmas: name (sigmas_25, sigmas_50, sigmas_100) or .npy file.
    """

    sigmas: str
