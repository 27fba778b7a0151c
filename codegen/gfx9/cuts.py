# SPDX-License-Identifier: MIT
"""From the tiles chosen for each block of rows to the instances of a catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aiter_moe.codegen.gfx9.tile import Gfx9Tile
from aiter_moe.codegen.instance import ACTIVATIONS, Instance, Output
from aiter_moe.enums import ActivationType, Kind


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


@dataclass(frozen=True, slots=True)
class Built:
    """A cut that the catalogue has, and in which ways.

    Attributes
    ----------
    cut : Cut
        How the kernel is cut up.
    outputs : tuple of Output
        What kernels leave behind: one kernel each.
    split_k : bool
        Also in parts of the reduction.
    activations : tuple of ActivationType
        Of stage 1.
    """

    cut: Cut
    outputs: tuple[Output, ...]
    split_k: bool = False
    activations: tuple[ActivationType, ...] = ACTIVATIONS


Cuts = Mapping[int, tuple[Built, ...]]
"""What is built by block_m; the first of a block is what untuned problems get."""


def instances(target: str, kind: Kind, stage1: Cuts, stage2: Cuts) -> Iterator[Instance]:
    """Yield the instances of one operand kind: stage 1 by activation, then stage 2."""
    for block_m, built in stage1.items():
        for one in built:
            yield from _stage1(target, kind, block_m, one)
    for block_m, built in stage2.items():
        for one in built:
            for output in one.outputs:
                tile = tile_of(2, one.cut, output)
                yield Instance(target, kind, 2, block_m, None, False, tile)


def tile_of(stage: int, cut: Cut, output: Output, *, split_k: bool = False) -> Gfx9Tile:
    """Return the tile of a cut."""
    return Gfx9Tile(stage=stage, **cut._asdict(), split_k=split_k, output=output)


def _stage1(target: str, kind: Kind, block_m: int, one: Built) -> Iterator[Instance]:
    for split_k in (False, True) if one.split_k else (False,):
        for output in one.outputs:
            tile = tile_of(1, one.cut, output, split_k=split_k)
            for activation in one.activations:
                yield Instance(target, kind, 1, block_m, activation, split_k, tile)
