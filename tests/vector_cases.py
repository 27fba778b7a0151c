# SPDX-License-Identifier: MIT
"""Vector instructions against numpy: cases as data, and one function that runs and compares them.

A case is an instruction with the types of its result and sources and the function it should
compute. Sources are random numbers mixed with the values at which formats and instructions have
their edges; lanes that EXEC turns off must keep what they held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gcn_asm import UNTOUCHED, Result, Snippet, range_of, run
from wave_lanes import ALL, active_lanes, random_mask

Array = np.ndarray

THREADS = 256  # four waves
TYPES: dict[str, type] = {
    "u16": np.uint16, "i16": np.int16, "f16": np.float16, "u32": np.uint32, "i32": np.int32,
    "f32": np.float32, "u64": np.uint64, "i64": np.int64, "f64": np.float64,
}  # fmt: skip
FRACTION_BITS = {"f16": 10, "f32": 23, "f64": 52}
NAMES = "abc"
# As compilers set it; the assembler's default flushes.
KEEP_DENORMALS = {"float_denorm_mode_32": 3}


@dataclass(frozen=True)
class Case:
    """An instruction and what it computes.

    Attributes
    ----------
    text : str
        Its assembly, with {d}, {a}, {b}, {c} for result and sources.
    kinds : str
        Types of the result and the sources, ``"f32 f32 f32"``.
    expected : Callable
        From the sources as numpy arrays to the result; integers may be Python's, of any size.
    ulps : int
        How far the result may be off, in units of the last place.
    keeps_high_half : bool
        Whether a 16-bit result leaves the upper half of its register; else that is zero.
    given : dict
        More input registers.
    """

    text: str
    kinds: str
    expected: Callable[..., Any]
    ulps: int = 0
    keeps_high_half: bool = False
    given: dict[str, Any] = field(default_factory=dict)


def edges(kind: str) -> Array:
    """Return the values at which a type or its conversions change their behaviour."""
    if kind[0] == "f":
        bits = int(kind[1:])
        fraction = FRACTION_BITS[kind]
        one, infinity = (1 << bits - 2) - (1 << fraction), (1 << bits - 1) - (1 << fraction)
        words = [
            0, 1, 2, (1 << fraction) - 1, 1 << fraction, (1 << fraction) + 1, one, one - 1, one + 1,
            one + (1 << fraction - 1), infinity - 1, infinity, infinity + 1,
            infinity + (1 << fraction - 1), infinity + (1 << fraction - 1) + 5,
        ]  # fmt: skip
        numbers = np.array(words + [w | 1 << bits - 1 for w in words], f"u{bits // 8}")
        halves = np.array([0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3, -7, 255.5, 32767.5, -32768.5])
        large = np.array([65535, 2147483648, 4294967296, -2147483649, 4294967040])
        with np.errstate(over="ignore"):
            return np.concatenate(
                [numbers.view(TYPES[kind]), halves.astype(TYPES[kind]), large.astype(TYPES[kind])]
            )
    limits = np.iinfo(TYPES[kind])
    near = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256]
    far = [limits.max, limits.max - 1, limits.max // 2, limits.max // 2 + 1]
    low = [limits.min, limits.min + 1, -1, -2, -128] if limits.min else []
    return np.array(near + far + low, TYPES[kind])


def values(kind: str, rng: np.random.Generator, count: int = THREADS) -> Array:
    """Return random values of a type: any bits, small ones, and edges."""
    dtype = np.dtype(TYPES[kind])
    any_bits = rng.integers(0, 1 << 64, count, np.uint64, endpoint=False) >> 64 - 8 * dtype.itemsize
    found = any_bits.astype(f"u{dtype.itemsize}").view(dtype)
    small = rng.normal(0, 3, count) if kind[0] == "f" else rng.integers(0, 100, count)
    with np.errstate(over="ignore"):
        found = np.where(rng.random(count) < 0.3, small.astype(dtype), found)
    return np.where(rng.random(count) < 0.4, rng.choice(edges(kind), count), found)


def words(array: Array, rng: np.random.Generator) -> Array:
    """Return values as register words; the upper half of 16-bit ones is garbage."""
    if array.dtype.itemsize != 2:
        return array
    garbage = rng.integers(0, 1 << 16, array.shape, np.uint32)
    return array.view(np.uint16) | garbage << np.uint32(16)


def register(first: int, kind: str) -> str:
    """Return the registers of a type, from `first` on, as the assembler writes them."""
    return range_of("v", first, 2 if kind.endswith("64") else 1)


def result_words(result: Result, kind: str, key: str) -> Array:
    """Return an output as unsigned numbers of its type's size; of 16 bits with the upper half."""
    if kind.endswith("64"):
        low, high = (row.astype(np.uint64) for row in result[key])
        return low | high << np.uint64(32)
    return result[key]


