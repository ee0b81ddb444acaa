"""Every family of models through the command line: packaged scene, warps, targets, table, guide, decoded video."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mvguide.cli import main
from mvguide.files.video import read_video
from mvguide.tables.table import LambdaTable
from tests.backbones.tiny_families import FAMILIES, HEIGHT, PROMPT, WIDTH

KINDS = [kind for kind in FAMILIES if not kind.endswith(("_euler", "_dpm", "_decoder"))]
GUIDES = {
    "blend": [],
    "top_share": ["--guidance.kind", "top_share", "--guidance.floor", "0.2"],
    "resample": ["--guidance.resample", "1"],
    "posterior_gradient": ["--guidance.kind", "posterior_gradient", "--solver", "euler"],
}


def render(kind: str, folder: Path, out: Path, frames: int, *more: str) -> int:
    name = "two_views" if kind == "wan21_last_image" else "marbles"
    scene = ["--scene", name, "--width", str(WIDTH), "--height", str(HEIGHT), "--num_frames", str(frames)]
    return main(["render", *scene, "--model", str(folder), "--steps", "4", "--out", str(out), "--quiet", *more])


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_packaged_scene(kind: str, guide: str, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    frames = FAMILIES[kind].frames - FAMILIES[kind].dropped
    words = ["--prompt", PROMPT, *GUIDES[guide]]
    assert render(kind, tiny_folder(kind), tmp_path / "out", frames, *words) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["guidance"] == (guide if guide != "resample" else "blend")
    assert report["table"].startswith("calibrated"), "v1 to v3 of SVD are not carried over"
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == frames
    assert len(read_video(tmp_path / "out" / "video.mp4")) == frames
    table = LambdaTable.load(tmp_path / "out" / "lambda_table.npz")
    latent_frames = FAMILIES[kind].latent_frames + ("15" in kind and "cog" in kind)
    assert table.weights.shape == (4, latent_frames)
    assert bool((table.weights[:, 0] == 1).all()), "frame 0 is the image itself"


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        ("wan21", ["--num_frames", "11"], "num_frames is 11.*first alone and then 4 together; use 9 or 13"),
        ("ltx", ["--num_frames", "11"], "num_frames is 11.* then 8 together; use 9 or 17"),
        ("cogvideox", ["--num_frames", "13"], "num_frames is 13.* use 9 or 17"),
        ("cogvideox", ["--width", "48"], "takes 64 x 32 alone; leave width and height out"),
        ("wan21", ["--width", "50"], r"video size 50 x 32 .* not divisible by 16, .* use 48 x 32"),
        ("cogvideox", ["--steps", "6"], "would not end at sigma 0 with 6 steps.*use 5 or 8 steps"),
        ("wan21", ["--sigmas", "sigmas_25"], "starts at sigma 700, but the noise of this model ends at 1"),
        ("wan21", ["--embedded_guidance", "6"], "has no embedded guidance; use cfg_max"),
        ("wan21_last_image", ["--trajectory.kind", "orbit"], "the path does not end at an input image; give two"),
    ],
)
def test_what_a_family_cannot_take(
    kind: str,
    arguments: list[str],
    sentence: str,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert render(kind, tiny_folder(kind), tmp_path / "out", FAMILIES[kind].frames, *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error), error
    assert not (tmp_path / "out").exists()
