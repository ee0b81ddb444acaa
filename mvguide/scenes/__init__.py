"""Example scenes that come with mvguide: an image, its exact depth, a camera path and the true video."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mvguide.errors import InputError

if TYPE_CHECKING:
    from mvguide.geometry.camera import Camera
    from mvguide.views.view import View

DEFAULT_SCENE = "marbles"


@dataclass(frozen=True)
class ExampleScene:
    """Files of one scene.

    Args:
        folder: holds ``image.png``, ``depth.png`` (16 bit), ``cameras.json`` (nerfstudio layout) and ``truth.mp4``.
    """

    folder: Path

    @property
    def image(self) -> Path:
        """First frame, 256 x 256."""
        return self.folder / "image.png"

    @property
    def depth(self) -> Path:
        """Its depth, 16-bit PNG."""
        return self.folder / "depth.png"

    @property
    def cameras(self) -> Path:
        """Cameras of all frames."""
        return self.folder / "cameras.json"

    @property
    def settings(self) -> Path:
        """Scene file with all of it."""
        return self.folder.with_suffix(".yaml")

    @property
    def truth(self) -> Path:
        """The true video, 128 x 128."""
        return self.folder / "truth.mp4"

    @property
    def depth_unit(self) -> float:
        """Metres for one unit of the depth file."""
        return float(json.loads(self.cameras.read_text())["depth_unit_scale_factor"])

    @property
    def intrinsics(self) -> list[float]:
        """(fx, fy, cx, cy) of the image, in pixels."""
        notes = json.loads(self.cameras.read_text())
        return [float(notes[name]) for name in ("fl_x", "fl_y", "cx", "cy")]

    def load(self, num_frames: int) -> "tuple[View, Camera]":
        """The view, and the scene's own camera path at a number of frames."""
        from mvguide.cameras.transforms import read_transforms
        from mvguide.geometry.keyframes import resample_trajectory, start_at
        from mvguide.views.view import View

        view = View.from_files(
            self.image, self.depth, depth_unit=self.depth_unit, depth_kind="depth", intrinsics=self.intrinsics
        )
        return view, start_at(resample_trajectory(read_transforms(self.cameras).cameras, num_frames), view.camera)


def packaged_scenes() -> dict[str, ExampleScene]:
    """All scenes by name."""
    root = Path(str(files("mvguide"))) / "scenes"
    return {path.parent.name: ExampleScene(path.parent) for path in sorted(root.glob("*/cameras.json"))}


def packaged_scene(name: str = DEFAULT_SCENE) -> ExampleScene:
    """A scene by name. Raises InputError for an unknown one."""
    found = packaged_scenes()
    if name not in found:
        raise InputError(f"scene {name!r} does not come with mvguide; choose one of {', '.join(found)}")
    return found[name]
