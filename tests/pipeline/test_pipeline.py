"""The pipeline on the embedded model: the data flow, determinism, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mvguide
from mvguide.backbones.base import ConditioningOptions
from mvguide.cameras.formats import read_cameras
from mvguide.diffusion.denoiser import Denoiser
from mvguide.diffusion.sampler import Progress
from mvguide.diffusion.solvers import FirstOrder, Guided, Heun, Step
from mvguide.errors import ConfigError, InputError, OutputError
from mvguide.evaluation.metrics import psnr
from mvguide.files.video import read_video
from mvguide.geometry.camera import Camera
from mvguide.guidance.targets import Targets
from mvguide.scenes import packaged_scene, packaged_scenes
from mvguide.views.warps import mean_flow, warp_views
from tests.drawing.page_checks import check_page

FRAMES = 4
SIZE = (32, 32)

Scene = tuple[mvguide.View, Camera]


@pytest.fixture(scope="module")
def pipe() -> mvguide.MultiViewPipeline:
    return mvguide.MultiViewPipeline.from_pretrained("tiny", device="cpu")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return packaged_scene().load(FRAMES)


@pytest.fixture(scope="module")
def schedule(pipe: mvguide.MultiViewPipeline) -> mvguide.SigmaSchedule:
    return pipe.backbone.schedule(3)


def render(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, seed: int = 0, **settings: Any
) -> mvguide.Result:
    view, trajectory = scene
    return pipe([view], trajectory, schedule=schedule, size=SIZE, generator=seeded(seed), **settings)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def result(pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule) -> mvguide.Result:
    return render(pipe, scene, schedule)


def test_the_result_has_the_shapes_it_says(result: mvguide.Result, schedule: mvguide.SigmaSchedule) -> None:
    assert result.frames.shape == (FRAMES, 3, 32, 32)
    assert result.frames.dtype == torch.float32
    assert 0 <= result.frames.min() <= result.frames.max() <= 1
    assert result.table is not None
    assert result.table.weights.shape == (3, FRAMES)
    assert (result.trajectory.width, result.trajectory.height) == SIZE
    assert result.warps.pinned.tolist() == [True, False, False, False]
    assert (result.warps.seen[1:] < 1).all()


def test_the_same_seed_gives_identical_frames(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, result: mvguide.Result
) -> None:
    assert torch.equal(render(pipe, scene, schedule).frames, result.frames)
    assert not torch.equal(render(pipe, scene, schedule, seed=1).frames, result.frames)


def test_the_first_frame_is_the_picture_as_the_vae_sees_it(
    pipe: mvguide.MultiViewPipeline, result: mvguide.Result
) -> None:
    encoded = pipe.backbone.encode(result.view.image[None])
    torch.testing.assert_close(result.latents[0, :1], encoded, atol=1e-4, rtol=1e-4)


def test_weight_one_ends_at_the_warp_where_it_is_seen(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule
) -> None:
    table = mvguide.LambdaTable.constant(1.0, schedule, FRAMES)
    guided = render(pipe, scene, schedule, table=table)
    free = render(pipe, scene, schedule, guidance="none")
    warps = guided.warps
    seen = warps.visible
    assert psnr(guided.frames, warps.image, seen).mean() > psnr(free.frames, warps.image, seen).mean() + 3


MODES = {
    "heun": {"solver": "heun"},
    "dpmpp_2m": {"solver": "dpmpp_2m"},
    "top_share": {"guidance": "top_share"},
    "posterior_gradient": {"guidance": "posterior_gradient"},
    "tiles": {"guidance": mvguide.PosteriorGradient(tiles=2), "solver": mvguide.Resampling(Heun(), 1)},
    "resampled": {"guidance": "none", "solver": mvguide.Resampling(FirstOrder(), 1)},
    "soft": {"guidance": mvguide.Blend(0.3), "mask": mvguide.MaskOptions("soft", ramp=1, confidence=1)},
}


@pytest.mark.parametrize("settings", MODES.values(), ids=MODES.keys())
def test_every_mode_runs_through_the_one_loop(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, settings: dict
) -> None:
    frames = render(pipe, scene, schedule, **settings).frames
    assert torch.isfinite(frames).all()


def test_guidance_settings_change_the_video_and_are_reported(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, result: mvguide.Result
) -> None:
    assert result.settings["guidance"] == "blend"
    assert result.settings["mask"] == "soft"
    plain = render(pipe, scene, schedule, guidance=mvguide.Blend())
    assert torch.equal(plain.frames, result.frames)
    for settings, reported in (
        ({"mask": mvguide.MaskOptions("hard")}, {"mask": "hard"}),
        ({"mask": mvguide.MaskOptions(cell_coverage=0.9)}, {"cell_coverage": 0.9}),
        ({"mask": mvguide.MaskOptions(confidence=1.0)}, {"confidence": 1.0}),
        ({"mask": mvguide.MaskOptions(ramp=2.0)}, {"ramp": 2.0}),
        ({"guidance": mvguide.Blend(hole_weight=0.5)}, {"hole_weight": 0.5}),
        ({"solver": mvguide.Resampling(FirstOrder(), 1)}, {"guidance": "blend"}),
    ):
        found = render(pipe, scene, schedule, **settings)
        assert not torch.equal(found.frames, result.frames), settings
        assert found.settings.items() >= reported.items()
        json.dumps(found.settings)
    assert "repeats=1" in found.settings["solver"]


def test_the_long_form_is_the_short_one(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, result: mvguide.Result
) -> None:
    view, trajectory = scene
    context = pipe.prepare([view], trajectory, schedule=schedule, size=SIZE, generator=seeded())
    table = context.search_table()
    assert torch.equal(pipe.sample(context, table).frames, result.frames)
    assert torch.equal(pipe.sample(context, table).frames, result.frames), "a context gives the same video again"
    other = pipe.sample(context, table, generator=seeded(1))
    assert not torch.equal(other.frames, result.frames)
    with pytest.raises(ConfigError, match=r"make one with context\.search_table\(\)"):
        pipe.sample(context, None)


def test_without_guidance_no_table_is_searched_or_saved(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, tmp_path: Path
) -> None:
    free = render(pipe, scene, schedule, guidance="none")
    assert free.table is None
    free.save(tmp_path / "out")
    assert not list((tmp_path / "out").glob("lambda_table*"))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["table"] is None


def test_the_posterior_gradient_moves_the_video_to_the_warp(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule
) -> None:
    """Under the pipeline's no_grad, and without leaving a graph behind."""
    table = mvguide.LambdaTable.constant(1.0, schedule, FRAMES)
    guide = mvguide.PosteriorGradient(step_size=0.3)
    found = render(pipe, scene, schedule, guidance=guide, table=table)
    still = render(pipe, scene, schedule, guidance=replace(guide, step_size=0.0), table=table)
    free = render(pipe, scene, schedule, guidance="none")
    assert torch.equal(still.frames, free.frames)
    assert not found.frames.requires_grad
    targets = pipe.backbone.encode(found.warps.image)
    seen = found.warps.visible[1:].mean(dim=(1, 2, 3)) > 0
    assert seen.all()
    near, far = ((run.latents[0, 1:] - targets[1:]).square().mean() for run in (found, free))
    assert near < far


