"""The studio in a real browser, as a person uses it. Writes the pictures of docs/studio.md."""

import io
import os
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.accessibility import serious_faults
from tests.browsing import chromium_page, in_browser
from tests.studio.conftest import Served
from tests.studio.test_server import depth_npy, png

pytestmark = in_browser("gradio")
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PATIENCE = 90_000  # milliseconds: two busy cores


def picture(page: Any, name: str, **options: Any) -> None:
    """A picture of the page for the documentation; written where MVGUIDE_DOC_IMAGES=1 is set."""
    shot = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    if os.environ.get("MVGUIDE_DOC_IMAGES") == "1":
        shot.quantize(128, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def ready(page: Any) -> None:
    """Wait until the page has its inputs, its path and the words for them."""
    page.locator("img[alt^='warp of frame']").last.wait_for(timeout=PATIENCE)
    page.wait_for_function("document.querySelector('.code textarea')?.value.startsWith('mvguide')", timeout=PATIENCE)


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=re.compile(f"^{option}")).click()


def last_warp(page: Any) -> str:
    return str(page.locator("img[alt^='warp of frame']").last.get_attribute("src"))


def note(record: pytest.FixtureRequest, **seconds: float) -> None:
    print({name: round(value, 2) for name, value in seconds.items()})  # make check-browser shows it with -s
    for name, value in seconds.items():
        record.node.user_properties.append((name, value))


