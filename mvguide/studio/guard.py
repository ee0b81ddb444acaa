"""What stands between the network and gradio: only what the page needs comes through, and everybody sees their own.

gradio serves more than the page needs: files by path, addresses of others that it fetches, its own API and tools.
Here the list is the other way round: what is not on it does not exist.
"""

import hashlib
import json
import re
import secrets
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "mvguide_studio"
API = "/gradio_api"
RESULTS = "/results"
_OPEN = {
    "GET": re.compile(
        rf"/|/theme\.css|/favicon\.ico|/manifest\.json|/config|/(assets|static)/[\w./-]+"
        rf"|{API}/(startup-events|queue/data|upload_progress|heartbeat/\w+|file=.+)"
    ),
    "POST": re.compile(rf"{API}/(queue/join|cancel|reset|upload)/?"),
}
_SERVED = {".mp4", ".png", ".html", ".json", ".npz"}
_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_MOST_JSON = 2**20
_MOST_SESSIONS = 10_000
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_POLICY_OF_RESULTS = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
)
_OUTSIDE = re.compile(rb"\s*<meta\s+(?:property|name)=\"(?:og|twitter):[^>]*>")


class Guard:
    """An ASGI app around gradio's.

    Args:
        app: gradio's.
        out: folder of the results, with one for each visitor.
        uploads: gradio's folder of uploads; nothing but uploads is in it.
        most_bytes: of one upload.
    """

    def __init__(self, app: ASGIApp, out: Path, uploads: Path, most_bytes: int) -> None:
        self.app, self.out, self.uploads, self.most_bytes = app, out, uploads.resolve(), most_bytes
        self.owners: OrderedDict[str, str] = OrderedDict()  # visitor of each session of gradio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "websocket":
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        token = request.cookies.get(COOKIE, "")
        visitor, path = visitor_of(token), scope["path"]  # not request.url's, which ends at an escaped "?"
        answer = self._refused(request, path)
        if answer is None and visitor is None and path != "/":
            answer = _refuse(403, "open the studio's page first")
        elif answer is None and visitor is not None and path.startswith(f"{RESULTS}/"):
            answer = await run_in_threadpool(self._result, visitor, path.removeprefix(f"{RESULTS}/"))
        elif answer is None and visitor is not None:
            receive, answer = await self._checked(request, path, visitor, receive)
        if answer is not None:
            await answer(scope, receive, send)
            return
        if path == "/":  # the page is changed on its way, so it must not be packed
            plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            scope = {**scope, "headers": plain}
        new = None if visitor is not None else secrets.token_urlsafe(24)
        await self.app(scope, receive, _Page(send, is_page=path == "/", token=new))

    def _refused(self, request: Request, path: str) -> Response | None:
        """An answer to what is not for us: other hosts and sites, and addresses that the page does not need."""
        host = request.headers.get("host", "")
        if host.rsplit(":", 1)[0] not in _HOSTS and host not in _HOSTS:
            return _refuse(403, "the studio answers to 127.0.0.1 and localhost alone")
        origin = request.headers.get("origin")
        if request.method != "GET" and request.method != "HEAD" and origin and urlsplit(origin).netloc != host:
            return _refuse(403, "the studio does not answer to other sites")
        method = request.method.replace("HEAD", "GET")
        if path.startswith(f"{RESULTS}/") and method == "GET":
            return None
        known = _OPEN.get(method)
        if known is None or not known.fullmatch(path) or ".." in path.split("/"):
            return _refuse(404, "there is nothing here")
        if path.startswith(f"{API}/file=") and not self._is_upload(path.removeprefix(f"{API}/file=")):
            return _refuse(404, "there is nothing here")
        return None

    def _is_upload(self, name: str) -> bool:
        """Whether a path is that of an uploaded file; its folder is named by what it holds, so only owners know it."""
        try:
            place = Path(name)
            real = place.resolve(strict=True)
        except (OSError, ValueError):
            return False
        return place.is_absolute() and real == place and real.is_relative_to(self.uploads) and real.is_file()

    async def _checked(
        self, request: Request, path: str, visitor: str, receive: Receive
    ) -> tuple[Receive, Response | None]:
        """Bound what is sent, and keep sessions to those who began them."""
        session = request.query_params.get("session_hash", "")
        if path.startswith(f"{API}/heartbeat/"):
            session = path.rsplit("/", 1)[1]
        if request.method == "POST":
            is_upload = path.rstrip("/") == f"{API}/upload"
            length = request.headers.get("content-length", "")
            most = self.most_bytes + 2**16 if is_upload else _MOST_JSON  # the form has a head for each file
            if not re.fullmatch(r"[0-9]{1,15}", length):
                return receive, _refuse(411, "the length of what is sent must be given")
            if int(length) > most:
                return receive, _refuse(413, f"what was sent is larger than {most >> 20} MiB; give less at a time")
            if not is_upload:
                body = await request.body()
                try:
                    document = json.loads(body)
                    session = str(document.get("session_hash") or "")
                    paths = [*_paths(document)]
                except (ValueError, AttributeError, RecursionError):
                    return receive, _refuse(400, "what was sent is not what the page sends")
                if not all(self._is_upload(path) for path in paths):
                    return receive, _refuse(400, "what was sent names a file that was not uploaded")
                receive = _again(body, receive)
        if session and self.owners.setdefault(session, visitor) != visitor:
            return receive, _refuse(403, "this session is of another visitor")
        while len(self.owners) > _MOST_SESSIONS:
            self.owners.popitem(last=False)
        return receive, None

    def _result(self, visitor: str, path: str) -> Response:
        """A file of a result of the visitor, or all of it as a .zip."""
        parts = path.split("/")
        if not all(re.fullmatch(r"\w[\w.-]*", part) for part in parts):
            return _refuse(404, "there is nothing here")
        top = (self.out / visitor).resolve()
        if len(parts) == 1 and path.endswith(".zip") and is_result(folder := top / path.removesuffix(".zip")):
            return _zip(folder)
        file = top.joinpath(*parts)
        try:
            is_plain = file.resolve(strict=True) == file and file.is_file()
        except OSError:
            is_plain = False
        if len(parts) < 2 or not is_plain or file.suffix not in _SERVED or not is_result(top / parts[0]):
            return _refuse(404, "there is nothing here")
        headers = {"content-security-policy": _POLICY_OF_RESULTS, **_HEADERS, "cache-control": "no-cache"}
        return FileResponse(file, headers=headers)


