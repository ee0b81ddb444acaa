"""An ffmpeg that is missing, hangs, or is killed."""

import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from mvguide.errors import FileError, OutputError
from mvguide.files import ffmpeg
from mvguide.files.atomic import output_folder
from mvguide.files.video import read_video, write_video

FRAMES = torch.full((2, 3, 16, 16), 0.5)
PPM = "printf 'P6\\n2 1\\n255\\n123456'; printf 'P6\\n2 1\\n255\\n123456'"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", FRAMES, 8)
    return tmp_path / "in" / "a.mp4"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script in the place of ffmpeg."""

    def replace(script: str) -> None:
        place = tmp_path / "ffmpeg.sh"
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(place))

    monkeypatch.setattr(ffmpeg, "PATIENCE_SECONDS", 2)
    return replace


@pytest.mark.parametrize(
    "script", ["sleep 600 & wait", f"{PPM}; sleep 600", "trap '' TERM; cat > /dev/null; sleep 600"]
)
def test_a_program_that_hangs_is_ended(
    tmp_path: Path, given: Path, program: Callable[[str], None], script: str
) -> None:
    program(script)
    start = time.monotonic()
    with pytest.raises(FileError, match=r"a\.mp4 cannot be read \(ffmpeg made no progress for 2 seconds and was ended"):
        read_video(given)
    with pytest.raises(OutputError, match=r"out\.mp4 could not be encoded \(ffmpeg made no progress for 2 seconds"):
        write_video(tmp_path / "out.mp4", FRAMES.repeat(200, 1, 16, 16), 8)
    assert time.monotonic() - start < 20
    assert not list(tmp_path.glob("*out*"))


def test_slow_is_not_stuck(given: Path, program: Callable[[str], None]) -> None:
    program(f"{PPM}; sleep 1.4; {PPM}; sleep 1.4; {PPM}")
    assert read_video(given).shape == (6, 3, 1, 2)


@pytest.mark.parametrize("place", ["nowhere/ffmpeg", "in/a.mp4"])
def test_a_program_that_cannot_be_started_is_named_with_the_users_path(
    tmp_path: Path, given: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / place))
    words = rf"the program ffmpeg cannot be started \({tmp_path / place}: (No such file|Permission).*IMAGEIO_FFMPEG_EXE"
    with pytest.raises(FileError, match=rf"video {given} cannot be read: {words}"):
        read_video(given)

    def save() -> None:
        with output_folder(tmp_path / "out") as folder:
            write_video(folder / "video.mp4", FRAMES, 8)

    with pytest.raises(OutputError, match=rf"video {tmp_path}/out/video\.mp4 cannot be written: {words}"):
        save()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in"]


def test_there_is_no_program_at_all(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(FileError, match=r"a\.mp4 cannot be read: the program ffmpeg cannot be started \(ffmpeg: No ff"):
        read_video(given)


def test_a_program_that_is_killed_does_not_give_half_a_video(
    tmp_path: Path, given: Path, program: Callable[[str], None]
) -> None:
    program(f"{PPM}; kill -9 $$")
    with pytest.raises(FileError, match=r"a\.mp4 cannot be read \(ffmpeg was ended by SIGKILL\)"):
        read_video(given)
    with pytest.raises(OutputError, match=r"out\.mp4 could not be encoded \(ffmpeg was ended by SIGKILL\)"):
        write_video(tmp_path / "out.mp4", FRAMES, 8)
    assert len(read_video(given, max_frames=2)) == 2, "what was asked for had arrived"


@pytest.mark.parametrize("odd", [0, 1])
def test_the_pixels_are_those_that_imageio_gives(tmp_path: Path, odd: int) -> None:
    frames = torch.rand(3, 3, 20, 24 + 2 * odd, generator=torch.Generator().manual_seed(0))
    for name in ("a.mp4", "a.mkv"):
        write_video(tmp_path / name, frames, 8)
        reader = imageio_ffmpeg.read_frames(str(tmp_path / name), output_params=["-fps_mode", "passthrough"])
        width, height = next(reader)["size"]
        wanted = np.stack([np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader])
        found = (read_video(tmp_path / name).permute(0, 2, 3, 1) * 255).round().byte().numpy()
        assert np.array_equal(found, wanted)


def test_a_turned_phone_video_is_read_upright(tmp_path: Path) -> None:
    import subprocess

    write_video(tmp_path / "a.mp4", torch.rand(2, 3, 16, 32), 8)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", str(tmp_path / "a.mp4")]
    subprocess.run([*command, "-c", "copy", str(tmp_path / "turned.mp4")], check=True)
    turned, plain = read_video(tmp_path / "turned.mp4"), read_video(tmp_path / "a.mp4")
    assert turned.shape == (2, 3, 32, 16)
    assert torch.equal(turned, plain.rot90(1, (2, 3)))
