"""Where the networks of a pipeline rest: on the device, or in memory until they are needed."""

from typing import Any, Literal, cast, get_args

import torch

from mvguide.errors import ConfigError

Offload = Literal["none", "model", "group"]


def check_offload(offload: str, device: torch.device) -> Offload:
    """``offload``. Raises ConfigError where it is not known, or on the CPU, where there is nothing to move."""
    if offload not in get_args(Offload):
        raise ConfigError(f"offload is {offload!r}; it is one of {', '.join(get_args(Offload))}")
    if offload != "none" and device.type == "cpu":
        raise ConfigError(
            f"offload {offload!r} moves networks between a GPU and memory, but the device is the CPU; leave it out"
        )
    return cast(Offload, offload)


def place_networks(pipe: Any, device: torch.device, offload: Offload = "none") -> None:
    """Put the networks of a stock pipeline where they rest.

    Args:
        pipe: a diffusers pipeline, on the CPU.
        device: where the networks run.
        offload: ``none`` = on the device. ``model`` = in memory; one network at a time moves to the device, whole.
            ``group`` = in memory; layer by layer, each while it works and the next one on its way. The VAE is small
            and moves whole.

    Raises:
        ConfigError: the pipeline has no such offload.
    """
    from accelerate import cpu_offload_with_hook

    kind = type(pipe).__name__
    if offload == "none":
        pipe.to(device)
    elif offload == "model":
        if pipe.model_cpu_offload_seq is None:
            raise ConfigError(f"{kind} has no offload 'model'; use 'group'")
        pipe.enable_model_cpu_offload(device=device)
    else:
        fixed = [
            name for name, part in _networks(pipe).items() if not getattr(part, "_supports_group_offloading", True)
        ]
        if set(fixed) - {"vae"}:
            raise ConfigError(f"{kind} has no offload 'group', because of its {', '.join(fixed)}; use 'model'")
        pipe.enable_group_offload(
            onload_device=device,
            offload_type="leaf_level",
            use_stream=device.type == "cuda",  # the next layer moves while this one works
            exclude_modules=["vae"],
        )
        # The VAE changes its number format on the way, which copies of its layers would not see.
        cpu_offload_with_hook(pipe.vae, device)


def offload_of(pipe: Any) -> Offload:
    """The offload of a pipeline."""
    from diffusers.hooks.group_offloading import _is_group_offload_enabled

    if getattr(pipe, "_all_hooks", None):
        return "model"
    grouped = [part for part in _networks(pipe).values() if _is_group_offload_enabled(part)]
    return "group" if grouped else "none"


def free_networks(pipe: Any) -> None:
    """Take every network off the device that :func:`place_networks` does not keep there."""
    from accelerate.hooks import CpuOffload

    pipe.maybe_free_model_hooks()  # after encoding, the VAE would stay until something else runs before it again
    hook = getattr(pipe.vae, "_hf_hook", None)
    if isinstance(hook, CpuOffload):
        hook.init_hook(pipe.vae)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def check_gradient(network: torch.nn.Module) -> None:
    """Raise ConfigError where a network's layers are offloaded one by one: a gradient needs them on the way back."""
    from diffusers.hooks.group_offloading import _is_group_offload_enabled

    if _is_group_offload_enabled(network):
        raise ConfigError(
            "offload 'group' has taken the network's layers off the GPU when the gradient needs them again; "
            "use offload 'model', or another guidance than posterior_gradient"
        )


def _networks(pipe: Any) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
