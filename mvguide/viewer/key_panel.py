"""The part of the viewer that places key cameras, and saves the path through them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from mvguide.viewer.keys import KeyCameras
from mvguide.viewer.nodes import GREEN, draw_frustum, draw_line, look_through, move_node, pose_of

Guarded = Callable[[Callable[[Any], None]], Callable[[Any], None]]
"""Makes an action of the panel run alone, and say what cannot be done."""


class KeyPanel:
    """Key cameras in the scene, the chosen one with handles to drag it by, and their buttons.

    Args:
        server: of viser.
        keys: the cameras.
        out: camera file that they are saved to.
        depth: of their frusta.
        guarded: wraps every action.
    """

    def __init__(self, server: Any, keys: KeyCameras, out: str | Path, depth: float, guarded: Guarded) -> None:
        self.server, self.keys, self.out, self.depth = server, keys, Path(out), depth
        gui = server.gui
        self.frusta: list[Any] = []
        self.line: Any = None
        with gui.add_folder("Key cameras"):
            self.said = gui.add_markdown("")
            self.key = gui.add_dropdown("key camera", _numbers(keys))
            add = gui.add_button("Add where I look from")
            here = gui.add_button("Move to where I look from")
            through = gui.add_button("Look through")
            delete = gui.add_button("Delete")
            self.smooth = gui.add_checkbox("smooth path", True)
            save = gui.add_button("Save the path")
        self.handles = server.scene.add_transform_controls("/key_handles", scale=0.8 * depth, depth_test=False)
        # In the order of the drag: callbacks of threads may overtake each other.
        drag = guarded(lambda _: self.move(pose_of(self.handles)))

        async def dragged(event: Any) -> None:
            drag(event)

        self.handles.on_update(dragged)
        self.key.on_update(guarded(lambda _: self.draw()))
        self.smooth.on_update(guarded(lambda _: self.draw()))
        add.on_click(guarded(lambda event: self.add(pose_of(event.client.camera))))
        here.on_click(guarded(lambda event: self.move(pose_of(event.client.camera), draw=True)))
        through.on_click(guarded(lambda event: look_through(event.client, keys.cameras[self.chosen])))
        delete.on_click(guarded(lambda _: self.delete()))
        save.on_click(guarded(lambda _: self.save()))
        self.say("Add cameras where the path should go, then save it.")
        self.draw()

    @property
    def chosen(self) -> int:
        """Number of the key that the buttons and handles are for."""
        return int(self.key.value)

    def say(self, text: str) -> None:
        """Show a sentence above the buttons."""
        self.said.content = text

    def add(self, camera_to_world: Tensor) -> None:
        """Put a key at the end, and choose it. Raises InputError when there are too many."""
        self._choose(self.keys.add(camera_to_world))

    def move(self, camera_to_world: Tensor, *, draw: bool = False) -> None:
        """Put the chosen key elsewhere; ``draw`` its handles there too. Raises InputError for one that is fixed."""
        self.keys.move(self.chosen, camera_to_world)
        move_node(self.frusta[self.chosen], self.keys.cameras[self.chosen])
        if draw:
            move_node(self.handles, self.keys.cameras[self.chosen])
        self._draw_line()

    def delete(self) -> None:
        """Remove the chosen key. Raises InputError for one that must stay."""
        self.keys.delete(self.chosen)
        self._choose(min(self.chosen, len(self.keys) - 1))

    def save(self) -> None:
        """Write the path through the keys. Raises InputError for a single key."""
        found = self.keys.save(self.out, smooth=self.smooth.value)
        self.say(
            f"Saved {len(self.keys)} key cameras as a path of {len(found)} frames. Render it with the inputs of this "
            f"scene and `--trajectory.kind file --trajectory.file {self.out}`."
        )

    def draw(self) -> None:
        """Draw all keys, the path through them, and the handles of the chosen one."""
        for frustum in self.frusta:
            frustum.remove()
        self.frusta = [
            draw_frustum(self.server, f"/keys/{number}", camera, GREEN, self.depth)
            for number, camera in enumerate(self.keys.cameras)
        ]
        move_node(self.handles, self.keys.cameras[self.chosen])
        self.handles.visible = not (self.keys.fixed and self.chosen == 0)
        self._draw_line()

    def _choose(self, number: int) -> None:
        before, self.key.options = self.key.value, _numbers(self.keys)
        self.key.value = str(number)  # draws, where it changes
        if self.key.value == before:
            self.draw()

    def _draw_line(self) -> None:
        if self.line is not None:
            self.line.remove()
            self.line = None
        if len(self.keys) > 1:
            path = self.keys.trajectory(smooth=self.smooth.value)
            self.line = draw_line(self.server, "/keys/line", path, GREEN)


def _numbers(keys: KeyCameras) -> tuple[str, ...]:
    return tuple(map(str, range(len(keys))))
