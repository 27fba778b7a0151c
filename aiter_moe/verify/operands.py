# SPDX-License-Identifier: MIT
"""The tensors of a case: random where a kernel must look, hostile where it must not.

What no kernel may use holds the worst there is: codes of 6 and scales of NaN in the padding of
weights and in whole experts without tokens, NaN in the padding of rows and biases, in rows nobody
asks for. What should come out is `verify.expected`; memory that a launcher allocates is
`verify.hostile`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import NamedTuple

import numpy as np
import torch

from aiter_moe.enums import GateMode, Kind
from aiter_moe.formats import MX_BLOCK, NAN_SCALE, dequantise
from aiter_moe.forward import Routing
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.layouts.marks import KERNEL_LAYOUTS
from aiter_moe.layouts.scales import COL_TILE
from aiter_moe.layouts.weights import COLS_MULTIPLE
from aiter_moe.pipeline import Operand
from aiter_moe.sizes import round_up
from aiter_moe.verify.problems import Scales, Spread, StageCase

SIX_SIX = 0x77
"""A byte of two codes of 6, the largest there is."""
FP4_RMS = 2.93
ROW_MARGIN = 64
"""Bytes between rows of activations that belong to nobody."""

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
    """What the random weights of one expert depend on."""

    stage: int
    rows: int
    cols: int
    scales: Scales
    seed: int


def weight_key(case: StageCase, seed: int) -> WeightKey:
    """Return the weights of a case: gate rows then up rows, or down rows, without padding."""
    rows = case.columns * (2 if case.instance.stage == 1 else 1)
    return WeightKey(case.instance.stage, rows, case.reduction, case.scales, seed)


def _generator(*parts: int) -> torch.Generator:
    state = np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def _bytes(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return random bytes; made eight at a time."""
    size = int(np.prod(shape))
    words = torch.randint(-(2**63), 2**63 - 1, (size // 8 + 1,), generator=generator)
    return words.view(torch.uint8)[:size].view(shape)


def blocks_of(length: int, which: int) -> torch.Tensor:
    """Return the MX blocks of a reduction that have extreme scales of one end."""
    return torch.tensor(range(which, length // MX_BLOCK, EXTREME_PERIOD), dtype=torch.int64)


@lru_cache(maxsize=40)
def expert_weight(key: WeightKey, expert: int) -> Matrix:
    """Return the weight of one expert, scaled so that ``W x`` is of order one."""
    generator = _generator(key.seed, expert, key.stage, key.rows, key.cols)
    codes = _bytes((key.rows, key.cols // 2), generator)
    centre = 127 - round(log2(FP4_RMS * key.cols**0.5))
    scales = centre - 1 + _bytes((key.rows, key.cols // MX_BLOCK), generator) % 3
    if key.scales is Scales.EXTREME:
        upper, lower = (blocks_of(key.cols, which) for which in (UPPER, LOWER))
        scales[:, upper] = 254 - scales[:, upper] % 4
        scales[:, lower] = scales[:, lower] % 3
        codes.view(key.rows, -1, MX_BLOCK // 2)[:, upper] &= SMALL_CODES
    return Matrix(codes, scales)


@lru_cache(maxsize=40)
def dense_weight(key: WeightKey, expert: int) -> torch.Tensor:
    """Return the same weight as float64 [rows, cols]."""
    return dequantise(*expert_weight(key, expert))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case with its tensors.

    Attributes
    ----------
    weight : PackedWeight
        Of all local experts, as kernels read it.
    x : Operand
        Activations by token (stage 1) or by token and slot (stage 2), with gaps between rows.
    bias : torch.Tensor or None
        float32 [experts, physical rows].
    routing : Routing
        As the sort gets it.
    owners : torch.Tensor
        int64 [tokens, topk]: local expert of each slot, -1 where nothing is computed.
    values : torch.Tensor
        float64 [rows of x, reduction]: what the codes or bf16 numbers of `x` stand for.
    """

    case: StageCase
    key: WeightKey
    weight: PackedWeight
    x: Operand
    bias: torch.Tensor | None
    routing: Routing
    owners: torch.Tensor
    values: torch.Tensor


def prepare(case: StageCase, seed: int) -> Prepared:
    """Make the tensors of a case; `seed` is that of the weights, which cases share."""
    routing, owners = _routing(case)
    key = weight_key(case, seed)
    x, values = _activations(case, owners)
    return Prepared(
        case, key, pack(case, _physical_matrices(case, key, owners)), x, _bias(case, owners),
        routing, owners, values,
    )  # fmt: skip


def _routing(case: StageCase) -> tuple[Routing, torch.Tensor]:
    generator = _generator(case.seed, 1)
    experts, topk, tokens = case.global_experts, case.topk, case.tokens
    order = torch.rand(tokens, experts, generator=generator)
    if case.spread is Spread.ONE:
        order = order[:1].expand(tokens, -1).clone()
    if case.spread is Spread.SPARSE:
        order[:, ::2] -= 1
    ids = order.argsort(dim=1, descending=True)[:, :topk]
    weights = 0.1 + torch.rand(tokens, topk, generator=generator)
    mask = local_tokens = None
    owners = ids.clone()
    if case.spread is Spread.MASKED:
        mask = torch.zeros(experts, dtype=torch.int32)
        mask[torch.randperm(experts, generator=generator)[: topk + 1]] = 1
        rank = torch.where(mask != 0, mask.cumsum(0) - 1, -1)
        owners = rank[ids]
    if case.spread is Spread.LOCAL:
        local_tokens = torch.tensor([case.local_tokens], dtype=torch.int32)
        owners[case.local_tokens :] = -1
        ids[case.local_tokens :] = 2**30
    return Routing(weights, ids.to(torch.int32), mask, local_tokens), owners


def local_experts(case: StageCase) -> int:
    """Return the experts whose weights are in the case's tensors."""
    return case.topk + 1 if case.spread is Spread.MASKED else case.global_experts


def _used_rows(case: StageCase, owners: torch.Tensor) -> torch.Tensor:
    """Return which rows of the activations some local expert reads, bool [rows]."""
    used = owners >= 0
    return used.any(dim=1) if case.instance.stage == 1 else used.flatten()


def _activations(case: StageCase, owners: torch.Tensor) -> tuple[Operand, torch.Tensor]:
    """Return the operand a stage reads and the values it stands for."""
    used = _used_rows(case, owners)
    physical = case.physical.hidden if case.instance.stage == 1 else case.physical.inter
    if case.instance.kind is Kind.A16W4:
        rows = _bf16_rows(case, len(used))
        wide = torch.full((len(used), physical + ROW_MARGIN // 2), torch.nan, dtype=rows.dtype)
        wide[used, : case.reduction] = rows[used]
        return Operand(wide[:, :physical]), rows.double()
    codes, scales = _fp4_rows(case, len(used))
    wide = torch.full((len(used), physical // 2 + ROW_MARGIN), SIX_SIX, dtype=torch.uint8)
    wide[used, : case.reduction // 2] = codes[used]
    wide_scales = torch.full((len(used), physical // MX_BLOCK), NAN_SCALE, dtype=torch.uint8)
    wide_scales[used, : case.reduction // MX_BLOCK] = scales[used]
    return Operand(wide[:, : physical // 2], wide_scales), dequantise(codes, scales)


def _bf16_rows(case: StageCase, rows: int) -> torch.Tensor:
    generator = _generator(case.seed, 2)
    values = torch.randn(rows, case.reduction, generator=generator)
    if case.scales is Scales.EXTREME:
        blocks = values.view(rows, -1, MX_BLOCK)
        for block in blocks_of(case.reduction, UPPER).tolist():
            signs = blocks[:, block, block % MX_BLOCK].sign()
            blocks[:, block] = 0
            blocks[:, block, block % MX_BLOCK] = signs * 2.0**-125
    return values.to(torch.bfloat16)


def _fp4_rows(case: StageCase, rows: int) -> Matrix:
    generator = _generator(case.seed, 3)
    codes = _bytes((rows, case.reduction // 2), generator)
    scales = 124 + _bytes((rows, case.reduction // MX_BLOCK), generator) % 3
    if case.scales is Scales.EXTREME:
        blocks = codes.view(rows, -1, MX_BLOCK // 2)
        for which, lowest in ((UPPER, 0), (LOWER, 252)):
            chosen = blocks_of(case.reduction, which)
            lone = (blocks[:, chosen, :1] & 0x80) | 0x10  # one odd element of 0.5 or -0.5
            blocks[:, chosen] = 0
            blocks[:, chosen, 3:4] = lone
            scales[:, chosen] = lowest + scales[:, chosen] % 2
    return Matrix(codes, scales)


def _bias(case: StageCase, owners: torch.Tensor) -> torch.Tensor | None:
    if not case.bias:
        return None
    generator = _generator(case.seed, 4)
    physical, columns = _physical_columns(case), case.columns
    halves = 2 if case.instance.stage == 1 else 1
    bias = torch.full((local_experts(case), halves, physical), torch.nan)
    held = held_experts(owners)
    bias[held, :, :columns] = torch.randn(len(held), halves, columns, generator=generator)
    return bias.flatten(1)


def held_experts(owners: torch.Tensor) -> list[int]:
    """Return the local experts that get tokens, ascending."""
    return sorted(set(owners[owners >= 0].tolist()))


def _physical_columns(case: StageCase) -> int:
    """Return output columns of the weight tensor: per half in stage 1."""
    return case.physical.inter if case.instance.stage == 1 else case.physical.hidden


def _physical_matrices(case: StageCase, key: WeightKey, owners: torch.Tensor) -> Matrix:
    """Return codes [E, rows, cols/2] and scales [E, rows, cols/32] with all hostile padding."""
    halves = 2 if case.instance.stage == 1 else 1
    rows = _physical_columns(case)
    cols = round_up(case.physical.hidden if halves == 2 else case.physical.inter, COLS_MULTIPLE)
    groups = round_up(cols // MX_BLOCK, COL_TILE)
    experts = local_experts(case)
    codes = torch.full((experts, halves, rows, cols // 2), SIX_SIX, dtype=torch.uint8)
    scales = torch.full((experts, halves, rows, groups), NAN_SCALE, dtype=torch.uint8)
    for expert in held_experts(owners):
        raw = expert_weight(key, expert)
        own = (slice(None), slice(case.columns))
        codes[expert][(*own, slice(key.cols // 2))] = raw.codes.view(halves, case.columns, -1)
        scales[expert][(*own, slice(key.cols // MX_BLOCK))] = raw.scales.view(
            halves, case.columns, -1
        )
    return Matrix(codes.flatten(1, 2), scales.flatten(1, 2))


def layout_of(case: StageCase) -> Layout:
    """Return how the weight of a case lies."""
    gate_up = case.instance.stage == 1 and case.gate_mode is GateMode.INTERLEAVE
    return Layout.SHUFFLED_GATE_UP if gate_up else Layout.SHUFFLED


def pack(case: StageCase, physical: Matrix) -> PackedWeight:
    """Lay padded matrices out as kernels read them, keeping the bytes of the padding."""
    layout = layout_of(case)
    codes, scales = physical
    code_map, scale_map = KERNEL_LAYOUTS[layout]
    sizes = case.physical
    cols = sizes.hidden if case.instance.stage == 1 else sizes.inter
    return PackedWeight(
        code_map.shuffle(codes),
        scale_map.shuffle(scales.flatten(0, 1), codes.shape[0]),
        layout,
        codes.shape[1],
        cols,
    )
