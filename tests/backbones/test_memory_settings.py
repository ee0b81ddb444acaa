"""Settings that fit a GPU: never a bigger one for less memory, and what they say."""

from dataclasses import replace
from itertools import pairwise

import pytest

from mvguide.backbones.memory_plan import Coding, MemoryPlan
from mvguide.backbones.memory_settings import HEADROOM, MemoryChoice, Tiles, choose_memory, choose_settings, stage_bytes

GIB = 2**30


def gib(sizes: dict[str, float]) -> dict[str, int]:
    return {part: int(size * GIB) for part, size in sizes.items()}


def coding(sizes: dict[Coding, float]) -> dict[Coding, int]:
    return {key: int(size * GIB) for key, size in sizes.items()}


SVD = MemoryPlan(
    model="svd-xt",
    dtype="float16",
    num_frames=25,
    width=1024,
    height=576,
    cells=(72, 128),
    multiple=8,
    weights=gib({"unet": 2.84, "vae": 0.18, "image_encoder": 1.18}),
    streamed=gib({"unet": 0.11, "vae": 0.18, "image_encoder": 0.02}),
    network={2: int(7.73 * GIB), 1: int(3.71 * GIB)},
    encoding=coding({(8, False): 11.48, (4, False): 5.83, (2, False): 3.01, (1, False): 1.59}),
    decoding=coding({(8, False): 9.0, (4, False): 4.5, (2, False): 2.25, (1, False): 1.13}),
    decoding_float32=coding({(8, False): 18.0, (4, False): 9.0, (2, False): 4.5, (1, False): 2.25}),
    gradient={False: int(88.5 * GIB), True: int(13.1 * GIB)},
    tiles=True,
)
WAN = MemoryPlan(
    model="wan2.2-a14b",
    dtype="bfloat16",
    num_frames=81,
    width=832,
    height=480,
    cells=(60, 104),
    multiple=2,
    weights=gib({"transformer": 26.7, "transformer_2": 26.7, "vae": 0.5, "text_encoder": 10.6}),
    streamed=gib({"transformer": 0.4, "transformer_2": 0.4, "vae": 0.5, "text_encoder": 2.0}),
    network={1: int(3.5 * GIB)},
    encoding=coding({(81, False): 6.0, (81, True): 1.3}),
    decoding=coding({(81, False): 7.6, (81, True): 1.8}),
    decoding_float32={},
    gradient={False: int(263 * GIB), True: int(22.2 * GIB)},
    tiles=False,
)
SVD_TILES: Tiles = {1: (72, 128), 2: (72, 74), 4: (42, 74), 9: (29, 52)}
CASES = [(SVD, None), (SVD, SVD_TILES), (WAN, None), (WAN, {1: (60, 104)})]


def richness(choice: MemoryChoice) -> tuple[int, ...]:
    """Each setting as a number that is larger where it takes more memory."""
    settings = choice.settings
    frames, tiled = settings.decode
    encoded, encoded_tiled = settings.encode
    return (
        -("none", "model", "group").index(settings.offload),
        frames - 1000 * tiled,
        encoded - 1000 * encoded_tiled,
        -settings.cfg_chunked,
        -settings.checkpointing,
        -settings.tiles,
    )


@pytest.mark.parametrize(("plan", "tiles"), CASES)
def test_less_memory_never_picks_a_bigger_setting(plan: MemoryPlan, tiles: Tiles | None) -> None:
    choices = [choose_settings(plan, int(half * GIB / 2), tiles) for half in range(800, 0, -1)]
    assert len({richness(choice) for choice in choices}) > 2
    for more, less in pairwise(choices):
        assert all(a >= b for a, b in zip(richness(more), richness(less), strict=True))


@pytest.mark.parametrize(("plan", "tiles"), CASES)
def test_what_is_chosen_fits_or_says_how_much_is_missing(plan: MemoryPlan, tiles: Tiles | None) -> None:
    for size in (2, 4, 6, 8, 12, 16, 24, 40, 80, 140):
        choice = choose_settings(plan, size * GIB, tiles)
        assert choice.stages == stage_bytes(plan, choice.settings, tiles)
        fits = choice.needed <= (1 - HEADROOM) * size * GIB
        assert fits == (choice.missing == 0)
        if not fits:
            larger = choose_settings(plan, size * GIB + choice.missing, tiles)
            assert larger.missing == 0
            assert larger.settings == choice.settings


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (24, "memory: 24 GiB, using everything on the GPU, decode 8 frames at a time"),
        (12, "memory: 12 GiB, using model offload, decode 8 frames at a time, encode 4"),
        (8, "memory: 8 GiB, using model offload, decode 4 frames at a time, cfg_chunked"),
        (6, "memory: 6 GiB, using group offload, decode 4 frames at a time, encode 2, cfg_chunked"),
    ],
)
def test_one_line_says_what_is_used(size: int, line: str) -> None:
    settings, said = choose_memory(SVD, size * GIB)
    assert said == line
    assert settings == choose_settings(SVD, size * GIB).settings


def test_the_line_says_what_would_fit_where_nothing_does() -> None:
    _, line = choose_memory(SVD, 3 * GIB)
    assert line == (
        "memory: 3 GiB, using group offload, decode 2 frames at a time, cfg_chunked; that may be 1.2 GiB too little, "
        "denoising would need a GPU of 4.2 GiB, or 69% of the frames or of the pixels"
    )
    _, line = choose_memory(WAN, 24 * GIB, {1: (60, 104)})
    assert "gradient would need a GPU of 54.3 GiB, or another guidance than posterior_gradient" in line
    _, line = choose_memory(replace(WAN, dtype="float32"), 2 * GIB)
    assert line.endswith("or dtype bfloat16")


def test_the_gradient_is_taken_off_the_gpu_by_tiles_not_by_layers() -> None:
    for size in range(2, 24):
        choice = choose_settings(SVD, size * GIB, SVD_TILES)
        assert choice.settings.offload != "group"
        assert choice.settings.checkpointing
    assert choose_settings(SVD, 24 * GIB, SVD_TILES).settings.tiles == 1
    assert choose_settings(SVD, 10 * GIB, SVD_TILES).settings.tiles == 4
    assert not choose_settings(SVD, 140 * GIB, SVD_TILES).settings.checkpointing


def test_encoders_of_words_leave_the_gpu_after_encoding() -> None:
    choice = choose_settings(WAN, 140 * GIB)
    assert choice.stages["prompt"] == sum(WAN.weights.values())
    assert choice.stages["denoising"] == sum(WAN.weights.values()) - WAN.weights["text_encoder"] + WAN.network[1]
    alone = choose_settings(SVD, 140 * GIB)  # the picture's encoder of SVD stays
    assert alone.stages["decoding"] == sum(SVD.weights.values()) + SVD.decoding[8, False]
