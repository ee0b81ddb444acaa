"""A step of the posterior gradient against an unguided one."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch

from mvguide.diffusion.schedule import load_sigmas
from tools.speed.timing import alternate, printed_by

POST_PIXELS = 64
"""Side of the image that is timed; memory is measured at four times that, where activations outweigh the rest."""
POST_MODES = ("unguided", "unguided, CFG chunked", "post", "post, kept activations", "post, 4 tiles, CFG chunked")


def post_step(mode: str, pixels: int = POST_PIXELS) -> Callable[[], Any]:
    """One step of 8 frames with classifier-free guidance on the embedded network."""
    from mvguide.backbones.base import ConditioningOptions
    from mvguide.backbones.pretrained import load_backbone
    from mvguide.diffusion.solvers import Step
    from mvguide.guidance.guides import bind, make_guide
    from mvguide.guidance.targets import Targets
    from mvguide.tables.table import LambdaTable

    backbone = load_backbone("tiny", device="cpu")
    options = ConditioningOptions(8, motion_bucket_id=50, cfg_min=1.0, cfg_max=3.0, cfg_chunked="chunked" in mode)
    denoiser = backbone.denoiser(backbone.prepare(torch.rand(3, pixels, pixels), options))
    schedule = load_sigmas("sigmas_25")
    x = 20 * torch.randn(backbone.latent_shape(8, pixels, pixels))
    targets = Targets(torch.randn(x.shape[1:]), torch.ones_like(x[0, :, :1]), torch.zeros(8, dtype=torch.bool))
    kind, tiles = "posterior_gradient" if "post" in mode else "none", 4 if "tiles" in mode else 1
    guide = make_guide(kind, checkpointing="kept" not in mode, tiles=tiles)
    guidance = bind(guide, targets, LambdaTable.constant(0.8, schedule, 8))
    step = Step(11, 25, schedule.sigmas[11], schedule.sigmas[12])

    @torch.no_grad()
    def run() -> None:
        guidance(denoiser, x, step)

    return run


def print_post_peak(mode: str) -> None:
    """Megabytes of tensors alive at the peak of a step, besides the model and its inputs.

    Counted by torch's own profiler: a process's memory also holds what its allocator keeps for later.
    """
    run = post_step(mode, 4 * POST_PIXELS)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    recorded = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in recorded if event.name() == "[memory]")
    print(max(accumulate(size for _, size in changes)) / 2**20)


def bench_post() -> dict[str, Any]:
    def peak(mode: str) -> float:
        return printed_by(f"from tools.speed.post import print_post_peak; print_post_peak({mode!r})")

    peaks = {mode: peak(mode) for mode in POST_MODES}
    plain = post_step("unguided")
    ours_s, plain_s, ratio = alternate(post_step("post, kept activations"), plain, 7)
    recomputed = alternate(post_step("post"), plain, 5)[2]
    memory = peaks["post"] / peaks["unguided"]
    return {
        "name": f"a step of posterior_gradient with CFG, 8 frames of {POST_PIXELS} x {POST_PIXELS}, embedded model",
        "baseline": "an unguided step with CFG",
        "ours_s": ours_s,
        "baseline_s": plain_s,
        "ratio": ratio,
        "time_ratio_with_checkpointing": recomputed,
        "memory_ratio_with_checkpointing": memory,
        "asked": "at most 2.6 times the time; with checkpointing at most 1.6 times the peak memory",
        "reached": ratio <= 2.6 and memory <= 1.6,
        **{f"peak_mb_{mode.replace(', ', '_').replace(' ', '_')}": value for mode, value in peaks.items()},
    }
