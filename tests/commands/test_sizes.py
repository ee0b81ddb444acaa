"""Sizes from options that no machine has the memory for are refused before it is taken."""

import re
from pathlib import Path

import pytest

from mvguide.cli import main
from mvguide.scenes import packaged_scene

MEMORY = r"needs about [0-9.]+ (G|P)iB of memory, and [0-9.]+ (M|G)iB are free; ask for"


@pytest.mark.parametrize("command", ["render", "preview"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--resize", "[100000,100000]"], f"at 100000 x 100000 {MEMORY} a smaller size"),
        (["--width", "200000", "--height", "200000"], f" frames of 200000 x 200000 {MEMORY} fewer with num_frames"),
        (["--num_frames", "1000000000"], f"a path of 1000000000 frames {MEMORY} fewer with num_frames"),
        (["--num_frames", "1000000000", "--trajectory.kind", "still"], f"a path of 1000000000 frames {MEMORY} fewer"),
        (["--hole_radius", "100000000"], "hole_radius is 100000000 pixels, but a frame has only 64 x 64; give a few"),
    ],
)
def test_absurd_sizes_get_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, options: list[str], sentence: str
) -> None:
    scene = packaged_scene("courtyard")
    given = ["--image", str(scene.image), "--depth", str(scene.depth), "--depth_unit", "0.001"]
    size = [] if "--width" in options else ["--width", "64", "--height", "64"]
    frames = [] if "--num_frames" in options else ["--num_frames", "4"]
    out = tmp_path / "out"
    assert main([command, *given, *size, *frames, *options, "--quiet", "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    assert re.search(sentence, said[0]), said[0]
    assert not out.exists()
