"""Input images and the camera path: the settings of every command that reads images.

The records are those of :func:`mvguide.load_views`. A command's settings are all of them at once. ``heading`` is where
``--help`` and the reference list the options of a record (:mod:`mvguide.config.manual`).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mvguide.config.generated import options_of
from mvguide.geometry.trajectory import TRAJECTORIES


@options_of(TRAJECTORIES, kinds=("views", "still", "file"), skip=("camera", "num_frames", "target_depth"))
@dataclass
class TrajectoryOptions:
    """Camera path. Lengths are shares of the target depth, angles degrees; unset values take the kind's default.

    Args:
        kind: kind of the camera path; if unset, views for several posed images, still for a video that is not stopped,
            else orbit. orbit, ellipse and spiral move around the point at target_depth; dolly, truck and pedestal move
            straight; pan, tilt, roll and zoom stay in place; views runs from view to view; still does not move; file
            follows a camera file.
        file: camera file to follow, in any format that --cameras reads. Where the images have cameras of their own it
            is in their world; else the path is moved so that it starts at the image.
        target_depth: depth of the point on the optical axis that the path is measured by; the median depth if unset.
    """

    heading: ClassVar[str] = "path"

    kind: str | None = None
    file: str | None = None
    target_depth: float | None = None

    def params(self) -> dict[str, Any]:
        """Parameters of the kind that were set."""
        common = ("kind", "file", "target_depth")
        return {name: value for name, value in vars(self).items() if name not in common and value is not None}


@dataclass
class ViewOptions:
    """One of several images.

    Args:
        image: image file.
        depth: depth map of the image.
        fov: horizontal field of view in degrees.
        intrinsics: fx, fy, cx, cy in pixels of the image, instead of fov.
        camera_to_world: 4 x 4 matrix, rows; OpenCV axes (x right, y down, z forward).
    """

    image: str
    depth: str | None = None
    fov: float | None = None
    intrinsics: list[float] | None = None
    camera_to_world: list[list[float]] | None = None


@dataclass
class SourceOptions:
    """Where the images and their cameras are.

    Args:
        scene: scene file (YAML with these settings; its paths start at its folder) or name of a packaged scene; a
            nerfstudio or COLMAP folder is read as with --cameras.
        image: one image (any format that Pillow reads; grey, RGBA, 16-bit and rotated ones come out right).
        views: several images of a still scene, each with its camera: image, depth, fov or intrinsics,
            camera_to_world.
        cameras: camera file or folder that names the images (transforms.json, COLMAP, LLFF, MVSNet, 7-Scenes) or
            holds their cameras in order (.log, TUM, KITTI), then with --images.
        images: folder of the images of a camera file, where that does not name them or they are elsewhere: paired by
            name, or by order where no name is the same.
        use: images of the camera file, or of views, that are the input views, by name or number from 0; all by default.
        video: one video, or a folder of its frames, with a depth map for each frame.
        moment: frame of the video at which time stops (negative: from the end), while the camera moves.
        fill: number of neighbouring frames of the video, on each side, that fill holes where nothing moved.
    """

    heading: ClassVar[str] = "inputs"

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
        depth: depth map (.npy, .npz, .pfm, .png, .tif, .exr); for several images a folder, or a path with {stem} in
            place of the image's name.
        depth_unit: scene units for one stored unit, such as 0.001 for millimetres.
        depth_offset: number added to the depth after depth_unit.
        depth_kind: kind of the stored values, depth or disparity (inverse depth); if unset, depth, which is refused
            where it looks inverse.
        depth_invalid: stored value that means "no data", besides 0.
        depth_baseline: distance of the two cameras of stereo disparity, in scene units.
        depth_focal: focal length of stereo disparity, in pixels of the disparity map.
        background: part of the image that is infinitely far, and is warped along rather than left a hole: white or
            another colour as '#rrggbb' (where no file gives depth), alpha (what is transparent), or far (all that has
            no depth).
    """

    heading: ClassVar[str] = "depth"

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
    """Depth of every image: from files, or made where these are missing, and brought to the scale of the cameras.

    Args:
        depth_source: source of depth that --depth and the camera file do not give: auto (a depth model that is on this
            machine, else a plane sweep of posed images), file (none), model or sweep.
        depth_model: depth model, a folder or hub id; depth-anything/Depth-Anything-V2-Small-hf if unset.
        depth_align: source of the scale of estimated and relative depth: auto (the first of these that is there),
            points (the camera file's sparse points), bounds (LLFF's), view (depth of another posed image), sweep (a
            plane sweep of posed images), or none.
        depth_center: distance that the middle of the image is scaled to, in scene units.
    """

    heading: ClassVar[str] = "depth"

    depth_source: str = "auto"
    depth_model: str | None = None
    depth_align: Literal["auto", "points", "bounds", "view", "sweep", "none"] = "auto"
    depth_center: float | None = None


