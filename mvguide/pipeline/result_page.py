"""The page of a result folder: ``report.html``, which opens from disk and shows what was made, and how."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mvguide.drawing import page

if TYPE_CHECKING:
    from mvguide.pipeline.result import Result

_SHOWN = (
    *("model", "guidance", "mask", "solver", "schedule", "steps", "steps_done"),
    *("size", "seed", "device", "dtype", "threads"),
)


def result_page(result: "Result", title: str, warnings: Sequence[str], command: str) -> str:
    """HTML of a result whose other files are in the same folder.

    Args:
        result: what was made.
        title: of the page.
        warnings: what the diagnosis of the path said.
        command: the command line that makes it again; none if empty.
    """
    count, _, height, width = result.frames.shape
    seen = result.warps.seen
    parts = [
        page.paragraph(
            f"{count} frames of {width} x {height}. A view shows {float(seen[1:].mean()):.0%} of them on average, and "
            f"{float(seen[-1]):.0%} of the last."
        ),
        page.side_by_side(
            page.video("video.mp4", "the rendered video", "The video."),
            page.video("warps.mp4", "the warped views", "What it was guided by: the views, warped; holes are striped."),
        ),
    ]
    if warnings:
        parts += [page.heading("Warnings"), page.bullets(warnings)]
    parts += [
        page.heading("Frame by frame"),
        page.image("sheet.png", "input, warps and video, frame by frame"),
        page.heading("The camera path"),
        page.image("path.png", "the camera path from above and from the side", "From above, and from the side."),
    ]
    if result.table is not None:
        how = f"How strongly the warp pulls at each noise level: {result.table.made_by}."
        parts += [page.heading("The lambda table"), page.image("lambda_table.png", "the lambda table", how)]
    if command:
        parts += [page.heading("Make it again"), page.code(command)]
    settings = {name: result.settings[name] for name in _SHOWN if name in result.settings}
    seconds = {stage: f"{value:.2f} s" for stage, value in result.seconds.items()}
    parts += [page.heading("Settings"), page.pairs(settings), page.heading("Time"), page.pairs(seconds)]
    parts.append(f"<p>All settings and figures are in {page.link('report.json', 'report.json')}.</p>")
    return page.page(title, *parts)
