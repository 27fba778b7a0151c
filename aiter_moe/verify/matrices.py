# SPDX-License-Identifier: MIT
"""The random weights of verify, in float64 and as kernels read them.

Experts share a few base matrices, each expert with its rows turned by another number. So the
reference of many experts is one product, and what is costly to make is made once for many cases.
What no kernel may use holds the worst there is: codes of 6 and scales of NaN in padding, and in
whole experts without tokens.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import NamedTuple

import numpy as np
import torch

from aiter_moe.formats import MX_BLOCK, NAN_SCALE, dequantise
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.layouts.marks import KERNEL_LAYOUTS
from aiter_moe.layouts.panels import PANEL_ROWS
from aiter_moe.layouts.rows import GateUpRows
from aiter_moe.layouts.scales import COL_TILE
from aiter_moe.layouts.weights import COLS_MULTIPLE
from aiter_moe.sizes import round_up
from aiter_moe.verify.problems import Scales

SIX_SIX = 0x77
"""A byte of two codes of 6, the largest there is."""
FP4_RMS = 2.93
BASES = 3
TURN = 7
"""Rows by which experts of one base are turned against each other."""

# Of five MX blocks of the reduction, one has weight scales at the upper end of e8m0 and one at the
# lower; activations make up for it, as far as their format can.
EXTREME_PERIOD, UPPER, LOWER = 5, 1, 3
# Clears the middle bit of both codes of a byte, which leaves magnitudes up to 1.5: times 2^127
# these are bfloat16 numbers, as the conversion of weights needs.
SMALL_CODES = 0xBB


class Matrix(NamedTuple):
    """Row-major MXFP4: codes uint8 [rows, cols/2], scales uint8 [rows, cols/32]."""

    codes: torch.Tensor
    scales: torch.Tensor


@dataclass(frozen=True, slots=True)
class WeightKey:
    """What random weights depend on.

    Attributes
    ----------
    stage, rows, cols : int
        1 or 2; gate and up rows, or down rows; elements of the reduction. All without padding.
    """

    stage: int
    rows: int
    cols: int
    scales: Scales
    seed: int

    @property
    def halves(self) -> int:
        """2 where gate rows come before up rows."""
        return 2 if self.stage == 1 else 1


@dataclass(frozen=True, slots=True)
class Placing:
    """How the weights of a case lie in memory.

    Attributes
    ----------
    rows : int
        Rows of the tensor, in stage 1 of each half.
    cols : int
        Logical columns of the tensor; those past the reduction are padding.
    layout : Layout
        As kernels read it.
    """

    rows: int
    cols: int
    layout: Layout


def generator_of(*parts: int) -> torch.Generator:
    """Return a generator whose seed follows from all of `parts`."""
    state = np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def random_bytes(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return random bytes, made eight at a time."""
    size = int(np.prod(shape))
    words = torch.randint(-(2**63), 2**63 - 1, (size // 8 + 1,), generator=generator)
    return words.view(torch.uint8)[:size].view(shape)


def blocks_of(length: int, which: int) -> torch.Tensor:
    """Return the MX blocks of a reduction that have extreme scales of one end."""
    return torch.tensor(range(which, length // MX_BLOCK, EXTREME_PERIOD), dtype=torch.int64)


def base_of(key: WeightKey, expert: int) -> tuple[int, int]:
    """Return the number of an expert's base, and the rows by which it is turned."""
    turns, base = divmod(expert, BASES)
    return base, TURN * turns % key.rows


@lru_cache(maxsize=64)
def _base(key: WeightKey, base: int) -> Matrix:
    """Return random weights, scaled so that ``W x`` is of order one."""
    generator = generator_of(key.seed, base, key.stage, key.rows, key.cols)
    codes = random_bytes((key.rows, key.cols // 2), generator)
    centre = 127 - round(log2(FP4_RMS * key.cols**0.5))
    scales = centre - 1 + random_bytes((key.rows, key.cols // MX_BLOCK), generator) % 3
    if key.scales is Scales.EXTREME:
        upper, lower = (blocks_of(key.cols, which) for which in (UPPER, LOWER))
        scales[:, upper] = 254 - scales[:, upper] % 4
        scales[:, lower] = scales[:, lower] % 3
        codes.view(key.rows, -1, MX_BLOCK // 2)[:, upper] &= SMALL_CODES
    return Matrix(codes, scales)


@lru_cache(maxsize=64)
def dense_base(key: WeightKey, base: int) -> torch.Tensor:
    """Return a base as float64 [rows, cols]."""
    return dequantise(*_base(key, base))


def expert_weight(key: WeightKey, expert: int) -> Matrix:
    """Return the weight of one expert."""
    base, turn = base_of(key, expert)
    codes, scales = _base(key, base)
    return Matrix(codes.roll(turn, 0), scales.roll(turn, 0))


@lru_cache(maxsize=192)
def _packed_expert(key: WeightKey, placing: Placing, expert: int) -> Matrix:
    """Return the bytes of one expert as kernels read them, with all hostile padding."""
    raw, halves = expert_weight(key, expert), key.halves
    hostile = _hostile_expert(key, placing)
    codes, scales = (part.view(halves, placing.rows, -1) for part in hostile)
    own = key.rows // halves
    codes[:, :own, : key.cols // 2] = raw.codes.view(halves, own, -1)
    scales[:, :own, : key.cols // MX_BLOCK] = raw.scales.view(halves, own, -1)
    return _laid_out(*hostile, placing.layout)


def _hostile_expert(key: WeightKey, placing: Placing) -> Matrix:
    """Return an expert that nobody may read, row-major, with padded columns."""
    cols, groups = _physical_columns(placing)
    rows = key.halves * placing.rows
    codes = torch.full((rows, cols // 2), SIX_SIX, dtype=torch.uint8)
    return Matrix(codes, torch.full((rows, groups), NAN_SCALE, dtype=torch.uint8))


def _physical_columns(placing: Placing) -> tuple[int, int]:
    """Return the columns of codes, in elements, and those of scales."""
    if placing.layout.is_panel:
        return placing.cols, placing.cols // MX_BLOCK
    cols = round_up(placing.cols, COLS_MULTIPLE)
    return cols, round_up(cols // MX_BLOCK, COL_TILE)


def _laid_out(codes: torch.Tensor, scales: torch.Tensor, layout: Layout) -> Matrix:
    """Lay one expert's padded matrices out, uint8 [rows, cols/2] and [rows, groups]."""
    if not layout.is_panel:
        code_map, scale_map = KERNEL_LAYOUTS[layout]
        return Matrix(code_map.shuffle(codes[None]), scale_map.shuffle(scales))
    if layout is Layout.PANEL_GATE_UP:
        order = GateUpRows(16)
        codes, scales = order.interleave(codes), order.interleave(scales)
    missing = (0, 0, 0, -codes.shape[0] % PANEL_ROWS)
    codes, scales = (
        torch.nn.functional.pad(part, missing, value=worst)
        for part, worst in ((codes, SIX_SIX), (scales, NAN_SCALE))
    )
    packed = PackedWeight.pack(codes[None], scales, Layout.PANEL)
    return Matrix(packed.codes, packed.scales)


def packed_weight(
    key: WeightKey, placing: Placing, experts: int, used: Collection[int]
) -> PackedWeight:
    """Return the weights of all local experts; those not `used` are hostile throughout."""
    idle = _laid_out(*_hostile_expert(key, placing), placing.layout)
    each = [_packed_expert(key, placing, e) if e in used else idle for e in range(experts)]
    codes, scales = (torch.cat(parts) for parts in zip(*each, strict=True))
    return PackedWeight(codes, scales, placing.layout, placing.rows * key.halves, placing.cols)
