"""The pages of an evaluation and of a comparison: ``report.html``, which opens from disk."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mvguide.drawing import page
from mvguide.evaluation.figure_tables import CAMERA_FIGURES, html_columns, html_table
from mvguide.evaluation.scores import COLUMNS, TEMPORAL

if TYPE_CHECKING:
    from mvguide.evaluation.compare import Comparison
    from mvguide.evaluation.report import Evaluation

READING = (
    "PSNR (dB) and SSIM: higher is better. Sharpness and the ratios: 1 is as in the truth. Perceptual distance, ATE "
    "and RPE: lower is better. Holes: what no input view shows."
)
"""How to read the figures."""

ERRORS = "In error images black is no error, and pale yellow 0.3 of full scale or more. A green line encloses holes."
"""How to read error images."""


def evaluation_page(evaluation: "Evaluation", document: Mapping[str, Any], result_page: str, command: str) -> str:
    """HTML of an evaluation whose other files are in the same folder.

    Args:
        evaluation: what was measured.
        document: the same as JSON.
        result_page: path of the result's own page; none if empty.
        command: the command line that makes it again; none if empty.
    """
    rows = {name: row for name, row in document["rows"].items() if name in evaluation.videos}
    counted = len(document["frames"]) - len(document["given"])
    width, height = document["size"]
    about = f"{evaluation.result} against {evaluation.against}: {counted} frames of {width} x {height}."
    if document["given"]:
        about += f" Not counted, because they are input views: {', '.join(map(str, document['given']))}."
    parts = [page.paragraph(about)]
    if result_page:
        parts.append(f"<p>The result has {page.link(quote(result_page), 'a page of its own')}.</p>")
    parts += [
        page.video("side_by_side.mp4", "truth, result and error", f"Truth, result, and its error. {ERRORS}"),
        page.heading("Figures"),
        page.paragraph(READING),
        html_columns(rows, [*COLUMNS, "perceptual"]),
    ]
    in_time = html_columns(document["rows"], [*TEMPORAL, "registered", *CAMERA_FIGURES])
    if in_time:
        parts += [page.heading("Over time"), in_time]
    parts += [page.heading("Errors"), page.image("errors.png", "the truth, and each video with its error")]
    for name, frames in document["per_frame"].items():
        numbered = {}
        for row in frames:
            title = f"{row['frame']} (given)" if row["given"] else str(row["frame"])
            image = page.Markup(page.link(f"errors/{row['frame']:04d}.png", "image"))
            numbered[title] = {**row, "error": image if name == next(iter(evaluation.videos)) else None}
        parts += [
            page.heading(f"Frame by frame: {name}"),
            html_table("frame", numbered, ["seen share", *COLUMNS, "perceptual", "error"]),
        ]
    if evaluation.notes:
        parts += [page.heading("Notes"), page.bullets(evaluation.notes)]
    if command:
        parts += [page.heading("Make it again"), page.code(command)]
    parts += [page.heading("Settings of the result"), page.pairs(evaluation.settings)]
    parts.append(f"<p>All figures are in {page.link('evaluation.json', 'evaluation.json')}.</p>")
    return page.page("mvguide: evaluation", *parts)


def comparison_page(
    comparison: "Comparison",
    figures: tuple[str, ...],
    settings: tuple[str, ...],
    pages: Mapping[str, str],
    command: str,
) -> str:
    """HTML of a comparison whose other files are in the same folder.

    Args:
        comparison: results side by side.
        figures: names of the figures, in order.
        settings: names of the settings, in order.
        pages: name -> path of the result's own page, for those that have one.
        command: the command line that makes it again; none if empty.
    """
    listed = ", ".join(comparison.panels)
    parts = [
        page.paragraph(f"Videos of {len(comparison.rows)} results: {', '.join(comparison.rows)}."),
        page.video("side_by_side.mp4", "the videos beside each other", f"From left to right: {listed}."),
    ]
    if comparison.notes:
        parts += [page.heading("Notes"), page.bullets(comparison.notes)]
    found = html_columns(comparison.rows, figures)
    if found:
        parts += [page.heading("Figures"), page.paragraph(READING), found]
    parts += [page.heading("Frame by frame"), page.image("sheet.png", "the results above each other, frame by frame")]
    if comparison.has_errors:
        parts += [page.heading("Errors"), page.image("errors.png", "the truth, and each video with its error", ERRORS)]
    parts += [page.heading("Settings"), html_columns(comparison.rows, settings)]
    if pages:
        links = [page.link(quote(path), name) for name, path in pages.items()]
        parts.append(f"<p>Pages of the results: {', '.join(links)}.</p>")
    if command:
        parts += [page.heading("Make it again"), page.code(command)]
    parts.append(f"<p>All figures are in {page.link('compare.json', 'compare.json')}.</p>")
    return page.page("mvguide: results side by side", *parts)