_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


class _Page:
    """Sends on what gradio answers, with the headers that keep a browser from asking anybody else.

    Args:
        send: of the server.
        is_page: the answer is the page itself; its hints for other sites are taken out.
        token: cookie to set.
    """

    def __init__(self, send: Send, is_page: bool, token: str | None) -> None:
        self.send, self.is_page, self.token = send, is_page, token
        self.start: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        """Send one message on."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in {"content-security-policy": _POLICY, **_HEADERS}.items():
                headers[name] = value
            if self.token is not None:
                headers.append("set-cookie", f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/")
            if self.is_page and not Headers(scope=message).get("content-encoding"):
                self.start = message
                return
        elif self.start is not None and message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = _OUTSIDE.sub(b"", self.body)
            MutableHeaders(scope=self.start)["content-length"] = str(len(body))
            await self.send(self.start)
            message = {**message, "body": body}
            self.start = None
        await self.send(message)


def visitor_of(token: str) -> str | None:
    """Name of a visitor's folder, by their cookie; None for what is no cookie of ours."""
    if not re.fullmatch(r"[\w-]{32}", token):
        return None
    return hashlib.sha256(token.encode()).hexdigest()[:12]


def is_result(folder: Path) -> bool:
    """Whether a folder is a finished result: no link, and with a report."""
    return not folder.is_symlink() and (folder / "report.json").is_file()


def result_files(folder: Path) -> Iterator[Path]:
    """Plain files of a result, also in its folders; links are left out."""
    for file in sorted(folder.rglob("*")):
        inside = [part for part in file.relative_to(folder).parents if part != Path()]
        if not file.is_symlink() and file.is_file() and not any((folder / part).is_symlink() for part in inside):
            yield file


def _zip(folder: Path) -> Response:
    """All of a result as one file, made when it is asked for."""
    stream = tempfile.TemporaryFile(dir=folder.parent)  # noqa: SIM115  closed when it was sent
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:  # pictures and videos do not get smaller
        for file in result_files(folder):
            packed.write(file, Path(folder.name) / file.relative_to(folder))
    size = stream.tell()
    stream.seek(0)
    headers = {
        "content-disposition": f'attachment; filename="{folder.name}.zip"',
        "content-length": str(size),
        **_HEADERS,
    }
    blocks = iter(lambda: stream.read(2**18), b"")
    return StreamingResponse(
        blocks, media_type="application/zip", headers=headers, background=BackgroundTask(stream.close)
    )


def _refuse(code: int, sentence: str) -> Response:
    return PlainTextResponse(sentence, status_code=code, headers=_HEADERS)


def _again(body: bytes, after: Receive) -> Receive:
    """A body that was read, to be read again; then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await after()

    return receive


def _paths(document: Any) -> Iterator[str]:
    """Every path of a file in what the page sent."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == "path" and value is not None:
                yield str(value)
            yield from _paths(value)
    elif isinstance(document, list):
        for value in document:
            yield from _paths(value)
