"""Settings of ``mvguide view``."""

from dataclasses import dataclass

from mvguide.config.input_options import InputConfig


@dataclass
class ViewConfig(InputConfig):
    """Look at a scene and its camera path, or at a result, in the browser; place key cameras for a path of your own.

    Args:
        scene: a result folder, or what is to be rendered: a scene file, the name of a packaged scene, or a folder of
            posed images (nerfstudio, COLMAP). The options of preview take its place or add to it.
        out: camera file that the path through the key cameras is saved to; one that was saved before is gone on with.
        points: points to show, at most.
        port: of 127.0.0.1 to show the page at, or the next one that is free.
    """

    out: str = "out/path.json"
    points: int = 200_000
    port: int = 8080
