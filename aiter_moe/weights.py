# SPDX-License-Identifier: MIT
"""From whatever a caller holds to the `PackedWeight` a kernel reads.

Tensors shuffled the way kernels read them are wrapped without a copy. Row-major weights are
shuffled once and remembered as long as the caller's tensor lives, which is announced, because
it doubles their memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch

from aiter_moe.enums import GateMode
from aiter_moe.errors import ArgumentError, LayoutError
from aiter_moe.formats import code_bytes
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.layouts.adopt import adopt
from aiter_moe.layouts.marks import SHUFFLE_KINDS
from aiter_moe.log import warn_once

_Place = tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A shuffled copy, and what it was made of: versions of both tensors and the scales' place."""

    versions: tuple[int, int]
    scale_memory: ReferenceType[torch.UntypedStorage]
    scale_place: int
    packed: PackedWeight

    @classmethod
    def of(cls, plain: PackedWeight, packed: PackedWeight) -> _Copy:
        """Return the record of a copy just made."""
        memory = ref(plain.scales.untyped_storage())
        versions = (plain.codes._version, plain.scales._version)
        return cls(versions, memory, plain.scales.data_ptr(), packed)

    def is_of(self, plain: PackedWeight) -> bool:
        """Say whether the copy still holds what `plain`, whose codes lie where they lay, holds."""
        same_scales = (
            self.scale_memory() is plain.scales.untyped_storage()
            and self.scale_place == plain.scales.data_ptr()
        )
        return same_scales and self.versions == (plain.codes._version, plain.scales._version)


# by memory, not by tensor object: callers pass another .view() of their weight on every call
_shuffled: WeakKeyDictionary[torch.UntypedStorage, dict[_Place, _Copy]] = WeakKeyDictionary()


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
        scale = _given_scale(weight, scale, name)
        gate_up = _gate_up(weight, gate_mode, name)
        packed = PackedWeight.from_aiter(weight, scale, gate_up=gate_up, name=name)
    _check_gate_order(packed.layout, gate_mode, name)
    if packed.layout is not Layout.PLAIN:
        return packed
    return _shuffle_once(packed, name)


class FlatWeight(NamedTuple):
    """A weight as an operator takes it: plain tensors, a layout and logical sizes."""

    codes: torch.Tensor
    scales: torch.Tensor
    layout: Layout
    rows: int
    cols: int


def flat_weight(
    weight: torch.Tensor | PackedWeight,
    scale: torch.Tensor | None,
    gate_mode: GateMode | None,
    name: str,
) -> FlatWeight:
    """Return a weight as the caller holds it in parts, so that sizes may be symbolic.

    Raises
    ------
    LayoutError
        As of `kernel_weight`.
    """
    if isinstance(weight, PackedWeight):
        given = _given_packed(weight, scale, name)
        flat = FlatWeight(given.codes, given.scales, given.layout, given.rows, given.cols)
    else:
        scale = _given_scale(weight, scale, name)
        codes, scales, layout = adopt(weight, scale, _gate_up(weight, gate_mode, name), name)
        flat = FlatWeight(codes, scales, layout, codes.shape[1], codes.shape[2] * 2)
    _check_gate_order(flat.layout, gate_mode, name)
    return flat


def _given_packed(weight: PackedWeight, scale: torch.Tensor | None, name: str) -> PackedWeight:
    if scale is not None:
        raise ArgumentError(
            f"{name} is a PackedWeight, which holds its scales; leave out {name}_scale"
        )
    return weight


def _given_scale(weight: torch.Tensor, scale: torch.Tensor | None, name: str) -> torch.Tensor:
    """Return the scales of a raw weight; codes that cannot be MXFP4 are refused first."""
    code_bytes(weight, name)
    if scale is None:
        raise ArgumentError(f"{name} has no scales; pass {name}_scale, or a PackedWeight as {name}")
    return scale


def _gate_up(weight: torch.Tensor, gate_mode: GateMode | None, name: str) -> bool | None:
    """Return what caller and mark say of interleaved gate and up rows."""
    if gate_mode is not None:
        return gate_mode is GateMode.INTERLEAVE
    kind = getattr(weight, "shuffle_kind", None)
    return True if name == "w1" and kind in SHUFFLE_KINDS else None


def _check_gate_order(layout: Layout, gate_mode: GateMode | None, name: str) -> None:
    interleaved = layout is Layout.SHUFFLED_GATE_UP
    if name == "w2" and interleaved:
        raise LayoutError(
            "w2 lies in layout SHUFFLED_GATE_UP, which interleaves gate and up rows; w2 has none: "
            "shuffle it with gate_up=False (Layout.SHUFFLED)"
        )
    if gate_mode is None or name == "w2":
        return
    if interleaved is not (gate_mode is GateMode.INTERLEAVE):
        raise LayoutError(
            f"{name} lies in layout {layout.name}, but gate_mode={gate_mode.value!r} was "
            "asked; leave gate_mode out, or convert with PackedWeight.to_layout"
        )


def _shuffle_once(plain: PackedWeight, name: str) -> PackedWeight:
    """Return the shuffled copy of a row-major weight, the one made before if nothing changed."""
    # tensors made in inference mode do not count their changes, so no copy of them can be kept
    counted = not (plain.codes.is_inference() or plain.scales.is_inference())
    copies: dict[_Place, _Copy] = {}
    if counted:
        copies = _shuffled.setdefault(plain.codes.untyped_storage(), copies)
    place = (plain.codes.data_ptr(), tuple(plain.codes.shape))
    if place in copies and copies[place].is_of(plain):
        return copies[place].packed
    warn_once(
        ("plain weight", name, counted),
        f"{name} is row-major (no is_shuffled mark): a shuffled copy is made "
        f"{'and kept beside it' if counted else 'on every call (an inference tensor)'}. "
        "If it was shuffled and lost its mark, results are wrong; pack weights at load with "
        "PackedWeight.pack(codes, scales) or shuffle_weight and e8m0_shuffle",
    )
    packed = plain.to_layout(Layout.SHUFFLED)
    if counted:
        copies[place] = _Copy.of(plain, packed)
    return packed
