from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvguide.errors import FileError, InputError, MvguideError, OutputError
from mvguide.files import video
from mvguide.files.video import count_frames, read_video, write_video
from tests.mutations import damaged, result_or_error


def clip(frames: int, height: int, width: int) -> torch.Tensor:
    """Smooth images that change from frame to frame, in [0.05, 0.95]."""
    t = torch.arange(frames)[:, None, None] / max(1, frames - 1)
    v, u = torch.arange(height)[:, None] / height, torch.arange(width) / width
    channels = [torch.sin(3 * u + 2 * v + 3 * t), torch.cos(4 * v - u + 2 * t), torch.sin(2 * u * v - 4 * t)]
    return 0.5 + 0.45 * torch.stack([c.expand(frames, height, width) for c in channels], dim=1)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (50, 70), (34, 18)])
def test_every_even_size_is_kept(tmp_path: Path, height: int, width: int) -> None:
    frames = clip(5, height, width)
    write_video(tmp_path / "new" / "a.mp4", frames, fps=8)
    read = read_video(tmp_path / "new" / "a.mp4")
    assert read.dtype == torch.float32
    assert read.shape == (5, 3, height, width)
    assert (read - frames).abs().mean() < 0.02
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("height", "width"), [(33, 48), (32, 47), (33, 47)])
def test_odd_sizes_repeat_the_last_row_or_column(tmp_path: Path, height: int, width: int) -> None:
    frames = clip(3, height, width)
    write_video(tmp_path / "a.mp4", frames, fps=10)
    read = read_video(tmp_path / "a.mp4")
    assert read.shape == (3, 3, height + height % 2, width + width % 2)
    assert (read[..., :height, :width] - frames).abs().mean() < 0.03
    assert (read[..., -1, :width] - frames[..., -1, :]).abs().mean() < 0.05


def test_the_smallest_videos(tmp_path: Path) -> None:
    for size in (1, 2):
        write_video(tmp_path / "a.mp4", torch.full((2, 3, size, size), 0.5), fps=10)
        read = read_video(tmp_path / "a.mp4")
        assert read.shape == (2, 3, 2, 2)
        assert (read - 0.5).abs().max() < 0.02


