# SPDX-License-Identifier: MIT
"""Matrix instructions of the emulator against float64, by lane maps written the other way round.

Every case runs twice: on small numbers, whose sums are exact whatever the order, and on random
ones, where the result may be off by a few units of the last place of the sum of magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from gcn_asm import Snippet, range_of, run, run_one
from matrix_cases import RANDOM, SMALL, Draw, assert_close
from matrix_formats import bits_of, decoded, packed
from matrix_maps import Shape, operand_map, pattern, result_map

from aiter_moe.targets.emulator_report import EmulatorFaultError, FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


@dataclass(frozen=True)
class Case:
    """A dense instruction: formats of A and B, shape, and what differs from the plain form."""

    mnemonic: str
    a: str
    b: str
    shape: Shape
    arch: str = "gfx950"
    cbsz: int = 0
    abid: int = 0
    blgp: int = 0
    addend: str = ""  # a constant instead of registers
    files: str = "vvvv"  # register files of D, A, B, C

    @property
    def modifiers(self) -> str:
        named = {"cbsz": self.cbsz, "abid": self.abid, "blgp": self.blgp}
        return "".join(f" {name}:{number}" for name, number in named.items() if number)


def same(element: str, shape: Shape, **more: Any) -> Case:
    out = "i32" if element == "i8" else "f32"
    blocks = f"_{shape.blocks}b" if shape.blocks > 1 else ""
    size = f"{shape.edge}x{shape.edge}x{shape.depth}"
    return Case(f"v_mfma_{out}_{size}{blocks}_{element}", element, element, shape, **more)


SINGLE = (Shape(32, 2), Shape(16, 4), Shape(32, 1, 2), Shape(16, 1, 4), Shape(4, 1, 16))
FOUR_K_BLOCKS = (Shape(32, 4, 2), Shape(16, 4, 4), Shape(4, 4, 16))
HALF = (Shape(32, 8), Shape(16, 16), Shape(32, 16), Shape(16, 32), *FOUR_K_BLOCKS)
BYTES = (Shape(32, 16), Shape(16, 32))
INTEGER = (*BYTES, Shape(32, 32), Shape(16, 64), *FOUR_K_BLOCKS)


def byte_floats(suffix: str, arch: str) -> list[Case]:
    pairs = [(a, b) for a in ("fp8", "bf8") for b in ("fp8", "bf8")]
    return [
        Case(f"v_mfma_f32_{s.edge}x{s.edge}x{s.depth}_{a}_{b}", a + suffix, b + suffix, s, arch)
        for s in BYTES
        for a, b in pairs
    ]


FLOATS = [
    *[same("f32", shape) for shape in SINGLE],
    *[same(element, shape) for element in ("f16", "bf16") for shape in HALF],
    *byte_floats("", "gfx950"),
]
INTEGERS = [same("i8", shape) for shape in INTEGER]
GFX942 = [
    *[same("xf32", shape, arch="gfx942") for shape in (Shape(16, 8), Shape(32, 4))],
    *byte_floats("_fnuz", "gfx942"),
]
VARIANTS = [
    *[replace(same("bf16", Shape(16, 32)), blgp=n) for n in range(1, 8)],
    replace(same("f32", Shape(32, 2)), blgp=3),
    *[replace(same("f16", Shape(16, 4, 4)), cbsz=c, abid=a) for c, a in ((1, 0), (1, 1), (2, 3))],
    replace(same("f16", Shape(32, 4, 2)), cbsz=1, abid=1, blgp=2),
    *[replace(same("i8", Shape(4, 4, 16)), cbsz=c, abid=a) for c, a in ((1, 1), (3, 5), (4, 9))],
    *[replace(same("bf16", Shape(16, 32)), addend=c) for c in ("0", "1.0", "-4.0", "64")],
    replace(same("f32", Shape(4, 1, 16)), addend="0.5"),
    replace(same("i8", Shape(32, 32)), addend="-16"),
    *[replace(same("bf16", Shape(16, 32)), files=f) for f in ("aaaa", "avva", "vaav", "vavv")],
]


@dataclass
class Operands:
    """Codes of A, B by [block, row or column, k], and C by [block, row, column]."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


def random_operands(case: Case, rng: np.random.Generator, draw: Draw) -> Operands:
    s = case.shape
    if case.a == "i8":
        c = rng.integers(-(2**31), 2**31, (s.blocks, s.edge, s.edge)).astype(np.int32)
    elif draw is SMALL:
        c = rng.integers(-8, 9, (s.blocks, s.edge, s.edge)).astype(np.float32)
    else:
        c = rng.normal(size=(s.blocks, s.edge, s.edge)).astype(np.float32)
    return Operands(
        draw(rng, case.a, (s.blocks, s.edge, s.depth)),
        draw(rng, case.b, (s.blocks, s.edge, s.depth)), c,
    )  # fmt: skip


