# SPDX-License-Identifier: MIT
"""Vector instructions over 64 lanes: integers, floats, converts, selects."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

from gcn.program import Handler, Instruction, Operand
from gcn.wave import WORD, Wave, lanes_of, mask_of

Array = np.ndarray
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
SELECTED = {"DWORD": (0, WORD), **{f"BYTE_{n}": (8 * n, 255) for n in range(4)}}
SELECTED |= {f"WORD_{n}": (16 * n, 0xFFFF) for n in range(2)}


def as_float(bits: Array) -> Array:
    return np.ascontiguousarray(bits).view(np.float32)


def as_signed(bits: Array) -> Array:
    return np.ascontiguousarray(bits).view(np.int32)


def as_bits(value: Array) -> Array:
    return np.asarray(value, np.float32).view(np.uint32)


def _wide(bits: Array) -> Array:
    return bits.astype(np.uint64)


def _reverse(bits: Array) -> Array:
    return np.array([int(f"{x:032b}"[::-1], 2) for x in bits.tolist()], np.uint32)


def _fused(a: Array, b: Array, c: Array) -> Array:
    return (a.astype(np.float64) * b + c).astype(np.float32)


def _rounded_bf16(bits: Array) -> Array:
    nan = np.isnan(as_float(bits))
    even = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(nan, bits >> 16 | 0x40, even).astype(np.uint32)


WORDS: dict[str, Callable[..., Array]] = {
    "v_mov_b32": lambda a: a,
    "v_accvgpr_read_b32": lambda a: a,
    "v_accvgpr_write_b32": lambda a: a,
    "v_accvgpr_mov_b32": lambda a: a,
    "v_bfrev_b32": _reverse,
    "v_and_b32": operator.and_,
    "v_or_b32": operator.or_,
    "v_xor_b32": operator.xor,
    "v_add_u32": operator.add,
    "v_sub_u32": operator.sub,
    "v_subrev_u32": lambda a, b: b - a,
    "v_mul_lo_u32": lambda a, b: _wide(a) * _wide(b) & WORD,
    "v_lshlrev_b32": lambda a, b: b << (a & 31),
    "v_lshrrev_b32": lambda a, b: b >> (a & 31),
    "v_ashrrev_i32": lambda a, b: (as_signed(b) >> as_signed(a & 31)).view(np.uint32),
    "v_max_i32": lambda a, b: np.maximum(as_signed(a), as_signed(b)).view(np.uint32),
    "v_min_i32": lambda a, b: np.minimum(as_signed(a), as_signed(b)).view(np.uint32),
    "v_and_or_b32": lambda a, b, c: a & b | c,
    "v_or3_b32": lambda a, b, c: a | b | c,
    "v_add3_u32": lambda a, b, c: a + b + c,
    "v_lshl_or_b32": lambda a, b, c: a << (b & 31) | c,
    "v_lshl_add_u32": lambda a, b, c: (a << (b & 31)) + c,
    "v_add_lshl_u32": lambda a, b, c: (a + b) << (c & 31),
    "v_bfe_u32": lambda a, b, c: a >> (b & 31) & ((np.uint32(1) << (c & 31)) - np.uint32(1)),
    "v_bfi_b32": lambda a, b, c: a & b | ~a & c,
    "v_cvt_f32_u32": as_bits,
    "v_cvt_u32_f32": lambda a: np.clip(as_float(a).astype(np.float64), 0, WORD),
    "v_cvt_pk_bf16_f32": lambda a, b: _rounded_bf16(a) | _rounded_bf16(b) << 16,
}
FLOATS: dict[str, Callable[..., Array]] = {
    "v_mul_f32": operator.mul,
    "v_add_f32": operator.add,
    "v_sub_f32": operator.sub,
    "v_subrev_f32": lambda a, b: b - a,
    "v_fma_f32": _fused,
    "v_rcp_f32": lambda a: np.float32(1) / a,
    "v_rcp_iflag_f32": lambda a: np.float32(1) / a,
    "v_exp_f32": np.exp2,
}
PAIRS: dict[str, Callable[..., Array]] = {
    "v_pk_mul_f32": operator.mul,
    "v_pk_add_f32": operator.add,
    "v_pk_fma_f32": _fused,
}
RELATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "nlt": lambda a, b: ~(a < b),
    "nle": lambda a, b: ~(a <= b),
    "ngt": lambda a, b: ~(a > b),
    "nge": lambda a, b: ~(a >= b),
}
VIEWS = {"i32": as_signed, "u32": np.ascontiguousarray, "f32": as_float}


def _source(w: Wave, i: Instruction, position: int) -> Array:
    """Return source `position` (0 is the first after the destination), sub-dword selected."""
    bits = w.bits(i.operands[position + 1])
    shift, mask = SELECTED[i.named.get(f"src{position}_sel", "DWORD")]
    return bits >> shift & mask if shift or mask != WORD else bits


def _sources(w: Wave, i: Instruction) -> list[Array]:
    return [_source(w, i, position) for position in range(len(i.operands) - 1)]


def _word(w: Wave, i: Instruction) -> None:
    result = WORDS[i.name](*_sources(w, i))
    w.put(i.operands[0], np.asarray(result).astype(np.uint32))


def _float(w: Wave, i: Instruction) -> None:
    w.put(i.operands[0], as_bits(FLOATS[i.name](*map(as_float, _sources(w, i)))))


def _accumulate(w: Wave, i: Instruction) -> None:
    a, b = map(as_float, _sources(w, i))
    w.put(i.operands[0], as_bits(_fused(a, b, as_float(w.bits(i.operands[0])))))


def _half(w: Wave, i: Instruction, op: Operand, position: int, upper: bool) -> Array:
    """Return one f32 of a packed pair, by the op_sel and neg lists."""
    end = "hi" if upper else "lo"
    default = (1, 1, 1) if upper else (0, 0, 0)
    chosen = i.lists.get("op_sel_hi" if upper else "op_sel", default)[position]
    bits = w.bits(op, chosen if op.file in "vs" else 0)
    negative = i.lists.get(f"neg_{end}", (0, 0, 0))[position]
    return as_float(bits ^ np.uint32(0x80000000) if negative else bits)


def _pair(w: Wave, i: Instruction) -> None:
    results = [
        PAIRS[i.name](*(_half(w, i, op, n, upper) for n, op in enumerate(i.operands[1:])))
        for upper in (False, True)
    ]
    for plus, result in enumerate(results):
        w.put(i.operands[0], as_bits(result), plus)


def _compare(w: Wave, i: Instruction) -> None:
    _, _, relation, kind = i.name.split("_")
    a, b = (VIEWS[kind](x) for x in _sources(w, i))
    w.write64(i.operands[0], mask_of(RELATIONS[relation](a, b)) & w.exec)


def _select(w: Wave, i: Instruction) -> None:
    to, no, yes, condition = i.operands
    w.put(to, np.where(lanes_of(w.read64(condition)), w.bits(yes), w.bits(no)))


def _first_lane(w: Wave, i: Instruction) -> None:
    lane = (w.exec & -w.exec).bit_length() - 1 if w.exec else 0
    w.write(i.operands[0], int(w.bits(i.operands[1])[lane]))


def _move64(w: Wave, i: Instruction) -> None:
    w.put64(i.operands[0], w.bits64(i.operands[1]))


def _shift_add64(w: Wave, i: Instruction) -> None:
    to, a, shift, b = i.operands
    w.put64(to, (w.bits64(a) << np.uint64(w.read(shift))) + w.bits64(b))


def _multiply_add64(w: Wave, i: Instruction) -> None:
    to, _, a, b, c = i.operands
    x, y = w.bits(a), w.bits(b)
    if i.name == "v_mad_i64_i32":
        product = (as_signed(x).astype(np.int64) * as_signed(y)).view(np.uint64)
    else:
        product = _wide(x) * _wide(y)
    w.put64(to, product + w.bits64(c))


def _fp4_to_bf16(w: Wave, i: Instruction) -> None:
    low, high, _ = i.lists.get("op_sel", (0, 0, 0))
    codes = w.bits(i.operands[1]) >> 8 * (low + 2 * high)
    exponent = (w.bits(i.operands[2]) >> 23 & 255).astype(np.int64)
    scale = np.ldexp(1.0, exponent - 127)
    first, second = (as_bits(FP4[codes >> n & 15] * scale) >> 16 for n in (0, 4))
    w.put(i.operands[0], first | second << 16)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(WORDS, _word),
    **dict.fromkeys(FLOATS, _float),
    **dict.fromkeys(PAIRS, _pair),
    **{f"v_cmp_{r}_{t}": _compare for r in RELATIONS for t in VIEWS},
    "v_fmac_f32": _accumulate,
    "v_cndmask_b32": _select,
    "v_readfirstlane_b32": _first_lane,
    "v_mov_b64": _move64,
    "v_lshl_add_u64": _shift_add64,
    "v_mad_u64_u32": _multiply_add64,
    "v_mad_i64_i32": _multiply_add64,
    "v_cvt_scalef32_pk_bf16_fp4": _fp4_to_bf16,
}
