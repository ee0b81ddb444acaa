"""The queue of renders: one at a time, with words for those who wait."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mvguide.config.parsing import load_settings
from mvguide.config.render_options import RenderConfig
from mvguide.diffusion.sampler import LoopState, Progress
from mvguide.diffusion.solvers import Step
from mvguide.errors import InputError
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.studio import jobs
from mvguide.studio.jobs import MOST_WAITING, Render, Renders, duration, small_estimate


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Renders take the steps that are given to this; the network is left out."""
    allowed = threading.Semaphore(0)

    def fake(shared: Any, config: RenderConfig, path: None, say: Any, bar: Any) -> None:
        bar.begin("reading")
        bar.begin("denoising", config.steps)
        count = config.steps or 1
        for index in range(count):
            assert allowed.acquire(timeout=20)
            step = Step(index, count, torch.tensor(2.0 - index / count), torch.tensor(2.0 - (index + 1) / count))
            x = torch.zeros(1)
            if bar.watch(Progress(step, LoopState(index + 1, x, None), x)):
                break

    monkeypatch.setattr(jobs, "render_with", fake)
    monkeypatch.setattr(jobs, "small_estimate", lambda backbone, x: ([0], torch.zeros(1, 3, 4, 4)))
    return lambda count: allowed.release(count)


@pytest.fixture
def renders() -> Iterator[Renders]:
    found = Renders(load_settings(RenderConfig))
    yield found
    found.close()


def render(visitor: str, folder: Path, steps: int = 4) -> Render:
    config = load_settings(RenderConfig, image="a.png", steps=steps, out=str(folder / visitor))
    return Render(visitor, config, 8, [folder])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_render_counts_its_steps_and_says_how_long(
    renders: Renders, steps: Callable[[int], None], tmp_path: Path
) -> None:
    mine = renders.submit(render("a", tmp_path))
    until(lambda: mine.stage == "denoising")
    assert renders.words(mine) == "step 0 of 4"
    time.sleep(0.5)
    steps(1)
    until(lambda: mine.step == 1)
    assert renders.words(mine).startswith("step 1 of 4 · sigma 1.75 · about ")
    assert mine.estimate is not None
    assert 0 < mine.share < 1
    left = mine.seconds_left
    assert left is not None
    assert left > 1.5, "three steps of half a second, and what comes after"
    followed = renders.follow(mine)
    assert next(followed) is mine
    steps(3)
    assert list(followed)[-1].over.is_set()
    assert (mine.is_kept, mine.share, renders.words(mine)) == (True, 1.0, "done: the result is below")


def test_those_who_wait_are_told_how_long(renders: Renders, steps: Callable[[int], None], tmp_path: Path) -> None:
    first, second, third = (renders.submit(render(name, tmp_path)) for name in "abc")
    until(lambda: first.stage == "denoising")
    assert renders.words(second).startswith("waiting: 1 render before yours, how long that takes is known once")
    time.sleep(0.3)
    steps(1)
    until(lambda: first.step == 1)
    assert renders.words(second).startswith("waiting: 1 render before yours, about ")
    assert renders.words(third).startswith("waiting: 2 renders before yours, about ")
    steps(11)
    for one in (first, second, third):
        assert one.over.wait(20)
        assert one.is_kept


def test_a_visitor_has_one_render_in_the_queue_and_the_queue_an_end(
    renders: Renders, steps: Callable[[int], None], tmp_path: Path
) -> None:
    running = renders.submit(render("runs", tmp_path))
    until(lambda: running.stage == "denoising")
    with pytest.raises(InputError, match="you have a render in the queue already; stop it"):
        renders.submit(render("runs", tmp_path))
    for k in range(MOST_WAITING):
        renders.submit(render(str(k), tmp_path, steps=1))
    with pytest.raises(InputError, match=f"{MOST_WAITING} renders are waiting already, for how long"):
        renders.submit(render("late", tmp_path))
    for k in range(MOST_WAITING):
        renders.stop(str(k))
        found = renders.latest(str(k))
        assert found is not None
        assert renders.words(found) == "stopped before it began; there is nothing to keep"
        assert not found.is_kept
    steps(4)
    assert running.over.wait(20)


def test_stop_ends_after_the_step_and_only_the_render_of_its_visitor(
    renders: Renders, steps: Callable[[int], None], tmp_path: Path
) -> None:
    mine = renders.submit(render("a", tmp_path, steps=100))
    until(lambda: mine.stage == "denoising")
    renders.stop("b")
    steps(1)
    until(lambda: mine.step == 1)
    assert not mine.stop.is_set()
    renders.stop("a")
    assert renders.words(mine).endswith("stopping")
    steps(1)
    assert mine.over.wait(20)
    assert mine.step == 2
    assert mine.is_kept


def test_what_fails_is_told_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("in the middle")

    def refused(*arguments: Any) -> None:
        raise InputError("a sentence")

    renders = Renders(
        load_settings(RenderConfig, model=str(tmp_path / "none"))
    )  # loading ahead fails, and says nothing
    try:
        for work, said in ((broken, jobs.UNEXPECTED), (refused, "a sentence")):
            monkeypatch.setattr(jobs, "render_with", work)
            found = renders.submit(render("a", tmp_path))
            assert found.over.wait(20)
            assert (found.stage, found.error) == ("failed", said)
        assert "ZeroDivisionError" in capsys.readouterr().err
    finally:
        renders.close()


def test_a_render_reads_only_what_it_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mvguide.decoding import is_file

    (tmp_path / "mine").mkdir()
    for name in ("mine/a.png", "theirs.png"):
        (tmp_path / name).write_bytes(b"x")
    found = []
    monkeypatch.setattr(
        jobs, "render_with", lambda *_: found.extend(is_file(tmp_path / name) for name in ("mine/a.png", "theirs.png"))
    )
    renders = Renders(load_settings(RenderConfig))
    try:
        one = render("a", tmp_path)
        one.readable = [tmp_path / "mine"]
        assert renders.submit(one).over.wait(20)
    finally:
        renders.close()
    assert found == [True, False]


def test_the_estimate_is_decoded_small() -> None:
    pipe = MultiViewPipeline.from_pretrained("tiny", device="cpu")
    frames, shown = small_estimate(pipe.backbone, torch.zeros(pipe.backbone.latent_shape(8, 512, 256)))
    assert frames == [2, 5, 7]
    assert shown.shape == (3, 3, 256, 128)
    frames, shown = small_estimate(pipe.backbone, torch.zeros(pipe.backbone.latent_shape(4, 128, 128)))
    assert (frames, shown.shape) == ([1, 2, 3], (3, 3, 128, 128))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (7100, "118 min"), (7800, "2 h 10 min")]
)
def test_durations_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
