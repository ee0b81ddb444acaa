"""Videos: float32 frames [F, 3, H, W] in [0, 1] to and from files, through the ffmpeg program of imageio-ffmpeg."""

import math
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError, InputError, OutputError
from mvguide.files.atomic import atomic_path
from mvguide.files.ffmpeg import Ffmpeg
from mvguide.memory import check_memory

WRITTEN_SUFFIXES = (".mp4", ".mov", ".mkv")
READ_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif")
_ADVICE = "give an .mp4 that opens in a player"
_FORMATS = "mov,mp4,matroska,webm,avi,gif"
MAX_VIDEO_BYTES = 8 * 2**30
"""Frames beyond this much memory are refused, with the way to read fewer."""

_QUALITY = 15
"""The constant rate factor of x264: 0 is lossless, 18 looks lossless; a little finer, so that grain survives too."""

# Without these tags players guess the matrix from the height and shift the colours of small videos.
_BT709 = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
)

_ENCODE = [
    *("-c:v", "libx264", "-crf", str(_QUALITY), "-preset", "medium", "-pix_fmt", "yuv420p", "-vf", _BT709),
    # Bit-exact flags keep version strings and dates out of the file.
    *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"),
]


def write_video(path: str | os.PathLike[str], frames: Tensor | Iterable[Tensor], fps: float) -> None:
    """Write an H.264 video (yuv420p, BT.709: plays everywhere), whole or not at all; same frames, same bytes.

    Every even size is kept exactly. yuv420p has one colour sample for 2 x 2 pixels, so an odd width or height gets its
    last column or row once more.

    Args:
        path: the file, ending in .mp4, .mov or .mkv; missing folders are made.
        frames: [F, 3, H, W], floats in [0, 1] (clipped) or uint8, or any iterable of [3, H, W], taken one at a time.
        fps: frames per second, > 0.

    Raises:
        InputError: no frames, another shape, unequal shapes, values that are not finite, or a bad fps or name.
        OutputError: the file cannot be written.
    """
    if Path(path).suffix.lower() not in WRITTEN_SUFFIXES:
        raise InputError(f"video {path} must be written with a name that ends in {', '.join(WRITTEN_SUFFIXES)}")
    if not (isinstance(fps, int | float) and math.isfinite(fps) and 0 < fps <= 1000):
        raise InputError(f"fps is {fps}; give a number of frames per second between 0 and 1000")
    if isinstance(frames, Tensor) and frames.ndim != 4:
        raise InputError(f"frames have shape {list(frames.shape)}; a video is [F, 3, H, W]")
    iterator = iter(frames)
    try:
        first = _to_bytes(next(iterator), 0)
    except StopIteration:
        raise InputError("frames are empty: a video needs at least one frame") from None
    size = f"{first.shape[1]}x{first.shape[0]}"
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(Fraction(fps).limit_denominator(100_000))]
    task = f"video {path} cannot be written"
    with (
        atomic_path(path) as temporary,
        Ffmpeg([*given, "-i", "pipe:0", *_ENCODE, str(temporary)], task, OutputError, grows=temporary) as encoder,
    ):
        encoder.write(first.data)
        for index, frame in enumerate(iterator, start=1):
            pixels = _to_bytes(frame, index)
            if pixels.shape != first.shape:
                raise InputError(f"frame {index} has another size than frame 0; all frames of a video are equal")
            encoder.write(pixels.data)
        complaint = encoder.finish()
        if complaint:
            raise OutputError(f"video {path} could not be encoded ({complaint}); check disk and frame size")


