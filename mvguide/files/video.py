"""Videos: float32 frames [F, 3, H, W] in [0, 1] to and from files, through the ffmpeg program of imageio-ffmpeg."""

import math
import os
import subprocess
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
from torch import Tensor

from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError, InputError, OutputError
from mvguide.files.atomic import atomic_path

WRITTEN_SUFFIXES = (".mp4", ".mov", ".mkv")
READ_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif")
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
    height, width = first.shape[:2]
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as log:
        encoder = _start_encoder(temporary, width, height, fps, log.fileno())
        assert encoder.stdin is not None  # for the type checker: it was opened as a pipe
        try:
            encoder.stdin.write(first.data)
            for index, frame in enumerate(iterator, start=1):
                pixels = _to_bytes(frame, index)
                if pixels.shape != first.shape:
                    raise InputError(f"frame {index} has another size than frame 0; all frames of a video are equal")
                encoder.stdin.write(pixels.data)
            encoder.stdin.close()
        except BrokenPipeError:
            pass  # the encoder stopped by itself; its own words, below, say why
        except BaseException:
            encoder.kill()
            raise
        finally:
            code = encoder.wait()
        if code != 0:
            log.seek(0)
            words = log.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
            raise OutputError(f"video {path} could not be encoded ({words[-1][:200]}); check disk and frame size")


def _start_encoder(path: Path, width: int, height: int, fps: float, log: int) -> "subprocess.Popen[bytes]":
    """An ffmpeg that takes rgb24 frames on its standard input."""
    command = [
        *(_ffmpeg(), "-y", "-v", "error", "-nostdin", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(Fraction(fps).limit_denominator(100_000)), "-i", "pipe:0"),
        *("-c:v", "libx264", "-crf", str(_QUALITY), "-preset", "medium", "-pix_fmt", "yuv420p", "-vf", _BT709),
        # Bit-exact flags keep version strings and dates out of the file.
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"),
        str(path),
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)


def _ffmpeg() -> str:
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise OutputError(f"no ffmpeg program was found ({error}); reinstall imageio-ffmpeg") from error


def _to_bytes(frame: Tensor, index: int) -> np.ndarray:
    """uint8 [H', W', 3] with even sizes, its last row or column repeated where the size is odd."""
    if frame.ndim != 3 or frame.shape[0] != 3 or 0 in frame.shape:
        raise InputError(f"frame {index} has shape {list(frame.shape)}; a frame is [3, H, W]")
    values = frame.detach().cpu()
    if values.dtype != torch.uint8:
        if not values.is_floating_point():
            raise InputError(f"frame {index} holds {values.dtype}; give floats in [0, 1] or uint8")
        if not torch.isfinite(values).all():
            raise InputError(f"frame {index} holds NaN or infinite values; a picture is in [0, 1]")
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
    file = check_readable(path, "video")
    # ffmpeg guesses formats by itself: a playlist would open other files, a text file would become a picture of text.
    # So the name, the format found and the ways to open more are all limited.
    if file.suffix.lower() not in READ_SUFFIXES:
        raise FileError(f"video {path} must have a name that ends in {', '.join(READ_SUFFIXES)}")
    frames: list[Tensor] = []
    with decoding(file, "video", "give an .mp4 that opens in a player"):
        reader = imageio_ffmpeg.read_frames(
            str(file.absolute()),
            input_params=["-nostdin", "-protocol_whitelist", "file", "-format_whitelist", _FORMATS],
            output_params=["-fps_mode", "passthrough", "-map", "0:v:0"],
        )
        try:
            width, height = next(reader)["size"]
            limit = MAX_VIDEO_BYTES // (width * height * 3 * 4)
            for data in reader:
                if len(frames) >= limit:
                    raise FileError(
                        f"video {path} has more than {limit} frames of {width} x {height}, "
                        f"which need over {MAX_VIDEO_BYTES >> 30} GiB of memory; read fewer with max_frames={limit}"
                    )
                pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3)
                frames.append(torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255))
                if len(frames) == max_frames:
                    break
        finally:
            reader.close()
    if not frames:
        raise FileError(f"video {path} holds no frames; give an .mp4 that opens in a player")
    return torch.stack(frames)
