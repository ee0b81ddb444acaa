"""``mvguide preview``."""

import sys

from mvguide.backbones.native_size import read_native_size
from mvguide.backbones.pretrained import find_model
from mvguide.commands.speaking import JobBar, Say, at_least_one, size_of, speaker
from mvguide.config.input_options import InputConfig, PreviewConfig
from mvguide.files.atomic import claim_folder
from mvguide.inputs.loading import Inputs, load_inputs
from mvguide.pipeline import preview as previews
from mvguide.pipeline.prepare import WarpedPath, warp_path


def preview(config: PreviewConfig) -> previews.Preview:
    """Warp along the path, judge it, and write the preview folder."""
    bar = JobBar({"reading": 2, "warping": 3, "judging": 1, "writing": 3}, config.quiet)
    try:
        with claim_folder(config.out):
            return _preview(config, speaker(config.quiet), bar)
    finally:
        bar.close()


def _preview(config: PreviewConfig, say: Say, bar: JobBar) -> previews.Preview:
    fps = at_least_one("fps", config.fps)
    _, path = read_path(config, bar, say)
    bar.begin("judging")
    found = previews.preview(path)
    bar.begin("writing")
    found.save(config.out, fps=fps)
    speaker(config.quiet, sys.stdout)(found.text())
    say(f"wrote {config.out}/: warps.mp4, sheet.png, path.png (the cameras from above) and preview.json")
    return found


def read_path(config: InputConfig, bar: JobBar, say: Say) -> tuple[Inputs, WarpedPath]:
    """The inputs, and their warps along the path; the stages "reading" and "warping" of a bar."""
    bar.begin("reading")
    inputs = load_inputs(config, say)
    for view in inputs.views:
        view.require_depth()
    native = read_native_size(find_model(config.model))
    num_frames = native.frames if config.num_frames is None else config.num_frames
    trajectory = inputs.trajectory(config.trajectory, num_frames)
    size = size_of(config) or native.default_size(trajectory.width, trajectory.height)
    bar.begin("warping")
    moments = inputs.moments(num_frames)
    path = warp_path(inputs.views, trajectory, size, moments=moments, hole_radius=config.hole_radius or 0)
    return inputs, path
