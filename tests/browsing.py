"""A real Chromium for tests that are marked ``browser``; ``make check-browser`` runs them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")
# Drawn by the processor: test machines have no GPU.
_ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def in_browser(*packages: str) -> list[pytest.MarkDecorator]:
    """Marks of a test that drives Chromium, and needs these packages besides."""
    missing = [name for name in ("playwright", *packages) if find_spec(name) is None]
    missing += [] if CHROMIUM else ["chromium"]
    return [pytest.mark.browser, pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")]


@contextmanager
def chromium_page(address: str, width: int = 1280, height: int = 800) -> Iterator[Any]:
    """A page at an address. At the end: no errors on its console, and no request to another host."""
    from playwright.sync_api import sync_playwright

    errors, asked = list[str](), list[str]()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(address)
        yield page
        browser.close()
    assert errors == []
    own = urlsplit(address)
    for url in asked:
        found = urlsplit(url.removeprefix("blob:"))
        assert found.scheme == "data" or found.netloc == own.netloc, url
