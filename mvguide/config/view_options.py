"""Settings of ``mvguide view``."""

from dataclasses import dataclass
from typing import ClassVar

from mvguide.config.input_options import InputConfig


@dataclass
class ViewConfig(InputConfig):
    """Look at a scene and its camera path, or at a result, in the browser; place key cameras for a path of your own.

    Args:
        scene: result folder, or what is to be rendered: a scene file, the name of a packaged scene, or a folder of
            posed images (nerfstudio, COLMAP). The options of preview take its place or add to it.
        out: camera file that the path through the key cameras is saved to; one that was saved before is opened again.
        points: largest number of points to show.
        port: port of 127.0.0.1 for the page, or else the next one that is free.
    """

    heading: ClassVar[str] = "output"
    first: ClassVar[str] = "image cameras video depth fov trajectory.kind trajectory.degrees num_frames out port"
    examples: ClassVar[tuple[str, ...]] = (
        "mvguide view out/render",
        "mvguide view two_views",
        "mvguide view --image photo.jpg --depth depth.npy --trajectory orbit --out out/path.json",
    )

    out: str = "out/path.json"
    points: int = 200_000
    port: int = 8080
