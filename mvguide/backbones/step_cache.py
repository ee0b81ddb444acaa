"""Step caches of diffusers: a step takes from the one before what would hardly differ. They are there only in a run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.errors import ConfigError

Magnitudes = dict[str, Tensor]
"""``[calls]`` for each network by name: how much longer what its blocks add is than in the call before (MagCache)."""


@contextmanager
def cached_steps(
    networks: Mapping[str, tuple[Any, int]], options: AccelerationOptions, magnitudes: Magnitudes | None
) -> Iterator[Magnitudes]:
    """Within this context, networks cache from step to step; every evaluation is one call in each ``cache_context``.

    The caches begin empty and are gone afterwards, so neither another run nor a calibration can see them.

    Args:
        networks: each network by name, and its calls in the run.
        options: which cache.
        magnitudes: of an earlier run, for cache mag; None: measure them, and skip nothing.

    Yields:
        Where magnitudes that were measured are put at the end of a whole run.

    Raises:
        ConfigError: magnitudes that lack a network.
    """
    measured: Magnitudes = {}
    measures = options.cache == "mag" and magnitudes is None
    used = {part: (network, calls) for part, (network, calls) in networks.items() if calls}
    try:
        for part, (network, calls) in used.items():
            if magnitudes is not None and part not in magnitudes:
                raise ConfigError(
                    f"{options.cache_file} was measured in a run that did not use {part}; remove it, and measure again "
                    "with these steps"
                )
            network.enable_cache(_config(options, calls, None if magnitudes is None else magnitudes[part]))
        yield measured
        if measures:
            found = {part: _measured(network) for part, (network, _) in used.items()}
            if all(len(found[part]) == calls for part, (_, calls) in used.items()):
                measured |= found
    finally:
        for network, _ in used.values():
            if network.is_cache_enabled:
                network.disable_cache()


def _config(options: AccelerationOptions, calls: int, magnitudes: Tensor | None) -> Any:
    from diffusers import FirstBlockCacheConfig, MagCacheConfig

    chosen = {} if options.cache_threshold is None else {"threshold": options.cache_threshold}
    if options.cache == "first_block":
        return FirstBlockCacheConfig(**chosen)
    if magnitudes is None:
        # It would print them after its last call, and forget them: it is told that there is one more.
        return MagCacheConfig(calibrate=True, num_inference_steps=calls + 1)
    return MagCacheConfig(mag_ratios=magnitudes.float(), num_inference_steps=calls, **chosen)


def _measured(network: Any) -> Tensor:
    """Mean over the conditional and the unconditional calls."""
    hooks = (module._diffusers_hook.get_hook("mag_cache_leader_block_hook") for module in _hooked(network))
    states = next(hook.state_manager._state_cache for hook in hooks if hook is not None)
    ratios = [state.calibration_ratios for state in states.values()]
    return torch.tensor(ratios, dtype=torch.float64).mean(dim=0) if ratios else torch.zeros(0)


def _hooked(network: Any) -> list[Any]:
    return [module for module in network.modules() if hasattr(module, "_diffusers_hook")]
