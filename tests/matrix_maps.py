# SPDX-License-Identifier: MIT
"""Which matrix element a lane's field or register holds, for every shape of matrix instruction.

Written from the lane's point of view (the emulator goes from matrix to lane): the maps of AMD's
matrix instruction calculator for blocks and results, k = run * group + i within a run, and for
sparse operands what AMD measured on an MI350. All maps return index arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from wave_lanes import LANES

Array = np.ndarray


@dataclass(frozen=True)
class Shape:
    """Rows or columns of a block, k of a block, number of blocks."""

    edge: int
    depth: int
    blocks: int = 1

    @property
    def per_lane(self) -> int:
        return self.edge * self.depth * self.blocks // LANES

    @property
    def result_registers(self) -> int:
        return self.edge * self.edge * self.blocks // LANES


def operand_map(shape: Shape) -> tuple[Array, Array, Array]:
    """Return block, row (or column) and k of [lane, field]."""
    lane, i = np.indices((LANES, shape.per_lane))
    block = lane // shape.edge % shape.blocks
    k = lane // (shape.edge * shape.blocks) * shape.per_lane + i
    return block, lane % shape.edge, k


def result_map(shape: Shape) -> tuple[Array, Array, Array]:
    """Return block, row and column of [register, lane]."""
    register, lane = np.indices((shape.result_registers, LANES))
    if shape.edge == 4:
        return lane // 4, register, lane % 4
    if shape.edge == 16:
        return register // 4, 4 * (lane // 16) + register % 4, lane % 16
    block, register = register // 16, register % 16
    return block, 8 * (register // 4) + 4 * (lane // 32) + register % 4, lane % 32


def scaled_k(edge: int, bits: int) -> Array:
    """Return k of [lane, field] for the f8f6f4 shapes: 32 fields a lane."""
    lane, i = np.indices((LANES, 32))
    group = lane // edge
    if bits == 8:
        return i // 16 * (16 * LANES // edge) + 16 * group + i % 16
    return 32 * group + i


def pattern(blgp: int) -> Array:
    """Return the lane each lane's B data comes from."""
    lane = np.arange(LANES)
    maps: dict[int, Callable[[Array], Array]] = {
        0: lambda n: n, 1: lambda n: n % 32, 2: lambda n: 32 + n % 32, 3: lambda n: (n + 16) % 64,
    }  # fmt: skip
    return maps[blgp](lane) if blgp in maps else 16 * (blgp - 4) + lane % 16


def sparse_b_k(shape: Shape) -> Array:
    """Return k of [lane, field] of the dense operand of a sparse instruction."""
    lane, i = np.indices((LANES, shape.per_lane))
    return i // 8 * (8 * LANES // shape.edge) + 8 * (lane // shape.edge) + i % 8


def sparse_a_column(shape: Shape, bits: int) -> Array:
    """Return which stored column [lane, field] of the sparse operand is: half as many as k."""
    stored = shape.per_lane // 2
    lane, i = np.indices((LANES, stored))
    group = lane // shape.edge
    if bits == 16:
        return stored * group + i
    if stored == 8:
        return i // 4 * (4 * LANES // shape.edge) + 4 * group + i % 4
    low = i % 4 + i // 8 * 4  # bits 0, 1 and 2
    if shape.edge == 16:
        return low + group % 2 * 8 + i // 4 % 2 * 16 + group // 2 * 32
    return low + i // 4 % 2 * 8 + group * 16