@dataclass
class LensOptions:
    """Field of view or intrinsics of the images, where no camera file has them.

    Args:
        fov: horizontal field of view in degrees; 60 if intrinsics are not given either.
        intrinsics: fx, fy, cx, cy in pixels of the image, instead of fov.
        pixel_center: position of the first pixel's centre in the given cx, cy: 0.5 (COLMAP, nerfstudio), 0.0 (OpenCV).
        camera_size: width and height that the intrinsics of the camera file are for, where the image has another size.
        camera_format: format of the camera file, where its name and content do not show it: transforms, colmap, llff,
            matrices, mvsnet, log, tum or rows (12 or 16 numbers a line, as KITTI has them).
    """

    heading: ClassVar[str] = "cameras"

    fov: float | None = None
    intrinsics: list[float] | None = None
    pixel_center: float = 0.5
    camera_size: list[int] | None = None
    camera_format: str | None = None


@dataclass
class CropOptions:
    """Resizing and cropping of every image, before anything else.

    Args:
        resize: width and height that every image is brought to first, its camera and depth with it.
        crop: left, top, width and height of the part that is cut out of every image after that, its camera and depth
            with it.
        already_cropped: resize and crop the images alone, because cameras and depths are of the cropped image already
            (as DTU's are).
    """

    heading: ClassVar[str] = "inputs"

    resize: list[int] | None = None
    crop: list[int] | None = None
    already_cropped: bool = False


@dataclass
class VideoOptions:
    """The video that is written: length, size and speed.

    Args:
        num_frames: number of frames of the video; the model's own if unset.
        width: width of the video in pixels; the model's own size, in the image's shape, if unset.
        height: height of the video in pixels, given together with width.
        fps: frames per second, for the model and the video file.
        quiet: print nothing but errors.
    """

    heading: ClassVar[str] = "output"

    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: int = 7
    quiet: bool = False


@dataclass
class HoleOptions:
    """Holes of the warps, which nothing guides.

    Args:
        hole_radius: number of pixels that holes are grown by; 0 if unset.
    """

    heading: ClassVar[str] = "guidance"

    hole_radius: int | None = None


@dataclass
class InputConfig(VideoOptions, HoleOptions, LensOptions, DepthOptions, CropOptions, SourceOptions):
    """Input images, the camera path, and the size of the video.

    Args:
        trajectory: camera path.
        model: video diffusion model: tiny (embedded), a folder in diffusers layout, or a hub id; preview asks it for
            its size only.
    """

    heading: ClassVar[str] = "model"

    trajectory: TrajectoryOptions = field(default_factory=TrajectoryOptions)
    model: str = "tiny"


@dataclass
class PreviewConfig(InputConfig):
    """Show what a camera move will see of the images, and list problems and how to fix them; no model is loaded.

    Args:
        out: folder for warps.mp4, sheet.png, path.png and preview.json.
    """

    heading: ClassVar[str] = "output"
    first: ClassVar[str] = "image cameras video depth fov trajectory.kind trajectory.degrees num_frames model out"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide preview --image photo.jpg --depth depth.npy --trajectory orbit --trajectory.degrees 10",
        "mvguide preview --cameras transforms.json --trajectory views --out out/look",
        "mvguide preview --scene two_views",
    )

    out: str = "out/preview"
