"""``mvguide view``."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mvguide.cameras.formats import find_formats
from mvguide.commands.previewing import read_path
from mvguide.commands.speaking import JobBar, Say, at_least_one, speaker
from mvguide.config.parsing import SOURCES
from mvguide.config.view_options import ViewConfig
from mvguide.decoding import is_file, is_folder
from mvguide.errors import FileError, InputError
from mvguide.evaluation.report import read_evaluation
from mvguide.files.atomic import check_writable
from mvguide.files.stopping import Stopped
from mvguide.pipeline import preview as previews
from mvguide.pipeline.latents import LATENTS
from mvguide.viewer.keys import KeyCameras
from mvguide.viewer.server import load_viser
from mvguide.viewer.shown import Shown, is_result, read_shown, show_path
from mvguide.viewer.window import Viewer
from mvguide.views.view import fit_camera

_TAKEN = "a result folder, a scene file, the name of a packaged scene, or a folder of posed images"


def view(config: ViewConfig) -> None:
    """Show the page until the user stops it."""
    with open_viewer(config) as viewer:
        try:
            speaker(config.quiet)(f"open {viewer.address} in a browser; Ctrl-C ends it")
            while True:
                time.sleep(1)
        except Stopped:
            raise
        except KeyboardInterrupt:  # the ordinary end
            pass


@contextmanager
def open_viewer(config: ViewConfig) -> Iterator[Viewer]:
    """Read what is to be shown, and show it until the block ends."""
    load_viser()  # before the long part
    at_least_one("points", config.points)
    if not 0 <= config.port <= 65535:
        raise InputError(f"port is {config.port}; give a number from 1 to 65535, or 0 for any that is free")
    check_writable(config.out)
    bar = JobBar({"reading": 2, "warping": 3, "judging": 1}, config.quiet)
    try:
        shown = _shown(config, bar, speaker(config.quiet))
    finally:
        bar.close()
    keys = KeyCameras(shown.start, len(shown.trajectory), fixed=not shown.posed)
    if is_file(Path(config.out)):
        keys.load(config.out)
    viewer = Viewer(shown, keys, config.out, config.port)
    try:
        yield viewer
    finally:
        viewer.close()


def _shown(config: ViewConfig, bar: JobBar, say: Say) -> Shown:
    """A result, or a path before it is rendered."""
    if config.scene is not None:
        place = Path(config.scene)
        if is_file(place / "evaluation.json"):
            place = place / str(read_evaluation(place)["result"])
        if is_result(place):
            return read_shown(place, config.points)
        _check_scene(config)
    elif not any(getattr(config, name) for name in SOURCES):
        raise InputError(f"nothing to view was given; give {_TAKEN}, or an image with --image and --depth")
    inputs, path = read_path(config, bar, say)
    bar.begin("judging")
    found = previews.preview(path)
    start = fit_camera(inputs.start.camera, path.trajectory.width, path.trajectory.height)
    title = Path(config.scene).name if config.scene is not None else inputs.start.name
    return show_path(path, start, posed=inputs.posed, count=config.points, title=title, problems=found.warnings)


def _check_scene(config: ViewConfig) -> None:
    """Raise FileError for a path that is nothing that can be viewed."""
    place = Path(str(config.scene))
    if config.cameras != config.scene:  # a scene file, which was read
        return
    if not is_file(place) and not is_folder(place):
        raise FileError(f"{config.scene} does not exist; give {_TAKEN}")
    if is_folder(place) and config.camera_format is None:
        try:
            find_formats(place)
        except FileError:
            raise FileError(
                f"folder {config.scene} is no result (it has no report.json, warps/ or {LATENTS}), and holds no camera "
                f"file that is known by name; give {_TAKEN}"
            ) from None
