"""``mvguide preview``. Heavy libraries are imported inside, when the command runs."""

import sys
from typing import TYPE_CHECKING

from mvguide.commands.speaking import at_least_one, size_of, speaker
from mvguide.config import PreviewConfig
from mvguide.files.atomic import check_writable

if TYPE_CHECKING:
    from mvguide.pipeline.preview import Preview


def preview(config: PreviewConfig) -> "Preview":
    """Warp along the path, judge it, and write the preview folder."""
    check_writable(config.out, folder=True)
    say = speaker(config.quiet)
    from mvguide.backbones.loading import find_model
    from mvguide.backbones.native_size import read_native_size
    from mvguide.inputs import load_inputs, with_scene
    from mvguide.pipeline.preview import preview as make_preview

    config = with_scene(config)
    inputs = load_inputs(config, say)
    for view in inputs.views:
        view.require_depth()
    model = read_native_size(find_model(config.model))
    num_frames = model.frames if config.num_frames is None else config.num_frames
    trajectory = inputs.trajectory(config.trajectory, num_frames)
    size = size_of(config) or model.default_size(trajectory.width, trajectory.height)
    found = make_preview(
        inputs.views, trajectory, size, moments=inputs.moments(num_frames), hole_radius=config.hole_radius or 0
    )
    found.save(config.out, fps=at_least_one("fps", config.fps))
    speaker(config.quiet, sys.stdout)(found.text())
    say(f"wrote {config.out}/: warps.mp4, sheet.png, path.png (the cameras from above) and preview.json")
    return found
