"""A stock pipeline's call, run until its first ``scheduler.step``: what it would give its network."""

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from mvguide.errors import ModelError

Call = dict[str, Any]
"""Keyword arguments of a pipeline or of a network."""
_BATCHED = ("hidden_states", "encoder_hidden_states", "encoder_attention_mask", "timestep")


class _FirstStepError(Exception):
    """Leaves the stock call at its first step, carrying its x."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__("the stock call reached its first step")
        self.sample = sample


def run_to_first_step(pipe: Any, call: Call) -> tuple[list[Call], Tensor]:
    """Run a stock call until its first ``scheduler.step``.

    The network is not evaluated: it answers with its own input, which has the shape of its output as far as the stock
    call looks at it.

    Returns:
        Keyword arguments of each call of the network, and the first x.
    """
    calls: list[Call] = []
    networks = [module for module in (pipe.transformer, getattr(pipe, "transformer_2", None)) if module is not None]
    step = pipe.scheduler.step

    def record(**arguments: Any) -> tuple[Tensor]:
        calls.append(arguments)
        return (arguments["hidden_states"],)

    @functools.wraps(step)  # pipelines look at the signature
    def stop(*positional: Any, **named: Any) -> Any:
        raise _FirstStepError(inspect.signature(step).bind(*positional, **named).arguments["sample"])

    with ExitStack() as stack:
        stack.enter_context(replaced(pipe.scheduler, "step", stop))
        for network in networks:
            stack.enter_context(replaced(network, "forward", record))
        try:
            pipe(**call)
        except _FirstStepError as reached:
            return calls, reached.sample
    raise ModelError(f"{type(pipe).__name__} ended without a step of its scheduler; mvguide cannot take it over")


@contextmanager
def replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of an object replaced meanwhile; one of its class is seen again afterwards."""
    own, before = name in vars(thing), getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if own:  # accelerate's offloading puts its own there
            setattr(thing, name, before)
        else:
            delattr(thing, name)


def by_condition(calls: list[Call]) -> list[Call]:
    """The conditional call, and the unconditional one if there was one; a batch of both is taken apart."""
    if calls[0]["hidden_states"].shape[0] == 1:
        return calls

    def half(index: int) -> Call:
        return {
            name: value[index : index + 1] if name in _BATCHED and isinstance(value, Tensor) else value
            for name, value in calls[0].items()
        }

    return [half(1), half(0)]  # stock pipelines put the unconditional half first