def test_flat_colours_come_back(tmp_path: Path) -> None:
    colours = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.5, 0.25, 0.75]])
    frames = colours[:, :, None, None].expand(-1, -1, 32, 32)
    write_video(tmp_path / "a.mp4", frames, fps=5)
    read = read_video(tmp_path / "a.mp4")
    assert (read.mean(dim=(-1, -2)) - colours).abs().max() < 0.02


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, clip(4, 32, 48), fps=24000 / 1001)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_it_is_h264_in_yuv420p_with_the_fps_asked_for(tmp_path: Path) -> None:
    import imageio_ffmpeg

    write_video(tmp_path / "a.mp4", clip(6, 32, 48), fps=12.5)
    data = (tmp_path / "a.mp4").read_bytes()
    assert b"Lavf" not in data  # versions of programs make equal videos differ
    meta = next(imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4")))
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p(tv, bt709")
    assert meta["fps"] == 12.5
    assert meta["size"] == (48, 32)


def test_uneven_timing_neither_repeats_nor_drops_frames(tmp_path: Path) -> None:
    from PIL import Image

    shades = [Image.new("L", (16, 16), shade) for shade in (0, 80, 160, 240)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[20, 1000, 20, 300])
    means = (read_video(tmp_path / "a.gif").mean(dim=(1, 2, 3)) * 255).round()
    assert means.tolist() == [0, 80, 160, 240]


def test_frames_may_come_one_by_one_and_reading_may_stop(tmp_path: Path) -> None:
    frames = (clip(7, 32, 32) * 255).to(torch.uint8)
    write_video(tmp_path / "a.mkv", iter(frames), fps=7)
    assert read_video(tmp_path / "a.mkv").shape[0] == 7
    assert torch.equal(read_video(tmp_path / "a.mkv", max_frames=3), read_video(tmp_path / "a.mkv")[:3])


@pytest.mark.parametrize(
    ("frames", "fps", "words"),
    [
        (torch.zeros(0, 3, 4, 4), 8, "empty"),
        (torch.zeros(3, 4, 4), 8, r"shape \[3, 4, 4\]; a video is"),
        (torch.zeros(2, 4, 4, 4), 8, r"frame 0 has shape \[4, 4, 4\]"),
        (torch.zeros(2, 3, 0, 4), 8, r"frame 0 has shape \[3, 0, 4\]"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 4, 6)], 8, "frame 1 has another size"),
        ([torch.zeros(3, 4, 4), torch.full((3, 4, 4), float("nan"))], 8, "frame 1 holds NaN"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int32), 8, "int32"),
        (torch.zeros(2, 3, 4, 4), 0, "fps is 0"),
        (torch.zeros(2, 3, 4, 4), float("nan"), "fps is nan"),
    ],
)
def test_bad_frames_are_refused_and_leave_nothing(
    tmp_path: Path, frames: torch.Tensor | list[torch.Tensor], fps: float, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        write_video(tmp_path / "a.mp4", frames, fps)
    assert list(tmp_path.iterdir()) == []


def test_writing_where_one_cannot(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        write_video(tmp_path / "a.txt", clip(2, 8, 8), 8)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is not a folder"):
        write_video(tmp_path / "file" / "a.mp4", clip(2, 8, 8), 8)


def test_an_encoder_that_fails_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_ENCODE", ["-vf", "nosuchfilter"])
    with pytest.raises(OutputError, match=r"a\.mp4 could not be encoded \(.+\)"):
        write_video(tmp_path / "a.mp4", clip(2, 8, 8), 8)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    for path, words in [
        (tmp_path / "none.mp4", "video .*none.mp4 does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "text.mp4", r"text\.mp4 (cannot be read|holds no frames).*; give an \.mp4"),
    ]:
        with pytest.raises(FileError, match=words):
            read_video(path)
    (tmp_path / "text.txt").write_text("not a video\n" * 50)
    with pytest.raises(FileError, match=r"must have a name that ends in"):
        read_video(tmp_path / "text.txt")
    with pytest.raises(InputError, match="max_frames is 0"):
        read_video(tmp_path / "text.mp4", max_frames=0)


def test_a_playlist_does_not_open_other_files(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", clip(3, 16, 16), 8)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(FileError):
        read_video(tmp_path / "list.mp4")
    (tmp_path / "live.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(FileError):
        read_video(tmp_path / "live.mp4")


def test_a_video_too_long_for_memory_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", clip(6, 16, 16), 8)
    monkeypatch.setattr(video, "MAX_VIDEO_BYTES", 4 * 16 * 16 * 3 * 4)
    with pytest.raises(FileError, match=r"more than 4 frames of 16 x 16.*max_frames=4"):
        read_video(tmp_path / "a.mp4")
    assert len(read_video(tmp_path / "a.mp4", max_frames=4)) == 4


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    write_video(path, clip(3, 16, 16), 8)
    return path.with_name("damaged.mp4"), path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_videos_raise_nothing_else(encoded: tuple[Path, bytes], data: st.DataObject) -> None:
    path, original = encoded
    path.write_bytes(data.draw(damaged(original)))
    frames = result_or_error(read_video, path, max_frames=10)
    if isinstance(frames, MvguideError):
        assert str(path) in str(frames)
        return
    assert frames.ndim == 4
    assert frames.shape[1] == 3
    assert bool(np.isfinite(frames.numpy()).all())


def test_frames_are_counted_without_decoding_them(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", torch.rand(9, 3, 16, 16), 7)
    assert count_frames(tmp_path / "a.mp4", 100) == 9
    assert count_frames(tmp_path / "a.mp4", 9) == 9
    assert count_frames(tmp_path / "a.mp4", 3) == 4, "one more than the limit says that there are more"
    (tmp_path / "b.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(FileError, match=r"video .*b\.mp4 cannot be read"):
        count_frames(tmp_path / "b.mp4", 9)
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'a.mp4'}\n")
    (tmp_path / "list.mp4").write_bytes((tmp_path / "list.m3u8").read_bytes())
    with pytest.raises(FileError, match="must have a name"):
        count_frames(tmp_path / "list.m3u8", 9)
    with pytest.raises(FileError, match="cannot be read"):
        count_frames(tmp_path / "list.mp4", 9)
