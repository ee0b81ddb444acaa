"""What happens when something on the studio's page is used. What belongs to a page is given to it each time."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gradio as gr

from mvguide.config.command_line import command_line
from mvguide.config.parsing import packaged_scene_files
from mvguide.config.python_lines import python_lines
from mvguide.config.render_options import RenderConfig
from mvguide.decoding import reading_only
from mvguide.errors import InputError
from mvguide.geometry.trajectory import TRAJECTORIES
from mvguide.pipeline.pipeline import DEFAULT_STEPS
from mvguide.scenes import DEFAULT_SCENE
from mvguide.studio import panels
from mvguide.studio.guard import COOKIE, RESULTS, is_result, visitor_of
from mvguide.studio.intake import check_files, check_size, clean_name, source_settings, take_in
from mvguide.studio.jobs import Render, Renders
from mvguide.studio.looking import SIZES, Loaded, Studio, judge, look

FIRST = {"scene": str(packaged_scene_files()[DEFAULT_SCENE])}
"""The inputs of a page that was just opened."""

CHOSEN = ("depth_source", "depth_kind", "depth_unit", "fov", "kind", "size", "num_frames", "steps", "seed", "prompt")
"""What a visitor chooses besides the inputs, in the order in which the page gives it."""


WORDS = {kind: kind for kind in SIZES} | {
    "views": "views: through all images",
    "still": "still: no move",
    "file": "file: the cameras that come with the inputs",
}
"""Kinds of path, and how the page calls them."""


class Desk:
    """The handlers of the page; each takes the request first, and returns the new values of components.

    Args:
        studio: what all visitors share.
        renders: the queue.
    """

    def __init__(self, studio: Studio, renders: Renders) -> None:
        self.studio, self.renders = studio, renders

    def folder(self, request: gr.Request) -> Path:
        """The visitor's folder. Raises InputError without their cookie."""
        visitor = visitor_of(str(request.cookies.get(COOKIE, "")))
        if visitor is None:
            raise InputError("this browser keeps no cookie of the studio; allow cookies and open the page again")
        return self.studio.out / visitor

    def take(self, request: gr.Request, files: Any, depth: Any) -> list[Any]:
        """Settings of uploaded files, which are put into the visitor's folder; the example is no longer chosen."""
        place, limits = self.folder(request) / "inputs", self.studio.config
        if not files:
            return [dict(FIRST), gr.update(value=DEFAULT_SCENE)]
        taken = take_in(_listed(files), place, limits)
        maps = take_in(_listed(depth), place, limits) if depth else None
        source = source_settings(taken, maps)
        check_files(source, taken, limits)
        if maps is not None:
            check_files({}, maps, limits)
        return [source, gr.update(value=None)]

    def inputs(self, request: gr.Request, source: dict[str, Any], *chosen: Any) -> list[Any]:
        """New inputs: everything on the page follows them. Also the path, which is their own at first."""
        values = dict(zip(CHOSEN, chosen, strict=True)) | {"kind": None, "size": None, "num_frames": None}
        with self._reading(request):
            settings, frames = self.settings(request, source, values)
            loaded = self.studio.load(settings)
            kind = settings.trajectory.kind or loaded.inputs.default_kind(settings.trajectory)
            return [
                panels.inputs_panel(loaded),
                panels.sentences("While reading the inputs:", loaded.notes),
                gr.update(choices=_kinds(loaded, settings), value=kind),
                _slider(kind, settings),
                gr.update(value=frames),
                panels.look_panel(look(loaded, settings, frames)),
                *_words(settings, frames),
            ]

    def path(self, request: gr.Request, source: dict[str, Any], *chosen: Any) -> list[Any]:
        """The warps of three frames, and the words that render the path."""
        with self._reading(request):
            settings, frames = self.settings(request, source, dict(zip(CHOSEN, chosen, strict=True)))
            return [panels.look_panel(look(self.studio.load(settings), settings, frames)), *_words(settings, frames)]

    def judged(self, request: gr.Request, source: dict[str, Any], *chosen: Any) -> list[Any]:
        """What the doctor says of the whole path."""
        with self._reading(request):
            settings, frames = self.settings(request, source, dict(zip(CHOSEN, chosen, strict=True)))
            found = judge(self.studio.load(settings), settings, frames)
        return [panels.sentences("Problems of this path:", found, "No problem was found with this path.")]

    def kind(self, request: gr.Request, source: dict[str, Any], kind: str) -> list[Any]:
        """The slider of another kind of path."""
        with self._reading(request):
            return [_slider(kind, self.studio.base(source))]

    def render(self, request: gr.Request, source: dict[str, Any], *chosen: Any) -> Iterator[list[Any]]:
        """Put a render into the queue, and follow it."""
        with self._reading(request):
            settings, frames = self.settings(request, source, dict(zip(CHOSEN, chosen, strict=True)))
        folder = self.folder(request)
        render = Render(folder.name, settings, frames, self.studio.readable(folder))
        yield from self._follow(request, self.renders.submit(render))

    def again(self, request: gr.Request) -> Iterator[list[Any]]:
        """Follow the render that a visitor left running when the page was closed."""
        yield [gr.skip()] * 6
        render = self.renders.latest(self.folder(request).name)
        if render is not None and not render.over.is_set():
            yield from self._follow(request, render)

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop the visitor's render."""
        self.renders.stop(self.folder(request).name)
        return []

    def history(self, request: gr.Request) -> list[Any]:
        """The visitor's results; the latest is shown."""
        names = self._results(request)
        return [gr.update(choices=names, value=names[0] if names else None), *self.result(request, (names or [""])[0])]

    def result(self, request: gr.Request, name: str) -> list[Any]:
        """A result that was chosen."""
        if name not in self._results(request):
            return [""]
        return [panels.result_panel(self.folder(request) / name, f"{RESULTS}/{name}")]

    def settings(self, request: gr.Request, source: dict[str, Any], chosen: dict[str, Any]) -> tuple[RenderConfig, int]:
        """Settings of a render as the page shows them, and the number of frames.

        Args:
            request: whose they are.
            source: the inputs.
            chosen: values by the names of :data:`CHOSEN`; empty ones are as the inputs say.

        Raises:
            MvguideError: what cannot be used, in the words of the command line.
        """
        base = self.studio.base(source)
        usual = base.num_frames or self.studio.num_frames()
        given = {name: chosen[name] for name in ("depth_kind", "prompt") if chosen[name]}
        given |= {name: _number(text) for name in ("depth_unit", "fov") if (text := chosen[name].strip())}
        if chosen["depth_source"] != base.depth_source:
            given["depth_source"] = chosen["depth_source"]
        for name, normal in {"num_frames": usual, "steps": DEFAULT_STEPS, "seed": 0}.items():
            if chosen[name] is not None and chosen[name] != normal:
                given[name] = int(chosen[name])
        if chosen["kind"]:
            given["trajectory"] = _path(base, chosen["kind"], chosen["size"])
        given["out"] = str(self._next(request, source, chosen["kind"] or base.trajectory.kind or "path"))
        settings = self.studio.settings(source, **given)
        check_size(settings, self.studio.config)
        return settings, settings.num_frames or usual

    def _next(self, request: gr.Request, source: dict[str, Any], kind: str) -> Path:
        """The next free folder of the visitor's results."""
        names = self._results(request)
        number = max((int(name[:4]) for name in names if name[:4].isdecimal()), default=0) + 1
        given = next((str(source[name]) for name in ("scene", "image", "video") if name in source), "views")
        stem = clean_name(Path(given).stem).replace(" ", "_")[:40]
        return self.folder(request) / f"{number:04d}-{stem}-{kind}"

    def _results(self, request: gr.Request) -> list[str]:
        """Names of the visitor's results, the latest first."""
        folder = self.folder(request)
        return sorted((one.name for one in folder.iterdir() if is_result(one)), reverse=True) if folder.is_dir() else []

    def _reading(self, request: gr.Request) -> AbstractContextManager[None]:
        """Context in which nothing is read that is not the visitor's or mvguide's."""
        return reading_only(*self.studio.readable(self.folder(request)))

    def _follow(self, request: gr.Request, render: Render) -> Iterator[list[Any]]:
        for one in self.renders.follow(render):
            going = not one.over.is_set()
            buttons = [gr.update(interactive=not going), gr.update(interactive=going)]
            if one.error:
                yield [panels.problem(one.error), "", *buttons, gr.skip(), gr.skip()]
                return
            bar = panels.bar_panel(one.share, self.renders.words(one), one.estimate, one.frames)
            done = self.history(request) if one.is_kept else [gr.skip(), gr.skip()]
            yield ["", bar, *buttons, *done]


