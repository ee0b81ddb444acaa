"""Frames at a time: as memory allows, half as many where it runs out, and 16 bits where they hold the numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn

from mvguide.backbones import chunks
from mvguide.backbones.chunks import decode_latents, encode_frames
from mvguide.backbones.svd import SvdBackbone
from mvguide.errors import InputError, NumericalError, OutOfMemoryError
from tests.backbones.tiny_svd import build_pipeline

FRAMES = 5
CUDA_SAYS = (
    "CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.02 GiB is free."
)


@pytest.fixture(scope="module")
def backbone() -> SvdBackbone:
    return SvdBackbone(build_pipeline(), "test")


def latents(seed: int = 0) -> Tensor:
    return torch.randn(1, FRAMES, 4, 8, 12, generator=torch.Generator().manual_seed(seed))


@contextmanager
def at_most(module: nn.Module, frames: int, message: str = CUDA_SAYS) -> Iterator[list[int]]:
    """Memory of a module for so many frames at a time; the list has the batches that it was asked for."""
    asked: list[int] = []

    def look(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        asked.append(len(given[0] if given else named["sample"]))
        if asked[-1] > frames:
            raise torch.OutOfMemoryError(message)

    hook = module.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield asked
    finally:
        hook.remove()


def test_a_chunk_that_does_not_fit_is_halved_and_the_video_is_that_of_the_smaller_one(backbone: SvdBackbone) -> None:
    x = latents()
    expected = backbone.decode(x, 2)
    with at_most(backbone.pipe.vae.decoder, 2) as asked:
        frames, used = decode_latents(backbone, x, 8)
    assert used == 2
    assert asked == [5, 2, 2, 1]
    assert torch.equal(frames, expected)
    assert not torch.equal(frames, backbone.decode(x, 5)), "the decoder mixes the frames of a chunk"


def test_encoding_halves_its_chunks_too(backbone: SvdBackbone) -> None:
    frames = torch.rand(FRAMES, 3, 16, 24)
    with at_most(backbone.pipe.vae.encoder, 1) as asked:
        found = encode_frames(backbone, frames, 4)
    assert asked == [4, 2, *[1] * FRAMES]
    torch.testing.assert_close(found, backbone.encode(frames), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("message", "amounts"),
    [
        (CUDA_SAYS, r" \(2\.25 GiB more were asked for, and 1\.02 GiB of 15\.77 GiB is free\)"),
        ("MPS backend out of memory (in use: 8.1 GB). Tried to allocate 512 MB", r" \(512 MB more were asked for\)"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5368709120 bytes.", r" \(5\.0 GiB more .*"),
        ("", ""),
    ],
)
def test_where_one_frame_does_not_fit_there_is_a_sentence(backbone: SvdBackbone, message: str, amounts: str) -> None:
    with at_most(backbone.pipe.vae.decoder, 0, message), pytest.raises(OutOfMemoryError) as caught:
        decode_latents(backbone, latents(), None, way_out="do this")
    assert caught.match(f"^decoding a video of 24 x 16 needs more memory than there is{amounts}; do this$")
    with at_most(backbone.pipe.vae.encoder, 0, message), pytest.raises(OutOfMemoryError, match="^encoding 2 frames"):
        encode_frames(backbone, torch.rand(2, 3, 16, 24), None)


def test_errors_of_other_kinds_are_not_tried_again(backbone: SvdBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def broken(x: Tensor, chunk: int) -> Tensor:
        asked.append(chunk)
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(backbone, "decode", broken)
    with pytest.raises(RuntimeError, match="multiplied"):
        decode_latents(backbone, latents(), 4)
    assert asked == [4]


class Free:
    """A backbone that decodes nothing, and says how much memory a frame would take."""

    name, device, vae_scale_factor = "free", torch.device("cuda"), 8

    def __init__(self, each: float | None) -> None:
        self.each, self.log = each, []  # type: ignore[var-annotated]

    def decode_bytes(self, height: int, width: int) -> float | None:
        return self.each

    def encode(self, frames: Tensor, chunk: int) -> Tensor:
        self.log.append(chunk)
        return frames

    def decode(self, x: Tensor, chunk: int) -> Tensor:
        self.log.append(chunk)
        if self.each is None:
            raise torch.OutOfMemoryError
        return torch.zeros(x.shape[1], 3, 8, 8)

    def free(self) -> None:
        self.log.append("freed")


@pytest.mark.parametrize(
    ("free", "given", "chunk"),
    [(100.0, None, 8), (7.5, None, 3), (0.1, None, 1), (None, None, 8), (0.1, 6, 6), (100.0, 25, 10)],
)
def test_the_chunk_is_what_fits_into_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, free: float | None, given: int | None, chunk: int
) -> None:
    monkeypatch.setattr(chunks, "free_gpu_memory", lambda device: None if free is None else int(free * 2**30))
    fake = Free(2 * 2**30)
    _, used = decode_latents(fake, torch.zeros(1, 10, 4, 1, 1), given)  # type: ignore[arg-type]
    assert used == chunk
    assert fake.log == ["freed", chunk, "freed"], "the network makes room before the memory is looked at"


def test_encoding_counts_on_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "free_gpu_memory", lambda device: 9 * 2**30)
    fake = Free(2**30)
    encode_frames(fake, torch.zeros(10, 3, 8, 8), None)  # type: ignore[arg-type]
    assert fake.log == [4, "freed"]


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="chunk is 0; it must be at least 1"):
        decode_latents(Free(1.0), torch.zeros(1, 10, 4, 1, 1), 0)  # type: ignore[arg-type]


def test_a_video_that_is_decoded_whole_is_tried_once() -> None:
    fake = Free(None)
    with pytest.raises(OutOfMemoryError):
        decode_latents(fake, torch.zeros(1, 10, 4, 1, 1), 4)  # type: ignore[arg-type]
    assert fake.log == ["freed", 4]


def test_memory_of_a_frame_of_the_published_decoder(backbone: SvdBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype, figure in ((torch.float32, 2.25), (torch.float16, 1.125)):
        with torch.device("meta"):
            vae: Any = AutoencoderKLTemporalDecoder(
                block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4
            )
        monkeypatch.setattr(backbone, "pipe", SimpleNamespace(vae=vae.to(dtype)))
        assert backbone.decode_bytes(576, 1024) == figure * 2**30


def test_float32_decodes_as_the_stock_pipeline_bit_for_bit(backbone: SvdBackbone) -> None:
    x = latents()
    with torch.no_grad():
        expected = backbone.pipe.decode_latents(x, FRAMES, 2)[0].permute(1, 0, 2, 3)
    assert torch.equal(backbone.decode(x, 2), (expected * 0.5 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_decode_in_16_bits_and_only_a_chunk_that_overflows_in_32(dtype: torch.dtype) -> None:
    pipe = build_pipeline().to(dtype)
    assert pipe.vae.config.force_upcast
    half, x, seen = SvdBackbone(pipe, "test"), latents(), []
    with torch.no_grad():
        plain = pipe.decode_latents(x.to(dtype), FRAMES, 2)[0].permute(1, 0, 2, 3)
    if dtype == torch.float16:
        x[:, 2:4] *= 1e5  # beyond what 16 bits hold
    hook = pipe.vae.decoder.register_forward_pre_hook(
        lambda _, given, named: seen.append((given[0] if given else named["sample"]).dtype), with_kwargs=True
    )
    frames = half.decode(x, 2)
    hook.remove()
    overflowed = [torch.float32] if dtype == torch.float16 else []
    assert seen == [dtype, dtype, *overflowed, dtype]
    assert pipe.vae.dtype == dtype
    kept = [0, 1, 4] if overflowed else range(FRAMES)
    assert torch.equal(frames[kept], (plain * 0.5 + 0.5).clamp(0, 1)[kept])
    if overflowed:
        pipe.vae.float()
        assert torch.equal(frames[2:4], half.decode(x, 2)[2:4])
        pipe.vae.half()


def test_frames_that_are_not_finite_in_32_bits_either_are_an_error(backbone: SvdBackbone) -> None:
    x = latents()
    x[0, 3, 1, 2, 2] = torch.inf
    for model in (backbone, SvdBackbone(build_pipeline().to(torch.float16), "test")):
        with pytest.raises(NumericalError, match="decoded frames of model test are not finite, in float32 either"):
            model.decode(x, 2)


def test_no_word_of_parts_to_be_kept_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    """Diffusers warns at every change of the number format, with an empty list of what it means."""
    from diffusers.utils import logging

    logging.enable_propagation()
    half = SvdBackbone(build_pipeline().to(torch.float16), "test")
    caplog.clear()
    half.encode(torch.rand(2, 3, 16, 24))
    logging.disable_propagation()
    assert "should be kept in float32" not in caplog.text