def test_from_an_example_to_a_video(served: Served, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    start = time.monotonic()
    with chromium_page(served.address, height=1000) as page:
        page.locator("img[alt^='warp of frame']").last.wait_for(timeout=PATIENCE)
        opened = time.monotonic() - start
        ready(page)
        choose(page, "Kind of path", "orbit")
        slider = page.get_by_role("slider", name=re.compile("Size of the move"))
        slider.wait_for(timeout=PATIENCE)
        page.wait_for_function(
            "document.querySelector('.code textarea')?.value.includes('degrees 15')", timeout=PATIENCE
        )
        page.wait_for_timeout(1500)
        before = last_warp(page)
        start = time.monotonic()
        slider.press("ArrowRight")
        page.wait_for_function(
            "before => [...document.querySelectorAll(\"img[alt^='warp of frame']\")].at(-1).src !== before",
            arg=before,
            timeout=PATIENCE,
        )
        followed = time.monotonic() - start
        page.wait_for_function(
            "document.querySelector('.code textarea')?.value.includes('degrees 15.5')", timeout=PATIENCE
        )
        assert serious_faults(page) == []
        picture(page, "studio")
        page.get_by_label("Steps").fill("4")
        start = time.monotonic()
        page.get_by_role("button", name="Render", exact=True).click()
        page.get_by_role("progressbar").wait_for(timeout=PATIENCE)
        page.get_by_text(re.compile(r"step \d of 4")).wait_for(timeout=PATIENCE)
        begun = time.monotonic() - start
        page.get_by_text(re.compile(r"step \d of 4 · sigma .* left")).wait_for(timeout=PATIENCE)
        page.get_by_alt_text("current estimate of frame 7").wait_for(timeout=PATIENCE)
        page.get_by_role("button", name="Stop", exact=True).scroll_into_view_if_needed()
        picture(page, "studio_render")
        video = page.locator("video")
        video.wait_for(timeout=PATIENCE)
        video.scroll_into_view_if_needed()  # Chromium plays what is seen
        page.wait_for_function("document.querySelector('video').currentTime > 0.2", timeout=PATIENCE)
        assert video.evaluate("v => v.duration") > 1
        assert page.get_by_text("done: the result is below").is_visible()
        page.get_by_label("From warp to result").fill("20")
        assert page.locator(".compare").evaluate("box => box.style.getPropertyValue('--split')") == "20%"
        page.get_by_label("Frame", exact=True).fill("6")
        for part in ("of-warp", "of-result"):
            page.wait_for_function(
                f"(i => i.src.endsWith('/0006.png') && i.naturalWidth === 128)(document.querySelector('.{part}'))",
                timeout=PATIENCE,
            )
        for part in ("lambda table of the render", "input, warps and video, frame by frame"):
            assert page.get_by_alt_text(part).evaluate("image => image.naturalWidth") > 100
        assert serious_faults(page) == []
        page.locator("video").scroll_into_view_if_needed()
        page.locator(".compare").evaluate("box => box.style.setProperty('--split', '50%')")
        picture(page, "studio_result")
        with page.expect_download() as download:
            page.get_by_text("Download all as .zip").click()
        download.value.save_as(tmp_path / "result.zip")
        with zipfile.ZipFile(tmp_path / "result.zip") as packed:
            assert packed.testzip() is None
            assert any(name.endswith("/report.json") for name in packed.namelist())
        with page.expect_popup() as popup:
            page.get_by_text("Open the report").click()
        report = popup.value
        report.wait_for_load_state()
        assert report.get_by_role("heading", name="Make it again").is_visible()
        assert report.locator("video").first.evaluate("v => v.error") is None
    note(request, opening_to_first_preview=opened, slider_to_warps=followed, click_to_first_progress=begun)
    assert opened < 5 * slack()
    assert followed < 1 * slack()
    assert begun < 3 * slack()


def slack() -> float:
    """How much more time a busy machine has: the limits hold where the load is not above the number of cores."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_stop_keeps_what_is_there_and_another_tab_shows_it_too(served: Served) -> None:
    with chromium_page(served.address) as page:
        ready(page)
        page.get_by_label("Steps").fill("900")
        page.get_by_role("button", name="Render", exact=True).click()
        page.get_by_text(re.compile(r"step \d+ of 900")).wait_for(timeout=PATIENCE)
        other = page.context.browser.new_context(storage_state=page.context.storage_state())
        tab = other.new_page()
        tab.goto(served.address)
        tab.get_by_text(re.compile(r"step \d+ of 900")).wait_for(timeout=PATIENCE)
        stranger = page.context.browser.new_page()
        stranger.goto(served.address)
        ready(stranger)
        assert stranger.get_by_role("progressbar").count() == 0
        tab.get_by_role("button", name="Stop", exact=True).click()
        for one in (page, tab):
            one.get_by_text(re.compile(r"Stopped after step \d+ of 900")).wait_for(timeout=PATIENCE)
            one.locator("video").scroll_into_view_if_needed()
            one.wait_for_function("document.querySelector('video').currentTime > 0.1", timeout=PATIENCE)
        page.reload()
        page.get_by_text(re.compile(r"Stopped after step \d+ of 900")).wait_for(timeout=PATIENCE)
        assert page.get_by_label("Your results").input_value() == "0001-marbles-file"
        assert stranger.get_by_text("Stopped after").count() == 0


def test_files_are_dropped_and_a_wrong_one_gets_its_sentence(served: Served, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "photo.png").write_bytes(png(320, 240))
    (tmp_path / "depth.npy").write_bytes(depth_npy(320, 240))
    with chromium_page(served.address) as page:
        ready(page)
        files, maps = page.locator("input[type=file]").first, page.locator("input[type=file]").last
        files.set_input_files(tmp_path / "notes.txt")
        alert = page.get_by_role("alert")
        alert.first.wait_for(timeout=PATIENCE)
        assert re.search(r"picture .*notes\.txt cannot be read \(UnidentifiedImageError", alert.first.inner_text())
        assert "Traceback" not in page.content()
        assert serious_faults(page) == []
        page.get_by_label("Clear").first.click()
        alert.first.wait_for(state="detached", timeout=PATIENCE)
        page.locator("input[type=file]").first.set_input_files(tmp_path / "photo.png")
        alert.first.wait_for(timeout=PATIENCE)
        assert "photo.png has no depth, which warping needs" in alert.first.inner_text()
        maps.set_input_files(tmp_path / "depth.npy")
        page.get_by_text("photo.png, 320 x 240.").wait_for(timeout=PATIENCE)
        page.get_by_alt_text("depth of photo.png").wait_for(timeout=PATIENCE)
        page.wait_for_function(
            "document.querySelector('.code textarea')?.value.includes('/photo.png')", timeout=PATIENCE
        )
        assert "--depth" in page.locator(".code textarea").first.input_value()
        assert page.get_by_text("60 degrees are assumed").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_of_it(served: Served, scheme: str) -> None:
    with chromium_page(served.address, width=390, height=844) as page:
        page.emulate_media(color_scheme=scheme)
        page.reload()
        ready(page)
        for _ in range(2):
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            wide = page.evaluate(
                "[...document.querySelectorAll('button, input, img, video, textarea, h1, h2')]"
                ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 99))"
            )
            assert wide == []
            assert serious_faults(page) == []
            choose(page, "Kind of path", "dolly")
            page.get_by_role("slider", name=re.compile("Size of the move")).wait_for(timeout=PATIENCE)
        if scheme == "light":
            page.evaluate("window.scrollTo(0, 0)")
            picture(page, "studio_small")


def test_keys_alone_reach_everything(served: Served) -> None:
    with chromium_page(served.address) as page:
        ready(page)
        choose(page, "Kind of path", "truck")
        page.get_by_role("slider", name=re.compile("Size of the move")).wait_for(timeout=PATIENCE)
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate(
                    "(e => e.getAttribute('aria-label') || e.textContent.trim().slice(0, 30))(document.activeElement)"
                )
            )
        for name in ("Example scene", "Kind of path", "Steps", "Render", "Frames of the video"):
            assert name in reached, reached
        assert any("Size of the move" in name for name in reached)
        assert any("upload" in name for name in reached)


def test_pictures_of_the_page_are_not_blank(served: Served) -> None:
    """What the browser draws of the inputs is the example's picture."""
    with chromium_page(served.address) as page:
        ready(page)
        shot = Image.open(io.BytesIO(page.get_by_alt_text("input image.png").screenshot())).convert("RGB")
        pixels = np.asarray(shot.resize((64, 64)), dtype=float)
        from mvguide.scenes import packaged_scene

        truth = np.asarray(Image.open(packaged_scene().image).convert("RGB").resize((64, 64)), dtype=float)
        assert np.abs(pixels - truth).mean() < 12
