"""``mvguide batch`` in one process, end to end on the embedded model."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from mvguide.cli import main
from mvguide.commands import batch_job, job, rendering
from mvguide.commands.batch import take_shard
from mvguide.commands.sharing import in_order
from mvguide.config.manifest import expand
from mvguide.config.score_options import EvaluateSceneConfig
from mvguide.diffusion.sampler import Progress, iterate
from mvguide.errors import ConfigError
from mvguide.evaluation.overview import read_entry
from mvguide.files.atomic import claim_folder
from mvguide.pipeline import encoding, pipeline
from tests.evaluation.test_overview import check_page

QUICK = "shared: {model: tiny, device: cpu, steps: 2, num_frames: 3, width: 32, height: 32}\n"
TIMES = ("report.json", "report.html")
"""Files of a result that hold times and paths."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(text: str, *arguments: str) -> int:
    Path("jobs.yaml").write_text(QUICK + text)
    return main(["batch", "jobs.yaml", "--out", "out", *arguments])


def rows(path: str = "out/results.csv") -> dict[str, dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return {row["job"]: row for row in csv.DictReader(stream)}


def files_of(result: Path) -> dict[str, bytes]:
    """All files of a result but those that hold times."""
    found = {str(path.relative_to(result)): path.read_bytes() for path in result.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name not in TIMES}


def strays(place: Path) -> list[str]:
    return [str(path.relative_to(place)) for path in place.rglob(".*")]


class Counted:
    """Counts the calls of functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: Counter[str] = Counter()
        self.monkeypatch = monkeypatch

    def of(self, place: Any, name: str) -> None:
        function = getattr(place, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return function(*args, **kwargs)

        self.monkeypatch.setattr(place, name, counted)


def test_one_job_fails_and_the_others_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    text = """
jobs:
  - {scene: marbles}
  - {scene: marbles, name: wrong, guidance.table: tiny_25x8}
  - {scene: hall}
"""
    assert run(text) == 1
    said = capsys.readouterr().err
    assert "1 of 3 jobs failed; error.txt in their folders\n  wrong: lambda table has" in said
    assert "3/3 denoising" in said
    assert {name: row["status"] for name, row in rows().items()} == {
        "marbles": "done",
        "wrong": "failed",
        "hall": "done",
    }
    sentence = Path("out/wrong/error.txt").read_text()
    assert sentence.startswith("lambda table has")
    assert "Traceback" not in sentence
    assert not Path("out/wrong/video.mp4").exists()
    page = check_page(Path("out/index.html"))
    assert "3 jobs: 2 done, 1 failed." in page.text
    assert {"marbles/video.mp4", "hall/video.mp4", "wrong/error.txt"} <= set(page.targets)
    assert strays(Path("out")) == []
    # Each is what render makes of the same settings.
    report = json.loads(Path("out/hall/report.json").read_text())
    assert report["settings"]["command"]["digest"]
    size = ["--steps", "2", "--num_frames", "3", "--width", "32", "--height", "32", "--device", "cpu", "--quiet"]
    assert main(["render", "--scene", "hall", *size, "--out", "alone"]) == 0
    assert files_of(Path("out/hall")) == files_of(Path("alone"))

    # What is done is skipped, what failed is tried again, and its sentence goes when it works.
    before = {name: Path("out", name, "report.json").stat().st_ino for name in ("marbles", "hall")}
    assert run(text.replace(", guidance.table: tiny_25x8", ""), "--resume") == 0
    assert "2 of 3 jobs are done already" in capsys.readouterr().err
    assert {name: Path("out", name, "report.json").stat().st_ino for name in before} == before
    assert not Path("out/wrong/error.txt").exists()
    assert {row["status"] for row in rows().values()} == {"done"}
    # Without --resume all are made again; with it, those whose settings have changed.
    fixed = text.replace(", guidance.table: tiny_25x8", "")
    other = fixed.replace("{scene: hall}", "{scene: hall, cfg_max: 2, name: hall}")
    assert run(other, "--resume", "--quiet") == 0
    changed = {name: Path("out", name, "report.json").stat().st_ino for name in before}
    assert (changed["marbles"] == before["marbles"], changed["hall"] == before["hall"]) == (True, False)


def test_everything_is_checked_before_the_first_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Counted(monkeypatch)
    counted.of(pipeline.MultiViewPipeline, "from_pretrained")
    good = "jobs: [{scene: marbles}, "
    assert run(good + "{image: no.png, name: lost}]") == 2
    assert "job lost: image no.png" in capsys.readouterr().err.replace(f"{Path.cwd()}/", "")
    assert run(good + "{scene: hall, solver: eulr}]") == 2
    assert "job hall_eulr: --solver: Expected one of" in capsys.readouterr().err
    assert (
        run(
            good + "{scene: hall, trajectory: {kind: dolly, degrees: 3}, steps: 0, name: a}, {scene: no.yaml, name: b}]"
        )
        == 2
    )
    said = capsys.readouterr().err
    assert "job b: scene file no.yaml does not exist" in said
    assert (
        run(good + "{scene: hall, steps: 0, name: a}, {scene: hall, trajectory: {kind: dolly, degrees: 3}, name: b}]")
        == 2
    )
    said = capsys.readouterr().err
    assert "2 of 3 jobs cannot run, so nothing was run:\n  job a: steps is 0" in said
    assert "\n  job b: " in said
    assert run(good + "{scene: hall, truth: nowhere}]") == 2
    assert "job hall: truth" in capsys.readouterr().err
    assert run("jobs: [{scene: marbles}]", "--shard", "2/1") == 2
    assert "shard is '2/1'; it must be K/N" in capsys.readouterr().err
    assert run("jobs: [{scene: marbles}]", "--checkpoint_every", "0") == 2
    assert main(["batch"]) == 2
    assert "no manifest was given" in capsys.readouterr().err
    assert not Path("out").exists()
    assert counted.calls["from_pretrained"] == 0


def test_what_jobs_have_in_common_is_made_once_and_the_results_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    counted.of(pipeline.MultiViewPipeline, "from_pretrained")
    counted.of(pipeline, "warp_path")
    counted.of(encoding, "encode_frames")
    counted.of(job, "calibrate")
    # Neighbours in the file have little in common: the order of the work is another.
    text = """
grid:
  guidance: [{kind: blend, table: calibrated}, {kind: top_share, table: calibrated}, none]
  scene: [marbles, hall]
  seed: [0, 1]
"""
    assert run(text, "--quiet") == 0
    assert len(rows()) == 12
    assert counted.calls == {"from_pretrained": 1, "warp_path": 2, "encode_frames": 2, "calibrate": 4}
    size = ["--steps", "2", "--num_frames", "3", "--width", "32", "--height", "32", "--device", "cpu", "--quiet"]
    for kind, scene, seed in (("top_share", "hall", "1"), ("blend", "marbles", "0")):
        arguments = ["--scene", scene, "--seed", seed, "--guidance.kind", kind, "--guidance.table", "calibrated"]
        assert main(["render", *arguments, *size, "--out", f"alone/{kind}"]) == 0
        alone, shared = files_of(Path("alone", kind)), files_of(Path("out", f"{kind}-calibrated_{scene}_seed{seed}"))
        assert "calibration.npz" in alone
        assert alone.keys() == shared.keys()
        assert [key for key in alone if alone[key] != shared[key]] == []


def test_the_order_of_the_work() -> None:
    def config(**given: Any) -> EvaluateSceneConfig:
        return EvaluateSceneConfig(**given)

    a, b = {"image": "a"}, {"image": "b"}
    configs = [
        config(**a, seed=0),
        config(**b, seed=0),
        config(**a, seed=1),
        config(**a, seed=0, solver="heun"),
        config(**a, model="other"),
        config(**b, num_frames=9),
        config(**b, seed=1),
    ]
    assert in_order(configs) == [[0, 3, 2], [1, 6], [5], [4]]


def test_a_job_that_was_stopped_goes_on_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "grid: {scene: [marbles, hall], solver: [ancestral]}\n"
    text = text.replace(
        "grid", "shared: {model: tiny, device: cpu, steps: 6, num_frames: 3, width: 32, height: 32}\ngrid"
    )
    Path("jobs.yaml").write_text(text)
    assert main(["batch", "jobs.yaml", "--out", "whole", "--quiet"]) == 0

    def stopped(*args: Any, **kwargs: Any) -> Any:
        for number, progress in enumerate(iterate(*args, **kwargs)):
            if number == 4:
                raise KeyboardInterrupt
            yield progress

    with monkeypatch.context() as patch:
        patch.setattr("mvguide.diffusion.sampler.iterate", stopped)
        code = main(["batch", "jobs.yaml", "--out", "out", "--checkpoint_every", "2", "--quiet"])
    assert code == 130
    assert Path("out/marbles_ancestral/checkpoint.safetensors").exists()
    assert Path("out/index.html").exists()
    steps: list[int] = []
    watch = rendering.JobBar.watch

    def counted(bar: rendering.JobBar, progress: Progress) -> None:
        steps.append(progress.step.index)
        watch(bar, progress)

    monkeypatch.setattr(rendering.JobBar, "watch", counted)
    assert main(["batch", "jobs.yaml", "--out", "out", "--resume", "--quiet"]) == 0
    assert steps == [4, 5, 0, 1, 2, 3, 4, 5]
    for name in ("marbles_ancestral", "hall_ancestral"):
        assert files_of(Path("out", name)) == files_of(Path("whole", name))
    assert strays(Path("out")) == []


def test_a_checkpoint_of_other_settings_or_pictures_is_left(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    text = "jobs: [{scene: marbles, name: a}]"

    def stop(monkeypatch: pytest.MonkeyPatch) -> None:
        def stopped(*args: Any, **kwargs: Any) -> Any:
            yield next(iterate(*args, **kwargs))
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("mvguide.diffusion.sampler.iterate", stopped)
            assert run(text, "--checkpoint_every", "1", "--quiet") == 130
        assert Path("out/a/checkpoint.safetensors").exists()

    stop(monkeypatch)
    assert run(text.replace("name", "seed: 3, name"), "--resume", "--quiet") == 0
    assert json.loads(Path("out/a/report.json").read_text())["settings"]["seed"] == 3
    assert not Path("out/a/checkpoint.safetensors").exists()
    stop(monkeypatch)
    Path("out/a/checkpoint.safetensors").write_bytes(b"damaged")
    assert run(text, "--resume", "--quiet") == 0
    assert read_entry(Path("out/a")).status == "done"
    assert not Path("out/a/begun.json").exists()


def test_jobs_are_scored_where_there_is_a_truth() -> None:
    truth = Path(batch_job.__file__).parents[1] / "scenes" / "hall" / "truth.mp4"
    text = f"""
shared: {{model: tiny, device: cpu, steps: 2, width: 64, height: 64}}
jobs:
  - {{scene: hall, num_frames: 16, truth: {truth}, through_vae: false}}
  - {{scene: nerfstudio, use: [0], held_out: [1, 2], num_frames: 3}}
  - {{scene: nerfstudio, use: [0, 2], name: unscored, num_frames: 3}}
"""
    Path("jobs.yaml").write_text(text)
    assert main(["batch", "jobs.yaml", "--out", "out", "--quiet"]) in (0, 1)
    errors = {path.parent.name: path.read_text() for path in Path("out").glob("*/error.txt")}
    assert errors == {}
    found = rows()
    (scored,) = (name for name in found if name.startswith("nerfstudio"))
    assert 5 < float(found[scored]["psnr whole"]) < 60
    assert 5 < float(found["hall_num_frames16"]["psnr whole"]) < 60
    assert found["unscored"]["psnr whole"] == ""
    evaluation = json.loads(Path("out", scored, "evaluation", "evaluation.json").read_text())
    assert evaluation["rows"]["result"]["psnr whole"] == pytest.approx(float(found[scored]["psnr whole"]))
    assert "truth, VAE" in evaluation["rows"]
    assert f"{scored}/evaluation/errors.png" in check_page(Path("out/index.html")).targets
    # A job that was stopped between its render and its score is scored only.
    for path in Path("out", scored, "evaluation").rglob("*.json"):
        path.unlink()
    before = Path("out", scored, "report.json").stat().st_ino
    assert main(["batch", "jobs.yaml", "--out", "out", "--resume", "--quiet"]) == 0
    assert Path("out", scored, "report.json").stat().st_ino == before
    assert rows()[scored]["psnr whole"] == found[scored]["psnr whole"]


@pytest.mark.parametrize(
    ("error", "sentence", "has_traceback"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "memory ran out", True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"), "memory ran out", True),
        (MemoryError(), "memory ran out", True),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero", True),
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: [Errno 28] No space left", True),
        (ConfigError("settings that do not fit"), "settings that do not fit", False),
    ],
)
def test_any_failure_is_a_sentence_and_the_others_go_on(
    error: Exception, sentence: str, has_traceback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_with = batch_job.render_with

    def failing(shared: Any, config: Any, *args: Any) -> Any:
        if "hall" in config.out:
            raise error
        return render_with(shared, config, *args)

    monkeypatch.setattr(batch_job, "render_with", failing)
    assert run("jobs: [{scene: hall}, {scene: marbles}]", "--quiet") == 1
    said = Path("out/hall/error.txt").read_text()
    assert said.startswith(sentence)
    assert ("Traceback" in said) is has_traceback
    assert {name: row["status"] for name, row in rows().items()} == {"hall": "failed", "marbles": "done"}
    assert rows()["hall"]["error"].startswith(sentence)


def test_a_model_that_cannot_be_loaded_is_not_tried_for_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    (Path("model") / "unet").mkdir(parents=True)
    counted = Counted(monkeypatch)
    counted.of(pipeline.MultiViewPipeline, "from_pretrained")
    assert (
        run(
            "shared2: 1\n".replace("shared2: 1\n", "") + "grid: {scene: [hall], seed: [0, 1, 2], model: [model, tiny]}",
            "--quiet",
        )
        == 1
    )
    assert Counter(row["status"] for row in rows().values()) == {"failed": 3, "done": 3}
    assert counted.calls["from_pretrained"] == 2


def test_a_lost_gpu_ends_the_batch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(*args: Any) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered\nmore")

    monkeypatch.setattr(batch_job, "render_with", failing)
    assert run("jobs: [{scene: hall}, {scene: marbles}]", "--quiet") == 2
    assert "the GPU cannot be used any more after job hall" in capsys.readouterr().err
    assert {name: row["status"] for name, row in rows().items()} == {"hall": "failed", "marbles": "waiting"}


def test_a_second_run_into_the_same_folder_is_refused_and_a_job_in_use_is_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "jobs: [{scene: hall}, {scene: marbles}]"
    with claim_folder("out"):
        holder = subprocess.run(
            [sys.executable, "-m", "mvguide", "batch", "jobs.yaml", "--out", "out"], capture_output=True, text=True
        ) if Path("jobs.yaml").write_text(QUICK + text) else None  # fmt: skip
    assert holder is not None
    assert holder.returncode == 2
    assert f"in use by another run (process {os.getpid()} on" in holder.stderr
    code = """
import sys, time
from mvguide.files.atomic import claim_folder
with claim_folder("out/hall"):
    print("claimed", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        assert run(text) == 0
        assert "hall: busy: output folder out/hall is in use by another run" in capsys.readouterr().err
        assert {name: row["status"] for name, row in rows().items()} == {"hall": "waiting", "marbles": "done"}
    finally:
        other.kill()
        other.wait()
    assert run(text, "--resume", "--quiet") == 0
    assert {row["status"] for row in rows().values()} == {"done"}


def test_shards_are_the_whole_in_one_folder() -> None:
    manifest = expand({"grid": {"scene": ["hall"], "seed": list(range(10))}}, Path("/nowhere/jobs.yaml"))
    for count in (1, 2, 3, 7, 10, 16):
        parts = [take_shard(manifest.jobs, f"{number + 1}/{count}")[0] for number in range(count)]
        assert [job for part in parts for job in part] == manifest.jobs
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3", ""):
        with pytest.raises(ConfigError, match="it must be K/N"):
            take_shard(manifest.jobs, wrong)
    text = "grid: {scene: [hall, marbles], seed: [0, 1]}"
    assert run(text, "--shard", "2/2", "--quiet") == 0
    assert Counter(row["status"] for row in rows().values()) == {"done": 2, "waiting": 2}
    assert run(text, "--shard", "1/2", "--quiet") == 0
    assert len(rows()) == 4
    assert {row["status"] for row in rows().values()} == {"done"}
    assert "4 jobs: 4 done." in check_page(Path("out/index.html")).text
    assert run(text, "--resume", "--quiet") == 0
    assert strays(Path("out")) == []
    assert sorted(path.name for path in Path("out").iterdir() if path.is_file()) == ["index.html", "results.csv"]


def test_what_a_killed_run_left_of_a_job_that_is_done_goes_with_the_next() -> None:
    text = "grid: {scene: [hall, marbles]}"
    assert run(text, "--quiet") == 0
    for name in (".hall.lock", ".index.lock", ".hall.0123abcd.partial/images/0000.png", ".marbles.0123abcd.old/a"):
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).touch()
    Path("out/.mine").touch()
    assert run(text, "--resume", "--quiet") == 0
    assert strays(Path("out")) == [".mine"]


def test_a_batch_that_is_terminated_says_how_to_go_on(tmp_path: Path) -> None:
    text = QUICK.replace("steps: 2", "steps: 40") + "grid: {scene: [hall], seed: [0, 1, 2]}"
    Path("jobs.yaml").write_text(text)
    command = [sys.executable, "-m", "mvguide", "batch", "jobs.yaml", "--out", "out", "--quiet"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not Path("out/hall_seed1/begun.json").exists() and child.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143
    assert "stopped by SIGTERM" in said
    assert "the same command with --resume goes on after" in said
    assert said.count("\n") == 1
    assert "1 done" in check_page(Path("out/index.html")).text
    assert main([*command[3:], "--resume"]) == 0
    assert {row["status"] for row in rows().values()} == {"done"}
    assert strays(Path("out")) == []
