# SPDX-License-Identifier: MIT
"""From whatever a caller holds to the `PackedWeight` that the kernels of a target read.

Weights that lie so already are wrapped without a copy. Others are converted once and the copy is
kept as long as the caller's memory lives, which is announced, because it doubles the memory of
weights; `aiter_moe.prepare` at load avoids it.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch

from aiter_moe.enums import GateMode
from aiter_moe.errors import ArgumentError, LayoutError
from aiter_moe.formats import code_bytes
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.layouts.adopt import adopt
from aiter_moe.layouts.marks import SHUFFLE_KINDS
from aiter_moe.layouts.packing import Packing
from aiter_moe.log import warn_once
from aiter_moe.pipeline import Experts
from aiter_moe.targets.registry import Target

_Place = tuple[int, int, Packing, Layout]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A converted copy, and what it was made of: versions of both tensors, the scales' place."""

    versions: tuple[int, int]
    scale_memory: ReferenceType[torch.UntypedStorage]
    scale_place: int
    packed: PackedWeight

    @classmethod
    def of(cls, given: PackedWeight, versions: tuple[int, int], packed: PackedWeight) -> _Copy:
        """Return the record of a copy just made of what `given` held at `versions`."""
        memory = ref(given.scales.untyped_storage())
        return cls(versions, memory, given.scales.data_ptr(), packed)

    def is_of(self, given: PackedWeight) -> bool:
        """Say whether the copy still holds what `given`, whose codes lie where they lay, holds."""
        same_scales = (
            self.scale_memory() is given.scales.untyped_storage()
            and self.scale_place == given.scales.data_ptr()
        )
        return same_scales and self.versions == _versions(given)


# by memory, not by tensor object: callers pass another .view() of their weight on every call
_copies: WeakKeyDictionary[torch.UntypedStorage, dict[_Place, _Copy]] = WeakKeyDictionary()
_converting = Lock()


def kernel_layout(gfx: str, name: str, gate_mode: GateMode) -> Layout:
    """Return how the kernels of a device read w1 or w2.

    Parameters
    ----------
    gfx : str
        Device, as `DeviceFacts.gfx` names it.
    name : str
        ``w1`` or ``w2``.
    gate_mode : GateMode
        Order of w1's rows, which kernels of GPUs take as they come.
    """
    first = name == "w1"
    if gfx == "cpu":
        return Layout.PANEL_GATE_UP if first else Layout.PANEL
    interleaved = first and gate_mode is GateMode.INTERLEAVE
    return Layout.SHUFFLED_GATE_UP if interleaved else Layout.SHUFFLED


def row_order(layout: Layout, gate_mode: GateMode | None) -> GateMode:
    """Return the order of w1's rows: as its layout or, of panels, as the caller says."""
    if layout is Layout.SHUFFLED_GATE_UP:
        return GateMode.INTERLEAVE
    return gate_mode or GateMode.SEPARATED


def given_weight(
    weight: torch.Tensor | PackedWeight,
    scale: torch.Tensor | None,
    gate_mode: GateMode | None,
    name: str,
) -> PackedWeight:
    """Return `weight` as the caller holds it, without a copy.

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
    return packed


def kernel_experts(experts: Experts, target: Target) -> Experts:
    """Return experts as kernels of `target` read them; converted copies are kept for later calls.

    Weights on another device than the target's stay as they are.

    Raises
    ------
    LayoutError
        The layout of the kernels needs N to be a multiple of 32.
    """
    if experts.w1.codes.device.type != target.device:
        return experts
    gfx, order = target.facts.gfx, experts.gate_mode
    w1 = _converted_once(experts.w1, kernel_layout(gfx, "w1", order), "w1")
    w2 = _converted_once(experts.w2, kernel_layout(gfx, "w2", order), "w2")
    if w1 is experts.w1 and w2 is experts.w2:
        return experts
    return Experts(w1, w2, experts.bias1, experts.bias2, order)


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
        As of `given_weight`.
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
    if name == "w2" and layout.is_gate_up:
        raise LayoutError(
            f"w2 lies in layout {layout}, which interleaves gate and up rows; w2 has none: "
            "shuffle it with gate_up=False (Layout.SHUFFLED), or pack it in Layout.PANEL"
        )
    if gate_mode is None or name == "w2" or layout.is_panel:
        return
    if layout.is_gate_up is not (gate_mode is GateMode.INTERLEAVE):
        raise LayoutError(
            f"{name} lies in layout {layout.name}, but gate_mode={gate_mode.value!r} was "
            "asked; leave gate_mode out, or convert with PackedWeight.to_layout"
        )


def _versions(weight: PackedWeight) -> tuple[int, int]:
    return weight.codes._version, weight.scales._version


def _converted_once(given: PackedWeight, layout: Layout, name: str) -> PackedWeight:
    """Return `given` in `layout`: itself, or a copy, the one made before if nothing changed."""
    if given.layout is layout:
        return given
    # tensors made in inference mode do not count their changes, so no copy of them can be kept
    if given.codes.is_inference() or given.scales.is_inference():
        _announce(given, layout, name, "is made on every call (an inference tensor)")
        return given.to_layout(layout)
    place = (given.codes.data_ptr(), given.experts, given.packing, layout)
    found = _copies.get(given.codes.untyped_storage(), {}).get(place)
    if found is not None and found.is_of(given):
        return found.packed
    with _converting:
        copies = _copies.setdefault(given.codes.untyped_storage(), {})
        if place not in copies or not copies[place].is_of(given):
            _announce(given, layout, name, "is made and kept beside it, which doubles its memory")
            # read first: what is written meanwhile makes the copy stale
            versions = _versions(given)
            for stale in [p for p, copy in copies.items() if copy.versions[0] != versions[0]]:
                del copies[stale]
            copies[place] = _Copy.of(given, versions, given.to_layout(layout))
        return copies[place].packed


def _announce(given: PackedWeight, layout: Layout, name: str, what: str) -> None:
    doubt = ""
    if given.layout is Layout.PLAIN:
        doubt = " If it was shuffled and lost its is_shuffled mark, results are wrong."
    warn_once(
        ("converted weight", name, given.layout, layout, what),
        f"{name} lies in layout {given.layout}, the kernels here read {layout}: a copy {what}."
        f"{doubt} Convert at load instead: w1, w2 = prepare_weights(w1, w2, w1_scale, w2_scale), "
        f"or PackedWeight.pack(codes, scales, Layout.{layout}) of row-major tensors",
    )
