"""The most bytes that tensors hold at one time while code runs, measured on real or on meta tensors.

On the meta device nothing is computed or stored: a network of 30 GiB is measured in a second, without its weights.
"""

import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_SHARING = {aten._unsafe_view.default}
"""Operations whose result shares storage with an argument, although their schema does not say so."""


def peak_bytes(work: Callable[[], object], *modules: nn.Module) -> int:
    """The most bytes that are live at one time while ``work`` runs, weights and buffers of ``modules`` not counted.

    Every storage that an operation makes counts from then until nobody refers to it any more, as on a GPU without
    fragmentation and without the workspaces of its libraries. Attention counts as fused kernels hold it: its output
    and a number for each row, never the matrix. On the meta device, a mask that selects is taken to select all, and
    its negation nothing.

    Args:
        work: the code; gradients are on in it if they are on around it.
        modules: what is there before and after, and so is not counted.
    """
    live = _LiveStorages()
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            live.known[tensor.untyped_storage()._cdata] = None
    with _fused_attention(), live:
        work()
    return live.peak


def storage_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights and buffers, shared ones counted once."""
    storages = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


class _LiveStorages(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, while anything refers to them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        # None: there before, or counted nowhere. The reference's callback takes a storage off the count.
        self.known: dict[int, weakref.ref[Any] | None] = {}
        self._shapes: dict[Hashable, Any] = {}
        self._negated: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = self._run(func, args, kwargs or {})
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.now += size
            self.peak = max(self.peak, self.now)
            self.known[key] = weakref.ref(storage, lambda _: self._drop(key, size))

    def _drop(self, key: int, size: int) -> None:
        del self.known[key]
        self._negated.discard(key)
        self.now -= size

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operation; on meta tensors the shapes of an operation seen before are remembered, not derived again."""
        first = next((a for a in args if isinstance(a, Tensor)), None)
        if first is None or not first.is_meta:
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            return False  # asked by "is there no picture?"
        if func is aten.index.Tensor:
            return self._select(args[0], args[1])
        if func in _SHARING or any(returned.alias_info is not None for returned in func._schema.returns):
            return func(*args, **kwargs)
        key = (func, _described(args), _described(tuple(sorted(kwargs.items()))))
        if key not in self._shapes:
            result = func(*args, **kwargs)
            self._shapes[key] = _described(result)
        else:
            result = _made(self._shapes[key])
        if func is aten.bitwise_not.default:
            self._negated.add(result.untyped_storage()._cdata)
        return result

    def _select(self, source: Tensor, indices: list[Tensor | None]) -> Tensor:
        """``source[indices]``, with each mask replaced by as many indices as it is taken to select."""
        plain: list[Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype == torch.bool:
                count = 0 if index.untyped_storage()._cdata in self._negated else index.numel()
                plain += [torch.empty(count, dtype=torch.long, device=index.device)] * index.ndim
            else:
                plain.append(index)
        return aten.index.Tensor(source, plain)


def _described(value: Any) -> Any:
    """What the shapes of results depend on: a hashable stand-in in which a tensor is its layout."""
    if isinstance(value, Tensor):
        return Tensor, tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(_described(item) for item in value)
    return type(value), value


def _made(layout: Any) -> Any:
    """Meta tensors of a described result."""
    if layout[0] is Tensor:
        return torch.empty_strided(layout[1], layout[2], dtype=layout[3], device="meta")
    if isinstance(layout[0], type):
        return layout[1]
    return tuple(_made(item) for item in layout)


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Within this context attention on meta tensors is a fused kernel: torch would write out its matrix there.

    It has to be in place of torch's own function: that takes itself apart before a mode sees it, and it is called
    again on the way back of a checkpointed network, where modes of functions are off.
    """
    plain = torch.nn.functional.scaled_dot_product_attention

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if not query.is_meta:
            return plain(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)  # as torch does
        # This one of the fused kernels takes every size of head.
        kernel = aten._scaled_dot_product_flash_attention_for_cpu
        return kernel(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]

    torch.nn.functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = plain
