# SPDX-License-Identifier: MIT
"""Scalar instructions of the emulator against Python's integers, with SCC before and after."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import pytest
from gcn_asm import Snippet, run

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

M32, M64 = 2**32 - 1, 2**64 - 1
TRIES = 8  # operand sets of an instruction; each has up to eight registers below s90


@dataclass(frozen=True)
class Case:
    """An instruction and what it computes.

    Attributes
    ----------
    text : str
        Its assembly, with {d}, {a}, {b}.
    kinds : str
        Types of the result and the sources, ``"u32 u32 u32"``; ``-`` for no result.
    compute : Callable
        From the sources (and `old` and `scc`, where it names them) to the result, or to a pair of
        result and SCC.
    scc : Callable, optional
        From the result to SCC; without it and without a pair SCC stays.
    """

    text: str
    kinds: str
    compute: Callable[..., Any]
    scc: Callable[[int], bool] | None = None

    @property
    def result(self) -> str:
        return self.kinds.split()[0]

    @property
    def sources(self) -> list[str]:
        return self.kinds.split()[1:]


def nonzero(value: int) -> bool:
    return value != 0


def width(kind: str) -> int:
    return int(kind[1:])


def number(kind: str, bits: int) -> int:
    """Return the value that register bits have as a type."""
    size = width(kind)
    bits &= (1 << size) - 1
    return bits - (1 << size) if kind[0] == "i" and bits >> size - 1 else bits


def simple(name: str, kinds: str, compute: Callable[..., Any], **more: Any) -> Case:
    operands = ", ".join(f"{{{letter}}}" for letter in "ab"[: len(kinds.split()) - 1])
    text = f"{name} {operands}" if kinds[0] == "-" else f"{name} {{d}}, {operands}"
    return Case(text, kinds, compute, **more)


def both(name: str, compute: Callable[..., Any], **more: Any) -> list[Case]:
    """Return the 32 and 64 bit forms of a bitwise instruction on all its operands."""
    count = compute.__code__.co_argcount
    return [
        simple(f"{name}_b{n}", " ".join([f"u{n}"] * (count + 1)), compute, **more) for n in (32, 64)
    ]


def overflows(f: Callable[[int, int], int]) -> Callable[[int, int], tuple[int, bool]]:
    return lambda a, b: (f(a, b), number("i32", f(a, b)) != f(a, b))


def carries(f: Callable[..., int]) -> Callable[..., tuple[int, bool]]:
    return lambda a, b: (f(a, b), not 0 <= f(a, b) <= M32)


def reverse(a: int, bits: int) -> int:
    return int(f"{a:0{bits}b}"[::-1], 2)


def lowest(a: int) -> int:
    return (a & -a).bit_length() - 1


def leading(a: int, bits: int) -> int:
    return bits - a.bit_length() if a else -1


def quads(a: int, bits: int) -> list[bool]:
    return [a >> n & 15 != 0 for n in range(0, bits, 4)]


def joined(flags: Sequence[bool], step: int, unit: int) -> int:
    return sum(unit << step * n for n, flag in enumerate(flags) if flag)


def extracted(bits: int, signed: bool) -> Callable[[int, int], int]:
    def f(a: int, b: int) -> int:
        size = min(b >> 16 & 0x7F, bits)
        field = (a >> (b & bits - 1)) & ((1 << size) - 1)
        return field - (1 << size) if signed and size and field >> size - 1 else field

    return f


def masked(bits: int) -> Callable[[int, int], int]:
    return lambda a, b: ((1 << (a & bits - 1)) - 1) << (b & bits - 1)


def shifts(bits: int) -> list[Case]:
    """Return shifts and fields of one width."""
    n, low = f"{bits}", bits - 1
    return [
        simple(
            f"s_lshl_b{n}",
            f"u{n} u{n} u32",
            lambda a, b: (a << (b & low)) & (1 << bits) - 1,
            scc=nonzero,
        ),
        simple(f"s_lshr_b{n}", f"u{n} u{n} u32", lambda a, b: a >> (b & low), scc=nonzero),
        simple(f"s_ashr_i{n}", f"i{n} i{n} u32", lambda a, b: a >> (b & low), scc=nonzero),
        simple(f"s_bfm_b{n}", f"u{n} u32 u32", masked(bits)),
        simple(f"s_bfe_u{n}", f"u{n} u{n} u32", extracted(bits, signed=False), scc=nonzero),
        simple(f"s_bfe_i{n}", f"i{n} i{n} u32", extracted(bits, signed=True), scc=nonzero),
        simple(f"s_brev_b{n}", f"u{n} u{n}", lambda a: reverse(a, bits)),
        simple(f"s_bcnt0_i32_b{n}", f"i32 u{n}", lambda a: bits - a.bit_count(), scc=nonzero),
        simple(f"s_bcnt1_i32_b{n}", f"i32 u{n}", lambda a: a.bit_count(), scc=nonzero),
        simple(f"s_ff0_i32_b{n}", f"i32 u{n}", lambda a: lowest(a ^ (1 << bits) - 1)),
        simple(f"s_ff1_i32_b{n}", f"i32 u{n}", lowest),
        simple(f"s_flbit_i32_b{n}", f"i32 u{n}", lambda a: leading(a, bits)),
        simple(
            "s_flbit_i32" if bits == 32 else "s_flbit_i32_i64",
            f"i32 i{n}",
            lambda a: leading(a if a >= 0 else ~a, bits),
        ),
        simple(
            f"s_quadmask_b{n}", f"u{n} u{n}", lambda a: joined(quads(a, bits), 1, 1), scc=nonzero
        ),
        simple(f"s_wqm_b{n}", f"u{n} u{n}", lambda a: joined(quads(a, bits), 4, 15), scc=nonzero),
        Case(f"s_bitset0_b{n} {{d}}, {{a}}", f"u{n} u32", lambda a, old: old & ~(1 << (a & low))),
        Case(f"s_bitset1_b{n} {{d}}, {{a}}", f"u{n} u32", lambda a, old: old | 1 << (a & low)),
        Case(
            f"s_bitcmp0_b{n} {{a}}, {{b}}", f"- u{n} u32", lambda a, b: (0, not a >> (b & low) & 1)
        ),
        Case(
            f"s_bitcmp1_b{n} {{a}}, {{b}}",
            f"- u{n} u32",
            lambda a, b: (0, bool(a >> (b & low) & 1)),
        ),
        simple(f"s_mov_b{n}", f"u{n} u{n}", lambda a: a),
        Case(f"s_cmov_b{n} {{d}}, {{a}}", f"u{n} u{n}", lambda a, old, scc: a if scc else old),
        Case(
            f"s_cselect_b{n} {{d}}, {{a}}, {{b}}",
            f"u{n} u{n} u{n}",
            lambda a, b, scc: a if scc else b,
        ),
    ]


ARITHMETIC = [
    simple("s_add_u32", "u32 u32 u32", carries(lambda a, b: a + b)),
    simple("s_sub_u32", "u32 u32 u32", carries(lambda a, b: a - b)),
    simple("s_add_i32", "i32 i32 i32", overflows(lambda a, b: a + b)),
    simple("s_sub_i32", "i32 i32 i32", overflows(lambda a, b: a - b)),
    simple("s_addc_u32", "u32 u32 u32", lambda a, b, scc: (a + b + scc, a + b + scc > M32)),
    simple("s_subb_u32", "u32 u32 u32", lambda a, b, scc: (a - b - scc, a - b - scc < 0)),
    simple("s_mul_i32", "i32 i32 i32", lambda a, b: a * b),
    simple("s_mul_hi_u32", "u32 u32 u32", lambda a, b: a * b >> 32),
    simple("s_mul_hi_i32", "i32 i32 i32", lambda a, b: a * b >> 32),
    *[
        simple(f"s_lshl{n}_add_u32", "u32 u32 u32", carries(lambda a, b, n=n: (a << n) + b))
        for n in range(1, 5)
    ],
    simple("s_min_i32", "i32 i32 i32", lambda a, b: (min(a, b), a < b)),
    simple("s_min_u32", "u32 u32 u32", lambda a, b: (min(a, b), a < b)),
    simple("s_max_i32", "i32 i32 i32", lambda a, b: (max(a, b), a >= b)),
    simple("s_max_u32", "u32 u32 u32", lambda a, b: (max(a, b), a >= b)),
    simple("s_abs_i32", "i32 i32", lambda a: max(a, -a), scc=nonzero),
    simple("s_absdiff_i32", "i32 i32 i32", lambda a, b: abs(number("i32", a - b)), scc=nonzero),
    simple("s_sext_i32_i8", "i32 i32", lambda a: number("i8", a)),
    simple("s_sext_i32_i16", "i32 i32", lambda a: number("i16", a)),
    simple("s_pack_ll_b32_b16", "u32 u32 u32", lambda a, b: a & 0xFFFF | b << 16),
    simple("s_pack_lh_b32_b16", "u32 u32 u32", lambda a, b: a & 0xFFFF | b & 0xFFFF0000),
    simple("s_pack_hh_b32_b16", "u32 u32 u32", lambda a, b: a >> 16 | b & 0xFFFF0000),
    simple(
        "s_bitreplicate_b64_b32",
        "u64 u32",
        lambda a: joined([a >> n & 1 == 1 for n in range(32)], 2, 3),
    ),
]
BITWISE = [
    *both("s_and", lambda a, b: a & b, scc=nonzero),
    *both("s_or", lambda a, b: a | b, scc=nonzero),
    *both("s_xor", lambda a, b: a ^ b, scc=nonzero),
    *both("s_andn2", lambda a, b: a & ~b, scc=nonzero),
    *[
        simple(f"s_orn2_b{n}", f"u{n} i{n} i{n}", lambda a, b: a | ~b, scc=nonzero)
        for n in (32, 64)
    ],
    *[
        simple(f"s_nand_b{n}", f"u{n} i{n} i{n}", lambda a, b: ~(a & b), scc=nonzero)
        for n in (32, 64)
    ],
    *[
        simple(f"s_nor_b{n}", f"u{n} i{n} i{n}", lambda a, b: ~(a | b), scc=nonzero)
        for n in (32, 64)
    ],
    *[
        simple(f"s_xnor_b{n}", f"u{n} i{n} i{n}", lambda a, b: ~(a ^ b), scc=nonzero)
        for n in (32, 64)
    ],
    *[simple(f"s_not_b{n}", f"u{n} i{n}", lambda a: ~a, scc=nonzero) for n in (32, 64)],
]
RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "lg": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}
COMPARISONS = [
    *[
        simple(f"s_cmp_{name}_{kind}", f"- {kind} {kind}", lambda a, b, f=f: (0, f(a, b)))
        for name, f in RELATIONS.items()
        for kind in ("i32", "u32")
    ],
    *[
        simple(f"s_cmp_{name}_u64", "- u64 u64", lambda a, b, f=RELATIONS[name]: (0, f(a, b)))
        for name in ("eq", "lg")
    ],
]


def with_immediate(immediate: int) -> list[Case]:
    """Return the instructions with a 16-bit immediate, which is signed except where it says u32."""
    signed, unsigned = immediate, immediate & 0xFFFF
    return [
        Case(f"s_movk_i32 {{d}}, {signed}", "i32", lambda: signed),
        Case(f"s_cmovk_i32 {{d}}, {signed}", "i32", lambda old, scc: signed if scc else old),
        Case(
            f"s_addk_i32 {{d}}, {signed}",
            "i32",
            lambda old: overflows(lambda a, b: a + b)(old, signed),
        ),
        Case(f"s_mulk_i32 {{d}}, {signed}", "i32", lambda old: old * signed),
        *[
            Case(f"s_cmpk_{name}_i32 {{a}}, {signed}", "- i32", lambda a, f=f: (0, f(a, signed)))
            for name, f in RELATIONS.items()
        ],
        *[
            Case(
                f"s_cmpk_{name}_u32 {{a}}, {unsigned}", "- u32", lambda a, f=f: (0, f(a, unsigned))
            )
            for name, f in RELATIONS.items()
        ],
    ]


EDGES = (0, 1, 2, 31, 32, 63, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, M32, 2**63, M64, M64 - 1)


def draw(rng: random.Random, kind: str) -> int:
    """Return register bits: an edge, a number with few bits, or any."""
    choices = (rng.choice(EDGES), 1 << rng.randrange(64), rng.getrandbits(64), rng.getrandbits(8))
    return rng.choice(choices) & (1 << width(kind)) - 1


@dataclass(frozen=True)
class Try:
    """One execution: register bits by operand letter, and SCC before."""

    bits: dict[str, int]
    scc: int


def draw_try(case: Case, rng: random.Random) -> Try:
    kinds = dict(zip("ab", case.sources, strict=False))
    bits = {letter: draw(rng, kind) for letter, kind in kinds.items()}
    if "b" in bits and rng.random() < 0.2 and width(kinds["a"]) == width(kinds["b"]):
        bits["b"] = bits["a"]
    if case.result != "-":
        bits["d"] = draw(rng, case.result)
    return Try(bits, rng.randrange(2))


def registers_of(case: Case, attempt: int) -> dict[str, str]:
    """Return register names by operand letter, and of SCC after as ``scc``."""
    first = 4 + 8 * attempt  # pairs begin at even registers
    kinds = {**dict(zip("ab", case.sources, strict=False)), "d": case.result}
    places = {letter: first + 2 * n for n, letter in enumerate("abd")}
    names = {
        letter: f"s{places[letter]}"
        if kind == "-" or width(kind) == 32
        else f"s[{places[letter]}:{places[letter] + 1}]"
        for letter, kind in kinds.items()
    }
    return {**names, "scc": f"s{first + 6}"}


def snippet(name: str, case: Case, tries: Sequence[Try]) -> Snippet:
    lines, inputs, outputs = [], {}, []
    for attempt, one in enumerate(tries):
        names = registers_of(case, attempt)
        inputs.update({names[letter]: bits for letter, bits in one.bits.items()})
        outputs += [names["scc"], *([names["d"]] if case.result != "-" else [])]
        lines += [
            f"s_cmp_lg_u32 {one.scc}, 0",
            case.text.format(**names),
            f"s_cselect_b32 {names['scc']}, 1, 0",
        ]
    return Snippet(name, "\n".join(lines), inputs, outputs)


def expected(case: Case, one: Try) -> tuple[int, int]:
    """Return result bits and SCC."""
    kinds = dict(zip("ab", case.sources, strict=False))
    known = {letter: number(kind, one.bits[letter]) for letter, kind in kinds.items()}
    if case.result != "-":
        known["old"] = number(case.result, one.bits["d"])
    known["scc"] = one.scc
    value = case.compute(
        *(known[key] for key in signature(case.compute).parameters if key in known)
    )
    value, scc = value if isinstance(value, tuple) else (value, None)
    if case.scc is not None:
        scc = case.scc(value)
    mask = M64 if case.result != "-" and width(case.result) == 64 else M32
    return value & mask, one.scc if scc is None else int(scc)


def check(cases: Sequence[Case], seed: int) -> None:
    rng = random.Random(seed)
    jobs = [(case, [draw_try(case, rng) for _ in range(TRIES)]) for case in cases]
    snippets = [snippet(f"k{n}", case, tries) for n, (case, tries) in enumerate(jobs)]
    for (case, tries), result in zip(jobs, run(snippets), strict=True):
        for attempt, one in enumerate(tries):
            names = registers_of(case, attempt)
            value, scc = expected(case, one)
            got = (value if case.result == "-" else result[names["d"]], result[names["scc"]])
            assert got == (value, scc), f"{case.text} on {one}"


GROUPS = {
    "arithmetic": ARITHMETIC,
    "bitwise": BITWISE,
    "shifts_32": shifts(32),
    "shifts_64": shifts(64),
    "comparisons": COMPARISONS,
    **{f"immediate_{n}": with_immediate(n) for n in (0, 5, 32767, -32768, -1)},
}


@pytest.mark.parametrize("group", GROUPS)
def test_instructions_compute_what_python_does(group: str) -> None:
    for seed in range(2):
        check(GROUPS[group], seed)


def test_every_saveexec_returns_the_old_mask_and_wrexec_the_new() -> None:
    operations: dict[str, Callable[[int, int], int]] = {
        "and_save": lambda s, e: s & e,
        "or_save": lambda s, e: s | e,
        "xor_save": lambda s, e: s ^ e,
        "andn2_save": lambda s, e: s & ~e,
        "orn2_save": lambda s, e: s | ~e,
        "nand_save": lambda s, e: ~(s & e),
        "nor_save": lambda s, e: ~(s | e),
        "xnor_save": lambda s, e: ~(s ^ e),
        "andn1_save": lambda s, e: ~s & e,
        "orn1_save": lambda s, e: ~s | e,
        "andn1_wr": lambda s, e: ~s & e,
        "andn2_wr": lambda s, e: s & ~e,
    }
    rng = random.Random(3)
    jobs = [(name, f, rng.getrandbits(64), rng.getrandbits(64)) for name, f in operations.items()]
    jobs += [("and_save", operations["and_save"], 0b1010, 0b0101)]
    body = "s_mov_b64 exec, s[6:7]\ns_{}exec_b64 s[8:9], s[4:5]"
    snippets = [
        Snippet(
            f"k{n}",
            body.format(name),
            {"s[4:5]": source, "s[6:7]": mask},
            ["s[8:9]", "exec", "scc"],
        )
        for n, (name, _, source, mask) in enumerate(jobs)
    ]
    for (name, f, source, mask), result in zip(jobs, run(snippets), strict=True):
        new = f(source, mask) & M64
        assert result["exec"] == new, name
        assert result["s[8:9]"] == (new if name.endswith("wr") else mask), name
        assert result["scc"] == (new != 0), name


def test_the_harness_sees_a_wrong_result() -> None:
    """The comparison itself: an addition that should be a subtraction fails."""
    wrong = simple("s_add_u32", "u32 u32 u32", carries(lambda a, b: a - b))
    with pytest.raises(AssertionError):
        check([wrong], seed=0)
