# SPDX-License-Identifier: MIT
"""Negative controls: weights laid out wrongly on purpose, past every check of types.

A verification that cannot fail shows nothing. Each control must come out wrong, with an error
near 1 or above, which is what unrelated numbers give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import Kind
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.layouts.marks import KERNEL_LAYOUTS
from aiter_moe.layouts.panels import LINE_ROWS, PANEL_ROWS, TILE_BYTES
from aiter_moe.verify.execute import Ready, make_ready, run_case
from aiter_moe.verify.machine import Machine
from aiter_moe.verify.outcome import Outcome
from aiter_moe.verify.problems import Size, StageCase, axes_of

OTHER_ROW_ORDER = {
    Layout.SHUFFLED: Layout.SHUFFLED_GATE_UP,
    Layout.SHUFFLED_GATE_UP: Layout.SHUFFLED,
    Layout.PANEL_GATE_UP: Layout.PANEL,
}
UNRELATED = 0.5
"""A relative L2 error from which on an output has little to do with its reference."""
TOKENS, TOPK, SIZE = 17, 4, Size(512, 256)
OF_STAGE_1 = "gate_up flag flipped"
"""The control that only a weight of gate and up rows has."""

Sabotage = Callable[[PackedWeight], PackedWeight]


def _row_major_codes(weight: PackedWeight) -> PackedWeight:
    if weight.layout.is_panel:
        tiles = _tiles(weight)
        lines = tiles[..., PANEL_ROWS:].view(*tiles.shape[:3], -1, LINE_ROWS, 4)
        tiles[..., PANEL_ROWS:] = lines.mT.flatten(3)
        return weight.rebuild(tiles.view_as(weight.codes), weight.scales)
    codes, _ = KERNEL_LAYOUTS[weight.layout]
    return weight.rebuild(codes.unshuffle(weight.codes).contiguous(), weight.scales)


def _row_major_scales(weight: PackedWeight) -> PackedWeight:
    if weight.layout.is_panel:
        tiles = _tiles(weight)
        scales = tiles[..., :PANEL_ROWS]
        tiles[..., :PANEL_ROWS] = scales.mT.reshape(scales.shape)
        return weight.rebuild(tiles.view_as(weight.codes), weight.scales)
    _, scale_map = KERNEL_LAYOUTS[weight.layout]
    return weight.rebuild(weight.codes, scale_map.unshuffle(weight.scales, weight.experts))


def _tiles(weight: PackedWeight) -> torch.Tensor:
    """Return a copy of panels as [experts, panels, blocks, bytes of a tile]."""
    return weight.codes.clone().view(*weight.codes.shape[:2], -1, TILE_BYTES)


def _other_row_order(weight: PackedWeight) -> PackedWeight:
    other = weight.to_layout(OTHER_ROW_ORDER[weight.layout])
    return weight.rebuild(other.codes, other.scales)


def _swapped_nibbles(weight: PackedWeight) -> PackedWeight:
    codes, scales = weight.unpack()
    return PackedWeight.pack((codes << 4) | (codes >> 4), scales, weight.layout)


def _neighbours_expert(weight: PackedWeight) -> PackedWeight:
    codes, scales = weight.unpack()
    return PackedWeight.pack(codes.roll(1, 0), scales.roll(1, 0), weight.layout)


SABOTAGES: Mapping[str, Sabotage] = {
    "codes not shuffled": _row_major_codes,
    "scales not shuffled": _row_major_scales,
    OF_STAGE_1: _other_row_order,
    "nibbles swapped": _swapped_nibbles,
    "weights of another expert": _neighbours_expert,
}


@dataclass(frozen=True, slots=True)
class Control:
    """One control and what became of it.

    Attributes
    ----------
    what : str
        What was wrong, a key of `SABOTAGES`.
    kernel : str
        The kernel that ran.
    outcome : Outcome
        Its outcome, which ought to be wrong.
    """

    what: str
    kernel: str
    outcome: Outcome

    @property
    def caught(self) -> bool:
        """Whether the run was called wrong, with an error that says so plainly."""
        return not self.outcome.right and self.outcome.error >= UNRELATED


def controls_of(instances: Iterable[Instance]) -> Iterator[tuple[str, Instance]]:
    """Yield what to run: every control on the first kernel of each kind and stage."""
    first: dict[tuple[str, Kind, int], Instance] = {}
    for instance in instances:
        first.setdefault((instance.family, instance.kind, instance.stage), instance)
    for instance in first.values():
        # CK-tile reads one order of gate and up: a weight of the other is refused unlaunched
        has_flag = instance.stage == 1 and not instance.family
        for what in SABOTAGES:
            if has_flag or what != OF_STAGE_1:
                yield what, instance


def control_case(instance: Instance, seed: int) -> StageCase:
    """Return a plain case without padding, in which every expert gets tokens."""
    plain = {axis.name: axis.values[0] for axis in axes_of(instance)}
    plain |= {"tokens": TOKENS, "topk": TOPK, "size": SIZE}
    return StageCase(instance=instance, seed=seed, **plain)


def run_control(what: str, instance: Instance, seed: int, machine: Machine) -> Control:
    """Run a kernel on a weight that was tampered with."""
    ready = make_ready(control_case(instance, seed), seed)
    spoilt = SABOTAGES[what](ready.prepared.weight)
    prepared = replace(ready.prepared, weight=spoilt)
    return Control(what, instance.name, run_case(Ready(prepared, ready.want), machine))
