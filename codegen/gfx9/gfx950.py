# SPDX-License-Identifier: MIT
"""The gfx950 catalogue: which tiles are built for each operand kind and block of rows."""

from __future__ import annotations

from collections.abc import Iterator

from aiter_moe.codegen.gfx9.tile import Gfx9Tile
from aiter_moe.codegen.instance import ACTIVATIONS, Instance
from aiter_moe.enums import Kind

# (strips, waves, depth, waves_per_simd, non_temporal) by block_m. Few rows: narrow tiles for many
# workgroups and a deep prefetch; many rows: one step ahead is long enough, and registers are short.
Cut = tuple[int, int, int, int, bool]
STAGE1: dict[Kind, dict[int, tuple[Cut, ...]]] = {
    Kind.A4W4: {
        16: ((2, 2, 2, 2, True), (2, 4, 2, 2, True)),
        32: ((2, 4, 2, 2, True),),
        64: ((2, 4, 2, 2, False),),
        128: ((2, 4, 1, 1, False),),
    },
    Kind.A16W4: {
        16: ((2, 2, 2, 2, True), (2, 4, 2, 2, True)),
        32: ((2, 4, 2, 2, True),),
        64: ((2, 4, 1, 2, False),),
        128: ((2, 4, 1, 1, False),),
    },
}
STAGE2: dict[Kind, dict[int, tuple[Cut, ...]]] = {
    kind: {
        16: ((1, 4, 2, 2, True), (2, 4, 2, 2, True)),
        32: ((2, 4, 2, 2, True),),
        64: ((2, 4, depth, 2, False),),
        128: ((2, 4, 1, 1, False),),
    }
    for kind, depth in ((Kind.A4W4, 2), (Kind.A16W4, 1))
}


def gfx950_instances() -> Iterator[Instance]:
    """Yield every gfx950 instance: kinds x block_m x tiles x activations, in fixed order."""
    for kind in Kind:
        for block_m, cuts in STAGE1[kind].items():
            for cut in cuts:
                yield from _stage1(kind, block_m, cut)
        for block_m, cuts in STAGE2[kind].items():
            for cut in cuts:
                yield Instance("gfx950", kind, 2, block_m, None, False, Gfx9Tile(2, *cut))


def _stage1(kind: Kind, block_m: int, cut: Cut) -> Iterator[Instance]:
    for split_k in (False, True) if kind is Kind.A16W4 else (False,):
        tile = Gfx9Tile(1, *cut, split_k=split_k)
        for activation in ACTIVATIONS:
            yield Instance("gfx950", kind, 1, block_m, activation, split_k, tile)