def test_holes_can_have_a_table_of_their_own(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule
) -> None:
    columns = mvguide.LambdaTable(torch.full((3, FRAMES), 0.5), schedule.levels, source="measured")
    by_table = render(pipe, scene, schedule, guidance=mvguide.Blend(columns))
    by_number = render(pipe, scene, schedule, guidance=mvguide.Blend(0.5))
    torch.testing.assert_close(by_table.frames, by_number.frames)
    assert by_table.settings["hole_weight"] == "table: measured"
    wrong = mvguide.LambdaTable.constant(0.5, schedule, 9)
    with pytest.raises(InputError, match="3 rows x 9 columns"):
        render(pipe, scene, schedule, guidance=mvguide.Blend(wrong))


def test_a_guide_of_ones_own_is_taken(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, result: mvguide.Result
) -> None:
    def guide(denoiser: Denoiser, x: torch.Tensor, step: Step, targets: Targets, table: mvguide.LambdaTable) -> Guided:
        return mvguide.Blend()(denoiser, x, step, targets, table)

    own = render(pipe, scene, schedule, guidance=guide)
    assert torch.equal(own.frames, result.frames)
    assert "guide" in own.settings["guidance"]


def test_chunks_do_not_change_the_encoding(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, result: mvguide.Result
) -> None:
    torch.testing.assert_close(render(pipe, scene, schedule, chunk=3).latents, result.latents, atol=1e-4, rtol=1e-4)


