"""``mvguide studio``: the server, on this machine alone."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mvguide.backbones.offload import check_offload
from mvguide.backbones.pretrained import choose_device
from mvguide.commands.speaking import at_least_one, speaker
from mvguide.config.studio_options import StudioConfig
from mvguide.errors import ConfigError
from mvguide.files.atomic import check_writable

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
_UPLOADS = ".uploads-"


def studio(config: StudioConfig) -> None:
    """Serve the studio until it is stopped (Ctrl-C)."""
    say = speaker(config.quiet)
    _check(config)
    listening = listen(config.port)
    with listening, studio_app(config) as app:
        import uvicorn

        say(f"the studio is at http://{HOST}:{listening.getsockname()[1]}/ for this machine alone; Ctrl-C ends it")
        say(f"results go to {config.out}/")
        settings = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, access_log=False)
        uvicorn.Server(settings).run(sockets=[listening])


def _check(config: StudioConfig) -> None:
    if find_spec("gradio") is None:
        raise ConfigError("the studio needs the package gradio; install it with pip install 'mvguide[studio]'")
    device = choose_device(config.device)
    check_offload(config.offload, device)
    config.check(device)
    if config.context_parallel != 1:
        raise ConfigError("the studio runs on one GPU; leave out context_parallel")
    check_writable(config.out, folder=True)
    for name in ("most_mib", "most_frames"):
        at_least_one(name, getattr(config, name))
    if not config.most_megapixels > 0:
        raise ConfigError(f"most_megapixels is {config.most_megapixels:g}; give million pixels above 0")


def listen(port: int) -> socket.socket:
    """A socket of this machine alone."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(
            f"port {port} cannot be used ({error}); give another with --port, or 0 for a free one"
        ) from None
    return listening


@contextmanager
def studio_app(config: StudioConfig) -> "Iterator[ASGIApp]":
    """The studio as an ASGI app, with its queue; on leaving the block renders are stopped and uploads removed.

    Args:
        config: the settings.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    uploads = Path(tempfile.mkdtemp(prefix=_UPLOADS, dir=out)).resolve()
    # gradio reads these when it is loaded and when parts of a page are made.
    os.environ |= {
        "GRADIO_TEMP_DIR": str(uploads),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    import fastapi
    import gradio as gr

    from mvguide.studio.app import build
    from mvguide.studio.desk import FIRST, Desk
    from mvguide.studio.guard import Guard
    from mvguide.studio.jobs import Renders
    from mvguide.studio.looking import Studio
    from mvguide.studio.panels import READABLE, STYLE

    studio = Studio(config)
    renders = Renders(studio.base(FIRST))
    try:
        page = build(Desk(studio, renders))
        fonts = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]  # of the system: none from outside
        served = gr.mount_gradio_app(
            fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            page.queue(max_size=200, api_open=False),
            path="/",
            theme=gr.themes.Default(primary_hue="blue", font=fonts[0], font_mono=fonts[1]).set(**READABLE),
            css=STYLE,
            show_error=False,
            max_file_size=config.most_mib << 20,
            allowed_paths=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            pwa=False,
        )
        yield Guard(served, out, uploads, config.most_mib << 20)
    finally:
        renders.close()
        shutil.rmtree(uploads, ignore_errors=True)
