"""The studio's page: its layout, and which handler each part of it calls."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from mvguide.config.parsing import packaged_scene_files
from mvguide.errors import MvguideError
from mvguide.inputs.missing_depth import DEPTH_SOURCES
from mvguide.pipeline.pipeline import DEFAULT_STEPS
from mvguide.scenes import DEFAULT_SCENE
from mvguide.studio.desk import FIRST, WORDS, Desk
from mvguide.studio.jobs import UNEXPECTED
from mvguide.studio.looking import look
from mvguide.studio.panels import inputs_panel, look_panel, problem

_ABOUT = (
    "Move a camera through an image. Choose an example or drop your own files, choose a path and look at what it "
    "shows, then render."
)
_FILES = (
    "An image; several with their camera file; a video; a scene file with what it names; or a folder of these, packed "
    "as a .zip."
)
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(desk: Desk) -> gr.Blocks:
    """The page.

    Args:
        desk: what its parts call.
    """
    limits, usual = desk.studio.config, desk.studio.base(FIRST)
    scenes = {name: str(file) for name, file in packaged_scene_files().items()}
    first = desk.studio.load(usual)  # in the page itself: it is there as soon as the page is
    with gr.Blocks(title="mvguide studio", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        source = gr.State(dict(FIRST))
        gr.HTML(f'<div class="mv"><h1>mvguide studio</h1><p>{_ABOUT}</p></div>')
        gr.HTML('<div class="mv"><h2>1. Inputs</h2></div>')
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                scene = gr.Dropdown([*scenes], value=DEFAULT_SCENE, label="Example scene")
                files = gr.File(label="Your files", file_count="multiple", height=170)
                gr.HTML(f'<div class="mv"><p class="soft">{_FILES} Up to {limits.most_mib} MiB.</p></div>')
                maps = gr.File(label="Depth maps of your files (optional)", file_count="multiple", height=170)
                with gr.Accordion("Depth and lens", open=False):
                    depth_source = gr.Radio(
                        ["auto", "file", *DEPTH_SOURCES],
                        value="auto",
                        label="Depth of images that have none (depth_source)",
                    )
                    depth_kind = gr.Radio(
                        [("as the inputs say", ""), "depth", "disparity"], value="", label="The maps hold (depth_kind)"
                    )
                    depth_unit = gr.Textbox("", label="Scene units for one stored unit (depth_unit)", max_length=40)
                    fov = gr.Textbox("", label="Horizontal field of view in degrees (fov)", max_length=40)
            with gr.Column(scale=3, min_width=280):
                taking_problem = gr.HTML(elem_classes="mv-quiet")
                input_problem = gr.HTML(elem_classes="mv-quiet")
                input_panel = gr.HTML(inputs_panel(first))
                notes = gr.HTML(elem_classes="mv-quiet")
        gr.HTML('<div class="mv"><h2>2. Path</h2></div>')
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                kind = gr.Dropdown([(words, name) for name, words in WORDS.items()], value="file", label="Kind of path")
                size = gr.Slider(-60, 60, value=15, step=0.5, label="Size of the move", visible=False)
                frames = gr.Number(desk.studio.num_frames(), label="Frames of the video", precision=0)
            with gr.Column(scale=3, min_width=280):
                path_problem = gr.HTML(elem_classes="mv-quiet")
                shown = gr.HTML(look_panel(look(first, usual, desk.studio.num_frames())))
                doctor = gr.HTML(elem_classes="mv-quiet")
        gr.HTML('<div class="mv"><h2>3. Render</h2></div>')
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                steps = gr.Number(DEFAULT_STEPS, label="Steps", precision=0)
                with gr.Accordion("More settings", open=False):
                    seed = gr.Number(0, label="Random seed for the noise", precision=0)
                    prompt = gr.Textbox("", label="Prompt, for models that read text", max_length=2000)
                with gr.Row():
                    start = gr.Button("Render", variant="primary", elem_id="start")
                    stop = gr.Button("Stop", interactive=False, elem_id="stop")
            with gr.Column(scale=3, min_width=280):
                render_problem = gr.HTML(elem_classes="mv-quiet")
                bar = gr.HTML(elem_classes="mv-quiet")
        gr.HTML('<div class="mv"><h2>4. Result</h2></div>')
        results = gr.Dropdown([], label="Your results", interactive=True)
        result_problem = gr.HTML(elem_classes="mv-quiet")
        result = gr.HTML(elem_classes="mv-quiet")
        gr.HTML('<div class="mv"><h2>The same without the studio</h2></div>')
        words = gr.Textbox(
            label="On the command line", lines=2, max_lines=30, interactive=False, buttons=["copy"], elem_classes="code"
        )
        lines = gr.Textbox(
            label="In Python", lines=8, max_lines=40, interactive=False, buttons=["copy"], elem_classes="code"
        )

        chosen = [source, depth_source, depth_kind, depth_unit, fov, kind, size, frames, steps, seed, prompt]
        of_inputs = [input_problem, input_panel, notes, kind, size, frames, shown, words, lines]
        of_path = [path_problem, shown, words, lines]
        of_render = [render_problem, bar, start, stop, results, result]
        judging: dict[str, Any] = {
            "fn": _told(desk.judged, 1),
            "inputs": chosen,
            "outputs": [path_problem, doctor],
            "concurrency_limit": 2,
            **_QUIET,
        }

        reading = _told(desk.inputs, 8, blank=(0, 1, 5, 6, 7))

        def show(event: Any) -> None:
            event.then(reading, chosen, of_inputs, concurrency_limit=4, **_QUIET).then(**judging)

        show(page.load(_told(desk.history, 2), None, [result_problem, results, result], **_QUIET))
        page.load(_followed(desk.again), None, of_render, concurrency_limit=None, **_QUIET)
        example = scene.input(
            lambda name: [{"scene": scenes[name]}, None, None], scene, [source, files, maps], **_QUIET
        )
        show(example)
        for given in (files, maps):
            for event in (given.upload, given.clear, given.delete):
                taken = event(_told(desk.take, 2), [files, maps], [taking_problem, source, scene], **_QUIET)
                show(taken)
        for choice in (depth_source, depth_kind):
            show(choice.input(lambda: None, **_QUIET))
        for typed in (depth_unit, fov):
            show(typed.submit(lambda: None, **_QUIET))
        changed = kind.input(_told(desk.kind, 1), [source, kind], [path_problem, size], **_QUIET)
        changed.then(_told(desk.path, 3), chosen, of_path, concurrency_limit=4, **_QUIET).then(**judging)
        following: dict[str, Any] = {"trigger_mode": "always_last", "concurrency_limit": 4, **_QUIET}
        for event in (size.input, frames.input, steps.input, seed.input, prompt.input):
            event(_told(desk.path, 3), chosen, of_path, **following)
        for event in (size.input, frames.input):
            event(**judging, trigger_mode="always_last")
        start.click(_followed(desk.render), chosen, of_render, concurrency_limit=None, **_QUIET)
        stop.click(_told(desk.stop, 0), None, [render_problem], concurrency_limit=None, **_QUIET)
        results.input(_told(desk.result, 1), results, [result_problem, result], **_QUIET)
    return page


def _told(work: Callable[..., list[Any]], outputs: int, blank: Sequence[int] = ()) -> Callable[..., list[Any]]:
    """A handler whose first output is what went wrong, in the words of the command line.

    Args:
        work: gives the other outputs.
        outputs: how many these are.
        blank: those of them that are emptied where it failed; the others stay.
    """
    others = ["" if index in blank else gr.skip() for index in range(outputs)]

    def handler(request: gr.Request, *values: Any) -> list[Any]:
        try:
            return _one(["", *work(request, *values)])
        except MvguideError as error:
            return _one([problem(str(error)), *others])
        except Exception:
            traceback.print_exc()
            return _one([problem(UNEXPECTED), *others])

    return handler


def _one(values: list[Any]) -> Any:
    """What a handler gives: gradio takes the value itself where there is one component."""
    return values if len(values) > 1 else values[0]


def _followed(work: Callable[..., Iterator[list[Any]]]) -> Callable[..., Iterator[list[Any]]]:
    """The same for a handler that goes on giving values, such as a render."""

    def handler(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        try:
            yield from work(request, *values)
        except MvguideError as error:
            yield [problem(str(error)), *[gr.skip()] * 5]
        except Exception:
            traceback.print_exc()
            yield [problem(UNEXPECTED), *[gr.skip()] * 5]

    return handler