def _listed(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list) else [given]


def _number(text: str) -> float | str:
    """What was typed; what is no number stays, for the settings to refuse in their own words."""
    try:
        return float(text)
    except ValueError:
        return text


def _words(settings: RenderConfig, frames: int) -> list[str]:
    return [command_line("render", settings), python_lines(settings, frames)]


def _path(base: RenderConfig, kind: str, size: float | None) -> dict[str, Any]:
    """Settings of a path; those of the inputs' own path that this kind does not take are unset."""
    takes = inspect.signature(TRAJECTORIES[kind]).parameters if kind in TRAJECTORIES else {}
    given: dict[str, Any] = {name: None for name in base.trajectory.params() if name not in takes}
    if kind in SIZES and size is not None:
        given[SIZES[kind].name] = float(size)
    return {"kind": kind, **given}


def _kinds(loaded: Loaded, settings: RenderConfig) -> list[tuple[str, str]]:
    """Kinds of path that these inputs can have, with the words for them."""
    there = dict(WORDS)
    if settings.trajectory.file is None:
        del there["file"]
    if loaded.inputs.footage is not None or len(loaded.inputs.views) == 1:
        del there["views"]
    return [(words, kind) for kind, words in there.items()]


def _slider(kind: str, settings: RenderConfig) -> Any:
    """The slider of a kind, at the size that the inputs say or that is usual."""
    size = SIZES.get(kind)
    if size is None:
        return gr.update(visible=False)
    said = getattr(settings.trajectory, size.name) if settings.trajectory.kind in (None, kind) else None
    value = size.usual(kind) if said is None else said
    least, most = min(size.least, value), max(size.most, value)
    label = f"Size of the move, {size.name}" + f" ({size.unit})" * bool(size.unit)
    return gr.update(visible=True, label=label, minimum=least, maximum=most, step=size.step, value=value)
