"""``mvguide plan``."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from mvguide.backbones.memory_plan import Coding, MemoryPlan, plan_memory
from mvguide.backbones.memory_settings import (
    MemoryChoice,
    MemorySettings,
    Tiles,
    choose_memory,
    choose_settings,
    gib_words,
    stage_bytes,
)
from mvguide.backbones.model_configs import read_model_configs
from mvguide.backbones.pretrained import DTYPES
from mvguide.commands.speaking import Say, size_of
from mvguide.config.plan_options import PlanConfig
from mvguide.config.render_options import RenderConfig
from mvguide.errors import ConfigError, ModelError
from mvguide.geometry.camera import Camera
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
    for part, ways, sizes in _rows(found, tiles):
        print(f"{part:20}{ways:44}" + "".join(f"{size / 2**30:8.2f}" for size in sizes))
    if available is None:
        print("no GPU here; give its memory with --vram, in GiB, for settings that fit")
        return None
    choice = choose_settings(found, available, tiles if config.guidance == "posterior_gradient" else None)
    print(_sentence(choice))
    return choice


def fit_memory(config: RenderConfig, trajectory: Camera, available: int | None, say: Say) -> RenderConfig:
    """The settings of a render with those of memory chosen for a GPU; one line says what was chosen.

    With ``memory given`` the settings stay as they are, and the line says what would fit where they may not.

    Args:
        config: the settings.
        trajectory: F cameras of the video, at the size of the pictures.
        available: bytes of the GPU that are free; None on the CPU, where nothing is planned.
        say: prints the line.

    Raises:
        ModelError: with ``memory auto``: nothing is known of the model's size without loading it.
        InputError: frames or a size that the model does not take.
    """
    if available is None:
        return config
    try:
        configs = read_model_configs(config.model)
    except ModelError:
        if config.memory == "auto":
            raise
        return config
    size = size_of(config) or configs.native_size.default_size(trajectory.width, trajectory.height)
    gradient = config.guidance.kind == "posterior_gradient"
    dtype = DTYPES.get(config.dtype)
    found = plan_memory(
        configs, num_frames=len(trajectory), width=size[0], height=size[1], dtype=dtype, gradient=gradient
    )
    tiles = gradient_tiles(found) if gradient else None
    chosen, line = choose_memory(found, available, tiles)
    if config.memory == "given":
        as_given = MemorySettings(
            config.offload,
            next((way for way in found.encoding if way[1] == config.vae_tiling), next(iter(found.encoding))),
            next((way for way in found.decoding if way[1] == config.vae_tiling), next(iter(found.decoding))),
            config.cfg_chunked,
            config.guidance.guide().checkpointing if gradient else False,  # type: ignore[attr-defined]
        )
        needed = max(stage_bytes(found, as_given, tiles).values())
        if needed > available:
            say(f"{line} would fit; these settings may need {gib_words(needed)}: give --memory auto")
        return config
    say(line)
    guidance = config.guidance
    if gradient:
        of_gradient: Any = {"checkpointing": chosen.checkpointing, "tiles": chosen.tiles}  # fields made by options_of
        guidance = replace(guidance, **of_gradient)
    return replace(
        config,
        offload=chosen.offload,
        cfg_chunked=chosen.cfg_chunked,
        chunk=min(chosen.encode[0], chosen.decode[0]),
        vae_tiling=config.vae_tiling or chosen.encode[1] or chosen.decode[1],
        guidance=guidance,
    )


def gradient_tiles(found: MemoryPlan) -> Tiles:
    """Latent rows and columns of the tiles that the posterior gradient may be computed on, by their number."""
    rows, columns = found.cells
    counts = [count for count in TILES if found.tiles and count <= min(rows, columns)] or [1]
    tiles = {count: make_tiles(rows, columns, count)[0] for count in counts}
    return {count: (tile.weight.shape[0], tile.weight.shape[1]) for count, tile in tiles.items()}


def _available(vram: float | None) -> int | None:
    """Bytes of the GPU: as given, or those of this machine; None where there is none."""
    if vram is None:
        return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    if not 0 < vram < math.inf:
        raise ConfigError(f"vram is {vram:g}; it is the memory of the GPU in GiB, such as 24")
    return int(vram * 2**30)


def _rows(found: MemoryPlan, tiles: Tiles) -> list[tuple[str, str, Iterable[int]]]:
    """Lines of the table: part, the ways to run it, and bytes of each."""
    rows: list[tuple[str, str, Iterable[int]]] = [
        ("weights" if not index else "", part, [size]) for index, (part, size) in enumerate(found.weights.items())
    ]
    ways = "guidance in one call; in two (cfg_chunked)" if len(found.network) > 1 else "one call"
    rows.append(("network", ways, found.network.values()))
    rows.append(("encoding", _coding_words(found, found.encoding), found.encoding.values()))
    rows.append(("decoding", _coding_words(found, found.decoding), found.decoding.values()))
    if found.decoding_float32:
        rows.append(("", "in float32, where 16 bits overflow", found.decoding_float32.values()))
    rows.append(("posterior gradient", "no checkpointing", [found.gradient[False]]))
    counts = ", ".join(map(str, tiles)) + " tiles" if len(tiles) > 1 else ""
    on_tiles = [found.gradient_bytes(True, *tile) for tile in tiles.values()]
    rows.append(("", f"checkpointing; {counts}".removesuffix("; "), on_tiles))
    return rows


def _coding_words(found: MemoryPlan, coding: Mapping[Coding, int]) -> str:
    if found.tiles:  # a VAE that takes frames one by one
        return ", ".join(str(frames) for frames, _ in coding) + " frames at a time"
    return "whole video; in tiles" if len(coding) > 1 else "whole video"


def _sentence(choice: MemoryChoice) -> str:
    """What fits, or by how much it does not and what would."""
    card, needed = gib_words(choice.available), gib_words(choice.needed)
    if not choice.missing:
        return f"{card} is enough: {choice.words()}; at most {needed} at one time"
    return (
        f"{card} is {gib_words(choice.missing)} too little even with {choice.words()}: {needed} at one time, and a "
        f"tenth is to be left free; {choice.way_out()}"
    )
