# SPDX-License-Identifier: MIT
"""Scalar instructions: arithmetic, compares, branches, waits."""

from __future__ import annotations

import operator
from collections.abc import Callable

from gcn.program import Handler, Instruction
from gcn.wave import ALL, WORD, Wave, finish, signed

COMPARE = {
    "eq": operator.eq, "lg": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip


def _bit_field(word: int, field: int) -> tuple[int, int]:
    width = field >> 16 & 127
    return word >> (field & 31) & ((1 << width) - 1), width


def _signed_bit_field(word: int, field: int) -> int:
    value, width = _bit_field(word, field)
    return value - (1 << width) if width and value >> (width - 1) else value


# Name -> (function, SCC becomes "result is not 0"); 32-bit operands and results.
WORDS: dict[str, tuple[Callable[..., int], bool]] = {
    "s_mov_b32": (lambda a: a, False),
    "s_movk_i32": (lambda a: a, False),
    "s_brev_b32": (lambda a: int(f"{a:032b}"[::-1], 2), False),
    "s_not_b32": (lambda a: ~a, True),
    "s_abs_i32": (lambda a: abs(signed(a)), True),
    "s_and_b32": (operator.and_, True),
    "s_or_b32": (operator.or_, True),
    "s_xor_b32": (operator.xor, True),
    "s_lshl_b32": (lambda a, b: a << (b & 31), True),
    "s_lshr_b32": (lambda a, b: a >> (b & 31), True),
    "s_ashr_i32": (lambda a, b: signed(a) >> (b & 31), True),
    "s_bfe_u32": (lambda a, b: _bit_field(a, b)[0], True),
    "s_bfe_i32": (_signed_bit_field, True),
    "s_mul_i32": (operator.mul, False),
    "s_mul_hi_u32": (lambda a, b: a * b >> 32, False),
    "s_mul_hi_i32": (lambda a, b: signed(a) * signed(b) >> 32, False),
}
DOUBLES: dict[str, Callable[..., int]] = {
    "s_and_b64": operator.and_,
    "s_or_b64": operator.or_,
    "s_xor_b64": operator.xor,
    "s_andn2_b64": lambda a, b: a & ~b,
    "s_lshl_b64": lambda a, b: a << (b & 63),
    "s_lshr_b64": lambda a, b: a >> (b & 63),
}
BRANCHES: dict[str, Callable[[Wave], bool]] = {
    "s_branch": lambda w: True,
    "s_cbranch_scc0": lambda w: w.scc == 0,
    "s_cbranch_scc1": lambda w: w.scc == 1,
    "s_cbranch_vccz": lambda w: w.vcc == 0,
    "s_cbranch_vccnz": lambda w: w.vcc != 0,
    "s_cbranch_execz": lambda w: w.exec == 0,
    "s_cbranch_execnz": lambda w: w.exec != 0,
}


def _word(w: Wave, i: Instruction) -> None:
    function, sets_scc = WORDS[i.name]
    result = function(*map(w.read, i.operands[1:])) & WORD
    w.write(i.operands[0], result)
    if sets_scc:
        w.scc = int(result != 0)


def _double(w: Wave, i: Instruction) -> None:
    result = DOUBLES[i.name](*map(w.read64, i.operands[1:])) & ALL
    w.write64(i.operands[0], result)
    w.scc = int(result != 0)


def _move64(w: Wave, i: Instruction) -> None:
    w.write64(i.operands[0], w.read64(i.operands[1]))


def _branch(w: Wave, i: Instruction) -> None:
    if BRANCHES[i.name](w):
        w.pc = i.target


def _compare(w: Wave, i: Instruction) -> None:
    _, _, relation, kind = i.name.split("_")
    read = w.read64 if kind == "u64" else w.read
    a, b = map(read, i.operands)
    if kind == "i32":
        a, b = signed(a), signed(b)
    w.scc = int(COMPARE[relation](a, b))


def _select(w: Wave, i: Instruction) -> None:
    chosen = i.operands[1 if w.scc else 2]
    if i.name.endswith("b64"):
        w.write64(i.operands[0], w.read64(chosen))
    else:
        w.write(i.operands[0], w.read(chosen))


def _add(w: Wave, i: Instruction) -> None:
    """Sums and differences; SCC is the carry, or the signed overflow of the i32 forms."""
    a, b = map(w.read, i.operands[-2:])
    sign = -1 if "sub" in i.name else 1
    carry = w.scc if i.name in ("s_addc_u32", "s_subb_u32") else 0
    total = a + sign * (b + carry)
    if i.name.endswith("i32"):
        exact = signed(a) + sign * signed(b)
        w.scc = int(exact != signed(exact))
    else:
        w.scc = int(not 0 <= total <= WORD)
    w.write(i.operands[0], total)


def _shift_add(w: Wave, i: Instruction) -> None:
    a, b = map(w.read, i.operands[1:])
    total = (a << int(i.name[6]) & WORD) + b
    w.scc = int(total > WORD)
    w.write(i.operands[0], total)


def _extreme(w: Wave, i: Instruction) -> None:
    a, b = map(w.read, i.operands[1:])
    if i.name.endswith("i32"):
        a, b = signed(a), signed(b)
    w.scc = int(a < b if "min" in i.name else a > b)
    w.write(i.operands[0], a if w.scc else b)


def _save_exec(w: Wave, i: Instruction) -> None:
    before, wanted = w.exec, w.read64(i.operands[1])
    w.write64(i.operands[0], before)
    w.exec = before & ~wanted if "andn2" in i.name else before & wanted
    w.scc = int(w.exec != 0)


def _wait(w: Wave, i: Instruction) -> None:
    if "vmcnt" in i.named:
        finish(w.vector_requests, int(i.named["vmcnt"]))
    if "lgkmcnt" in i.named:
        finish(w.other_requests, int(i.named["lgkmcnt"]))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(WORDS, _word),
    **dict.fromkeys(DOUBLES, _double),
    **dict.fromkeys(BRANCHES, _branch),
    **{f"s_cmp_{r}_{t}": _compare for r in COMPARE for t in ("i32", "u32", "u64")},
    **dict.fromkeys(("s_cselect_b32", "s_cselect_b64"), _select),
    **{f"s_lshl{n}_add_u32": _shift_add for n in (1, 2, 3, 4)},
    **{f"s_{e}_{t}": _extreme for e in ("min", "max") for t in ("i32", "u32")},
    **{
        f"s_{name}": _add
        for name in ("add_u32", "addc_u32", "add_i32", "addk_i32", "sub_u32", "subb_u32", "sub_i32")
    },
    "s_mov_b64": _move64,
    "s_and_saveexec_b64": _save_exec,
    "s_andn2_saveexec_b64": _save_exec,
    "s_waitcnt": _wait,
    "s_nop": lambda w, i: None,
    "s_barrier": lambda w, i: "barrier",
    "s_endpgm": lambda w, i: "end",
}
