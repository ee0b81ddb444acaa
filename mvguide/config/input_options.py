"""What is seen, and where the camera goes: the settings of every command that reads pictures."""

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
        use: which pictures of the camera file, or of views, are the views, by name or number from 0; all by default.
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
    depth_source: str = "auto"
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
