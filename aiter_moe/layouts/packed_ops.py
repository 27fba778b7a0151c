# SPDX-License-Identifier: MIT
"""The few tensor operations that keep a `PackedWeight` one; every other is refused by name.

Each acts on the codes and the scales alike. No arithmetic, no reshaping: those would need the
layout to mean something else afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from aiter_moe.errors import LayoutError
from aiter_moe.huge_pages import empty_bytes

if TYPE_CHECKING:
    from aiter_moe.layouts.packed import PackedWeight

Operation = Callable[..., torch.Tensor]

_aten = torch.ops.aten
_CONTIGUOUS = (None, torch.preserve_format, torch.contiguous_format)


def run(func: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Run an ATen operation on packed weights.

    Raises
    ------
    LayoutError
        The operation would lose the layout, or mixes packed and other tensors.
    """
    handler = _HANDLERS.get(func)
    if handler is None:
        raise LayoutError(
            f"{func} is not an operation on a packed weight, because it would lose the layout; "
            "take .codes and .scales for the bytes, or .unpack() for row-major tensors"
        )
    # torch leaves this key out below a subclass; with it, parts that share memory share the count
    # of changes too, by which `aiter_moe.weights` knows whether a copy is stale
    with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False):
        return handler(func, *args, **kwargs)


def _keep(func: Operation, weight: PackedWeight) -> PackedWeight:
    return weight.rebuild(func(weight.codes), func(weight.scales))


def _copy_of(func: Operation, weight: PackedWeight, **kwargs: object) -> PackedWeight:
    dtype, memory_format = kwargs.get("dtype"), kwargs.get("memory_format")
    if dtype not in (None, weight.dtype) or memory_format not in _CONTIGUOUS:
        raise LayoutError(
            f"a packed weight in {weight.layout} stays contiguous {weight.dtype}, asked for "
            f"dtype={dtype}, memory_format={memory_format}; .unpack() and dequantise give values"
        )
    codes = _in_own_memory(func, weight, **kwargs) if weight.layout.is_panel else None
    if codes is None:
        codes = func(weight.codes, **kwargs)
    return weight.rebuild(codes, func(weight.scales, **kwargs))


def _in_own_memory(func: Operation, weight: PackedWeight, **kwargs: object) -> torch.Tensor | None:
    """Return panels in new memory on the host, where huge pages are worth it; None elsewhere."""
    codes = weight.codes
    device = torch.device(kwargs.get("device") or codes.device)  # type: ignore[call-overload]
    if device.type != "cpu" or kwargs.get("pin_memory") or type(codes) is not torch.Tensor:
        return None
    made = empty_bytes(tuple(codes.shape), device)
    return made if func is _aten.empty_like.default else made.copy_(codes)


def _slice(
    func: Operation,
    weight: PackedWeight,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> PackedWeight:
    size = weight.shape[dim]
    first, last, _ = slice(start, end).indices(size)
    last = max(first, last)
    if step != 1 or (dim not in (0, -3) and (first, last) != (0, size)):
        raise LayoutError(
            f"a packed weight in {weight.layout} slices only by whole experts, packed[a:b]; asked "
            f"for [{first}:{last}:{step}] of axis {dim}; .unpack() first"
        )
    if dim not in (0, -3):
        return _keep(_aten.alias.default, weight)
    rows = weight.physical_rows
    return weight.rebuild(weight.codes[first:last], weight.scales[first * rows : last * rows])


def _copy_into(
    func: Operation, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False
) -> torch.Tensor:
    ours, theirs = (getattr(x, "packing", None) for x in (target, source))
    if ours is None or ours != theirs or target.shape != source.shape:
        raise LayoutError(
            f"copying {_name(source)} into {_name(target)}: both must be packed weights of one "
            "layout and shape; convert with PackedWeight.pack or .to_layout first"
        )
    packed_target: Any = target
    packed_source: Any = source
    rows = packed_target.experts * packed_target.physical_rows
    func(packed_target.codes, packed_source.codes, non_blocking)
    func(packed_target.scales[:rows], packed_source.scales[:rows], non_blocking)
    return target


def _name(x: torch.Tensor) -> str:
    packing = getattr(x, "packing", None)
    return f"{x.dtype} {tuple(x.shape)}" + (f" in {packing.layout}" if packing else ", not packed")


_HANDLERS: dict[Operation, Operation] = {
    _aten.alias.default: _keep,
    _aten.detach.default: _keep,
    _aten.clone.default: _copy_of,
    _aten._to_copy.default: _copy_of,
    _aten.empty_like.default: _copy_of,
    _aten.slice.Tensor: _slice,
    _aten.copy_.default: _copy_into,
}