def test_the_default_table_has_the_models_own_parameters(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule, result: mvguide.Result
) -> None:
    view, trajectory = scene
    warps = warp_views([view], trajectory.resize(32, 32))
    assert pipe.backbone.notes.hypers is not None
    v1, v2, v3 = pipe.backbone.notes.hypers
    own = mvguide.search_hypers(schedule, distances=warps.distances, rule="exact", v1=[v1], v2=[v2], v3=[v3]).table
    assert result.table is not None
    torch.testing.assert_close(result.table.weights, own.weights, atol=1e-6, rtol=1e-6)
    context = pipe.prepare([view], trajectory, schedule=schedule, size=SIZE)
    released = context.search_table(rule="released", by_frame=True)
    expected = mvguide.search_hypers(schedule, num_frames=FRAMES).table
    assert torch.equal(released.weights, expected.weights)


def test_watching_stops_the_run(pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule) -> None:
    seen: list[Progress] = []

    def watch(progress: Progress) -> bool:
        seen.append(progress)
        return True

    result = render(pipe, scene, schedule, watch=watch)
    assert [progress.step.index for progress in seen] == [0]
    assert result.settings["steps_done"] == 1
    # The estimate is the result: x still has the noise of the other steps.
    torch.testing.assert_close(result.latents, seen[0].denoised)
    assert "steps_done" not in render(pipe, scene, schedule, watch=lambda progress: None).settings


def test_the_motion_bucket_follows_the_real_flow(result: mvguide.Result, scene: Scene) -> None:
    view, trajectory = scene
    flow = mean_flow(view, trajectory)
    assert result.settings["conditioning"]["motion_bucket_id"] == pytest.approx(16 * 64 * flow, rel=0.1)
    assert mean_flow(view, trajectory[[0, 0, 0]]) == 0


def test_two_calls_of_the_readme(tmp_path: Path, pipe: mvguide.MultiViewPipeline) -> None:
    values = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    np.save(tmp_path / "depth.npy", np.linspace(4, 2, 48)[:, None].repeat(64, 1))
    schedule = mvguide.load_sigmas("sigmas_25")
    found = mvguide.search_hypers(schedule, num_frames=8)
    assert found.table.weights.shape == (25, 8)
    assert 0 < found.coverage <= 1
    view = mvguide.View.from_files(tmp_path / "photo.png", depth=tmp_path / "depth.npy", fov=60)
    trajectory = mvguide.orbit(view.camera, num_frames=8, degrees=10, target_depth=view.median_depth)
    result = pipe(
        [view],
        trajectory,
        schedule=schedule,
        table=found.table,
        guidance="blend",
        solver="euler",
        size=(16, 16),
        generator=torch.Generator().manual_seed(0),
    )
    assert result.save(tmp_path / "out").is_dir()


