"""The viewer: cameras, points and frames of a path in the browser."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from torch import Tensor

from mvguide.drawing.error_pictures import BRIGHTEST, heat
from mvguide.errors import MvguideError
from mvguide.viewer.key_panel import KeyPanel
from mvguide.viewer.keys import KeyCameras
from mvguide.viewer.nodes import BLUE, OF_VIEW, ORANGE, draw_frustum, draw_line, look_through, move_node, pixels_of
from mvguide.viewer.server import start_server, stop_server
from mvguide.viewer.shown import Shown

_MOST_FRUSTA = 200
"""Of a longer path so many cameras are drawn, spread evenly."""
_OF_VIEW, _OF_KEY, _OF_PATH = 0.16, 0.1, 0.06
"""Depth of the frusta of views, key cameras and the path, in the scene's usual depth."""


class Viewer:
    """A window in the browser; several windows show the same.

    Args:
        shown: scene, path and frames.
        keys: key cameras of a new path.
        out: camera file that they are saved to.
        port: to listen at, or the next one that is free; 0 for any.

    Raises:
        ConfigError: viser is not installed.
        OutputError: no port can be listened at.
    """

    def __init__(self, shown: Shown, keys: KeyCameras, out: str | Path, port: int = 8080) -> None:
        self.shown, self.lock = shown, RLock()
        self.depth = _usual_depth(shown)
        self.server = start_server(port, f"mvguide view: {shown.title}")
        self._draw_scene()
        self._add_frame_panel()
        self.keys = KeyPanel(self.server, keys, out, self.depth * _OF_KEY, self.guarded)
        self._add_scene_panel()
        self.show_frame()

    @property
    def address(self) -> str:
        """Where the window is."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def close(self) -> None:
        """Stop listening."""
        stop_server(self.server)

    def guarded(self, action: Callable[[Any], None]) -> Callable[[Any], None]:
        """An action of the panel, one at a time; what a user can fix is said in the browser."""

        @functools.wraps(action)
        def act(event: Any) -> None:
            with self.lock:
                try:
                    action(event)
                except MvguideError as error:
                    if event.client is None:  # not of the browser
                        raise
                    event.client.add_notification("This cannot be done", str(error), color="red")

        return act

    def show_frame(self) -> None:
        """Show the frame of the slider, in the scene and beside it."""
        number = self.slider.value
        move_node(self.frame, self.shown.trajectory[number])
        if self.shown.frames:
            picture = pixels_of(self.shown.frames[self.what.value][number])
            self.image.image = picture
            self.frame.image = picture if self.in_scene.value else None

    def colour_points(self) -> None:
        """Colour the points by the image, or by what is known of them."""
        kind = self.colours.value
        if self.points is not None:
            share = self.shown.point_shares.get(kind)
            self.points.colors = _bytes(self.shown.colours if share is None else _heat_colours(share))

    def _draw_scene(self) -> None:
        server, shown, start = self.server, self.shown, self.shown.start
        centre, forward = start.center.numpy(), start.forward.numpy()
        up = -start.camera_to_world[:3, 1].numpy()
        server.scene.set_up_direction(up)
        camera = server.initial_camera
        camera.position = centre + self.depth * (0.3 * up - 0.6 * forward)
        camera.look_at, camera.up = centre + self.depth * forward, up
        camera.near, camera.far = 1e-3 * self.depth, 1e3 * self.depth
        self.views = [
            draw_frustum(
                server, f"/views/{k}", one.camera, ORANGE, self.depth * _OF_VIEW, pixels_of(one.image, OF_VIEW)
            )
            for k, one in enumerate(shown.views)
        ]
        numbers = np.unique(np.linspace(0, len(shown.trajectory) - 1, _MOST_FRUSTA).round().astype(int)).tolist()
        self.path = [
            draw_frustum(server, f"/path/{k}", shown.trajectory[k], BLUE, self.depth * _OF_PATH) for k in numbers
        ]
        self.line = draw_line(server, "/path/line", shown.trajectory, BLUE) if len(shown.trajectory) > 1 else None
        self.frame = draw_frustum(server, "/frame", shown.trajectory[0], BLUE, self.depth * _OF_VIEW)
        self.points: Any = None
        if len(shown.points):
            # As wide as a view at the usual depth, over the points of a row.
            size = self.depth * start.width / float(start.intrinsics[0, 0])
            size /= math.sqrt(len(shown.points) / max(1, len(shown.views)))
            self.points = server.scene.add_point_cloud(
                "/points",
                shown.points.float().numpy(),
                _bytes(shown.colours),
                point_size=size,
                point_shading="flat",
                precision="float32",
            )

    def _add_frame_panel(self) -> None:
        gui, shown = self.server.gui, self.shown
        with gui.add_folder("Frame"):
            self.slider = gui.add_slider("frame", 0, len(shown.trajectory) - 1, 1, 0)
            self.what = gui.add_dropdown("image", tuple(shown.frames) or ("none",), disabled=not shown.frames)
            self.image = gui.add_image(np.zeros((1, 1, 3), np.uint8), jpeg_quality=90, visible=bool(shown.frames))
            self.in_scene = gui.add_checkbox("image in the scene", True, disabled=not shown.frames)
            through = gui.add_button("Look through this frame")
        for control in (self.slider, self.what, self.in_scene):
            control.on_update(self.guarded(lambda _: self.show_frame()))
        through.on_click(self.guarded(lambda event: look_through(event.client, shown.trajectory[self.slider.value])))

    def _add_scene_panel(self) -> None:
        gui = self.server.gui
        with gui.add_folder("Scene"):
            self.colours = gui.add_dropdown("color of points", ("image", *self.shown.share_names))
            size = gui.add_slider("size of points", 0.2, 5.0, 0.1, 1.0)
            layers = {"views": self.views, "path": [*self.path, self.line], "points": [self.points]}
            boxes = [gui.add_checkbox(name, True) for name in layers]
        if self.shown.problems:
            with gui.add_folder("Problems of the path"):
                gui.add_markdown("\n".join(f"* {problem}" for problem in self.shown.problems))
        self.colours.on_update(self.guarded(lambda _: self.colour_points()))
        for box, nodes in zip(boxes, layers.values(), strict=True):
            box.on_update(self.guarded(functools.partial(_set_visible, nodes)))
        if self.points is not None:
            whole = self.points.point_size
            size.on_update(self.guarded(lambda event: setattr(self.points, "point_size", whole * event.target.value)))


def _set_visible(nodes: list[Any], event: Any) -> None:
    for node in filter(None, nodes):
        node.visible = event.target.value


def _usual_depth(shown: Shown) -> float:
    """Median depth of the points that the path's start sees; of a scene without points, the length of the path."""
    _, z = shown.start.project(shown.points.double())
    ahead = z[z > 0]
    if len(ahead):
        return float(ahead.median())
    centres = shown.trajectory.center
    return float((centres.amax(0) - centres.amin(0)).norm()) or 1.0


def _heat_colours(share: Tensor) -> Tensor:
    """``[N]`` in [0, 1] as colours ``[N, 3]``: 0 is black, 1 pale yellow."""
    return heat(BRIGHTEST * share[None, None])[:, 0].T


def _bytes(colours: Tensor) -> np.ndarray:
    return (colours.clamp(0, 1) * 255).round().byte().numpy()
