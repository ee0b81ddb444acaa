"""Renders of the studio, one after the other, and what each of them is doing."""

import itertools
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mvguide.backbones.base import Backbone
from mvguide.commands.rendering import STAGES, render_with
from mvguide.commands.sharing import Shared
from mvguide.commands.speaking import JobBar
from mvguide.config.render_options import RenderConfig
from mvguide.decoding import reading_only
from mvguide.diffusion.sampler import Progress
from mvguide.errors import InputError, MvguideError
from mvguide.files.atomic import claim_folder
from mvguide.memory import is_out_of_memory

MOST_WAITING = 20
_ESTIMATES = 8  # the current estimate is decoded about so often in a render
_ESTIMATE_SIDE = 256  # its longer side, pixels
_POLL = 0.2  # seconds
UNEXPECTED = "the studio met an error that it does not know; the terminal in which it runs has the details"


@dataclass(eq=False)
class Render:
    """One render, waiting, running or over.

    Args:
        visitor: whose it is.
        config: its settings.
        num_frames: F of its video.
        readable: folders that its settings may lead to.
    """

    visitor: str
    config: RenderConfig
    num_frames: int
    readable: list[Path]
    stage: str = "waiting"
    share: float = 0.0
    step: int = 0
    steps: int = 0
    sigma: float = 0.0
    seconds_left: float | None = None
    estimate: Tensor | None = None
    frames: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    changes: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_kept(self) -> bool:
        """Whether it is over and has a result."""
        return self.over.is_set() and self.stage == "done"


