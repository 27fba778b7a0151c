# SPDX-License-Identifier: MIT
"""Vector comparisons of every type: masks, lanes that are off, EXEC, and classes of floats."""

import operator

import numpy as np
import pytest
from gcn_asm import Snippet, run
from vector_cases import KEEP_DENORMALS, TYPES, edges, register, values, words
from wave_lanes import active_lanes, random_mask

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

ORDERS = {
    "lt": operator.lt, "eq": operator.eq, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip
ALWAYS = {"f": lambda a, b: np.zeros(a.shape, bool)}
INTEGERS = ORDERS | ALWAYS | {"ne": operator.ne, "t": lambda a, b: np.ones(a.shape, bool)}


def negated(f):
    return lambda a, b: ~f(a, b)


def ordered(a, b):
    return ~np.isnan(a) & ~np.isnan(b)


def less_or_greater(a, b):
    return (a < b) | (a > b)


FLOATS = (
    ORDERS
    | ALWAYS
    | {f"n{name}": negated(f) for name, f in ORDERS.items()}
    | {
        "lg": less_or_greater, "nlg": negated(less_or_greater), "o": ordered,
        "u": negated(ordered), "tru": lambda a, b: np.ones(a.shape, bool),
    }
)  # fmt: skip


def relations(kind):
    return FLOATS if kind[0] == "f" else INTEGERS


def pairs(kind, rng):
    """Return two sources, many of them equal."""
    a, b = values(kind, rng, 64), values(kind, rng, 64)
    return a, np.where(rng.random(64) < 0.3, a, b)


def as_mask(flags):
    return sum(1 << lane for lane, on in enumerate(flags) if on)


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize("kind", TYPES)
def test_comparisons(kind, arch):
    rng = np.random.default_rng(11)
    snippets, wants = [], []
    first, second = register(2, kind), register(4, kind)
    for name, f in relations(kind).items():
        for form, out in (("e32", "vcc"), ("e64", "s[10:11]")):
            a, b = pairs(kind, rng)
            mask = random_mask(rng)
            snippets.append(
                Snippet(
                    f"{name}_{form}",
                    f"v_cmp_{name}_{kind}_{form} {out}, {first}, {second}",
                    {first: words(a, rng), second: words(b, rng), "exec": mask},
                    [out, "exec"],
                    directives=KEEP_DENORMALS,
                )
            )
            wants.append((out, as_mask(f(a, b) & active_lanes(mask)), mask))
    for snippet, result, want in zip(snippets, run(snippets, arch), wants, strict=True):
        out, mask, exec_mask = want
        assert result[out] == mask, snippet.body
        assert result["exec"] == exec_mask, snippet.body


@pytest.mark.parametrize("kind", ["u16", "i32", "u64", "f16", "f32", "f64"])
def test_comparisons_that_write_exec(kind):
    rng = np.random.default_rng(12)
    snippets, wants = [], []
    first, second = register(2, kind), register(4, kind)
    for name, f in relations(kind).items():
        a, b = pairs(kind, rng)
        mask = random_mask(rng)
        snippets.append(
            Snippet(
                f"x_{name}",
                f"v_cmpx_{name}_{kind}_e64 s[10:11], {first}, {second}",
                {first: words(a, rng), second: words(b, rng), "exec": mask},
                ["s[10:11]", "exec"],
                directives=KEEP_DENORMALS,
            )
        )
        wants.append(as_mask(f(a, b) & active_lanes(mask)))
    for snippet, result, want in zip(snippets, run(snippets), wants, strict=True):
        assert result["s[10:11]"] == result["exec"] == want, snippet.body


def float_class(a):
    """Return the number of the class of each float, 0 to 9."""
    bits = 8 * a.dtype.itemsize
    fraction = {16: 10, 32: 23, 64: 52}[bits]
    whole = a.view(f"u{bits // 8}").astype(object)
    size = whole & (1 << bits - 1) - 1
    negative = whole >> bits - 1 == 1
    infinity = (1 << bits - 1) - (1 << fraction)
    nan = np.where(size >> fraction - 1 & 1, 1, 0)
    limits = np.array([1, 1 << fraction, infinity], object)
    rank = sum((size >= limit).astype(int) for limit in limits)
    return np.where(size > infinity, nan, np.where(negative, 5 - rank, 6 + rank)).astype(int)


@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
def test_classes_of_floats(kind):
    rng = np.random.default_rng(13)
    source, classes = register(2, kind), rng.integers(0, 1024, 64).astype(np.uint32)
    special = rng.choice(edges(kind), 64)
    all_ones = np.full(64, 1 << 3 | 1 << 7, np.uint32)
    snippets = [
        Snippet(f"class{n}", f"v_cmp_class_{kind}_e64 s[10:11], {source}, v4",
                {source: words(special, rng), "v4": masks}, ["s[10:11]"],
                directives=KEEP_DENORMALS)
        for n, masks in enumerate((classes, all_ones))
    ]  # fmt: skip
    for result, masks in zip(run(snippets), (classes, all_ones), strict=True):
        assert result["s[10:11]"] == as_mask(masks >> float_class(special) & 1)


def test_comparisons_of_constants_and_of_negated_floats():
    rng = np.random.default_rng(14)
    a, b = pairs("f32", rng)
    inputs = {"v2": a, "v4": b, "s4": np.array([0x40490FDB], np.uint32)}
    pi = np.float32(np.pi)
    rows = [
        ("v_cmp_lt_f32_e64 vcc, -v2, |v4|", -a < np.abs(b)),
        ("v_cmp_ge_f32_e64 vcc, v2, s4", a >= pi),
        ("v_cmp_gt_f32 vcc, 2.0, v2", np.float32(2) > a),
        ("v_cmp_eq_u32 vcc, 0x40490fdb, v2", a.view(np.uint32) == 0x40490FDB),
        ("v_cmp_ne_u32_e64 vcc, s4, 7", np.ones(64, bool)),
        ("v_cmp_lt_f32_sdwa vcc, -v2, v4 src0_sel:DWORD src1_sel:DWORD", -a < b),
        ("v_cmp_gt_u32_sdwa s[10:11], v2, v4 src0_sel:BYTE_1 src1_sel:WORD_1",
         (a.view(np.uint32) >> 8 & 255) > b.view(np.uint32) >> 16),
    ]  # fmt: skip
    outs = ["s[10:11]" if "s[10:11]" in text else "vcc" for text, _ in rows]
    snippets = [
        Snippet(f"const{n}", text, inputs, [outs[n]], directives=KEEP_DENORMALS)
        for n, (text, _) in enumerate(rows)
    ]
    for result, out, (text, flags) in zip(run(snippets), outs, rows, strict=True):
        assert result[out] == as_mask(flags), text
