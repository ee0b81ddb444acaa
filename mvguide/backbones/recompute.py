"""Gradient checkpointing of chosen modules: keep what goes in, and compute the inside again on the way back."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[None]:
    """Within this context, modules of these kinds keep only their inputs for the backward pass (Chen et al. 2016).

    Diffusers' own switch leaves out SVD's temporal transformer blocks, which hold most of the memory. The modules are
    as they were afterwards; the backward pass may come later. They must not draw random numbers (no dropout).

    Args:
        network: where to look for the modules.
        kinds: their classes; of modules inside each other, all are recomputed.
    """
    changed: list[tuple[nn.Module, bool, object]] = []
    try:
        for module in network.modules():
            if isinstance(module, kinds):
                changed.append((module, "forward" in vars(module), module.forward))
                again = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
                module.forward = again
        yield
    finally:
        for module, was_own, forward in changed:
            if was_own:  # accelerate's offloading puts its own there
                module.forward = forward  # type: ignore[assignment]
            else:
                del module.forward
