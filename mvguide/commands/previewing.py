"""``mvguide preview``."""

import sys

from mvguide.backbones.native_size import read_native_size
from mvguide.backbones.pretrained import find_model
from mvguide.commands.speaking import JobBar, Say, at_least_one, size_of, speaker
from mvguide.config.input_options import InputConfig, PreviewConfig
from mvguide.files.atomic import claim_folder
from mvguide.geometry.camera import Camera
from mvguide.inputs.loading import Inputs, load_inputs
from mvguide.pipeline.prepare import WarpedPath, warp_path
from mvguide.pipeline.preview import Preview, write_preview


def preview(config: PreviewConfig) -> Preview:
    """Warp along the path, judge it, and write the preview folder."""
    bar = JobBar({"reading": 2, "warping": 7}, config.quiet)
    try:
        with claim_folder(config.out):
            return _preview(config, speaker(config.quiet), bar)
    finally:
        bar.close()


def _preview(config: PreviewConfig, say: Say, bar: JobBar) -> Preview:
    fps = at_least_one("fps", config.fps)
    inputs, trajectory, size = _read(config, bar, say)
    bar.begin("warping")
    found = write_preview(
        config.out,
        inputs.views,
        trajectory,
        size,
        moments=inputs.moments(len(trajectory)),
        hole_radius=config.hole_radius or 0,
        fps=fps,
    )
    speaker(config.quiet, sys.stdout)(found.text())
    say(f"wrote {config.out}/: warps.mp4, sheet.png, path.png (the cameras from above) and preview.json")
    return found


def read_path(config: InputConfig, bar: JobBar, say: Say) -> tuple[Inputs, WarpedPath]:
    """The inputs, and their warps along the path; the stages "reading" and "warping" of a bar."""
    inputs, trajectory, size = _read(config, bar, say)
    bar.begin("warping")
    moments = inputs.moments(len(trajectory))
    path = warp_path(inputs.views, trajectory, size, moments=moments, hole_radius=config.hole_radius or 0)
    return inputs, path


def _read(config: InputConfig, bar: JobBar, say: Say) -> tuple[Inputs, Camera, tuple[int, int]]:
    """The inputs, the cameras, and the video's (width, height)."""
    bar.begin("reading")
    inputs = load_inputs(config, say)
    for view in inputs.views:
        view.require_depth()
    native = read_native_size(find_model(config.model))
    num_frames = native.frames if config.num_frames is None else config.num_frames
    trajectory = inputs.trajectory(config.trajectory, num_frames)
    size = size_of(config) or native.default_size(trajectory.width, trajectory.height)
    return inputs, trajectory, size
