"""Input pictures and the camera path: the settings of every command that reads pictures.

The records are those of :func:`mvguide.load_views`. A command's settings are all of them at once.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from mvguide.config.generated import options_of
from mvguide.geometry.trajectory import TRAJECTORIES


@options_of(TRAJECTORIES, kinds=("views", "still", "file"), skip=("camera", "num_frames", "target_depth"))
@dataclass
class TrajectoryOptions:
    """The camera path. Lengths are shares of the target depth, angles degrees; unset values take the kind's default.

    Args:
        kind: if unset, views for several posed pictures, still for a video that is not stopped, else orbit.
            orbit, ellipse and spiral move around the point at target_depth; dolly, truck and pedestal move straight;
            pan, tilt, roll and zoom stay in place; views runs from view to view; still does not move; file follows a
            camera file.
        file: cameras to follow, in any format that --cameras reads. Where the pictures have cameras of their own it
            is in their world; else the path is moved so that it starts at the picture.
        target_depth: depth of the point on the optical axis that the path is measured by; the median depth if unset.
    """

    kind: str | None = None
    file: str | None = None
    target_depth: float | None = None

    def params(self) -> dict[str, Any]:
        """Parameters of the kind that were set."""
        common = ("kind", "file", "target_depth")
        return {name: value for name, value in vars(self).items() if name not in common and value is not None}


@dataclass
class ViewOptions:
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
class SourceOptions:
    """Where the pictures and their cameras are.

    Args:
        scene: a scene file (YAML with these settings; its paths start at its folder), or a nerfstudio or COLMAP
            folder, which is the same as --cameras.
        image: one picture (any format that Pillow reads; grey, RGBA, 16-bit and rotated ones come out right).
        views: several pictures of a still scene, each with its camera: image, depth, fov or intrinsics,
            camera_to_world.
        cameras: camera file or folder that names the pictures (transforms.json, COLMAP, LLFF, MVSNet, 7-Scenes) or
            holds their cameras in order (.log, TUM, KITTI), then with --images.
        images: folder of the pictures of a camera file, where that does not name them or they are elsewhere: paired by
            name, or by order where no name is the same.
        use: which pictures of the camera file, or of views, are the views, by name or number from 0; all by default.
        video: a film, or a folder of its frames, with a depth map for each.
        moment: video: stop time at this frame (negative: from the end) and move the camera through it.
        fill: video: so many neighbouring frames on each side fill holes where nothing moved.
    """

    scene: str | None = None
    image: str | None = None
    views: list[ViewOptions] | None = None
    cameras: str | None = None
    images: str | None = None
    use: list[str | int] | None = None
    video: str | None = None
    moment: int | None = None
    fill: int = 0


@dataclass
class DepthFileOptions:
    """Depth maps from files: where they are, and what their numbers mean.

    Args:
        depth: depth map (.npy, .npz, .pfm, .png, .tif, .exr); for several pictures a folder, or a path with {stem} in
            place of the picture's name.
        depth_unit: scene units for one stored unit, such as 0.001 for millimetres.
        depth_offset: added after the unit.
        depth_kind: depth or disparity (inverse depth); unset = depth, refused if it looks inverse.
        depth_invalid: stored value that means "no data", besides 0.
        depth_baseline: for stereo disparity: distance of the two cameras, scene units.
        depth_focal: for stereo disparity: focal length in pixels of the disparity map.
        background: what is infinitely far, and warped along rather than left a hole: white or another colour as
            '#rrggbb' (where no file gives depth), alpha (what is transparent), or far (all that has no depth).
    """

    depth: str | None = None
    depth_unit: float = 1.0
    depth_offset: float = 0.0
    depth_kind: Literal["depth", "disparity"] | None = None
    depth_invalid: float | None = None
    depth_baseline: float | None = None
    depth_focal: float | None = None
    background: str | None = None


@dataclass
class DepthOptions(DepthFileOptions):
    """Depth of every picture: from files, or made where these are missing, and brought to the scale of the cameras.

    Args:
        depth_source: where depth comes from that --depth and the camera file do not give: auto (a depth model that is
            on this machine, else a plane sweep of posed pictures), file (nowhere), model or sweep.
        depth_model: depth model for it, a folder or hub id; unset = depth-anything/Depth-Anything-V2-Small-hf.
        depth_align: what gives estimated and relative depth its scale: auto (the first of these that is there), points
            (the camera file's sparse points), bounds (LLFF's), view (depth of another posed picture), sweep (a plane
            sweep of posed pictures), or none.
        depth_center: scale the depth so that the middle of the picture is at this distance, scene units.
    """

    depth_source: str = "auto"
    depth_model: str | None = None
    depth_align: Literal["auto", "points", "bounds", "view", "sweep", "none"] = "auto"
    depth_center: float | None = None


@dataclass
class LensOptions:
    """Field of view or intrinsics of the pictures, where no camera file has them.

    Args:
        fov: horizontal field of view in degrees; 60 if intrinsics are not given either.
        intrinsics: [fx, fy, cx, cy] in pixels of the picture, instead of fov.
        pixel_center: where the given cx, cy put the first pixel's centre; 0.5 (COLMAP, nerfstudio), 0.0 (OpenCV).
        camera_size: [width, height] that the intrinsics of the camera file are for, where that is not the picture.
        camera_format: of the camera file, where it is not found by name or content: transforms, colmap, llff, matrices,
            mvsnet, log, tum or rows (12 or 16 numbers a line, as KITTI has them).
    """

    fov: float | None = None
    intrinsics: list[float] | None = None
    pixel_center: float = 0.5
    camera_size: list[int] | None = None
    camera_format: str | None = None


@dataclass
class CropOptions:
    """Resizing and cropping of every picture, before anything else.

    Args:
        resize: [width, height] to bring every picture to first, its camera and depth with it.
        crop: [left, top, width, height] to cut out of every picture after that, its camera and depth with it.
        already_cropped: cameras and depths are of the resized and cropped picture already (as DTU's are): resize and
            crop the pictures alone.
    """

    resize: list[int] | None = None
    crop: list[int] | None = None
    already_cropped: bool = False


@dataclass
class InputConfig(SourceOptions, DepthOptions, LensOptions, CropOptions):
    """Input pictures, the camera path, and the size of the video.

    Args:
        trajectory: the camera path.
        num_frames: frames of the video; the model's own number if unset.
        width: of the video; with height unset, follows the picture's shape.
        height: of the video.
        hole_radius: grow holes by this many pixels; 0 if unset.
        fps: frames per second, for the model and the video file.
        model: tiny (embedded), a folder in diffusers layout, or a hub id; preview asks it for its size only.
        quiet: print nothing but errors.
    """

    trajectory: TrajectoryOptions = field(default_factory=TrajectoryOptions)
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    hole_radius: int | None = None
    fps: int = 7
    model: str = "tiny"
    quiet: bool = False


@dataclass
class PreviewConfig(InputConfig):
    """Show what a camera move will see of the pictures, and what is wrong with it; no model is loaded.

    Args:
        out: folder for warps.mp4, sheet.png, path.png and preview.json.
    """

    out: str = "out/preview"
