"""Settings of ``mvguide studio``."""

from dataclasses import dataclass

from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.config.render_options import ModelOptions


@dataclass
class StudioConfig(AccelerationOptions, ModelOptions):
    """Serve mvguide to the browser of this machine: images, paths, renders and their results.

    Args:
        model: tiny (embedded), a folder in diffusers layout, or a hub id.
        depth_model: depth model for images without depth, a folder or hub id; unset =
            depth-anything/Depth-Anything-V2-Small-hf.
        out: folder for the results; everybody who opens the studio has a folder of their own in it.
        port: of the server, on 127.0.0.1 alone; 0 takes a free one.
        most_mib: largest upload, MiB; the files that one visitor keeps may be four times as large.
        most_megapixels: largest image, million pixels.
        most_frames: longest video, as input and as result.
        quiet: print nothing but errors.
    """

    model: str = "tiny"
    depth_model: str | None = None
    out: str = "out/studio"
    port: int = 7860
    most_mib: int = 256
    most_megapixels: float = 50.0
    most_frames: int = 200
    quiet: bool = False
