# SPDX-License-Identifier: MIT
"""From the tiles chosen for each block of rows to the instances of a catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


Cuts = Mapping[int, tuple[Cut, ...]]
"""Cuts by block_m."""


def instances(target: str, kind: Kind, stage1: Cuts, stage2: Cuts) -> Iterator[Instance]:
    """Yield the instances of one operand kind: stage 1 by activation, then stage 2."""
    for block_m, cuts in stage1.items():
        for cut in cuts:
            yield from _stage1(target, kind, block_m, cut)
    for block_m, cuts in stage2.items():
        for cut in cuts:
            tile = Gfx9Tile(2, *cut, output=Output.ROWS)
            yield Instance(target, kind, 2, block_m, None, False, tile)


def _stage1(target: str, kind: Kind, block_m: int, cut: Cut) -> Iterator[Instance]:
    for split_k in (False, True) if kind is Kind.A16W4 else (False,):
        tile = Gfx9Tile(1, *cut, split_k=split_k)
        for activation in ACTIVATIONS:
            yield Instance(target, kind, 1, block_m, activation, split_k, tile)