def test_everything_is_written(tmp_path: Path, result: mvguide.Result) -> None:
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "0009.png").write_bytes(b"of an older, longer result")
    (tmp_path / "out" / "mine.txt").write_text("keep")
    result.save(tmp_path / "out", fps=5)
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    pictures = [f"{part}/{k:04d}.png" for part in ("images", "masks", "confidence", "warps") for k in range(FRAMES)]
    assert names == sorted(
        [
            *pictures,
            *(f"sparse/0/{part}.txt" for part in ("cameras", "images", "points3D")),
            "transforms.json",
            "lambda_table.npz",
            "lambda_table.png",
            "mine.txt",
            "path.png",
            "report.html",
            "report.json",
            "sheet.png",
            "side_by_side.mp4",
            "video.mp4",
            "warps.mp4",
        ]
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["seed"] == 0
    assert len(report["seen"]) == FRAMES
    assert set(report["seconds"]) == {"warp", "encode", "denoise", "decode"}
    assert {"torch", "diffusers", "mvguide", "python"} <= set(report["versions"])
    for name in ("transforms.json", "sparse/0"):
        posed = read_cameras(tmp_path / "out" / name)
        cameras = posed.trajectory()
        torch.testing.assert_close(cameras.world_to_camera, result.trajectory.world_to_camera)
        torch.testing.assert_close(cameras.intrinsics, result.trajectory.intrinsics)
    assert posed.points is not None
    pixels, z = result.trajectory[0].project(posed.points)
    inside = (pixels >= 0).all(-1) & (pixels < torch.tensor(SIZE)).all(-1) & (z > 0)
    assert inside.float().mean() > 0.95, "the scene lies before the first camera"
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{FRAMES - 1:04d}.png"))
    assert (mask == 255).mean() == pytest.approx(report["seen"][-1], abs=1e-3)
    table = mvguide.LambdaTable.load(tmp_path / "out" / "lambda_table.npz")
    table.check(result.schedule, FRAMES)
    video = read_video(tmp_path / "out" / "video.mp4")
    assert psnr(video, result.frames).min() > 25
    sheet = np.asarray(Image.open(tmp_path / "out" / "sheet.png"))
    assert sheet.shape[1] > FRAMES * 144
    assert sheet.std() > 10


def test_the_page_of_a_result_opens_from_disk(tmp_path: Path, result: mvguide.Result) -> None:
    result.save(tmp_path / "a <b>", warnings=["look & see"], made_by="mvguide render --image 'a b.jpg'")
    page = check_page(tmp_path / "a <b>" / "report.html")
    assert page.heads[:2] == ["mvguide: a <b>", "Warnings"]
    assert {"look & see", "mvguide render --image 'a b.jpg'"} <= set(page.texts)
    assert {"video.mp4", "warps.mp4", "sheet.png", "path.png", "lambda_table.png", "report.json"} == set(page.targets)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, result: mvguide.Result) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        result.save(tmp_path / "file")
    with pytest.raises(OutputError):
        result.save(tmp_path / "file" / "below")


def test_what_cannot_be_rendered_is_refused(
    pipe: mvguide.MultiViewPipeline, scene: Scene, schedule: mvguide.SigmaSchedule
) -> None:
    view, trajectory = scene
    with pytest.raises(InputError, match="no view was given"):
        pipe([], trajectory)
    with pytest.raises(InputError, match="moments are of 3 views"):
        pipe([view], trajectory, moments=mvguide.Moments.footage(3, FRAMES))
    with pytest.raises(InputError, match="but the view is 256 x 256"):
        pipe([view], trajectory.resize(64, 64))
    with pytest.raises(InputError, match="has no depth"):
        pipe([replace(view, depth=None)], trajectory, schedule=schedule)
    table = mvguide.LambdaTable.constant(0.5, schedule, 5)
    with pytest.raises(InputError, match="run search_hypers with num_frames=4"):
        pipe([view], trajectory, schedule=schedule, table=table)
    with pytest.raises(InputError, match="30 x 32 .* VAE factor 4"):
        pipe([view], trajectory, schedule=schedule, size=(30, 32))
    with pytest.raises(InputError, match="conditioning is for 9 frames"):
        pipe([view], trajectory, schedule=schedule, size=SIZE, conditioning=ConditioningOptions(9))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "least"), [("float32", 45.0), ("float16", 28.0)])
def test_a_gpu_makes_the_same_video(
    scene: Scene, schedule: mvguide.SigmaSchedule, result: mvguide.Result, dtype: str, least: float
) -> None:
    gpu = mvguide.MultiViewPipeline.from_pretrained("tiny", device="cuda", dtype=dtype)
    assert psnr(render(gpu, scene, schedule).frames, result.frames).min() > least


@pytest.mark.parametrize("name", sorted(packaged_scenes()))
def test_packaged_scenes_are_true(name: str) -> None:
    """The warp of the image into the scene's last camera agrees with the true video, but for what moves."""
    scene = packaged_scenes()[name]
    truth = read_video(scene.truth)
    view, cameras = scene.load(len(truth))
    warps = warp_views([view], cameras.resize(128, 128))
    assert psnr(truth[:1], view.cover(128, 128).image[None]).item() > 30
    seen = warps.visible[-1:]
    assert 0.5 < seen.mean() < 0.97
    still = 17 if json.loads(scene.cameras.read_text())["moving"] else 23
    assert psnr(warps.image[-1:], truth[-1:], seen).item() > still
    assert sum(file.stat().st_size for file in scene.folder.iterdir()) < 300_000
