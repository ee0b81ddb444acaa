"""The running studio over HTTP: what it gives to whom, and what it refuses."""

import io
import json
import re
import shlex
import sys
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.cli import main
from mvguide.files.video import write_video
from mvguide.studio.guard import COOKIE, visitor_of
from tests.studio.client import API, Visitor, words
from tests.studio.conftest import Served

SECRET = b"nobody may read this"


def png(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def depth_npy(width: int = 64, height: int = 48) -> bytes:
    stream = io.BytesIO()
    rows, columns = np.mgrid[:height, :width]
    np.save(stream, (4 + np.sin(columns / 9) + np.cos(rows / 7)).astype(np.float32))
    return stream.getvalue()


@pytest.fixture(scope="module")
def visitor(served: Served) -> Visitor:
    return Visitor(served.address)


@pytest.fixture(scope="module")
def other(served: Served) -> Visitor:
    return Visitor(served.address)


@pytest.fixture(scope="module")
def rendered(served: Served, visitor: Visitor) -> Path:
    """A result of the first visitor: two steps."""
    results = visitor.use("Render", "click", {"Steps": 2})
    assert results[-1][0] == "", words(str(results[-1]))
    folder = served.out / str(visitor_of(visitor.http.cookies[COOKIE])) / "0001-marbles-file"
    assert (folder / "report.json").is_file()
    return folder


def test_the_page_asks_nobody_else(visitor: Visitor) -> None:
    outside = re.findall(r"""(?:src|href|url|content)\s*[=(]\s*["']?https?://(?!127\.0\.0\.1)[^"') ]+""", visitor.page)
    assert outside == []
    assert "fonts.googleapis" not in visitor.page
    assert visitor.config["analytics_enabled"] is False
    assert not visitor.config["footer_links"]
    theme = visitor.http.get("/theme.css").text
    assert "http" not in theme.replace("xmlns='http://www.w3.org/2000/svg'", "")
    policy = visitor.http.get("/").headers["content-security-policy"]
    assert "http" not in policy
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_render_is_followed_and_its_result_is_shown(visitor: Visitor, rendered: Path) -> None:
    seen = [str(message.get("output", "")) for message in visitor.seen]
    assert any("<progress" in text for text in seen)
    assert any("step 1 of 2" in text and "sigma" in text for text in seen)
    assert any("current estimate of frame" in text for text in seen)
    problem, panel = visitor.use("Your results", "input", {"Your results": rendered.name})[-1]
    assert problem == ""
    for file in ("video.mp4", "lambda_table.png", "sheet.png", "images/0004.png", "warps/0004.png", "report.html"):
        assert f"/results/{rendered.name}/{file}" in panel
        answer = visitor.http.get(f"/results/{rendered.name}/{file}")
        assert answer.content == (rendered / file).read_bytes()
    half = visitor.http.get(f"/results/{rendered.name}/video.mp4", headers={"Range": "bytes=0-9"})
    assert half.status_code == 206, "a player asks for parts"


def test_the_zip_holds_all_of_a_result_and_nothing_that_a_link_leads_to(visitor: Visitor, rendered: Path) -> None:
    secret = rendered.parents[2] / "secret.png"
    secret.write_bytes(SECRET)
    link = rendered / "images" / "link.png"
    link.symlink_to(secret)
    try:
        answer = visitor.http.get(f"/results/{rendered.name}.zip")
        assert visitor.http.get(f"/results/{rendered.name}/images/link.png").status_code == 404
    finally:
        link.unlink()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.testzip() is None
        held = {name.removeprefix(f"{rendered.name}/") for name in packed.namelist()}
    assert held == {str(file.relative_to(rendered)) for file in rendered.rglob("*") if file.is_file()}


def test_nobody_sees_the_results_of_another(other: Visitor, rendered: Path, served: Served) -> None:
    mine = rendered.parent.name
    for path in (f"{rendered.name}/video.mp4", f"{rendered.name}.zip", f"../{mine}/{rendered.name}/video.mp4"):
        assert other.http.get(f"/results/{path}").status_code == 404
        assert other.http.get(f"/results/{quote(path, safe='')}").status_code == 404
    assert httpx.get(f"{served.address}results/{rendered.name}/video.mp4").status_code == 403
    assert "not in the list of choices: []" in str(other.use("Your results", "input", {"Your results": rendered.name}))
    for forged in ("a" * 32, "../" * 10 + "aa", "", mine):
        answer = httpx.get(
            f"{served.address}results/{rendered.name}/video.mp4", headers={"cookie": f"{COOKIE}={forged}"}
        )
        assert answer.status_code in (403, 404)


def test_a_session_is_of_the_visitor_who_began_it(visitor: Visitor, other: Visitor, rendered: Path) -> None:
    body = {"data": [], "fn_index": 0, "session_hash": visitor.session}
    assert other.http.post(f"{API}/queue/join", json=body).status_code == 403
    assert other.http.get(f"{API}/queue/data", params={"session_hash": visitor.session}).status_code == 403
    assert other.http.get(f"{API}/heartbeat/{visitor.session}").status_code == 403
    cancel = {"session_hash": visitor.session, "fn_index": 0, "event_id": "x"}
    assert other.http.post(f"{API}/cancel", json=cancel).status_code == 403


def test_files_of_this_machine_are_not_served(visitor: Visitor, rendered: Path) -> None:
    top = rendered.parents[2]
    (top / "secret.png").write_bytes(SECRET)
    paths = [
        "/etc/passwd",
        str(Path(__file__)),
        str(top / "secret.png"),
        str(rendered / "video.mp4"),
        f"{rendered}/../../../secret.png",
        "../../../../etc/passwd",
        "http://127.0.0.1:1/a.png",
        "https://example.com/a.png",
        str(top),
    ]
    addresses = [f"{API}/file={path}" for path in paths] + [f"{API}/file={quote(path, safe='')}" for path in paths]
    addresses += [f"{API}/file/{path}" for path in paths] + [f"{API}/proxy={path}" for path in paths]
    addresses += [f"/static/../../../../../..{path}" for path in paths[:3]]
    addresses += [f"/assets/{quote('../' * 12, safe='')}etc/passwd", f"/results/{quote('../' * 6, safe='')}etc/passwd"]
    addresses += [
        f"/results/{rendered.name}/{name}"
        for name in ("../../../secret.png", "%2e%2e/%2e%2e/secret.png", "/etc/passwd", ".lock", "images")
    ]
    for address in addresses:
        answer = visitor.http.get(httpx.URL(address))
        assert answer.status_code == 404, address
        assert SECRET not in answer.content


def test_an_upload_is_there_for_its_owner_and_a_link_among_them_is_not_followed(
    visitor: Visitor, served: Served
) -> None:
    (file,) = visitor.upload(photo__png=png())
    assert visitor.http.get(f"{API}/file={file['path']}").content == png()
    link = Path(file["path"]).with_name("link.png")
    link.symlink_to("/etc/hostname")
    assert visitor.http.get(f"{API}/file={link}").status_code == 404
    body = {"data": [[{**file, "path": str(link)}], None], "fn_index": 0, "session_hash": visitor.session}
    assert visitor.http.post(f"{API}/queue/join", json=body).status_code == 400
    link.unlink()
    names = visitor.upload(**{"..__..__evil__png": png()}, **{"__etc__passwd": b"x"})
    uploads = served.out.resolve()
    assert all(Path(name["path"]).resolve().is_relative_to(uploads) for name in names)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "http://127.0.0.1:9/x.png", "https://example.com/x.png", "../../x", "a\0b"]
)
def test_what_was_not_uploaded_cannot_be_given(visitor: Visitor, path: str) -> None:
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for data in ([[given], None], [[{"deep": [given]}], None]):
        body = {"data": data, "fn_index": visitor.handlers("Your files", "upload")[0], "session_hash": visitor.session}
        answer = visitor.http.post(f"{API}/queue/join", json=body)
        assert answer.status_code == 400
        assert "was not uploaded" in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[
            ("GET", f"{API}/{name}")
            for name in ("info", "openapi.json", "runs", "queue/status", "deep_link?session_hash=a")
        ],
        *[
            ("GET", f"{API}/{name}")
            for name in ("run-history/buckets", "vibe-code", "dev/reload", "app_id", "token", "user")
        ],
        *[("POST", f"{API}/{name}") for name in ("run/predict", "api/predict", "call/handler", "component_server")],
        *[("POST", f"{API}/{name}") for name in ("process_recording", "vibe-edit", "run-history/connect", "stream/a")],
        *[
            ("GET", name)
            for name in ("/monitoring", "/monitoring/summary", "/docs", "/redoc", "/openapi.json", "/login")
        ],
        *[
            ("GET", f"{API}/custom_component/a/client/b/c"),
            ("PUT", "/"),
            ("DELETE", "/results/a/b.png"),
            ("GET", "/pwa_icon"),
        ],
    ],
)
def test_tools_of_the_framework_are_not_there(visitor: Visitor, method: str, path: str) -> None:
    assert visitor.http.request(method, path, json={} if method == "POST" else None).status_code == 404


