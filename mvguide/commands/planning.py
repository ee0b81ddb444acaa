"""``mvguide plan``."""

import math

import torch

from mvguide.backbones.memory_plan import MemoryPlan, plan_memory
from mvguide.backbones.memory_settings import MemoryChoice, Tiles, choose_settings, gib_words
from mvguide.backbones.model_configs import read_model_configs
from mvguide.backbones.pretrained import DTYPES
from mvguide.commands.speaking import size_of
from mvguide.config.plan_options import PlanConfig
from mvguide.errors import ConfigError
from mvguide.guidance.tiles import make_tiles

TILES = (1, 2, 4, 9)
"""Numbers of tiles that are planned for the gradient."""


def plan(config: PlanConfig) -> MemoryChoice | None:
    """Print what takes how much memory, and the settings that fit; the choice, where there is a GPU to choose for."""
    available = _available(config.vram)
    configs = read_model_configs(config.model)
    frames, *size = configs.size
    width, height = size_of(config) or size
    frames = frames if config.num_frames is None else config.num_frames
    found = plan_memory(configs, num_frames=frames, width=width, height=height, dtype=DTYPES.get(config.dtype))
    tiles = gradient_tiles(found)
    print(f"model {found.model}: {frames} frames of {width} x {height}, {found.dtype}; predicted GiB on the GPU")
    for part, how, size_in_bytes in _rows(found, tiles):
        print(f"{part:20}{how:48}{size_in_bytes / 2**30:8.2f}")
    if available is None:
        print("no GPU here; give its memory with --vram, in GiB, for settings that fit")
        return None
    choice = choose_settings(found, available, tiles if config.guidance == "posterior_gradient" else None)
    print(_sentence(choice))
    return choice


def gradient_tiles(found: MemoryPlan) -> Tiles:
    """Latent rows and columns of the tiles that the posterior gradient may be computed on, by their number."""
    rows, columns = found.cells
    counts = [count for count in TILES if found.tiles and count <= min(rows, columns)] or [1]
    tiles = {count: make_tiles(rows, columns, count)[0] for count in counts}
    return {count: tuple(tile.weight.shape) for count, tile in tiles.items()}


def _available(vram: float | None) -> int | None:
    """Bytes of the GPU: as given, or those of this machine; None where there is none."""
    if vram is None:
        return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    if not 0 < vram < math.inf:
        raise ConfigError(f"vram is {vram:g}; it is the memory of the GPU in GiB, such as 24")
    return int(vram * 2**30)


def _rows(found: MemoryPlan, tiles: Tiles) -> list[tuple[str, str, int]]:
    """Lines of the table: part, how it is run, bytes."""
    rows = [("weights", part, size) for part, size in found.weights.items()]
    halves = {2: "both halves of guidance in one call", 1: "one half" if len(found.network) > 1 else "one call"}
    rows += [("network", halves[batch], size) for batch, size in found.network.items()]
    for part, coding, words in (
        ("encoding", found.encoding, ""),
        ("decoding", found.decoding, ""),
        ("decoding", found.decoding_float32, ", in float32 if that overflows"),
    ):
        for (frames, tiled), size in coding.items():
            how = "in tiles" if tiled else "whole video" if frames == found.num_frames else f"{frames} at a time"
            rows.append((part, how + words, size))
    for checkpointing in (False, True):
        how = "checkpointing" if checkpointing else "no checkpointing"
        for count, tile in tiles.items():
            if count == 1 or checkpointing:
                what = how if count == 1 else f"{how}, {count} tiles of {tile[1]} x {tile[0]} cells"
                rows.append(("posterior gradient", what, found.gradient_bytes(checkpointing, *tile)))
    # A part is named once, at its first line.
    return [(part if part != before else "", how, size) for (part, how, size), before in zip(
        rows, ["", *(part for part, _, _ in rows)], strict=False
    )]


def _sentence(choice: MemoryChoice) -> str:
    """What fits, or by how much it does not and what would."""
    card, needed = gib_words(choice.available), gib_words(choice.needed)
    if not choice.missing:
        return f"{card} is enough: {choice.words()}; at most {needed} at one time"
    return (
        f"{card} is {gib_words(choice.missing)} too little even with {choice.words()}: {needed} at one time, and a tenth "
        f"is to be left free; {choice.way_out()}"
    )