REGISTERS = {"d": 64, "a": 8, "b": 24, "c": 112}


def dense_snippet(name: str, case: Case, operands: Operands) -> Snippet:
    """Return the instruction with every lane turned off: it must not matter."""
    at = operand_map(case.shape)
    a, b = packed(operands.a[at], bits_of(case.a)), packed(operands.b[at], bits_of(case.b))
    c = operands.c[result_map(case.shape)].view(np.uint32)
    counts = (len(c), len(a), len(b), len(c))
    names = {
        key: range_of(file, REGISTERS[key], count)
        for key, file, count in zip("dabc", case.files, counts, strict=True)
    }
    addend = case.addend or names["c"]
    text = f"{case.mnemonic} {names['d']}, {names['a']}, {names['b']}, {addend}{case.modifiers}"
    inputs = {names["a"]: a, names["b"]: b} | ({} if case.addend else {names["c"]: c})
    return Snippet(name, f"s_mov_b64 exec, 0x5\n{text}", inputs, [names["d"]])


def constant(text: str, integer: bool) -> Any:
    if integer:
        return np.int32(int(text))
    return np.float32(text) if "." in text else np.uint32(int(text)).view(np.float32)


def seen_b(case: Case, codes: np.ndarray) -> np.ndarray:
    """Return B by [block, column, k] as the lane pattern shows it."""
    at = operand_map(case.shape)
    seen = np.empty_like(codes)
    seen[at] = codes[at][pattern(case.blgp)]
    return seen