def test_other_sites_and_other_names_of_this_machine_are_refused(visitor: Visitor) -> None:
    for host in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""):
        assert visitor.http.get("/", headers={"host": host}).status_code == 403
    body = {"data": [], "fn_index": 0, "session_hash": visitor.session}
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null"):
        assert visitor.http.post(f"{API}/queue/join", json=body, headers={"origin": origin}).status_code == 403
    assert visitor.http.get("/", headers={"host": "localhost:8000"}).status_code == 200, "a tunnel has another port"


def test_what_is_sent_is_bounded(visitor: Visitor) -> None:
    large = visitor.http.post(f"{API}/upload", files={"files": ("a.png", b"0" * (2**21))})
    assert large.status_code == 413
    assert large.text == "what was sent is larger than 1 MiB; give less at a time"
    several = [("files", (f"{k}.png", b"0" * (2**19))) for k in range(4)]
    assert visitor.http.post(f"{API}/upload", files=several).status_code == 413, "all together count"
    chunked = visitor.http.post(f"{API}/upload", content=iter([b"0" * 10]))
    assert chunked.status_code == 411
    long = {"data": ["x" * 2**21], "fn_index": 0, "session_hash": visitor.session}
    assert visitor.http.post(f"{API}/queue/join", json=long).status_code == 413
    for body in (
        b"[" * 100_000,
        b"not json",
        b"[1]",
        b'{"session_hash": "' + visitor.session.encode() + b'", "data": ',
    ):
        assert visitor.http.post(f"{API}/queue/join", content=body).status_code == 400


