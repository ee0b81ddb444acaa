"""Settings of a render that fit into the memory of a GPU."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil

from mvguide.backbones.memory_plan import Coding, MemoryPlan
from mvguide.backbones.offload import Offload
from mvguide.memory import size_words

HEADROOM = 0.1
"""Share of the memory that is left to CUDA itself, to the workspaces of its libraries, and to fragmentation."""

Tiles = Mapping[int, tuple[int, int]]
"""Latent rows and columns of a tile, by the number of tiles; 1 is the whole."""


@dataclass(frozen=True)
class MemorySettings:
    """How a render uses memory.

    Args:
        offload: none; model = only the network at work is on the GPU; group = only its layers at work.
        encode: frames that the VAE encodes at a time, and whether it cuts them into tiles.
        decode: the same of decoding.
        cfg_chunked: the halves of classifier-free guidance one after the other.
        checkpointing: activations of the posterior gradient are computed again on the way back.
        tiles: number of tiles that the gradient is computed on.
    """

    offload: Offload
    encode: Coding
    decode: Coding
    cfg_chunked: bool = False
    checkpointing: bool = False
    tiles: int = 1


@dataclass(frozen=True)
class MemoryChoice:
    """The settings for a GPU, and what they need.

    Args:
        plan: what takes how much.
        available: bytes of the GPU that are free.
        settings: the fastest that fit; if none do, those that need least.
        stages: bytes on the GPU in each stage of the render.
    """

    plan: MemoryPlan
    available: int
    settings: MemorySettings
    stages: Mapping[str, int]

    @property
    def needed(self) -> int:
        """The most bytes on the GPU at one time."""
        return max(self.stages.values())

    @property
    def missing(self) -> int:
        """Bytes that the GPU has too little; 0 where the settings fit."""
        return max(0, ceil(self.needed / (1 - HEADROOM)) - self.available)

    def words(self) -> str:
        """The settings as a phrase."""
        settings = self.settings
        frames, tiled = settings.decode
        if tiled:
            coding = "the VAE in tiles"
        elif frames >= self.plan.num_frames:
            coding = "the whole video decoded at once"
        else:
            coding = f"decode {frames} frame{'s' if frames > 1 else ''} at a time"
        words = ["everything on the GPU" if settings.offload == "none" else f"{settings.offload} offload", coding]
        if settings.encode[0] < frames:
            words.append(f"encode {settings.encode[0]}")
        if settings.cfg_chunked:
            words.append("cfg_chunked")
        if "gradient" in self.stages:
            words.append("checkpointing" if settings.checkpointing else "no checkpointing")
            if settings.tiles > 1:
                words.append(f"{settings.tiles} tiles")
        return ", ".join(words)

    def way_out(self) -> str:
        """What would fit where these settings do not."""
        stage = max(self.stages, key=lambda name: self.stages[name])
        fixed = resident_bytes(self.plan, self.settings.offload)[stage]
        share = ((1 - HEADROOM) * self.available - fixed) / max(1, self.stages[stage] - fixed)
        ways = [f"a GPU of {gib_words(self.available + self.missing)}"]
        if share >= 0.1:
            ways.append(f"{int(100 * share)}% of the frames or of the pixels")
        if stage == "gradient":
            ways.append("another guidance than posterior_gradient")
        if self.plan.dtype == "float32":
            ways.append("dtype bfloat16")
        return f"{stage} would need {', or '.join(ways)}"


def choose_settings(plan: MemoryPlan, available: int, tiles: Tiles | None = None) -> MemoryChoice:
    """The fastest settings that fit into the memory of a GPU.

    The way down is one: the stage that needs most is made smaller, by what costs least. With less memory one goes
    further along it, so no setting ever grows as memory shrinks.

    Args:
        plan: what takes how much.
        available: bytes of the GPU that are free.
        tiles: with the posterior gradient: the tiles it may be computed on; unset without it.
    """
    settings = MemorySettings("none", next(iter(plan.encoding)), next(iter(plan.decoding)))
    stages = stage_bytes(plan, settings, tiles)
    while max(stages.values()) > (1 - HEADROOM) * available:
        stage = max(stages, key=lambda name: stages[name])
        tried = ((leaner, stage_bytes(plan, leaner, tiles)) for leaner in _leaner(plan, settings, tiles))
        found = next((pair for pair in tried if pair[1][stage] < stages[stage]), None)
        if found is None:
            break
        settings, stages = found
    return MemoryChoice(plan, available, settings, stages)


def choose_memory(plan: MemoryPlan, available: int, tiles: Tiles | None = None) -> tuple[MemorySettings, str]:
    """Settings for a GPU, and one line that says so; see :func:`choose_settings` for the arguments.

    Returns:
        The settings, to be tried even where they do not fit; and "memory: 24 GiB, using model offload, ...".
    """
    choice = choose_settings(plan, available, tiles)
    line = f"memory: {gib_words(available)}, using {choice.words()}"
    if choice.missing:
        line += f"; that may be {gib_words(choice.missing)} too little, {choice.way_out()}"
    return choice.settings, line


def gib_words(num_bytes: float) -> str:
    """A number of bytes as GPUs are sold: 24 GiB, 7.5 GiB; MiB below 1 GiB."""
    return size_words(num_bytes) if num_bytes < 2**30 else f"{num_bytes / 2**30:.1f}".removesuffix(".0") + " GiB"


def stage_bytes(plan: MemoryPlan, settings: MemorySettings, tiles: Tiles | None = None) -> dict[str, int]:
    """Bytes on the GPU in each stage: prompt, encoding, denoising, decoding; and gradient, if there are tiles."""
    resident = resident_bytes(plan, settings.offload)
    activations = {
        "prompt": 0,
        "encoding": plan.encoding[settings.encode],
        "denoising": plan.network[1 if settings.cfg_chunked else max(plan.network)],
        "decoding": plan.decoding[settings.decode],
    }
    if tiles:
        activations["gradient"] = plan.gradient_bytes(settings.checkpointing, *tiles[settings.tiles])
    return {stage: resident[stage] + size for stage, size in activations.items()}


def resident_bytes(plan: MemoryPlan, offload: Offload) -> dict[str, int]:
    """Bytes of weights on the GPU in each stage.

    Without offload all are there while prompt and pictures are encoded. Then a model that reads text sends its encoders
    away.
    """
    sizes = plan.streamed if offload == "group" else plan.weights
    encoders = [part for part in sizes if part.startswith(("text_encoder", "image_encoder"))]
    networks = [sizes[part] for part in sizes if part not in encoders and part != "vae"]
    first = coding = denoising = sum(sizes.values())
    if offload != "none":
        first, coding, denoising = max((sizes[part] for part in encoders), default=0), sizes["vae"], max(networks)
    elif "text_encoder" in encoders:
        denoising = sum(networks) + sizes["vae"]
    decoding = min(coding, denoising)
    return {"prompt": first, "encoding": coding, "denoising": denoising, "gradient": denoising, "decoding": decoding}


def _leaner(plan: MemoryPlan, settings: MemorySettings, tiles: Tiles | None) -> Iterator[MemorySettings]:
    """Each setting one step smaller: first what changes nothing in the video, then what does, last what is slow."""
    encode, decode = list(plan.encoding), list(plan.decoding)
    if not settings.cfg_chunked and len(plan.network) > 1:
        yield replace(settings, cfg_chunked=True)
    if not settings.checkpointing and tiles:
        yield replace(settings, checkpointing=True)
    framewise = not any(tiled for _, tiled in encode)
    if framewise and settings.encode != encode[-1]:
        yield replace(settings, encode=encode[encode.index(settings.encode) + 1])
    if settings.offload == "none":
        yield replace(settings, offload="model")
    if settings.decode != decode[-1]:
        smaller = decode[decode.index(settings.decode) + 1]
        yield replace(settings, decode=smaller, encode=settings.encode if framewise else smaller)
    larger = [count for count in tiles or {} if count > settings.tiles]
    if larger:
        yield replace(settings, tiles=min(larger))
    if settings.offload == "model" and not tiles:  # a gradient needs its layers again on the way back
        yield replace(settings, offload="group")
