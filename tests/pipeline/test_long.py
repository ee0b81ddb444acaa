"""Videos longer than the model's own, in windows and by anchors, through the one pipeline."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mvguide import Checkpoint, Context, MultiViewPipeline
from mvguide.backbones.base import ConditioningOptions
from mvguide.backbones.svd import SvdBackbone, SvdDenoiser
from mvguide.diffusion.resampling import Resampling
from mvguide.diffusion.sampler import Progress
from mvguide.diffusion.solvers import FirstOrder
from mvguide.diffusion.windows import LongOptions, WindowDenoiser
from mvguide.errors import ConfigError, InputError
from mvguide.evaluation.metrics import psnr
from mvguide.geometry.camera import Camera
from mvguide.guidance.guides import Blend
from mvguide.pipeline.calibration import calibrate
from mvguide.scenes import packaged_scene
from mvguide.tables.table import LambdaTable
from mvguide.views.moments import Moments
from mvguide.views.view import View
from tests.backbones.tiny_families import make_backbone
from tests.backbones.tiny_svd import build_pipeline

Scene = tuple[View, Camera]
FRAMES, OWN, STEPS = 10, 4, 2
SIZE = (16, 16)
WAYS = ("windows", "anchors")


@pytest.fixture(scope="module")
def pipe() -> MultiViewPipeline:
    return MultiViewPipeline(SvdBackbone(build_pipeline(), "tiny"))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return packaged_scene().load(FRAMES)


def prepare(pipe: MultiViewPipeline, scene: Scene, long: str = "windows", **changes: Any) -> Context:
    view, trajectory = scene
    settings = {"schedule": STEPS, "size": SIZE, "generator": torch.Generator().manual_seed(5)}
    return pipe.prepare([view], trajectory, long=LongOptions(long), **{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
def test_a_long_path_has_all_its_frames_and_columns(way: str, pipe: MultiViewPipeline, scene: Scene) -> None:
    context = prepare(pipe, scene, way)
    assert [(w.latent_frames.start, w.latent_frames.stop) for w in context.windows] == [(0, 4), (3, 7), (6, 10)]
    assert context.target_latents.shape[0] == FRAMES
    table = context.search_table()
    assert table.num_frames == FRAMES
    result = pipe.sample(context, table)
    assert result.frames.shape == (FRAMES, 3, 16, 16)
    assert bool(result.frames.isfinite().all())
    assert result.settings["long"] == way
    assert (result.settings["windows"], result.settings["window"]) == (3, OWN)
    assert torch.equal(result.warps.visible, context.warps.visible), "masks say what the image shows, not an anchor"
    again = pipe.sample(prepare(pipe, scene, way), table)
    assert torch.equal(result.frames, again.frames), "the same seed gives the same video"


def test_the_two_ways_differ(pipe: MultiViewPipeline, scene: Scene) -> None:
    frames = [
        pipe.sample(context, context.search_table()).frames for context in (prepare(pipe, scene, w) for w in WAYS)
    ]
    assert float((frames[0] - frames[1]).abs().mean()) > 1e-3


@pytest.mark.parametrize("way", WAYS)
def test_a_video_of_the_models_own_length_is_what_it_was(way: str, pipe: MultiViewPipeline, scene: Scene) -> None:
    view, trajectory = scene
    short = prepare(pipe, (view, trajectory[:OWN]), way)
    assert isinstance(short.denoiser(), SvdDenoiser), "no window around it"
    assert not short.anchor_frames
    result = pipe.sample(short, short.search_table())
    assert not {"long", "windows", "window"} & set(result.settings)
    # As one would do it by hand: the image, its conditioning, noise, the loop.
    backbone, generator = pipe.backbone, torch.Generator().manual_seed(5)
    known = backbone.prepare(short.first_view.image, ConditioningOptions(OWN), generator)
    assert torch.equal(short.conditioning[0].tensors["latents"], known.tensors["latents"])
    shape = backbone.latent_shape(OWN, *SIZE)
    expected = backbone.first_x(known, shape, short.schedule, generator)
    own = torch.Generator()
    own.set_state(short.random_state)
    assert torch.equal(short.first_x(own), expected)


def test_a_window_that_holds_all_is_the_plain_run(pipe: MultiViewPipeline, scene: Scene) -> None:
    context = prepare(pipe, scene)
    whole = pipe.prepare(
        [scene[0]],
        scene[1],
        schedule=STEPS,
        size=SIZE,
        long=LongOptions(window=FRAMES),
        generator=torch.Generator().manual_seed(5),
    )
    assert (len(context.windows), len(whole.windows)) == (3, 1)
    x = torch.randn(1, *context.target_latents.shape, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor(1.0, dtype=torch.float64)
    single = WindowDenoiser(whole.windows, [whole.denoiser()])
    assert torch.equal(single(x, sigma), whole.denoiser()(x, sigma))
    assert not torch.equal(context.denoiser()(x, sigma), whole.denoiser()(x, sigma))


@pytest.mark.parametrize("way", WAYS)
def test_weight_one_ends_at_the_targets(way: str, pipe: MultiViewPipeline, scene: Scene) -> None:
    context = prepare(pipe, scene, way)
    table = LambdaTable.constant(1.0, context.schedule, FRAMES)
    result = pipe.sample(context, table)
    seen = context.targets().mask == 1
    difference = (result.latents[0] - context.target_latents).abs() * seen
    assert float(seen.float().mean()) > 0.5
    # Anchors change the fill of holes, which the VAE mixes into the cells beside them.
    assert float(difference.max()) < (1e-5 if way == "windows" else 1.0)
    assert float(difference.mean()) < (1e-6 if way == "windows" else 0.05)


SETTINGS: dict[str, dict[str, Any]] = {
    "posterior_gradient": {"guidance": "posterior_gradient", "solver": "heun"},
    "top_share": {"guidance": "top_share", "solver": "dpmpp_2m"},
    "resampled": {"solver": Resampling(FirstOrder(eta=1.0), 1)},
    "none": {"guidance": "none"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", SETTINGS)
def test_every_guide_and_solver(mode: str, way: str, pipe: MultiViewPipeline, scene: Scene) -> None:
    context = prepare(pipe, scene, way)
    result = pipe.sample(context, context.search_table(), **SETTINGS[mode])
    assert bool(result.frames.isfinite().all())


def test_a_calibrated_table_has_a_column_for_each_frame(pipe: MultiViewPipeline, scene: Scene) -> None:
    context = prepare(pipe, scene)
    table = calibrate(context)
    assert table.num_frames == FRAMES
    hole = LambdaTable(0.3 * torch.ones_like(table.weights), table.sigmas)
    for way in WAYS:
        found = pipe.sample(prepare(pipe, scene, way), table, guidance=Blend(hole))
        assert bool(found.frames.isfinite().all())


def test_each_window_is_conditioned_on_the_view_that_shows_most_of_its_first_frame(
    pipe: MultiViewPipeline, scene: Scene
) -> None:
    view, trajectory = scene
    last = replace(view, image=1 - view.image, camera=trajectory[-1].resize(view.camera.width, view.camera.height))
    context = pipe.prepare([view, last], trajectory, schedule=STEPS, size=SIZE)
    embeddings = [conditioning.tensors["embedding"] for conditioning in context.conditioning]
    shown = context.warps.shares[:, [w.latent_frames.start for w in context.windows]].argmax(0).tolist()
    assert shown[0] == 0
    assert shown[-1] == 1
    assert torch.equal(embeddings[0], embeddings[1]) == (shown[0] == shown[1])
    assert not torch.equal(embeddings[0], embeddings[-1])


def test_the_last_frame_of_a_closed_path_meets_the_first(pipe: MultiViewPipeline) -> None:
    view = packaged_scene().load(2)[0]
    path = view.trajectory("orbit", FRAMES, degrees=360.0)
    for way in WAYS:
        result = pipe([view], path, schedule=STEPS, size=SIZE, long=LongOptions(way))  # type: ignore[arg-type]
        assert result.warps.pinned.tolist() == [True, *[False] * (FRAMES - 2), True]
        round_trip = pipe.backbone.decode(pipe.backbone.encode(result.view.image[None].expand(2, -1, -1, -1))[None])
        assert float(psnr(result.frames[-1], result.view.image)) > float(psnr(round_trip[0], result.view.image)) - 0.5


def test_anchors_of_a_film_are_refused_unless_it_is_stopped(pipe: MultiViewPipeline, scene: Scene) -> None:
    view, trajectory = scene
    film, moving = [view] * 3, Moments.footage(3, FRAMES)
    with pytest.raises(
        InputError, match="anchors fill in what stands still, .*; use --long windows, or stop the video"
    ):
        pipe.prepare(film, trajectory, moments=moving, long=LongOptions("anchors"))
    for moments, way in ((moving, "windows"), (Moments.footage(3, FRAMES, at=1), "anchors")):
        long = LongOptions(way)  # type: ignore[arg-type]
        context = pipe.prepare(film, trajectory, schedule=2, size=(16, 16), moments=moments, long=long)
        assert pipe.sample(context, context.search_table()).frames.shape[0] == FRAMES


def test_a_network_with_a_cache_is_refused(pipe: MultiViewPipeline, scene: Scene) -> None:
    context = prepare(pipe, scene)

    class Cached:
        is_stateful = True

    with pytest.raises(ConfigError, match="keeps a cache from step to step, which the windows of a long video"):
        WindowDenoiser(context.windows, [Cached()] * 3)  # type: ignore[list-item]


@pytest.mark.parametrize("way", WAYS)
def test_a_long_run_goes_on_to_the_same_bytes(way: str, pipe: MultiViewPipeline, scene: Scene, tmp_path: Path) -> None:
    """Stopped after each step of each pass."""
    context = prepare(pipe, scene, way)
    table = context.search_table()
    plain = pipe.sample(context, table)
    kept = Checkpoint(tmp_path / "state.safetensors", every=1)
    copies: list[list[Path]] = []

    def copy(_: Progress) -> None:
        copies.append([])
        for segment in range(2):
            file = replace(kept, segment=segment).file
            if file.exists():
                copies[-1].append(tmp_path / f"{len(copies)}" / file.name)
                copies[-1][-1].parent.mkdir(exist_ok=True)
                shutil.copy(file, copies[-1][-1])

    pipe.sample(context, table, checkpoint=kept, watch=copy)
    assert len(copies) == STEPS * (2 if way == "anchors" else 1)
    for number, files in enumerate(copies, 1):
        steps: list[int] = []
        found = pipe.sample(
            prepare(pipe, scene, way),
            table,
            checkpoint=Checkpoint(files[0].parent / "state.safetensors", resume=True),
            watch=lambda progress, steps=steps: steps.append(progress.step.index),  # type: ignore[misc]
        )
        assert len(steps) == len(copies) - number
        assert torch.equal(found.frames, plain.frames)


@pytest.mark.parametrize("kind", ["wan21", "wan22_5b", "wan_vace", "cogvideox15", "ltx", "hunyuan_concat", "hunyuan15"])
def test_windows_of_models_that_pack_time(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    pipe = MultiViewPipeline(make_backbone(tiny_pipeline(kind)))
    grid = pipe.backbone.grid
    unit = grid.unit or grid.ratio
    view, path = packaged_scene("marbles").load(4 * unit + 1)
    context = pipe.prepare([view], path, schedule=4, size=(64, 32), long=LongOptions(window=2 * unit + 1))
    assert len(context.windows) > 1
    alone = grid.lead + 1
    assert all(bool((window.weight[:alone] == 0).all()) for window in context.windows[1:])
    table = LambdaTable.constant(1.0, context.schedule, context.latent_frames)
    result = pipe.sample(context, table, solver="euler")
    assert len(result.frames) == 4 * unit + 1
    whole = context.targets().mask == 1
    torch.testing.assert_close((result.latents[0] * whole)[1:], (context.target_latents * whole)[1:], atol=1e-3, rtol=0)


def test_anchors_of_a_model_that_packs_time(tiny_pipeline: Callable[[str], Any]) -> None:
    pipe = MultiViewPipeline(make_backbone(tiny_pipeline("wan21")))
    view, path = packaged_scene("marbles").load(21)
    context = pipe.prepare([view], path, schedule=4, size=(64, 32), long=LongOptions("anchors", window=9))
    assert context.anchor_frames == [0, 2, 5, 8, 10, 12, 15, 18, 20]
    result = pipe.sample(context, LambdaTable.constant(1.0, context.schedule, context.latent_frames))
    assert len(result.frames) == 21
    assert bool(result.frames.isfinite().all())
