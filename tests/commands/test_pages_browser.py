"""The pages of results, evaluations and comparisons in a real browser, opened from disk."""

from pathlib import Path

import pytest

from mvguide.cli import main
from tests.browsing import chromium_page, in_browser

pytestmark = in_browser()
QUICK = ["--steps", "2", "--width", "48", "--height", "32", "--num_frames", "4", "--quiet"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind; their folder has a name that an address must quote."""
    folder = tmp_path_factory.mktemp("results") / "mine & yours #1"
    render, evaluation, compare = (str(folder / name) for name in ("a render", "evaluation", "compare"))
    assert main(["render", "--scene", "marbles", *QUICK, "--out", render]) == 0
    frames = str(folder / "a render" / "warps.mp4")
    assert main(["evaluate", render, "--truth", frames, "--quiet", "--out", evaluation]) == 0
    assert main(["compare", evaluation, render, "--names", "a", "b", "--quiet", "--out", compare]) == 0
    return {name: Path(name) / "report.html" for name in (render, evaluation, compare)}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("number", [0, 1, 2], ids=["render", "evaluate", "compare"])
def test_a_page_shows_all_that_it_names(pages: dict[str, Path], number: int, width: int) -> None:
    with chromium_page(list(pages.values())[number].as_uri(), width) as page:
        page.wait_for_function("[...document.images].every(image => image.complete)")
        widths = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
        assert widths
        assert min(widths) > 0
        videos = page.locator("video")
        page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState > 0)")
        sizes = videos.evaluate_all("videos => videos.map(video => [video.videoWidth, video.duration])")
        assert sizes
        assert all(side > 0 and seconds > 0 for side, seconds in sizes)
        videos.first.evaluate("video => video.play()")
        page.wait_for_function("document.querySelector('video').currentTime > 0")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing to scroll sideways"


def test_links_between_pages_lead_somewhere(pages: dict[str, Path]) -> None:
    for page_file in list(pages.values())[1:]:
        with chromium_page(page_file.as_uri()) as page:
            page.locator("a[href$='report.html']").first.click()
            page.get_by_role("heading", name="mvguide: a render").wait_for()