def dense_reference(case: Case, operands: Operands) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact result and the sum of magnitudes, [register, lane]."""
    group = 1 << case.cbsz
    sources = [block // group * group + case.abid for block in range(case.shape.blocks)]
    a = decoded(case.a, operands.a)[sources]
    b = decoded(case.b, seen_b(case, operands.b))
    c = constant(case.addend, case.a == "i8") if case.addend else operands.c
    exact = np.einsum("nik,njk->nij", a, b) + np.asarray(c, a.dtype)
    size = np.einsum("nik,njk->nij", np.abs(a), np.abs(b)) + np.abs(np.asarray(c, a.dtype))
    at = result_map(case.shape)
    return exact[at], size[at]


def check_dense(cases: list[Case], seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs = [
        (case, draw, random_operands(case, rng, draw)) for case in cases for draw in (SMALL, RANDOM)
    ]
    snippets = [
        dense_snippet(f"k{n}", case, operands) for n, (case, _, operands) in enumerate(jobs)
    ]
    for (case, draw, operands), result in zip(jobs, run(snippets, cases[0].arch), strict=True):
        (words,) = result.outputs.values()
        got = words.view(np.int32 if case.a == "i8" else np.float32)
        assert_close(got, *dense_reference(case, operands), draw)


@pytest.mark.parametrize(
    "cases", [FLOATS, INTEGERS, GFX942, VARIANTS], ids=["float", "i8", "gfx942", "variants"]
)
def test_dense_instructions_compute_the_product(cases: list[Case]) -> None:
    check_dense(cases, seed=len(cases))


def test_random_operands_tell_a_wrong_lane_map() -> None:
    """The comparison itself: two rows of A exchanged are far outside the tolerance."""
    case = same("bf16", Shape(16, 32))
    operands = random_operands(case, np.random.default_rng(0), RANDOM)
    exact, size = dense_reference(case, operands)
    operands.a[0, [2, 3]] = operands.a[0, [3, 2]]
    wrong, _ = dense_reference(case, operands)
    with pytest.raises(AssertionError):
        assert_close(wrong.astype(np.float32), exact, size, RANDOM)


def test_sources_may_overlap_the_result() -> None:
    case = same("bf16", Shape(16, 32))
    operands = random_operands(case, np.random.default_rng(1), SMALL)
    plain = dense_snippet("plain", case, operands)
    ranges = ("v[8:11]", "v[26:29]", "v[112:115]")  # A, half of B, C
    overlapping = [
        Snippet(f"k{n}", plain.body.replace("v[64:67]", d), plain.inputs, [d])
        for n, d in enumerate(ranges)
    ]
    expected, *others = run([plain, *overlapping])
    for d, result in zip(ranges, others, strict=True):
        np.testing.assert_array_equal(result[d], expected["v[64:67]"])


def test_a_register_may_be_both_sources_and_the_result() -> None:
    case = same("bf16", Shape(16, 32), addend="0")
    operands = random_operands(case, np.random.default_rng(1), SMALL)
    a = dense_snippet("plain", case, operands).inputs["v[8:11]"]
    body = f"{case.mnemonic} v[8:11], v[8:11], v[8:11], 0"
    got = run_one(Snippet("squared", body, {"v[8:11]": a}, ["v[8:11]"]))
    exact, _ = dense_reference(case, replace(operands, b=operands.a))
    np.testing.assert_array_equal(got.lanes("v[8:11]", np.float32), exact)


# By format: the code of one, and codes of infinities and NaNs.
SPECIAL_CODES: dict[str, tuple[int, list[int]]] = {
    "f32": (0x3F800000, [0x7F800000, 0x7FC00001]),
    "f16": (0x3C00, [0x7C00, 0x7E01]),
    "bf16": (0x3F80, [0x7F80, 0x7FC1]),
    "fp8": (0x38, [0x7F, 0xFF]),
    "bf8": (0x3C, [0x7C, 0x7D]),
    "fp8_fnuz": (0x40, [0x80]),
    "bf8_fnuz": (0x40, [0x80]),
}


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
def test_infinities_and_nans_reach_the_results_of_their_row(arch: str) -> None:
    bytes_here = byte_floats("_fnuz" if arch == "gfx942" else "", arch)
    wide = [same("f16", Shape(16, 16)), same("bf16", Shape(32, 8)), same("f32", Shape(16, 4))]
    cases = [*wide, *(case for case in bytes_here if case.a == case.b)]
    jobs = [(case, code) for case in cases for code in SPECIAL_CODES[case.a][1]]
    rng = np.random.default_rng(2)
    snippets, expected = [], []
    for n, (case, code) in enumerate(jobs):
        operands = random_operands(case, rng, SMALL)
        operands.b[:] = SPECIAL_CODES[case.b][0]
        operands.a[0, 5, 2] = code
        snippets.append(dense_snippet(f"k{n}", case, operands))
        expected.append(dense_reference(case, operands)[0].astype(np.float32))
    for exact, result in zip(expected, run(snippets, arch), strict=True):
        (words,) = result.outputs.values()
        assert not np.isfinite(exact).all()
        np.testing.assert_array_equal(words.view(np.float32), exact)


def test_denormals_count() -> None:
    """16-bit denormals as sources and f32 ones as results are neither flushed nor rounded away."""
    case = same("bf16", Shape(16, 32))
    operands = random_operands(case, np.random.default_rng(3), SMALL)
    operands.a[:], operands.b[:], operands.c[:] = 0x0003, 0x3F80, np.float32(2.0**-149)
    exact, _ = dense_reference(case, operands)
    (words,) = run_one(dense_snippet("tiny", case, operands)).outputs.values()
    np.testing.assert_array_equal(words.view(np.float32), exact.astype(np.float32))


PARTLY = """
s_mov_b64 exec, 0xffff
v_mov_b32 {register}, 0
s_mov_b64 exec, -1
v_mfma_scale_f32_16x16x128_f8f6f4 v[64:67], v[8:11], v[24:27], v[112:115], v4, v5 cbsz:4 blgp:4
"""


@pytest.mark.parametrize("register", ["v10", "v24", "v115", "v4", "v5"])
def test_lanes_that_exec_turns_off_are_read_too(register: str) -> None:
    inputs = {
        f"v{n}": 0
        for n in (4, 5, *range(8, 12), *range(24, 28), *range(112, 116))
        if f"v{n}" != register
    }
    snippet = Snippet("partly", PARTLY.format(register=register), inputs, ["v[64:67]"])
    with pytest.raises(EmulatorFaultError) as caught:
        run_one(snippet)
    (fault,) = caught.value.report.faults
    assert fault.kind is FaultKind.undefined_register
    assert fault.lane == 16
    assert register in fault.detail


@pytest.mark.parametrize("modifiers", ["cbsz:1", "abid:1", "cbsz:4 abid:3"])
def test_broadcasts_among_more_blocks_than_there_are_are_refused(modifiers: str) -> None:
    body = f"v_mfma_f32_16x16x32_bf16 v[64:67], v[8:11], v[8:11], 0 {modifiers}"
    with pytest.raises(EmulatorFaultError) as caught:
        run_one(Snippet("broadcast", body, {"v[8:11]": 0}, ["v[64:67]"]))
    assert caught.value.report.faults[0].kind is FaultKind.bad_instruction
