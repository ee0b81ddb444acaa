"""Parts of the studio's page as HTML: pictures, sentences, the bar and the result. All text is escaped."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from mvguide.decoding import is_file
from mvguide.drawing import page
from mvguide.drawing.depth_picture import depth_picture
from mvguide.drawing.sheets import mark_holes
from mvguide.studio.looking import SIDE, Loaded, Look
from mvguide.views.view import View

_VIEWS = 3  # so many inputs are shown
_QUALITY = 88

READABLE = {
    "body_text_color_subdued": "#52525b",
    "body_text_color_subdued_dark": "#c3c8d1",
    "block_label_text_color": "#3f3f46",
    "block_label_text_color_dark": "#d4d4d8",
    "button_primary_background_fill": "#1d4ed8",
    "button_primary_background_fill_hover": "#1e40af",
    "button_primary_background_fill_dark": "#1d4ed8",
    "button_primary_background_fill_hover_dark": "#1e40af",
}
"""Colours of gradio's theme that it has too pale to be read by everybody."""

STYLE = """
:root { --mv-soft: #4b5563; --mv-link: #1d4ed8; --mv-bar: #d1d5db }
.dark { --mv-soft: #c3c8d1; --mv-link: #93b4ff; --mv-bar: #4b5563 }
.mv { overflow-wrap: anywhere }
.mv figure { margin: 0; flex: 1 1 9rem; min-width: 0; max-width: 32rem }
.mv figcaption, .mv .soft { font-size: .85rem; color: var(--mv-soft) }
.mv img, .mv video { display: block; width: 100%; height: auto; border-radius: 4px; background: #8883 }
.mv .row { display: flex; flex-wrap: wrap; gap: .6rem 1rem; max-width: 66rem }
.mv .row > div { flex: 1 1 18rem; min-width: 0; max-width: 32rem }
.mv ul { margin: .4rem 0; padding-left: 1.2rem; list-style: disc }
.mv h3 { font-size: 1.05rem; margin: 1rem 0 .4rem; font-weight: 600 }
.mv a { color: var(--mv-link); text-decoration: underline }
.mv .alert { border-left: 4px solid #c0392b; padding: .4rem .8rem; margin: .3rem 0; background: #c0392b14 }
.mv progress { appearance: none; width: 100%; height: 1rem; border: 0; border-radius: 4px; overflow: hidden;
  background: var(--mv-bar) }
.mv progress::-webkit-progress-bar { background: var(--mv-bar) }
.mv progress::-webkit-progress-value { background: #2563eb; transition: width .3s }
.mv progress::-moz-progress-bar { background: #2563eb }
.mv .compare { position: relative }
.mv .compare img + img { position: absolute; inset: 0; height: 100%; clip-path: inset(0 0 0 var(--split, 50%)) }
.mv input[type=range] { width: 100%; accent-color: #2563eb; display: block }
.mv .wide { overflow-x: auto } .mv .wide img { width: auto; max-width: 100%; max-height: 30rem }
.gradio-container .or, .gradio-container .min_value, .gradio-container .max_value {
  color: var(--body-text-color-subdued) }
.mv-quiet:not(:has(.mv)) { display: none }
.code textarea { font-family: ui-monospace, monospace; font-size: .85rem }
"""


def problem(text: str) -> str:
    """What is wrong, where screen readers say it at once; nothing for an empty text."""
    return f'<div class="mv"><p class="alert" role="alert">{escape(text)}</p></div>' if text else ""


def sentences(title: str, lines: Sequence[str], otherwise: str = "") -> str:
    """A list of sentences under a title, or what to say where there is none."""
    if not lines:
        return _box(page.paragraph(otherwise)) if otherwise else ""
    return _box(page.paragraph(title), page.bullets(lines))


def inputs_panel(loaded: Loaded) -> str:
    """The inputs beside their depth."""
    views, figures = loaded.small, []
    for index in sorted({round(i * (len(views) - 1) / max(1, _VIEWS - 1)) for i in range(min(_VIEWS, len(views)))}):
        view = views[index]
        figures.append(_figure(view.image, f"input {view.name}", _about(loaded.inputs.views[index])))
        depth = view.require_depth()
        figures.append(
            _figure(depth_picture(depth.values, depth.valid), f"depth of {view.name}", "Depth: bright is near.")
        )
    count = f"<p>{len(views)} images.</p>" if len(views) > 1 else ""
    return _box(count, f'<div class="row">{"".join(figures)}</div>')