class Renders:
    """The queue: one render runs at a time, and everybody may have one in it.

    Args:
        first: settings of a render to come; their model is loaded at once, by the thread that renders.
    """

    def __init__(self, first: RenderConfig) -> None:
        self._first = first
        self._shared = Shared()
        self._waiting: deque[Render] = deque()
        self._running: Render | None = None
        self._latest: dict[str, Render] = {}
        self._per_step: float | None = None  # seconds of a step for a frame
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="mvguide-studio", daemon=True)
        self._thread.start()

    def submit(self, render: Render) -> Render:
        """Put a render at the end of the queue.

        Raises:
            InputError: its visitor has one in it already, or it is full.
        """
        with self._change:
            last = self._latest.get(render.visitor)
            if last is not None and not last.over.is_set():
                raise InputError("you have a render in the queue already; stop it, or wait until it has ended")
            if len(self._waiting) >= MOST_WAITING:
                raise InputError(f"{MOST_WAITING} renders are waiting already, for {self._wait_words(None)}; try later")
            self._waiting.append(render)
            self._latest[render.visitor] = render
            self._change.notify_all()
        return render

    def latest(self, visitor: str) -> Render | None:
        """The last render of a visitor."""
        return self._latest.get(visitor)

    def stop(self, visitor: str) -> None:
        """Stop the visitor's render: after this step, with its estimate as the result; or before it began."""
        with self._change:
            render = self._latest.get(visitor)
            if render is None or render.over.is_set():
                return
            render.stop.set()
            if render in self._waiting:
                self._waiting.remove(render)
                self._end(render, "stopped", "")

    def follow(self, render: Render) -> Iterator[Render]:
        """Yield the render whenever it has changed, and every second, until it is over."""
        seen, shown = -1, 0.0
        while True:
            over = render.over.is_set()
            if render.changes != seen or time.monotonic() - shown > 1:
                seen, shown = render.changes, time.monotonic()
                yield render
            if over:
                return
            render.over.wait(_POLL)

    def words(self, render: Render) -> str:
        """What a render is doing, and how long it will take."""
        if render.stage == "waiting":
            with self._change:
                ahead = (self._running is not None) + (self._waiting.index(render) if render in self._waiting else 0)
                return f"waiting: {_count(ahead, 'render')} before yours, {self._wait_words(render)}"
        if render.over.is_set():
            return {
                "done": "done: the result is below",
                "stopped": "stopped before it began; there is nothing to keep",
            }.get(render.stage, "")
        parts = [render.stage]
        if render.stage == "denoising" and render.steps:
            parts = [f"step {render.step} of {render.steps}", *[f"sigma {render.sigma:.3g}"] * bool(render.step)]
        if render.stop.is_set():
            parts.append("stopping")
        elif render.seconds_left is not None:
            parts.append(f"about {duration(render.seconds_left)} left")
        return " · ".join(parts)

    def close(self) -> None:
        """Stop what runs after its step, and wait for it a little."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            if self._running is not None:
                self._running.stop.set()
            self._change.notify_all()
        self._thread.join(timeout=10)

    def _wait_words(self, render: Render | None) -> str:
        """How long it takes until a render begins; None: one that would be put at the end."""
        total, before = 0.0, itertools.takewhile(lambda one: one is not render, self._waiting)
        for one in [*([] if self._running is None else [self._running]), *before]:
            left = one.seconds_left if one is self._running else self._guess(one)
            if left is None:
                return "how long that takes is known once the first of them counts its steps"
            total += left
        return f"about {duration(total)}"

    def _guess(self, render: Render) -> float | None:
        """Seconds that a render will take, by the steps of the last one."""
        if self._per_step is None:
            return None
        others = sum(STAGES.values()) - STAGES["denoising"]
        return self._per_step * ((render.config.steps or STAGES["denoising"]) + others) * render.num_frames

    def _work(self) -> None:
        with suppress(Exception):  # the first render tries again, and tells the reason
            self._shared.load_model(self._first)
        self._shared.keep_model()
        while True:
            with self._change:
                while not self._waiting and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
                render = self._running = self._waiting.popleft()
                render.stage = "reading"
            try:
                self._render(render)
                self._end(render, "done", "")
            except MvguideError as error:
                self._end(render, "failed", str(error))
            except Exception:
                traceback.print_exc()
                self._end(render, "failed", UNEXPECTED)
            finally:
                self._running = None

    def _render(self, render: Render) -> None:
        bar = _Bar(render, self._shared, self._note_speed)
        try:
            with claim_folder(render.config.out), reading_only(*render.readable):
                render_with(self._shared, render.config, None, render.notes.append, bar)
        finally:
            self._shared.keep_model()  # what the next visitor may read is checked again

    def _note_speed(self, render: Render, seconds: float) -> None:
        self._per_step = seconds / render.num_frames

    def _end(self, render: Render, stage: str, error: str) -> None:
        render.stage, render.error, render.share, render.estimate = stage, error, 1.0, None
        render.changes += 1
        render.over.set()


class _Bar(JobBar):
    """Notes what a render is doing in its record, and stops it where that was asked for."""

    def __init__(self, render: Render, shared: Shared, note_speed: Callable[[Render, float], None]) -> None:
        super().__init__(STAGES, quiet=True)
        self.render, self.shared, self.note_speed, self.started = render, shared, note_speed, 0.0
        # With offload the decoder would chase the network from the GPU, and the network the decoder.
        self.shows = render.config.offload == "none"

    def begin(self, stage: str, steps: int | None = None) -> None:
        """Note the stage."""
        super().begin(stage, steps)
        self.started = time.monotonic()
        self.render.stage, self.render.steps = stage, steps or self.render.steps
        self.render.share = self.before / sum(self.stages.values())
        self.render.changes += 1

    def watch(self, progress: Progress) -> bool | None:
        """Note the step, decode the estimate now and then, and stop where that was asked for."""
        render, done, count = self.render, self.done + 1, self.stages["denoising"]
        each = (time.monotonic() - self.started) / done
        whole = sum(self.stages.values())
        render.step, render.steps, render.sigma = done, count, float(progress.step.sigma_next)
        render.share = (self.before + done) / whole
        render.seconds_left = each * (whole - self.before - done)
        self.note_speed(render, each)
        if self.shows and (done == 1 or done % max(1, count // _ESTIMATES) == 0):
            self._show(progress.denoised)
        render.changes += 1
        super().watch(progress)  # after the last step, decoding begins
        return render.stop.is_set()

    def _show(self, denoised: Tensor) -> None:
        backbone = self.shared.backbone
        if backbone is None:
            return
        try:
            self.render.frames, self.render.estimate = small_estimate(backbone, denoised)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.shows = False  # the run needs the memory more


def small_estimate(backbone: Backbone, denoised: Tensor) -> tuple[list[int], Tensor]:
    """Three frames of an estimate, decoded small.

    Args:
        backbone: the model.
        denoised: ``[1, L, C, h, w]``.

    Returns:
        Numbers of the frames, and frames ``[3, 3, H, W]`` in [0, 1].
    """
    side: float = max(denoised.shape[-2:]) * backbone.vae_scale_factor
    pooled = denoised[0].float()
    while side > _ESTIMATE_SIDE and min(pooled.shape[-2:]) >= 8:
        pooled, side = avg_pool2d(pooled, 2), side / 2
    with torch.no_grad():
        video = backbone.decode(pooled[None].to(denoised.dtype)).clamp(0, 1)
    last = len(video) - 1
    frames = sorted({round(last / 3), round(2 * last / 3), last})
    return frames, video[frames]


def duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
