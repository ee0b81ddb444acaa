"""Pages of HTML that open from disk: one file, no scripts, nothing from outside. All text is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
img, video { max-width: 100%; height: auto; background: #8882 }
video { min-width: min(100%, 40rem) }
figure { margin: 1rem 0 } figcaption { opacity: .8 }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top }
thead th { border-bottom: 1px solid #888 }
.wide { overflow-x: auto } pre { padding: .7rem; background: #8882; white-space: pre-wrap; overflow-wrap: anywhere }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 2rem 1.5rem }
.cards h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere } .cards figure { margin: .5rem 0 }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row figure { margin: 0; flex: 1 1 20rem }
"""


def page(title: str, *parts: str, language: str = "en") -> str:
    """A whole document.

    Args:
        title: of the window and the first heading, plain text.
        parts: made by the functions below.
        language: of the text, for screen readers.
    """
    return (
        f'<!doctype html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list of plain lines."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def code(text: str) -> str:
    """Words to copy into a terminal."""
    return f"<pre><code>{escape(text)}</code></pre>"


def link(target: str, text: str) -> str:
    """A link to a file beside the page."""
    return f'<a href="{escape(target)}">{escape(text)}</a>'


def image(source: str, description: str, caption: str = "") -> str:
    """An image beside the page.

    Args:
        source: its path from the page.
        description: what it shows, for those who cannot see it.
        caption: under it; none if empty.
    """
    return _figure(f'<img src="{escape(source)}" alt="{escape(description)}">', caption)


def video(source: str, description: str, caption: str = "", poster: str = "") -> str:
    """A video beside the page, repeated until it is stopped; arguments as for :func:`image`.

    With a ``poster``, an image beside the page, the video is read only when it is played: for pages of many.
    """
    label = escape(description)
    waits = f' preload="none" poster="{escape(poster)}"' if poster else ""
    return _figure(
        f'<video src="{escape(source)}" controls loop muted playsinline{waits} aria-label="{label}"></video>', caption
    )


def cards(parts: Iterable[str]) -> str:
    """Cards side by side, as many as the window has room for."""
    return f'<div class="cards">{"".join(parts)}</div>'


def card(title: str, *parts: str) -> str:
    """One of them."""
    return f"<article><h3>{escape(title)}</h3>{''.join(parts)}</article>"


def side_by_side(*figures: str) -> str:
    """Figures in a row where the window is wide enough."""
    return f'<div class="row">{"".join(figures)}</div>'


def pairs(values: Mapping[str, object]) -> str:
    """Names and values in two columns."""
    rows = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(_text(value))}</td></tr>' for name, value in values.items()
    )
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of plain values; a cell made by :func:`link` or :func:`video` is passed as :class:`Markup`."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


class Markup(str):
    """Text that is HTML already."""


def _cell(value: object) -> str:
    return value if isinstance(value, Markup) else escape(_text(value))


def _figure(inner: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{inner}{below}</figure>"


def _text(value: object) -> str:
    """A value as a reader would write it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return str(value)
