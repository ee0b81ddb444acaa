"""Figures as tables for people: Markdown and HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

from mvguide.drawing import page

CAMERA_FIGURES = ("ate", "ate_share", "rpe_translation", "rpe_rotation")
HEADS = {
    "ate_share": "ATE / path",
    "ate": "ATE",
    "rpe_translation": "RPE translation",
    "rpe_rotation": "RPE rotation, degrees",
    "seen share": "seen",
}


def table(corner: str, rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A Markdown table; columns without any value are left out.

    Args:
        corner: head of the column of names.
        rows: name -> column -> value.
        columns: those wanted, in order.

    Returns:
        the table, or an empty string where no column has a value.
    """
    kept = filled(rows, columns)
    if not kept:
        return ""
    lines = [
        f"| {' | '.join([corner, *(HEADS.get(column, column) for column in kept)])} |",
        "|---" * (len(kept) + 1) + "|",
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(cell(column, row.get(column)) for column in kept)} |")
    return "\n".join(lines)


def cell(column: str, value: Any) -> str:
    """A value as people read it: decibels to a hundredth, small ratios to three digits, shares in percent."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "/").replace("\n", " ")
    if column in ("seen share", "ate_share"):
        return f"{100 * value:.1f} %"
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if column.startswith("psnr") or column == "seconds" else f"{value:.3g}" if value else "0"


def filled(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Of the columns wanted, those in which any row has a value."""
    return [column for column in columns if any(row.get(column) is not None for row in rows.values())]


def html_table(corner: str, rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The same table as HTML; a value that is :class:`mvguide.drawing.page.Markup` stands as it is."""
    kept = filled(rows, columns)
    if not kept:
        return ""
    return page.table(
        [corner, *(HEADS.get(column, column) for column in kept)],
        [[name, *(_html(column, row.get(column)) for column in kept)] for name, row in rows.items()],
    )


def html_columns(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """The table on its side: a line for each figure, a column for each row; for many figures of a few results."""
    kept = filled(rows, names)
    if not kept:
        return ""
    return page.table(
        ["", *rows], [[HEADS.get(name, name), *(_html(name, row.get(name)) for row in rows.values())] for name in kept]
    )


def _html(column: str, value: Any) -> str:
    return value if isinstance(value, page.Markup) else cell(column, value).replace(" %", "\u00a0%")
