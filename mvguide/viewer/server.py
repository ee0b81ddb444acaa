"""The web server of the viewer: viser, for pages of this machine alone."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from typing import Any

from mvguide.errors import ConfigError, OutputError

HOST = "127.0.0.1"
_OWN_PAGES = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?")


def load_viser() -> Any:
    """The viser package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("viser")
    except ImportError as error:
        raise ConfigError(
            "the viewer needs viser, which is not installed; run pip install 'mvguide[viewer]'"
        ) from error


def start_server(port: int, label: str) -> Any:
    """A viser server at 127.0.0.1 that answers no page from elsewhere, and calls nothing outside.

    Args:
        port: to listen at, or the next one that is free; 0 for any.
        label: of the panel.

    Raises:
        ConfigError: viser is not installed.
        OutputError: no port can be listened at.
    """
    # Without viser's tunnel to a public address, which any client could ask for.
    local_server = type("Server", (load_viser().ViserServer,), {"request_share_url": _share_nothing})
    with _quiet(), _own_pages_only():
        try:
            server = local_server(host=HOST, port=port, label=label, verbose=False)
        except (OSError, OverflowError) as error:
            raise OutputError(f"the viewer cannot listen at port {port} ({error}); give another --port") from error
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    return server


def _share_nothing(server: Any, verbose: bool = True) -> None:
    """In place of ``ViserServer.request_share_url``."""


def stop_server(server: Any) -> None:
    """Close all connections and end its threads."""
    with _quiet():
        server.stop()


@contextmanager
def _quiet() -> Iterator[None]:
    """What viser prints of itself is kept back: mvguide says the address."""
    with redirect_stdout(io.StringIO()):
        yield


@contextmanager
def _own_pages_only() -> Iterator[None]:
    """Servers started in the block refuse connections from pages of other hosts.

    Browsers let every page open a websocket to this machine: any site could look at the images. viser has no setting
    for it, but the library of its sockets has.
    """
    sockets: Any = import_module("websockets.asyncio.server")
    serve = sockets.serve
    sockets.serve = partial(serve, origins=[None, _OWN_PAGES])
    try:
        yield
    finally:
        sockets.serve = serve
