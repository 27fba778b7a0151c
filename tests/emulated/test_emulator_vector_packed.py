# SPDX-License-Identifier: MIT
"""VOP3P: packed halves and words, mixed precision and dot products, with all their selections."""

import itertools

import numpy as np
import pytest
from gcn_asm import Snippet, run
from vector_cases import KEEP_DENORMALS, THREADS, assert_same, edges, values
from wave_lanes import active_lanes, random_mask

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

HALVES = {"u16": np.uint16, "i16": np.int16, "f16": np.float16}


def words(kind, rng):
    """Return words whose halves are edges and random numbers of a type."""
    halves = np.stack([values(kind, rng, THREADS), values(kind, rng, THREADS)], -1)
    return np.ascontiguousarray(halves).view(np.uint32)[:, 0]


def halves(word, kind):
    """Return the low and the high halves of words."""
    both = np.ascontiguousarray(word).view(HALVES[kind]).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def odd_sum(a, b, c):
    """Return a * b + c, whose product binary64 holds exactly, rounded to odd.

    Rounding that once more to a format of half the bits is as good as rounding once.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    total = product + c
    part = total - product
    lost = (product - (total - part)) + (c - part)
    raw = total.view(np.int64)
    away = (lost < 0) != (total < 0)
    odd = np.where((lost != 0) & np.isfinite(total), (raw - away) | 1, raw)
    return odd.view(np.float64)


def fused(a, b, c):
    return odd_sum(a, b, c).astype(np.float16)


def fused_words(a, b, c):
    return odd_sum(a, b, c).astype(np.float32)


def by_rule(f):
    """Return the minimum or maximum of halves where signalling NaN wins over numbers."""

    def apply(a, b):
        signs = np.signbit(a).astype(int) - np.signbit(b).astype(int)
        zeros = (a == b) & ((signs > 0) if f is np.fmin else (signs < 0))
        out = np.where((a < b if f is np.fmin else a > b) | zeros, a, b)
        out = np.where(np.isnan(a), b, np.where(np.isnan(b), a, out))
        quiet = [x.view(np.uint16) & 0x200 != 0 for x in (a, b)]
        loud = (np.isnan(a) & ~quiet[0]) | (np.isnan(b) & ~quiet[1])
        return np.where(loud, np.float16(np.nan), out)

    return apply


def propagating(f):
    def apply(a, b, c):
        out = f(f(a, b), c)
        signs = [np.signbit(x) & (x == 0) if f is np.minimum else ~np.signbit(x) & (x == 0)
                 for x in (a, b, c)]  # fmt: skip
        sign = np.float16(-1 if f is np.minimum else 1)
        return np.where((out == 0) & np.any(signs, 0), np.copysign(out, sign), out)

    return apply


def clipped(kind, f):
    limits = np.iinfo(HALVES[kind])
    return lambda *s: np.clip(f(*(x.astype(np.int64) for x in s)), limits.min, limits.max)


PAIRED = {
    "v_pk_add_u16": ("u16", 2, lambda a, b: a + b),
    "v_pk_sub_u16": ("u16", 2, lambda a, b: a - b),
    "v_pk_add_i16": ("i16", 2, lambda a, b: a + b),
    "v_pk_sub_i16": ("i16", 2, lambda a, b: a - b),
    "v_pk_mul_lo_u16": ("u16", 2, lambda a, b: a * b),
    "v_pk_mad_u16": ("u16", 3, lambda a, b, c: a * b + c),
    "v_pk_mad_i16": ("i16", 3, lambda a, b, c: a * b + c),
    "v_pk_min_u16": ("u16", 2, np.minimum),
    "v_pk_max_u16": ("u16", 2, np.maximum),
    "v_pk_min_i16": ("i16", 2, np.minimum),
    "v_pk_max_i16": ("i16", 2, np.maximum),
    "v_pk_lshlrev_b16": ("u16", 2, lambda a, b: b << (a & 15)),
    "v_pk_lshrrev_b16": ("u16", 2, lambda a, b: b >> (a & 15)),
    "v_pk_ashrrev_i16": ("i16", 2, lambda a, b: b >> (a & 15)),
    "v_pk_add_f16": ("f16", 2, lambda a, b: a + b),
    "v_pk_mul_f16": ("f16", 2, lambda a, b: a * b),
    "v_pk_fma_f16": ("f16", 3, fused),
    "v_pk_min_f16": ("f16", 2, by_rule(np.fmin)),
    "v_pk_max_f16": ("f16", 2, by_rule(np.fmax)),
    "v_pk_minimum3_f16": ("f16", 3, propagating(np.minimum)),
    "v_pk_maximum3_f16": ("f16", 3, propagating(np.maximum)),
}


def chosen(word, kind, high, negated):
    part = halves(word, kind)[high]
    return -part if negated and kind == "f16" else part


def bits(flags):
    return "[" + ",".join(str(int(f)) for f in flags) + "]"


@pytest.mark.parametrize("name", PAIRED)
def test_two_halves_at_once(name):
    kind, count, f = PAIRED[name]
    rng = np.random.default_rng(40)
    snippets, wants = [], []
    for number in range(6):
        sources = [words(kind, rng) for _ in range(count)]
        low, high = ([0] * count, [1] * count) if number == 0 else rng.integers(0, 2, (2, count))
        signs = rng.integers(0, 2, (2, count)) if kind == "f16" and number else [[0] * count] * 2
        modifiers = f"op_sel:{bits(low)} op_sel_hi:{bits(high)}"
        if kind == "f16":
            modifiers += f" neg_lo:{bits(signs[0])} neg_hi:{bits(signs[1])}"
        mask = random_mask(rng)
        registers = ", ".join(f"v{2 + n}" for n in range(count))
        inputs = {f"v{2 + n}": s for n, s in enumerate(sources)}
        snippets.append(Snippet(f"pk{number}", f"{name} v10, {registers} {modifiers}",
                                {**inputs, "exec": mask}, ["v10"], threads=THREADS,
                                directives=KEEP_DENORMALS))  # fmt: skip
        with np.errstate(all="ignore"):
            parts = [
                f(*(chosen(s, kind, sel[n], neg[n]) for n, s in enumerate(sources)))
                for sel, neg in ((low, signs[0]), (high, signs[1]))
            ]
        wants.append((active_lanes(mask, THREADS), [p.astype(HALVES[kind]) for p in parts]))
    for snippet, result, (on, parts) in zip(snippets, run(snippets), wants, strict=True):
        for half in range(2):
            got = halves(result["v10"], "u16")[half]
            assert_same(got[on], parts[half][on], 0, snippet.body)
        assert (result["v10"][~on] == 0xA5A5A5A5).all()


@pytest.mark.parametrize("name", [n for n, (kind, *_) in PAIRED.items() if "add" in n or "mad" in n
                                  or "sub" in n if kind != "f16"])  # fmt: skip
def test_clamp_saturates_both_halves(name):
    kind, count, f = PAIRED[name]
    rng = np.random.default_rng(41)
    sources = [words(kind, rng) for _ in range(count)]
    registers = ", ".join(f"v{2 + n}" for n in range(count))
    inputs = {f"v{2 + n}": s for n, s in enumerate(sources)}
    result = run([Snippet("clamp", f"{name} v10, {registers} clamp", inputs, ["v10"],
                          threads=THREADS)])[0]["v10"]  # fmt: skip
    for half in range(2):
        want = clipped(kind, f)(*(halves(s, kind)[half] for s in sources))
        np.testing.assert_array_equal(halves(result, kind)[half], want)


def test_constants_of_packed_halves():
    """Integers are sign-extended words; floats are halves with zeros above, words for integers."""
    rng = np.random.default_rng(42)
    a = words("u16", rng)
    f = rng.normal(size=2 * THREADS).astype(np.float16).view(np.uint32)
    low, high = halves(a, "u16")
    f_low, f_high = halves(f, "f16")
    rows = [
        ("v_pk_add_u16 v10, v2, -1", low + np.uint16(0xFFFF), high + np.uint16(0xFFFF)),
        ("v_pk_add_u16 v10, v2, 5 op_sel_hi:[1,0]", low + np.uint16(5), high + np.uint16(5)),
        ("v_pk_add_u16 v10, v2, 5", low + np.uint16(5), high),
        ("v_pk_add_u16 v10, v2, 1.0", low, high + np.uint16(0x3F80)),
        ("v_pk_add_f16 v10, v3, 1.0 op_sel_hi:[1,0]",
         f_low + np.float16(1), f_high + np.float16(1)),
        ("v_pk_mul_f16 v10, v3, 2.0", f_low * np.float16(2), f_high * np.float16(0)),
        ("v_pk_add_u16 v10, v2, s4", low + np.uint16(0x1234), high + np.uint16(0x5678)),
    ]  # fmt: skip
    snippets = [
        Snippet(f"const{n}", text, {"v2": a, "v3": f, "s4": 0x56781234}, ["v10"], threads=THREADS,
                directives=KEEP_DENORMALS)
        for n, (text, *_) in enumerate(rows)
    ]  # fmt: skip
    for result, (text, *wants) in zip(run(snippets), rows, strict=True):
        for half in range(2):
            assert_same(halves(result["v10"], "u16")[half], wants[half], 0, text)


def test_two_words_at_once():
    rng = np.random.default_rng(43)
    ops = {"v_pk_add_f32": (2, np.add), "v_pk_mul_f32": (2, np.multiply), "v_pk_fma_f32": (3, None)}
    snippets, wants = [], []
    for (name, (count, f)), number in itertools.product(ops.items(), range(6)):
        sources = [np.stack([values("f32", rng), values("f32", rng)]) for _ in range(count)]
        if number < 3:  # for the exact product below
            sources = [rng.normal(0, 3, (2, THREADS)).astype(np.float32) for _ in range(count)]
        low, high = ([0] * count, [1] * count) if number == 0 else rng.integers(0, 2, (2, count))
        signs = rng.integers(0, 2, (2, count)) if number else np.zeros((2, count), int)
        keys = [f"v[{2 + 2 * n}:{3 + 2 * n}]" for n in range(count)]
        target = "v[10:11]" if number % 2 else keys[0]
        mask = random_mask(rng)
        body = (
            f"{name} {target}, {', '.join(keys)} op_sel:{bits(low)} op_sel_hi:{bits(high)} "
            f"neg_lo:{bits(signs[0])} neg_hi:{bits(signs[1])}"
        )
        inputs = dict(zip(keys, sources, strict=True))
        snippets.append(Snippet(f"{name}{number}", body, {**inputs, "exec": mask}, [target],
                                threads=THREADS, directives=KEEP_DENORMALS))  # fmt: skip
        parts = []
        for select, sign in ((low, signs[0]), (high, signs[1])):
            given = [-s[select[n]] if sign[n] else s[select[n]] for n, s in enumerate(sources)]
            with np.errstate(all="ignore"):
                parts.append(f(*given) if f else fused_words(*given))
        wants.append((target, active_lanes(mask, THREADS), parts))
    for snippet, result, want in zip(snippets, run(snippets), wants, strict=True):
        target, on, parts = want
        for n in range(2):
            assert_same(result[target][n][on], parts[n][on], 0, snippet.body)


def test_words_moved_and_scalar_pairs():
    rng = np.random.default_rng(44)
    a, b = (rng.integers(0, 1 << 32, (2, THREADS), np.uint32) for _ in range(2))
    f = rng.normal(size=(2, THREADS)).astype(np.float32)
    inputs = {"v[2:3]": a, "v[4:5]": b, "v[6:7]": f, "s[4:5]": 0x40000000_3F800000}
    rows = [
        ("v_pk_mov_b32 v[10:11], v[2:3], v[4:5] op_sel:[0,1]", a[0], b[1]),
        ("v_pk_mov_b32 v[10:11], v[2:3], v[4:5] op_sel:[1,0]", a[1], b[0]),
        ("v_pk_mov_b32 v[10:11], s[4:5], s[4:5] op_sel:[1,0]",
         np.full(THREADS, 0x40000000), np.full(THREADS, 0x3F800000)),
        ("v_pk_mul_f32 v[10:11], v[6:7], s[4:5]", f[0], f[1] * np.float32(2)),
        ("v_pk_mul_f32 v[10:11], v[6:7], s[4:5] op_sel_hi:[1,0]", f[0], f[1]),
        ("v_pk_mul_f32 v[10:11], v[6:7], 4.0 op_sel_hi:[1,0]",
         f[0] * np.float32(4), f[1] * np.float32(4)),
    ]  # fmt: skip
    snippets = [
        Snippet(f"row{n}", text, inputs, ["v[10:11]"], threads=THREADS)
        for n, (text, *_) in enumerate(rows)
    ]
    for result, (text, *wants) in zip(run(snippets), rows, strict=True):
        for n in range(2):
            want = np.asarray(wants[n])
            want = want if want.dtype == np.float32 else want.astype(np.uint32)
            assert_same(result["v[10:11]"][n], want, 0, text)


def mixed(word, is_half, high, negated, absolute):
    if is_half:
        with np.errstate(invalid="ignore"):
            part = halves(word, "f16")[high].astype(np.float32)
    else:
        part = word.view(np.float32)
    part = np.abs(part) if absolute else part
    return -part if negated else part


@pytest.mark.parametrize("name", ["v_fma_mix_f32", "v_fma_mixlo_f16", "v_fma_mixhi_f16"])
def test_mixed_precision(name):
    rng = np.random.default_rng(45)
    snippets, wants = [], []
    for number in range(12):
        select, high, neg, absolute = rng.integers(0, 2, (4, 3))
        sources = [
            words("f16", rng) if select[n] else rng.normal(0, 3, THREADS).astype(np.float32)
            .view(np.uint32)
            for n in range(3)
        ]  # fmt: skip
        high &= select
        text = ", ".join(
            ("-" if neg[n] else "") + (f"|v{2 + n}|" if absolute[n] else f"v{2 + n}")
            for n in range(3)
        )
        body = f"{name} v10, {text} op_sel:{bits(high)} op_sel_hi:{bits(select)}"
        inputs = {f"v{2 + n}": s for n, s in enumerate(sources)}
        snippets.append(Snippet(f"mix{number}", body, inputs, ["v10"], threads=THREADS,
                                directives=KEEP_DENORMALS))  # fmt: skip
        flags = zip(select, high, neg, absolute, strict=True)
        given = [mixed(s, *row) for s, row in zip(sources, flags, strict=True)]
        with np.errstate(all="ignore"):
            wants.append(fused_words(*given))
    for snippet, result, want in zip(snippets, run(snippets), wants, strict=True):
        got = result["v10"]
        if name == "v_fma_mix_f32":
            assert_same(got, want, 0, snippet.body)
            continue
        at = int("hi" in name)
        with np.errstate(all="ignore"):
            assert_same(halves(got, "u16")[at], want.astype(np.float16), 0, snippet.body)
        assert (halves(got, "u16")[1 - at] == 0xA5A5).all()


def parts(word, bits_a_part, signed):
    out = []
    for n in range(32 // bits_a_part):
        part = word.astype(np.int64) >> bits_a_part * n & (1 << bits_a_part) - 1
        out.append(np.where(part >> bits_a_part - 1, part - (1 << bits_a_part), part)
                   if signed else part)  # fmt: skip
    return np.array(out)


INTEGER_DOTS = [
    ("v_dot2_i32_i16", 16), ("v_dot2_u32_u16", 16), ("v_dot4_i32_i8", 8), ("v_dot4_u32_u8", 8),
    ("v_dot8_i32_i4", 4), ("v_dot8_u32_u4", 4),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size"), INTEGER_DOTS)
@pytest.mark.parametrize("clamp", ["", " clamp"])
def test_dot_products_of_integers(name, size, clamp):
    rng = np.random.default_rng(46)
    signed = "i32" in name
    a, b = (rng.integers(0, 1 << 32, THREADS, np.uint32) for _ in range(2))
    c = values("i32" if signed else "u32", rng)
    snippet = Snippet("dot", f"{name} v10, v2, v3, v4{clamp}",
                      {"v2": a, "v3": b, "v4": c}, ["v10"], threads=THREADS)  # fmt: skip
    total = (parts(a, size, signed) * parts(b, size, signed)).sum(0) + c
    if clamp:
        limits = np.iinfo(np.int32 if signed else np.uint32)
        total = np.clip(total, limits.min, limits.max)
    np.testing.assert_array_equal(run([snippet])[0]["v10"], total & 0xFFFFFFFF)


@pytest.mark.parametrize("name", ["v_dot2c_i32_i16", "v_dot4c_i32_i8", "v_dot8c_i32_i4"])
def test_dot_products_of_integers_that_accumulate(name):
    rng = np.random.default_rng(47)
    size = {"i16": 16, "_i8": 8, "_i4": 4}[name[-3:]]
    a, b, c = (rng.integers(0, 1 << 32, THREADS, np.uint32) for _ in range(3))
    snippet = Snippet("dot", f"{name} v10, v2, v3", {"v2": a, "v3": b, "v10": c}, ["v10"],
                      threads=THREADS)  # fmt: skip
    total = (parts(a, size, True) * parts(b, size, True)).sum(0) + c
    np.testing.assert_array_equal(run([snippet])[0]["v10"], total & 0xFFFFFFFF)


def moderate(kind, rng):
    """Return words of two floats and the two rows of numbers."""
    numbers = rng.normal(0, 2, (2, THREADS)).astype(np.float32)
    if kind == "f16":
        rows = numbers.astype(np.float16)
        word = rows.view(np.uint16).astype(np.uint32)
        return word[0] | word[1] << np.uint32(16), rows.astype(np.float64)
    word = numbers.view(np.uint32) >> 16
    return word[0] | word[1] << np.uint32(16), (word << 16).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_dot_products_of_floats(kind):
    rng = np.random.default_rng(48)
    (a, x), (b, y) = moderate(kind, rng), moderate(kind, rng)
    c = rng.normal(size=THREADS).astype(np.float32)
    inputs = {"v2": a, "v3": b, "v4": c, "v10": c}
    rows = [
        (f"v_dot2_f32_{kind} v10, v2, v3, v4", x[0] * y[0] + x[1] * y[1] + c),
        (f"v_dot2_f32_{kind} v10, v2, v3, v4 neg_lo:[1,0,0] neg_hi:[0,1,0]",
         -x[0] * y[0] - x[1] * y[1] + c),
        (f"v_dot2c_f32_{kind} v10, v2, v3", x[0] * y[0] + x[1] * y[1] + c),
    ]  # fmt: skip
    snippets = [
        Snippet(f"dot{n}", text, inputs, ["v10"], threads=THREADS, directives=KEEP_DENORMALS)
        for n, (text, _) in enumerate(rows)
    ]
    for result, (text, want) in zip(run(snippets), rows, strict=True):
        assert_same(result["v10"], want.astype(np.float32), 0, text)


def test_edges_are_among_the_halves():
    """The data above would miss much without infinities, NaN and denormals."""
    rng = np.random.default_rng(40)
    low, _ = halves(words("f16", rng), "f16")
    found = np.isnan(low).any(), np.isinf(low).any(), ((low != 0) & (np.abs(low) < 6e-5)).any()
    assert all(found)
    assert len(edges("f16")) > 30
