"""A resumed run ends in the same bytes; a checkpoint of another run, or a damaged one, is refused in a sentence."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mvguide
from mvguide import Checkpoint, Context, MultiViewPipeline, PosteriorGradient, Resampling, TopShare
from mvguide.backbones.base import ConditioningOptions
from mvguide.backbones.svd import SvdBackbone
from mvguide.diffusion.path import NoisePath
from mvguide.diffusion.sampler import LoopState, Progress
from mvguide.diffusion.solvers import FirstOrder, Heun, Step
from mvguide.errors import ConfigError, FileError, OutOfMemoryError, OutputError
from mvguide.geometry.camera import Camera
from mvguide.pipeline.checkpoint import read_checkpoint, settings_hash
from mvguide.scenes import packaged_scene
from mvguide.views.view import View
from tests.backbones.tiny_families import FAMILIES, HEIGHT, WIDTH, make_backbone
from tests.backbones.tiny_svd import build_pipeline

Scene = tuple[View, Camera]
FRAMES, STEPS = 3, 4


@pytest.fixture(scope="module")
def scene() -> Scene:
    return packaged_scene().load(FRAMES)


@pytest.fixture(scope="module")
def pipe() -> MultiViewPipeline:
    return MultiViewPipeline(SvdBackbone(build_pipeline(), "tiny"))


def prepare(pipe: MultiViewPipeline, scene: Scene, **changes: Any) -> Context:
    view, trajectory = scene
    settings = {"schedule": STEPS, "size": (16, 16), "generator": torch.Generator().manual_seed(5)}
    return pipe.prepare([view], trajectory, **{**settings, **changes})


@pytest.fixture(scope="module")
def context(pipe: MultiViewPipeline, scene: Scene) -> Context:
    return prepare(pipe, scene)


class Copies:
    """A watch that keeps a copy of the checkpoint after each step."""

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        self.checkpoint, self.folder = checkpoint, folder
        self.files: dict[int, Path] = {}

    def __call__(self, progress: Progress) -> None:
        index = progress.state.index
        self.files[index] = self.folder / f"{index}.safetensors"
        shutil.copy(self.checkpoint.file, self.files[index])


def check_resumes(
    first: Context, again: Callable[[], Context], folder: Path, stops: tuple[int, ...] = (), **settings: Any
) -> None:
    """Every state of a run, read in a context made anew, leads to the frames of the unbroken run, bit for bit."""
    table = first.search_table()
    plain = MultiViewPipeline(first.backbone).sample(first, table, **settings)
    checkpoint = Checkpoint(folder / "state.safetensors", every=1)
    copies = Copies(checkpoint, folder)
    whole = MultiViewPipeline(first.backbone).sample(first, table, checkpoint=checkpoint, watch=copies, **settings)
    assert torch.equal(whole.frames, plain.frames), "keeping the state changes nothing"
    count = len(first.schedule)
    for index in stops or range(1, count + 1):
        context = again()
        steps: list[int] = []
        found = MultiViewPipeline(context.backbone).sample(
            context,
            context.search_table(),
            checkpoint=Checkpoint(copies.files[index], resume=True),
            watch=lambda progress, steps=steps: steps.append(progress.step.index),  # type: ignore[misc]
            **settings,
        )
        assert steps == list(range(index, count))
        assert torch.equal(found.latents, plain.latents), f"latents, after step {index}"
        assert torch.equal(found.frames, plain.frames), f"frames, after step {index}"
        assert found.settings["resumed_after"] == index


MODES: dict[str, dict[str, Any]] = {
    "euler, none": {"solver": "euler", "guidance": "none"},
    "euler, blend": {"solver": "euler"},
    "ancestral, top_share": {"solver": "ancestral", "guidance": TopShare(floor=0.3)},
    "heun, posterior_gradient": {"solver": "heun", "guidance": "posterior_gradient"},
    "dpmpp_2m, blend": {"solver": "dpmpp_2m"},
    "dpmpp_2m, posterior_gradient": {"solver": "dpmpp_2m", "guidance": PosteriorGradient(step_size=0.5, floor=0.5)},
    "resampled euler": {"solver": Resampling(FirstOrder(), 1)},
    "resampled ancestral, none": {"solver": Resampling(FirstOrder(eta=1.0), 1), "guidance": "none"},
    "resampled heun, top_share": {"solver": Resampling(Heun(), 1), "guidance": "top_share"},
    "resampled dpmpp_2m": {"solver": Resampling(mvguide.diffusion.solvers.DpmPp2M(), 2, until=0.5)},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_ends_in_the_same_bytes(
    mode: str, pipe: MultiViewPipeline, scene: Scene, context: Context, tmp_path: Path
) -> None:
    check_resumes(context, lambda: prepare(pipe, scene), tmp_path, **MODES[mode])


FAMILY_MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "UniPC": ("wan21", {}),
    "UniPC, none": ("wan22_5b", {"guidance": "none"}),
    "UniPC, resampled": ("wan_vace", {"solver": "resampled"}),
    "flow Euler, posterior_gradient": ("wan21_euler", {"guidance": "posterior_gradient"}),
    "CogVideoXDPM": ("cogvideox_dpm", {"guidance": "top_share"}),
    "CogVideoXDPM, resampled": ("cogvideox15_dpm", {"solver": "resampled"}),
    "noise in the decoder": ("ltx_noisy_decoder", {}),
    "two networks": ("wan22_a14b", {}),
    "heun": ("hunyuan_replace", {"solver": "heun"}),
}


@pytest.mark.parametrize("mode", FAMILY_MODES)
def test_families_and_their_own_schedulers_resume(
    mode: str, tiny_pipeline: Callable[[str], Any], tmp_path: Path
) -> None:
    kind, settings = FAMILY_MODES[mode]
    frames = FAMILIES[kind].frames - FAMILIES[kind].dropped
    scene = packaged_scene().load(frames)
    options = ConditioningOptions(frames, cfg_max=1.0 if "hunyuan" in kind else 2.0)

    def again() -> Context:
        backbone = make_backbone(tiny_pipeline(kind))
        return prepare(MultiViewPipeline(backbone), scene, size=(WIDTH, HEIGHT), conditioning=options)

    context = again()
    if settings.get("solver") == "resampled":
        # Each context has a scheduler of its own; that the solver is another object does not matter.
        settings = {"solver": Resampling(context.backbone.solver(context.schedule), 1)}
    check_resumes(context, again, tmp_path, stops=(1, 3), **settings)


def test_the_order_of_axes_in_memory_is_kept(context: Context, tmp_path: Path) -> None:
    """Kernels may add in that order: latents of video transformers lie with channels before time."""
    x = torch.randn(1, 5, 3, 4, 6).transpose(1, 2)
    assert not x.is_contiguous()
    step = Step(0, 4, torch.tensor(2.0), torch.tensor(1.0))
    checkpoint = Checkpoint(tmp_path / "a.safetensors")
    checkpoint.write(Progress(step, LoopState(1, x, None), x), {"a": 1}, FirstOrder())
    found = read_checkpoint(checkpoint.file)
    assert torch.equal(found.x, x)
    assert found.x.stride() == x.stride()
    assert (found.index, found.num_steps, found.segment) == (1, 4, 0)
    assert found.settings == {"a": 1}


class StopError(BaseException):
    """As Ctrl-C."""


def stop_after(count: int, error: type[BaseException] = StopError) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        if progress.state.index == count:
            raise error

    return watch


def stopped(pipe: MultiViewPipeline, context: Context, checkpoint: Checkpoint, count: int = 2, **settings: Any) -> None:
    with pytest.raises(StopError):
        pipe.sample(context, context.search_table(), checkpoint=checkpoint, watch=stop_after(count), **settings)


@pytest.mark.parametrize(("every", "kept"), [(1, 3), (2, 3), (100, 3), (None, 3)])
def test_a_run_that_is_stopped_keeps_its_last_finished_step(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path, every: int | None, kept: int
) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=every)
    stopped(pipe, context, checkpoint, count=3)
    found = checkpoint.saved()
    assert found is not None
    assert (found.index, found.num_steps) == (kept, STEPS)


def test_states_are_written_every_so_many_steps_and_after_the_last(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=3)
    seen = []

    def watch(progress: Progress) -> None:
        found = checkpoint.saved()
        seen.append(0 if found is None else found.index)

    pipe.sample(context, context.search_table(), checkpoint=checkpoint, watch=watch)
    assert seen == [0, 0, 3, 4]


def test_without_a_file_it_starts_from_the_beginning(pipe: MultiViewPipeline, context: Context, tmp_path: Path) -> None:
    table = context.search_table()
    checkpoint = Checkpoint(tmp_path / "none.safetensors", resume=True)
    found = pipe.sample(context, table, checkpoint=checkpoint)
    assert torch.equal(found.frames, pipe.sample(context, table).frames)
    assert "resumed_after" not in found.settings
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_out_of_memory_keeps_its_last_finished_step(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path
) -> None:
    """It can go on with more memory, or on another device."""
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=100)
    watch = stop_after(2, torch.OutOfMemoryError)
    with pytest.raises(OutOfMemoryError, match="denoising 3 frames"):
        pipe.sample(context, context.search_table(), checkpoint=checkpoint, watch=watch)
    assert checkpoint.saved().index == 2  # type: ignore[union-attr]


def test_an_error_of_the_run_itself_keeps_no_new_state(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=100)
    with pytest.raises(FileError):
        pipe.sample(context, context.search_table(), checkpoint=checkpoint, watch=stop_after(2, FileError))
    assert checkpoint.saved() is None


def test_segments_have_files_of_their_own(pipe: MultiViewPipeline, context: Context, tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "checkpoint.safetensors", every=1)
    second = replace(first, segment=1)
    stopped(pipe, context, first)
    stopped(pipe, context, second, count=3)
    assert first.saved().index == 2  # type: ignore[union-attr]
    assert second.saved().segment == 1  # type: ignore[union-attr]
    second.file.replace(first.file)
    with pytest.raises(ConfigError, match=r"differs in segment \(1 there, 0 here\)"):
        pipe.sample(context, context.search_table(), checkpoint=replace(first, resume=True))


def test_later_segments_of_an_older_run_go_when_a_new_one_begins(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path
) -> None:
    """Else going on with the new run would meet them, and be refused."""
    first = Checkpoint(tmp_path / "checkpoint.safetensors", every=1)
    for segment in (0, 1, 2):
        stopped(pipe, context, replace(first, segment=segment))
    (tmp_path / "checkpoint.mine.safetensors").write_text("not ours")
    stopped(pipe, context, replace(first, resume=True), count=3)
    assert len(list(tmp_path.iterdir())) == 4, "a run that goes on is no new one"
    stopped(pipe, context, replace(first, segment=1))
    names = ["checkpoint.1.safetensors", "checkpoint.mine.safetensors", "checkpoint.safetensors"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    stopped(pipe, context, first)
    assert sorted(file.name for file in tmp_path.iterdir()) == names[1:]


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "steps": ({"schedule": 5}, r"steps \(4 there, 5 here\).*sigmas, lambda table;"),
    "seed": ({"generator": torch.Generator().manual_seed(6)}, r"in seed \(5 there, 6 here\), noise;"),
    "size": ({"size": (32, 16)}, r"size \(\[16, 16\] there, \[32, 16\] here\)"),
    "hole_radius": ({"hole_radius": 1}, r"hole_radius \(0 there, 1 here\)"),
    "chunk": ({"chunk": 2}, r"in chunk \(None there, 2 here\);"),
    "cfg": ({"conditioning": ConditioningOptions(FRAMES, cfg_max=2.0)}, r"in cfg_max \(3\.0 there, 2\.0 here\);"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_context_is_refused(
    other: str, pipe: MultiViewPipeline, scene: Scene, context: Context, tmp_path: Path
) -> None:
    changes, words = OTHERS[other]
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=1, resume=True)
    stopped(pipe, context, checkpoint)
    before = checkpoint.file.read_bytes()
    changed = prepare(pipe, scene, **changes)
    with pytest.raises(ConfigError, match=rf"^checkpoint .*state\.safetensors is of another run, .*{words}") as error:
        pipe.sample(changed, changed.search_table(), checkpoint=checkpoint)
    assert "\n" not in str(error.value)
    assert checkpoint.file.read_bytes() == before, "what is refused stays"


def test_a_checkpoint_of_other_inputs_is_refused(
    pipe: MultiViewPipeline, scene: Scene, context: Context, tmp_path: Path
) -> None:
    view, trajectory = scene
    depth = view.require_depth()
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=1, resume=True)
    stopped(pipe, context, checkpoint)
    image = view.image.clone()
    image[0, 0, 0] = 1 - image[0, 0, 0]
    far = torch.zeros_like(depth.valid)
    far[0, 0] = True
    moved = view.trajectory("truck", FRAMES)
    table = context.search_table()
    for inputs, word in (
        ((replace(view, image=image), trajectory), "in images;"),
        ((replace(view, depth=replace(depth, values=depth.values * 1.001)), trajectory), "depth"),
        ((replace(view, confidence=torch.ones_like(depth.values)), trajectory), "in confidence of the depth;"),
        ((replace(view, background=far), trajectory), "in background;"),
        ((view, moved), "trajectory"),
    ):
        changed = prepare(pipe, inputs)
        with pytest.raises(ConfigError, match=word):
            pipe.sample(changed, table, checkpoint=checkpoint)
    named = prepare(pipe, (replace(view, name="the same under another name"), trajectory))
    pipe.sample(named, table, checkpoint=checkpoint)


def test_a_checkpoint_of_another_model_table_guide_or_solver_is_refused(
    pipe: MultiViewPipeline, scene: Scene, context: Context, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=1, resume=True)
    table = context.search_table()
    other = mvguide.LambdaTable.constant(0.5, context.schedule, FRAMES)
    stopped(pipe, context, checkpoint, guidance=TopShare(hole_weight=other), solver="euler")
    for changes, words in (
        ({"table": other}, "in lambda table;"),
        ({"guidance": "blend"}, r"guidance \(top_share there, blend here\)"),
        ({"guidance": TopShare(floor=0.2, hole_weight=other)}, r"in floor \(0\.0 there, 0\.2 here\);"),
        (
            {"guidance": TopShare(hole_weight=mvguide.LambdaTable.constant(0.6, context.schedule, FRAMES))},
            "table of hole_weight",
        ),
        ({"solver": "heun"}, r"in solver \(euler there, heun here\);"),
        ({"solver": Resampling(FirstOrder(), 1)}, "in solver"),
        ({"mask": mvguide.MaskOptions("hard")}, r"mask \(soft there, hard here\)"),
    ):
        settings: dict[str, Any] = {"guidance": TopShare(hole_weight=other), "solver": "euler", **changes}
        with pytest.raises(ConfigError, match=words):
            pipe.sample(context, settings.pop("table", table), checkpoint=checkpoint, **settings)
    changed = prepare(MultiViewPipeline(SvdBackbone(build_pipeline(seed=1), "tiny")), scene)
    with pytest.raises(ConfigError, match=r"in model \(tiny torch\.float32 \w+ there, tiny torch\.float32 \w+ here\)"):
        MultiViewPipeline(changed.backbone).sample(
            changed, table, checkpoint=checkpoint, guidance=TopShare(hole_weight=other), solver="euler"
        )


def test_the_file_names_its_settings_and_their_hash(pipe: MultiViewPipeline, context: Context, tmp_path: Path) -> None:
    from safetensors import safe_open

    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=1)
    stopped(pipe, context, checkpoint)
    found = read_checkpoint(checkpoint.file)
    with safe_open(checkpoint.file, framework="pt") as stored:
        assert stored.metadata()["settings_hash"] == settings_hash(found.settings)
    assert found.settings["steps"] == STEPS
    assert found.settings["model"] == pipe.backbone.fingerprint
    assert found.environment["threads"] == torch.get_num_threads()


class Memo:
    """A solver of a user that keeps something, and does not say how it is written."""

    order = evaluations = 1

    def init(self) -> list[Tensor]:
        return []

    def step(self, evaluate: Any, x: Tensor, step: Step, path: NoisePath, state: list[Tensor], noise: Any) -> Any:
        guided = evaluate(x, step.sigma)
        return guided.denoised, [*state, x], guided.denoised


@pytest.mark.parametrize("wrap", [lambda solver: solver, lambda solver: Resampling(solver, 1)])
def test_a_solver_that_cannot_be_written_is_refused_before_it_runs(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path, wrap: Callable[[Any], Any]
) -> None:
    table, solver = context.search_table(), wrap(Memo())
    pipe.sample(context, table, solver=solver)
    with pytest.raises(ConfigError, match=r"does not say how its state is written; give it pack and unpack"):
        pipe.sample(context, table, solver=solver, checkpoint=Checkpoint(tmp_path / "a.safetensors", every=1))


@pytest.mark.parametrize("when", ["always", "while it denoises"])
def test_a_network_with_a_cache_from_step_to_step_is_refused(
    tiny_pipeline: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    from diffusers import FirstBlockCacheConfig

    from mvguide.diffusion.sampler import sample

    stock = tiny_pipeline("wan21").transformer
    pipe = MultiViewPipeline(make_backbone(tiny_pipeline("wan21")))
    context = prepare(pipe, packaged_scene().load(9), size=(WIDTH, HEIGHT))

    def cached(*arguments: Any) -> Tensor:
        stock.enable_cache(FirstBlockCacheConfig(threshold=0.1))
        with stock.cache_context("a"):
            return sample(*arguments)

    if when == "always":
        stock.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    else:
        monkeypatch.setattr("mvguide.pipeline.pipeline.sample", cached)
    try:
        with pytest.raises(
            ConfigError, match=r"keeps a cache from step to step.*leave out the cache, or checkpoint_every"
        ):
            pipe.sample(context, None, guidance="none", checkpoint=Checkpoint(tmp_path / "a.safetensors", every=1))
    finally:
        stock.disable_cache()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"every": 0}, "checkpoint_every is 0"), ({"segment": -1}, "counted from 0"), ({"path": "a.pt"}, "safetensors")],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Checkpoint(**{"path": "a.safetensors", **settings})


# Damage


@pytest.fixture
def good(pipe: MultiViewPipeline, context: Context, tmp_path: Path) -> bytes:
    checkpoint = Checkpoint(tmp_path / "good.safetensors", every=1)
    stopped(pipe, context, checkpoint, solver="dpmpp_2m")
    return checkpoint.file.read_bytes()


def test_a_file_that_is_cut_short_or_has_one_wrong_bit_is_refused(good: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bad.safetensors"
    start = 8 + int.from_bytes(good[:8], "little")
    places = [0, 3, 8, 9, start // 2, start - 2, start, start + 1, (start + len(good)) // 2, len(good) - 1]
    damaged = [good[:place] for place in places]
    damaged += [good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in places]
    damaged += [good + b"\0", b"x" * 50, good[:8] + b"{}" + good[10:]]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(FileError, match=r"^checkpoint .*bad\.safetensors ") as error:
            read_checkpoint(file)
        assert "\n" not in str(error.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(
        FileError, match=r"its format is None, and this version reads 'mvguide checkpoint 1'; remove it"
    ):
        read_checkpoint(tmp_path / "weights.safetensors")
    with pytest.raises(FileError, match="is a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(FileError, match="does not exist"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_a_damaged_file_stops_the_run_before_it_begins(
    pipe: MultiViewPipeline, context: Context, good: bytes, tmp_path: Path
) -> None:
    (tmp_path / "good.safetensors").write_bytes(good[:-9])
    checkpoint = Checkpoint(tmp_path / "good.safetensors", every=1, resume=True)
    with pytest.raises(FileError, match=r"checkpoint .* cannot be read .*; remove it to start from the beginning"):
        pipe.sample(context, context.search_table(), checkpoint=checkpoint, watch=stop_after(1))
    assert checkpoint.file.read_bytes() == good[:-9]


@pytest.mark.parametrize("where", ["write_bytes", "fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_the_older_state_stays(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=1)

    def full(*arguments: Any) -> None:
        if where == "write_bytes":  # as much as there was room for
            with open(arguments[0], "wb") as stream:  # noqa: PTH123
                stream.write(arguments[1][:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def watch(progress: Progress) -> None:
        if progress.state.index == 2:
            monkeypatch.setattr(os if where == "fsync" else Path, where, full)

    with pytest.raises(OutputError, match=r"state\.safetensors cannot be written \(No space left on device\)"):
        pipe.sample(context, context.search_table(), checkpoint=checkpoint, watch=watch)
    monkeypatch.undo()
    assert checkpoint.saved().index == 2  # type: ignore[union-attr]
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_stop_on_a_full_disk_is_still_that_stop(
    pipe: MultiViewPipeline, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    stopped(pipe, context, Checkpoint(tmp_path / "state.safetensors", every=100))
    assert list(tmp_path.iterdir()) == []