def ordered(bits: Array) -> Array:
    """Return the bits of floats as integers in the floats' order."""
    signed = bits.view(f"i{bits.dtype.itemsize}").astype(object)
    return np.where(signed < 0, -(signed + 2 ** (8 * bits.dtype.itemsize - 1)), signed)


def in_type(array: Array, kind: str) -> Array:
    """Return numbers in a type; Python's integers are taken modulo its range."""
    if array.dtype != object:
        return array.astype(TYPES[kind])
    mask = (1 << int(kind[1:])) - 1
    return np.array([int(x) & mask for x in array], f"u{int(kind[1:]) // 8}").view(TYPES[kind])


def assert_same(got: Array, want: Array, ulps: int, what: str) -> None:
    """Compare bits; a NaN is any NaN."""
    want = np.ascontiguousarray(want)
    bits = want.view(f"u{want.dtype.itemsize}")
    got = got.astype(bits.dtype)
    same = got == bits
    if want.dtype.kind == "f":
        as_float = got.view(want.dtype)
        same |= np.isnan(as_float) & np.isnan(want)
        if ulps:
            finite = np.isfinite(as_float) & np.isfinite(want)
            same |= finite & (np.abs(ordered(got) - ordered(bits)) <= ulps)
    wrong = np.flatnonzero(~same)[:4]
    assert not wrong.size, f"{what}: lanes {wrong}: got {got[wrong]}, expected {want[wrong]}"


def check(
    cases: Sequence[Case], arch: str = "gfx950", *, seed: int = 0,
    directives: dict[str, int] | None = None, sources: Callable[..., Array] = values,
) -> None:  # fmt: skip
    """Run every case under all lanes and under a random EXEC, and compare."""
    rng = np.random.default_rng(seed)
    runs = [
        (case, [sources(kind, rng) for kind in case.kinds.split()[1:]], mask)
        for case in cases
        for mask in (ALL, random_mask(rng))
    ]
    snippets = [
        snippet(f"case{number}", case, given, mask, rng, KEEP_DENORMALS | (directives or {}))
        for number, (case, given, mask) in enumerate(runs)
    ]
    for result, (case, given, mask) in zip(run(snippets, arch), runs, strict=True):
        compare(case, given, result, active_lanes(mask, THREADS))


def snippet(
    name: str, case: Case, given: Sequence[Array], mask: int, rng: np.random.Generator,
    directives: dict[str, int],
) -> Snippet:  # fmt: skip
    """Return a case as a snippet: sources from v2 on, the result in v10 or v[10:11]."""
    kinds = case.kinds.split()
    names = {NAMES[n]: register(2 + 2 * n, kind) for n, kind in enumerate(kinds[1:])}
    result = register(10, kinds[0])
    inputs = {names[NAMES[n]]: words(array, rng) for n, array in enumerate(given)}
    return Snippet(
        name,
        case.text.format(d=result, **names),
        {**inputs, **case.given, "exec": mask},
        [result],
        threads=THREADS,
        directives=directives,
    )


def compare(case: Case, given: Sequence[Array], result: Result, active: Array) -> None:
    """Compare one result: active lanes with what is expected, others with what was there."""
    kind = case.kinds.split()[0]
    got = result_words(result, kind, register(10, kind))
    untouched = UNTOUCHED | UNTOUCHED << 32 if kind.endswith("64") else UNTOUCHED
    assert (got[~active] == untouched).all(), f"{case.text}: wrote lanes that are off"
    with np.errstate(all="ignore"):
        want = in_type(np.asarray(case.expected(*given)), kind)
    assert_same(got[active], want[active], case.ulps, case.text)
    if TYPES[kind]().itemsize == 2:
        high = UNTOUCHED >> 16 if case.keeps_high_half else 0
        assert (got[active] >> 16 == high).all(), f"{case.text}: upper half of the result"
