# SPDX-License-Identifier: MIT
"""From the tiles chosen for each block of rows to the instances of a catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

from aiter_moe.codegen.gfx9.tile import Gfx9Tile
from aiter_moe.codegen.instance import ACTIVATIONS, Instance, Output
from aiter_moe.enums import Kind


class Cut(NamedTuple):
    """The fields of `Gfx9Tile` that a catalogue chooses for a block of rows."""

    strips: int
    waves: int
    depth: int
    stages: int
    waves_per_simd: int
    non_temporal: bool
    row_waves: int = 1
    persistent: bool = False


OUTPUTS: Mapping[tuple[Kind, int], tuple[Output, ...]] = {
    (Kind.A4W4, 1): (Output.BF16,),
    (Kind.A16W4, 1): (Output.BF16,),
    (Kind.A4W4, 2): (Output.ROWS,),
    (Kind.A16W4, 2): (Output.ROWS,),
}
"""What the kernels of a kind and stage leave behind: each tile is built once for each."""

Cuts = Mapping[int, tuple[Cut, ...]]
"""Cuts by block_m."""


def instances(target: str, kind: Kind, stage1: Cuts, stage2: Cuts) -> Iterator[Instance]:
    """Yield the instances of one operand kind: stage 1 by activation, then stage 2."""
    for block_m, cuts in stage1.items():
        for cut in cuts:
            yield from _stage1(target, kind, block_m, cut)
    for block_m, cuts in stage2.items():
        for cut, output in product(cuts, OUTPUTS[kind, 2]):
            yield Instance(target, kind, 2, block_m, None, False, tile_of(2, cut, output))


def tile_of(stage: int, cut: Cut, output: Output, *, split_k: bool = False) -> Gfx9Tile:
    """Return the tile of a cut."""
    return Gfx9Tile(stage=stage, **cut._asdict(), split_k=split_k, output=output)


def _stage1(target: str, kind: Kind, block_m: int, cut: Cut) -> Iterator[Instance]:
    # A persistent kernel has work enough without parts of the reduction.
    splits = (False, True) if kind is Kind.A16W4 and not cut.persistent else (False,)
    for split_k, output in product(splits, OUTPUTS[kind, 1]):
        tile = tile_of(1, cut, output, split_k=split_k)
        for activation in ACTIVATIONS:
            yield Instance(target, kind, 1, block_m, activation, split_k, tile)
