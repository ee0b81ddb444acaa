"""Seconds a video that a training step of the UNet takes, of processor time, and what the optimiser adds.

python -m tools.tiny.speed --batch 4
"""

import argparse
import time
from collections.abc import Callable
from itertools import product

import torch

from mvguide.diffusion.training import gamma_v, score_matching_loss
from tools.tiny.attention import use_fast_attention
from tools.tiny.models import build_unet
from tools.tiny.optim import Optimizer
from tools.tiny.unet import UNET_ENDS, ConditionedUnet


def seconds(work: Callable[[], object], times: int) -> float:
    """Processor time of ``work``, the least of a few tries."""
    work()
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=4, help="videos of one process")
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch = options.batch
    latents = torch.randn(batch, 8, 4, 32, 32)
    unet = build_unet(8, 32).train()
    stock = unet.attn_processors
    for fast, low in product((False, True), (False, True)):
        if fast:
            use_fast_attention(unet)
        else:
            unet.set_attn_processor(dict(stock))

        def step(low: bool = low) -> None:
            unet.zero_grad(set_to_none=True)
            denoiser = ConditionedUnet(unet, latents[:, 0], torch.randn(batch, 64), torch.full((batch,), 30.0))
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = score_matching_loss(denoiser, latents, torch.randn_like(latents), torch.ones(batch), gamma_v)
            loss.mean().backward()

        name = f"{'bfloat16' if low else 'float32'}, {'fast' if fast else 'stock'} attention"
        print(f"{name}: {seconds(step, options.times) / batch:.3f} s a video", flush=True)
    gradients = [None if p.grad is None else p.grad.clone() for p in unet.parameters()]
    for low in (False, True):
        optimizer = Optimizer(unet, 1e-6, UNET_ENDS, (0.99,), low)

        def update(optimizer: Optimizer = optimizer) -> None:
            for p, gradient in zip(unet.parameters(), gradients, strict=True):
                p.grad = gradient
            optimizer.step(1.0)

        print(
            f"optimiser, {'bfloat16' if low else 'float32'}: {seconds(update, options.times):.3f} s a step", flush=True
        )


if __name__ == "__main__":
    main()