def _to_bytes(frame: Tensor, index: int) -> np.ndarray:
    """uint8 [H', W', 3] with even sizes, its last row or column repeated where the size is odd."""
    if frame.ndim != 3 or frame.shape[0] != 3 or 0 in frame.shape:
        raise InputError(f"frame {index} has shape {list(frame.shape)}; a frame is [3, H, W]")
    values = frame.detach().cpu()
    if values.dtype != torch.uint8:
        if not values.is_floating_point():
            raise InputError(f"frame {index} holds {values.dtype}; give floats in [0, 1] or uint8")
        if not torch.isfinite(values).all():
            raise InputError(f"frame {index} holds NaN or infinite values; an image is in [0, 1]")
        values = (values.float().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = values.permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def read_video(path: str | os.PathLike[str], max_frames: int | None = None) -> Tensor:
    """Read the frames of a video as people see them (rotation applied); each coded frame once, whatever its timing.

    A video that is cut short gives the frames that are left, where the format allows it (an .mp4 does not).

    Args:
        path: the file, ending in .mp4, .mov, .m4v, .mkv, .webm, .avi or .gif.
        max_frames: stop after so many frames.

    Returns:
        float32 [F, 3, H, W] in [0, 1], F >= 1.

    Raises:
        FileError: missing, not a video, damaged, without frames, or more than `MAX_VIDEO_BYTES` of frames.
        InputError: `max_frames` is less than 1.
    """
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames is {max_frames}; read at least 1 frame")
    file, source = _source(path)
    # Each frame comes as an image in PPM, whose head has its size.
    arguments = [*source, "-fps_mode", "passthrough", "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "pipe:1"]
    frames: list[np.ndarray] = []
    task = f"video {path} cannot be read"
    with decoding(file, "video", _ADVICE), Ffmpeg(arguments, task, FileError) as decoder:
        while max_frames is None or len(frames) < max_frames:
            pixels = _read_ppm(decoder.stdout)
            if pixels is None:
                break
            decoder.note_progress()
            _check_room(path, frames, pixels)
            frames.append(pixels)
        else:
            decoder.kill()
        complaint = decoder.finish()
        if decoder.was_ended or (complaint and not frames):
            raise FileError(f"{task} ({complaint}); {_ADVICE}")
    if not frames:
        raise FileError(f"video {path} holds no frames; {_ADVICE}")
    video = torch.empty(len(frames), 3, *frames[0].shape[:2])
    for index, pixels in enumerate(frames):
        video[index] = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
    return video


def count_frames(path: str | os.PathLike[str], most: int) -> int:
    """Number of coded frames of a video, without decoding them; at most ``most`` + 1.

    Args:
        path: the file, as for :func:`read_video`.
        most: counting stops beyond it.

    Raises:
        FileError: missing, not a video, or damaged.
    """
    file, source = _source(path)
    task, count = f"video {path} cannot be read", 0
    arguments = [*source, "-c", "copy", "-f", "framecrc", "pipe:1"]
    with decoding(file, "video", _ADVICE), Ffmpeg(arguments, task, FileError) as reader:
        for line in reader.stdout:  # one for each frame, after a few that start with "#"
            reader.note_progress()
            count += not line.startswith(b"#")
            if count > most:
                reader.kill()
                break
        complaint = reader.finish()
        if reader.was_ended or (complaint and not count):
            raise FileError(f"{task} ({complaint}); {_ADVICE}")
    return count


def _source(path: str | os.PathLike[str]) -> tuple[Path, list[str]]:
    """The file, and ffmpeg's arguments to read its images and nothing else.

    ffmpeg guesses formats by itself: a playlist would open other files, a text file would become an image of text. So
    the name, the format found and the ways to open more are all limited.
    """
    file = check_readable(path, "video")
    if file.suffix.lower() not in READ_SUFFIXES:
        raise FileError(f"video {path} must have a name that ends in {', '.join(READ_SUFFIXES)}")
    limits = ["-protocol_whitelist", "file", "-format_whitelist", _FORMATS]
    return file, [*limits, "-i", str(file.absolute()), "-map", "0:v:0"]


def _read_ppm(stream: BinaryIO) -> np.ndarray | None:
    """The next image as uint8 [H, W, 3], or None at the end or where it is cut short."""
    head = [stream.readline(20) for _ in range(3)]
    if head[0] != b"P6\n" or head[2] != b"255\n":
        return None
    width, height = map(int, head[1].split())
    data = stream.read(width * height * 3)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == width * height * 3 else None


def _check_room(path: str | os.PathLike[str], frames: list[np.ndarray], pixels: np.ndarray) -> None:
    """Refuse a frame of another size, or one more than memory and `MAX_VIDEO_BYTES` allow."""
    height, width = pixels.shape[:2]
    if frames and frames[0].shape != pixels.shape:
        raise FileError(f"video {path} has frames of different sizes; encode it again with one size")
    limit = MAX_VIDEO_BYTES // (4 * pixels.size)
    if len(frames) >= limit:
        raise FileError(
            f"video {path} has more than {limit} frames of {width} x {height}, "
            f"which need over {MAX_VIDEO_BYTES >> 30} GiB of memory; read fewer with max_frames={limit}"
        )
    # The bytes are here already; what is to come are their floats.
    check_memory(
        4 * pixels.size * (len(frames) + 1),
        f"video {path} of {width} x {height}, frame {len(frames)} reached,",
        "read fewer frames with max_frames, or make it smaller first",
    )
