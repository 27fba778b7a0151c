# SPDX-License-Identifier: MIT
"""From whatever a caller holds to the `PackedWeight` a kernel reads.

Tensors shuffled the way kernels read them are wrapped without a copy. Row-major weights are
shuffled once and remembered as long as the caller's tensor lives, which is announced, because
it doubles their memory.
"""

from __future__ import annotations

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from aiter_moe import dtypes
from aiter_moe.enums import GateMode
from aiter_moe.errors import ArgumentError, DtypeError, LayoutError
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.log import warn_once

# kinds some loaders mark their weights with, whose w1 always interleaves gate and up rows
INTERLEAVED_KINDS = ("mxfp4_moe", "mxfp4_guinterleave")

_shuffled: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def kernel_weight(
    weight: torch.Tensor | PackedWeight,
    scale: torch.Tensor | None,
    gate_mode: GateMode | None,
    name: str,
) -> PackedWeight:
    """Return `weight` as a kernel of any target can read it.

    Parameters
    ----------
    weight : torch.Tensor or PackedWeight
        fp4 codes [experts, rows, cols/2] (fp4x2 or uint8) as aiter holds them, or packed.
    scale : torch.Tensor or None
        e8m0 scales of a raw tensor, as aiter holds them; None with a `PackedWeight`.
    gate_mode : GateMode or None
        What the caller says of the order of w1's rows; None: as the weight says. w2: None.
    name : str
        ``w1`` or ``w2``, for messages.

    Raises
    ------
    LayoutError
        If the bytes lie in another layout than the caller or a mark says.
    """
    if isinstance(weight, PackedWeight):
        packed = _given_packed(weight, scale, name)
    else:
        packed = _given_raw(weight, scale, gate_mode, name)
    _check_gate_order(packed, gate_mode, name)
    if packed.layout is not Layout.PLAIN:
        return packed
    return _shuffle_once(weight, packed, name)


def _given_packed(weight: PackedWeight, scale: torch.Tensor | None, name: str) -> PackedWeight:
    if scale is not None:
        raise ArgumentError(
            f"{name} is a PackedWeight, which holds its scales; leave out {name}_scale"
        )
    return weight


def _given_raw(
    weight: torch.Tensor, scale: torch.Tensor | None, gate_mode: GateMode | None, name: str
) -> PackedWeight:
    if weight.dtype not in (dtypes.fp4x2, torch.uint8):
        raise DtypeError(
            f"{name} is {weight.dtype}; pass MXFP4 codes (dtypes.fp4x2 or uint8), e.g. from "
            "per_1x32_f4_quant"
        )
    if weight.dim() != 3:
        raise ArgumentError(f"{name} must be [experts, rows, cols / 2], got {list(weight.shape)}")
    if scale is None:
        raise ArgumentError(f"{name} has no scales; pass {name}_scale, or a PackedWeight as {name}")
    if scale.dtype not in (dtypes.fp8_e8m0, torch.uint8):
        raise DtypeError(
            f"{name}_scale is {scale.dtype}; pass e8m0 bytes (dtypes.fp8_e8m0 or uint8)"
        )
    gate_up = None if gate_mode is None else gate_mode is GateMode.INTERLEAVE
    if (
        name == "w1"
        and gate_up is None
        and getattr(weight, "shuffle_kind", None) in INTERLEAVED_KINDS
    ):
        gate_up = True
    return PackedWeight.from_aiter(weight, scale, gate_up=gate_up, name=name)


def _check_gate_order(packed: PackedWeight, gate_mode: GateMode | None, name: str) -> None:
    interleaved = packed.layout is Layout.SHUFFLED_GATE_UP
    if name == "w2" and interleaved:
        raise LayoutError(
            "w2 lies in layout SHUFFLED_GATE_UP, which interleaves gate and up rows; w2 has none: "
            "shuffle it with gate_up=False (Layout.SHUFFLED)"
        )
    if gate_mode is None or name == "w2":
        return
    if interleaved is not (gate_mode is GateMode.INTERLEAVE):
        raise LayoutError(
            f"{name} lies in layout {packed.layout.name}, but gate_mode={gate_mode.value!r} was "
            "asked; leave gate_mode out, or convert with PackedWeight.to_layout"
        )


def _shuffle_once(
    weight: torch.Tensor | PackedWeight, plain: PackedWeight, name: str
) -> PackedWeight:
    version = (weight._version, plain.scales.data_ptr())
    if weight in _shuffled and _shuffled[weight][0] == version:
        known: PackedWeight = _shuffled[weight][1]
        return known
    warn_once(
        ("plain weight", name),
        f"{name} is row-major (no is_shuffled mark): a shuffled copy is made and kept beside it. "
        "If it was shuffled and lost its mark, results are wrong; pack weights at load with "
        "PackedWeight.pack(codes, scales) or shuffle_weight and e8m0_shuffle",
    )
    packed = plain.to_layout(Layout.SHUFFLED)
    _shuffled[weight] = (version, packed)
    return packed