def look_panel(look: Look) -> str:
    """The three warps of a path."""
    warps, figures = look.path.warps, []
    for place, frame in enumerate(look.frames):
        warp, seen = mark_holes(warps.image[place], warps.visible[place]), float(warps.seen[place])
        caption = f"Frame {frame}{' (the last)' * (frame == look.num_frames - 1)}: {seen:.0%} seen."
        figures.append(_figure(warp, f"warp of frame {frame}, holes striped", caption))
    return _box(f'<div class="row">{"".join(figures)}</div>')


def bar_panel(share: float, text: str, estimate: Tensor | None = None, frames: Sequence[int] = ()) -> str:
    """The bar of a render.

    Args:
        share: of the render that is done, 0 to 1.
        text: what is going on.
        estimate: ``[n, 3, H, W]``, frames of the current estimate.
        frames: their numbers.
    """
    figures = [] if estimate is None else [*zip(frames, estimate, strict=True)]
    shown = "".join(
        _figure(picture, f"current estimate of frame {frame}", f"Frame {frame}.") for frame, picture in figures
    )
    return _box(
        f'<progress max="1" value="{share:.3f}" aria-label="Progress of the render"></progress>',
        f'<p role="status">{escape(text)}</p>',
        f'<p>The current estimate:</p><div class="row">{shown}</div>' if shown else "",
    )


def result_panel(folder: Path, place: str) -> str:
    """A result: video, slider between warp and result, table, overview and downloads.

    Args:
        folder: of the result.
        place: its address on the server.
    """
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    settings, base = report["settings"], escape(f"{place}/")
    frames = int(settings["num_frames"])
    about = f"{frames} frames of {settings['size'][0]} x {settings['size'][1]}, {settings['steps']} steps."
    if "steps_done" in settings:
        about = (
            f"Stopped after step {settings['steps_done']} of {settings['steps']}: the estimate of that step. {about}"
        )
    middle = f"{frames // 2:04d}.png"
    change = (
        "const box = this.closest('.mv'), file = String(this.value).padStart(4, '0') + '.png';"
        f"box.querySelector('.of-warp').src = '{base}warps/' + file;"
        f"box.querySelector('.of-result').src = '{base}images/' + file"
    )
    split = "this.closest('.mv').querySelector('.compare').style.setProperty('--split', this.value + '%')"
    video = (
        f'<div><h3>The video</h3><video src="{base}video.mp4" controls loop muted autoplay playsinline '
        'aria-label="The rendered video"></video></div>'
    )
    compare = (
        f'<div><h3>Warp against result</h3><div class="compare">'
        f'<img class="of-warp" src="{base}warps/{middle}" alt="warp of the chosen frame">'
        f'<img class="of-result" src="{base}images/{middle}" alt="result of the chosen frame"></div>'
        f'<label>From warp to result<input type="range" min="0" max="100" value="50" oninput="{split}"></label>'
        f'<label>Frame<input type="range" min="0" max="{frames - 1}" value="{frames // 2}" oninput="{change}"></label>'
        "</div>"
    )
    parts = [
        page.paragraph(about),
        f'<p><a href="{escape(place)}.zip" download>Download all as .zip</a> · '
        f'<a href="{base}report.html" target="_blank" rel="noopener">Open the report</a></p>',
        f'<div class="row">{video}{compare}</div>',
    ]
    if is_file(folder / "lambda_table.png"):
        parts += ["<h3>The lambda table</h3>", _wide(f"{base}lambda_table.png", "lambda table of the render")]
    parts += ["<h3>Overview</h3>", _wide(f"{base}sheet.png", "input, warps and video, frame by frame")]
    return _box(*parts)


def _about(view: View) -> str:
    camera = view.camera
    return f"{view.name}, {camera.width} x {camera.height}."


def _box(*parts: str) -> str:
    return f'<div class="mv">{"".join(parts)}</div>'


def _wide(source: str, description: str) -> str:
    return f'<div class="wide"><img src="{source}" alt="{escape(description)}"></div>'


def _figure(picture: Tensor, description: str, caption: str) -> str:
    return (
        f'<figure><img src="{data_address(picture)}" alt="{escape(description)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def data_address(picture: Tensor) -> str:
    """A picture ``[3, H, W]`` in [0, 1] as an address that holds it: no file, and nobody else can ask for it."""
    pixels = (picture.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