def test_uploads_become_inputs_and_their_limits_are_told(visitor: Visitor, tmp_path: Path) -> None:
    def given(**files: bytes) -> str:
        results = visitor.use("Your files", "upload", {"Your files": visitor.upload(**files)})
        return words(str(results[0][0]))

    assert given(photo__png=png(400, 300)).endswith(
        "photo.png is 400 x 300, more than the 0.1 million pixels that the studio takes (--most_megapixels); make it "
        "smaller first"
    )
    write_video(tmp_path / "a.mp4", torch.rand(25, 3, 32, 32), 7)
    assert "has more than 20 frames" in given(a__mp4=(tmp_path / "a.mp4").read_bytes())
    scene = b"image: photo.png\nresize: [2000, 2000]\n"
    assert "resize 2000 x 2000 is more than 0.1 million pixels" in given(photo__png=png(), s__yaml=scene)
    assert "steps is 5000; the studio makes 1000 at most" in words(
        str(visitor.use("Render", "click", {"Steps": 5000})[-1][0])
    )
    frames = visitor.use("Frames of the video", "input", {"Frames of the video": 500})
    assert "num_frames is 500; the studio makes 20 at most" in words(str(frames[0][0]))


def test_wrong_inputs_get_the_sentences_of_the_command_line(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """The same words; a traceback never."""
    visitor = Visitor(served.address)
    mine = served.out.resolve() / str(visitor_of(visitor.http.cookies[COOKIE]))
    cases = [
        {"notes__txt": b"no picture"},
        {"broken__png": png()[:40]},
        {"a__png": png(), "b__png": png(seed=1)},
        {"film__mp4": b"no film" * 100},
        {"scene__yaml": b"image: nothing.png\n"},
        {"scene__yaml": b"fov: wide\nimage: a.png\n", "a__png": png()},
        {"a__png": png(), "scene__yaml": b"image: a.png\ndepth: /etc/passwd\n"},
    ]
    for files in cases:
        results = visitor.use("Your files", "upload", {"Your files": visitor.upload(**files)})
        said = words(str(results[0][0] or results[1][0]))
        assert said, files
        assert "Traceback" not in str(visitor.seen)
        folder = max((mine / "inputs").iterdir(), key=lambda place: place.stat().st_mtime)
        assert {file.name for file in folder.iterdir()} == {name.replace("__", ".") for name in files}
        line = [*given_words(folder), "--out", str(mine / "never")]
        assert main(["preview", "--quiet", *line]) == 2
        expected = capsys.readouterr().err.removeprefix("mvguide: ").strip()
        if "passwd" in str(files):  # here the studio must say less than the command line
            assert said == "depth map /etc/passwd is not among the files that were given; add it to them"
        else:
            assert said == expected


def given_words(folder: Path) -> list[str]:
    """The command line of inputs in a folder, as a person would write it."""
    files = sorted(folder.iterdir())
    by_suffix = {file.suffix: file for file in files}
    if ".yaml" in by_suffix:
        return ["--scene", str(by_suffix[".yaml"])]
    if ".mp4" in by_suffix:
        return ["--video", str(by_suffix[".mp4"])]
    if len(files) == 2:
        return ["--views", json.dumps([{"image": str(file)} for file in files])]
    return ["--image", str(files[0])]


def test_an_image_with_its_depth_is_rendered_by_the_same_words(served: Served, tmp_path: Path) -> None:
    """The result of the studio, of the command line and of the lines of Python: the same bytes."""
    visitor = Visitor(served.address)
    photo, depth = visitor.upload(my_photo__png=png()), visitor.upload(depth__npy=depth_npy())
    chosen = {"Your files": photo, "Depth maps of your files (optional)": depth}
    results = visitor.use("Depth maps of your files (optional)", "upload", chosen)
    assert results[0][0] == "", words(results[0][0])
    assert "my_photo.png, 64 x 48." in results[1][1]
    assert "60 degrees are assumed" in words(results[1][2])
    path = {"Kind of path": "truck", "Size of the move": 0.05, "Steps": 2, "Frames of the video": 4}
    warped = visitor.use("Size of the move", "input", path)
    assert warped[0][1].count("<img") == 3
    line, program = warped[0][2:]
    done = visitor.use("Render", "click", path)
    assert done[-1][0] == "", words(done[-1][0])
    folder = served.out / str(visitor_of(visitor.http.cookies[COOKIE])) / "0001-my_photo-truck"
    made = {file.name: file.read_bytes() for file in folder.glob("images/*.png")}
    assert len(made) == 4
    assert (folder / "report.html").read_text().count(shlex.split(line)[3]) >= 1
    command = shlex.split(line)
    assert command[:2] == ["mvguide", "render"]
    assert str(folder) in command
    again = [word.replace(str(folder), str(tmp_path / "cli")) for word in command[1:]]
    assert main([*again, "--quiet"]) == 0
    exec(compile(program.replace(str(folder), str(tmp_path / "python")), "lines", "exec"), {})
    for other in ("cli", "python"):
        assert {file.name: file.read_bytes() for file in (tmp_path / other).glob("images/*.png")} == made


def test_a_render_that_is_stopped_keeps_its_estimate(served: Served) -> None:
    visitor, tab = Visitor(served.address), Visitor(served.address)
    tab.http.cookies = visitor.http.cookies  # another tab of the same visitor

    def stop() -> None:
        for _ in range(600):
            time.sleep(0.1)
            if any("step" in str(message) for message in visitor.seen[-3:]):
                tab.use("Stop", "click")
                return

    thread = threading.Thread(target=stop)
    thread.start()
    done = visitor.use("Render", "click", {"Steps": 900})
    thread.join()
    assert done[-1][0] == "", words(done[-1][0])
    folder = served.out / str(visitor_of(visitor.http.cookies[COOKIE])) / "0001-marbles-file"
    settings = json.loads((folder / "report.json").read_text())["settings"]
    assert 1 <= settings["steps_done"] < settings["steps"] == 900
    panel = visitor.use("Your results", "input", {"Your results": folder.name})[-1][1]
    assert f"Stopped after step {settings['steps_done']} of 900" in panel


def test_two_visitors_at_once_do_not_mix(served: Served) -> None:
    first, second = Visitor(served.address), Visitor(served.address)
    for one, name in ((first, "first"), (second, "second")):
        files = one.upload(**{f"{name}__png": png(seed=len(name)), "d__npy": depth_npy()})
        chosen = {"Your files": files[:1], "Depth maps of your files (optional)": files[1:]}
        assert one.use("Your files", "upload", chosen)[0][0] == ""
    for one, name, foreign in ((first, "first", "second"), (second, "second", "first")):
        results = one.use("Depth of images that have none (depth_source)", "input")
        assert f"{name}.png" in str(results)
        assert f"{foreign}.png" not in str(results)
        assert str(visitor_of(one.http.cookies[COOKIE])) in str(results)


def test_values_that_no_page_sends_are_refused_without_a_traceback(
    visitor: Visitor, capfd: pytest.CaptureFixture[str]
) -> None:
    start = visitor.handlers("Render", "click")[0]
    for data in (
        [None, "auto", "", "", "", "orbit", 1e308, 8, 2, 0, ""],
        [None, "auto", "", "nan", "-5", "orbit", 15, 8, 2, 0, ""],
        [None, {"a": 1}, [], [], "", "no kind", 15, 8, 2, 0, ""],
        [None, "auto", "", "", "", "orbit", 15, "x", None, -1, "p" * 5000],
        [],
    ):
        visitor.call(start, data)
        text = json.dumps(visitor.seen)
        assert "Traceback" not in text
        assert ".py" not in text
    assert sys.exc_info() == (None, None, None)
