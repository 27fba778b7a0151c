# SPDX-License-Identifier: MIT
"""Integer vector instructions: arithmetic, bits, shifts, fields and differences, against numpy."""

import operator
from dataclasses import replace

import numpy as np
import pytest
from gcn_asm import Snippet, run
from vector_cases import THREADS, TYPES, Case, check, result_words, values
from wave_lanes import active_lanes, random_mask

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

U32, I32, U64, I64 = np.uint32, np.int32, np.uint64, np.int64


def case(name, kinds, expected, **more):
    sources = ", ".join(f"{{{letter}}}" for letter in "abc"[: len(kinds.split()) - 1])
    return Case(f"{name} {{d}}, {sources}", kinds, expected, **more)


def wide(f):
    """Return f on 64-bit integers instead of the sources' own type."""
    return lambda *sources: f(*(s.astype(I64) for s in sources))


def clipped(f, kind):
    limits = np.iinfo(TYPES[kind])
    return lambda *sources: np.clip(wide(f)(*sources), limits.min, limits.max)


def twenty_four(a, signed):
    low = a.astype(I64) & 0xFFFFFF
    return np.where(low >> 23 & 1, low - (1 << 24), low) if signed else low


def on_python(f):
    """Return f, a function of Python integers, on arrays."""
    return lambda *sources: np.array(
        [f(*map(int, row)) for row in zip(*sources, strict=True)], object
    )


def leading(a):
    return 32 - a.bit_length() if a else -1


def leading_signs(a):
    return leading(a ^ -1 & 0xFFFFFFFF if a >> 31 else a)


def field_of(value, offset, width, signed):
    offset, width = offset & 31, width & 31
    if signed and value >> 31:
        value -= 1 << 32
    found = value >> offset & (1 << width) - 1
    return found - (1 << width) if signed and width and found >> width - 1 else found


def permuted(a, b, c):
    data = a << 32 | b
    out = 0
    for n in range(4):
        selector = c >> 8 * n & 255
        if selector < 8:
            byte = data >> 8 * selector & 255
        elif selector < 12:
            byte = 255 * (data >> 16 * (selector - 8) + 15 & 1)
        else:
            byte = 0 if selector == 12 else 255
        out |= byte << 8 * n
    return out


def byte_list(a, count=4):
    return [a >> 8 * n & 255 for n in range(count)]


def differences(a, b, masked=False):
    pairs = zip(byte_list(a), byte_list(b), strict=True)
    return sum(abs(x - y) for x, y in pairs if y or not masked)


def sliding(a, b, c, masked):
    out = 0
    for n in range(4):
        total = differences(a >> 8 * n & 0xFFFFFFFF, b, masked) + (c >> 16 * n & 0xFFFF)
        out |= (total & 0xFFFF) << 16 * n
    return out


def next_random(a):
    return (a << 1 & 0xFFFFFFFF) ^ (197 if a >> 31 else 0)


SUMS = [
    case("v_add_u32", "u32 u32 u32", operator.add),
    case("v_sub_u32", "u32 u32 u32", operator.sub),
    case("v_subrev_u32", "u32 u32 u32", lambda a, b: b - a),
    case("v_add_i32", "i32 i32 i32", operator.add),
    case("v_sub_i32", "i32 i32 i32", operator.sub),
    case("v_add_u16", "u16 u16 u16", operator.add),
    case("v_sub_u16", "u16 u16 u16", operator.sub),
    case("v_subrev_u16", "u16 u16 u16", lambda a, b: b - a),
    case("v_add_i16", "i16 i16 i16", operator.add, keeps_high_half=True),
    case("v_sub_i16", "i16 i16 i16", operator.sub, keeps_high_half=True),
    case("v_mul_lo_u16", "u16 u16 u16", operator.mul),
    case("v_mad_u16", "u16 u16 u16 u16", lambda a, b, c: a * b + c),
    case("v_mad_i16", "i16 i16 i16 i16", lambda a, b, c: a * b + c),
    case("v_mad_legacy_u16", "u16 u16 u16 u16", lambda a, b, c: a * b + c),
    case("v_mad_legacy_i16", "i16 i16 i16 i16", lambda a, b, c: a * b + c),
    case("v_mad_u32_u16", "u32 u16 u16 u32", wide(lambda a, b, c: a * b + c)),
    case("v_mad_i32_i16", "i32 i16 i16 i32", wide(lambda a, b, c: a * b + c)),
    case("v_mul_lo_u32", "u32 u32 u32", operator.mul),
    case("v_mul_lo_i32", "u32 u32 u32", operator.mul),
    case("v_mul_hi_u32", "u32 u32 u32", lambda a, b: a.astype(U64) * b >> U64(32)),
    case("v_mul_hi_i32", "i32 i32 i32", wide(lambda a, b: a * b >> 32)),
    case("v_add3_u32", "u32 u32 u32 u32", lambda a, b, c: a + b + c),
    case("v_lshl_add_u32", "u32 u32 u32 u32", lambda a, b, c: (a << (b & 31)) + c),
    case("v_add_lshl_u32", "u32 u32 u32 u32", lambda a, b, c: (a + b) << (c & 31)),
    case("v_xad_u32", "u32 u32 u32 u32", lambda a, b, c: (a ^ b) + c),
    case("v_lshl_add_u64", "u64 u64 u32 u64", lambda a, b, c: (a << (b & 7)) + c),
]
SIGNED24 = {True: "i32_i24", False: "u32_u24"}
SUMS += [
    case(f"v_mul_{SIGNED24[s]}", "u32 u32 u32",
         lambda a, b, s=s: twenty_four(a, s) * twenty_four(b, s))
    for s in SIGNED24
] + [
    case(f"v_mul_hi_{SIGNED24[s]}", "u32 u32 u32",
         lambda a, b, s=s: twenty_four(a, s) * twenty_four(b, s) >> 32)
    for s in SIGNED24
] + [
    case(f"v_mad_{SIGNED24[s]}", "u32 u32 u32 u32",
         lambda a, b, c, s=s: twenty_four(a, s) * twenty_four(b, s) + c)
    for s in SIGNED24
]  # fmt: skip
EXTREMES = [
    case(f"v_{name}_{kind}", f"{kind} {kind} {kind}", f)
    for kind in ("u32", "i32", "u16", "i16")
    for name, f in (("min", np.minimum), ("max", np.maximum))
] + [
    case(f"v_{name}_{kind}", " ".join([kind] * 4), f, keeps_high_half=kind.endswith("16"))
    for kind in ("u32", "i32", "u16", "i16")
    for name, f in (
        ("min3", lambda *s: np.min(s, 0)),
        ("max3", lambda *s: np.max(s, 0)),
        ("med3", lambda *s: np.sort(s, 0)[1]),
    )
]
BITS = [
    case("v_mov_b32", "u32 u32", lambda a: a),
    case("v_mov_b64", "u64 u64", lambda a: a),
    case("v_not_b32", "u32 u32", operator.invert),
    case("v_and_b32", "u32 u32 u32", operator.and_),
    case("v_or_b32", "u32 u32 u32", operator.or_),
    case("v_xor_b32", "u32 u32 u32", operator.xor),
    case("v_xnor_b32", "u32 u32 u32", lambda a, b: ~(a ^ b)),
    case("v_and_or_b32", "u32 u32 u32 u32", lambda a, b, c: a & b | c),
    case("v_or3_b32", "u32 u32 u32 u32", lambda a, b, c: a | b | c),
    case("v_bfi_b32", "u32 u32 u32 u32", lambda a, b, c: a & b | ~a & c),
    case("v_lshl_or_b32", "u32 u32 u32 u32", lambda a, b, c: a << (b & 31) | c),
    case("v_lshlrev_b32", "u32 u32 u32", lambda a, b: b << (a & 31)),
    case("v_lshrrev_b32", "u32 u32 u32", lambda a, b: b >> (a & 31)),
    case("v_ashrrev_i32", "i32 i32 i32", lambda a, b: b >> (a & 31)),
    case("v_lshlrev_b64", "u64 u32 u64", lambda a, b: b << (a & 63).astype(U64)),
    case("v_lshrrev_b64", "u64 u32 u64", lambda a, b: b >> (a & 63).astype(U64)),
    case("v_ashrrev_i64", "i64 i32 i64", lambda a, b: b >> (a & 63)),
    case("v_lshlrev_b16", "u16 u16 u16", lambda a, b: b << (a & 15)),
    case("v_lshrrev_b16", "u16 u16 u16", lambda a, b: b >> (a & 15)),
    case("v_ashrrev_i16", "i16 i16 i16", lambda a, b: b >> (a & 15)),
    case("v_bfe_u32", "u32 u32 u32 u32", on_python(lambda a, b, c: field_of(a, b, c, False))),
    case("v_bfe_i32", "i32 u32 u32 u32", on_python(lambda a, b, c: field_of(a, b, c, True))),
    case("v_bfm_b32", "u32 u32 u32", on_python(lambda a, b: (1 << (a & 31)) - 1 << (b & 31))),
    case("v_alignbit_b32", "u32 u32 u32 u32", on_python(lambda a, b, c: (a << 32 | b) >> (c & 31))),
    case("v_alignbyte_b32", "u32 u32 u32 u32",
         on_python(lambda a, b, c: (a << 32 | b) >> 8 * (c & 3))),
    case("v_perm_b32", "u32 u32 u32 u32", on_python(permuted)),
    case("v_bfrev_b32", "u32 u32", on_python(lambda a: int(f"{a:032b}"[::-1], 2))),
    case("v_bcnt_u32_b32", "u32 u32 u32", on_python(lambda a, b: a.bit_count() + b)),
    case("v_ffbh_u32", "i32 u32", on_python(leading)),
    case("v_ffbh_i32", "i32 u32", on_python(leading_signs)),
    case("v_ffbl_b32", "i32 u32", on_python(lambda a: (a & -a).bit_length() - 1)),
    case("v_prng_b32", "u32 u32", on_python(next_random)),
]  # fmt: skip
DIFFERENCES = [
    case("v_sad_u8", "u32 u32 u32 u32", on_python(lambda a, b, c: differences(a, b) + c)),
    case("v_sad_hi_u8", "u32 u32 u32 u32",
         on_python(lambda a, b, c: (differences(a, b) << 16) + c)),
    case("v_msad_u8", "u32 u32 u32 u32", on_python(lambda a, b, c: differences(a, b, True) + c)),
    case("v_sad_u16", "u32 u32 u32 u32", on_python(lambda a, b, c: c + sum(
        abs((a >> n & 65535) - (b >> n & 65535)) for n in (0, 16)))),
    case("v_sad_u32", "u32 u32 u32 u32", on_python(lambda a, b, c: abs(a - b) + c)),
    case("v_qsad_pk_u16_u8", "u64 u64 u32 u64", on_python(lambda a, b, c: sliding(a, b, c, False))),
    case("v_mqsad_pk_u16_u8", "u64 u64 u32 u64", on_python(lambda a, b, c: sliding(a, b, c, True))),
    case("v_lerp_u8", "u32 u32 u32 u32", on_python(lambda a, b, c: sum(
        (x + y + (r & 1)) // 2 << 8 * n
        for n, (x, y, r) in enumerate(zip(*map(byte_list, (a, b, c)), strict=True))))),
    case("v_ashr_pk_i8_i32", "u16 i32 i32 u32", on_python(lambda a, b, c: sum(
        (int(np.clip(x >> (c & 31), -128, 127)) & 255) << 8 * n for n, x in enumerate((a, b)))),
        keeps_high_half=True),
    case("v_ashr_pk_u8_i32", "u16 i32 i32 u32", on_python(lambda a, b, c: sum(
        int(np.clip(x >> (c & 31), 0, 255)) << 8 * n for n, x in enumerate((a, b)))),
        keeps_high_half=True),
    case("v_sat_pk_u8_i16", "u16 u32", lambda a: np.clip(a.view(np.int16).reshape(-1, 2), 0, 255)
         @ np.array([1, 256])),
]  # fmt: skip


@pytest.mark.parametrize("table", [SUMS, EXTREMES, BITS, DIFFERENCES])
def test_integers(table):
    check(table)


SHARED = [c for c in BITS + SUMS if "prng" not in c.text]


def test_integers_of_gfx942():
    check(SHARED, "gfx942", seed=1)


SATURATING = [
    ("v_add_u32", "u32 u32 u32", operator.add, "u32"),
    ("v_sub_u32", "u32 u32 u32", operator.sub, "u32"),
    ("v_subrev_u32", "u32 u32 u32", lambda a, b: b - a, "u32"),
    ("v_add_i32", "i32 i32 i32", operator.add, "i32"),
    ("v_sub_i32", "i32 i32 i32", operator.sub, "i32"),
    ("v_add_u16", "u16 u16 u16", operator.add, "u16"),
    ("v_sub_u16", "u16 u16 u16", operator.sub, "u16"),
    ("v_add_i16", "i16 i16 i16", operator.add, "i16"),
    ("v_sub_i16", "i16 i16 i16", operator.sub, "i16"),
    ("v_mad_u16", "u16 u16 u16 u16", lambda a, b, c: a * b + c, "u16"),
    ("v_mad_i16", "i16 i16 i16 i16", lambda a, b, c: a * b + c, "i16"),
    ("v_mad_u32_u16", "u32 u16 u16 u32", lambda a, b, c: a * b + c, "u32"),
    ("v_mad_i32_i16", "i32 i16 i16 i32", lambda a, b, c: a * b + c, "i32"),
    ("v_mad_i32_i24", "i32 u32 u32 i32",
     lambda a, b, c: twenty_four(a, True) * twenty_four(b, True) + c, "i32"),
    ("v_mad_u32_u24", "u32 u32 u32 u32",
     lambda a, b, c: twenty_four(a, False) * twenty_four(b, False) + c, "u32"),
    ("v_sad_u32", "u32 u32 u32 u32", lambda a, b, c: abs(a - b) + c, "u32"),
]  # fmt: skip


def test_clamp_saturates_integers():
    cases = [
        case(name, kinds, clipped(f, kind), keeps_high_half=name in ("v_add_i16", "v_sub_i16"))
        for name, kinds, f, kind in SATURATING
    ]
    check([replace(c, text=f"{c.text} clamp") for c in cases])


def test_any_function_of_three_bits():
    rng = np.random.default_rng(3)
    tables = [0x00, 0xFF, 0xF0, 0xCC, 0xAA, 0x96, *map(int, rng.integers(0, 256, 20))]

    def expected(table):
        def f(a, b, c):
            out = np.zeros_like(a)
            for entry in range(8):
                if table >> entry & 1:
                    parts = [s if entry >> 2 - n & 1 else ~s for n, s in enumerate((a, b, c))]
                    out |= parts[0] & parts[1] & parts[2]
            return out

        return f

    check(
        [Case(f"v_bitop3_b32 {{d}}, {{a}}, {{b}}, {{c}} bitop3:{t:#x}", "u32 u32 u32 u32",
              expected(t)) for t in tables]
        + [Case(f"v_bitop3_b16 {{d}}, {{a}}, {{b}}, {{c}} bitop3:{t:#x}", "u16 u16 u16 u16",
                expected(t), keeps_high_half=True) for t in tables[5:10]]
    )  # fmt: skip


def as_mask(flags):
    """Return the lanes of the first wave as a mask."""
    return sum(1 << lane for lane, on in enumerate(flags[:64]) if on)


CARRIES = {
    "v_add_co_u32": lambda a, b, c: a + b,
    "v_sub_co_u32": lambda a, b, c: a - b,
    "v_subrev_co_u32": lambda a, b, c: b - a,
    "v_addc_co_u32": lambda a, b, c: a + b + c,
    "v_subb_co_u32": lambda a, b, c: a - b - c,
    "v_subbrev_co_u32": lambda a, b, c: b - a - c,
}


@pytest.mark.parametrize("name", CARRIES)
@pytest.mark.parametrize("out", ["vcc", "s[10:11]"])
def test_carries_go_to_the_mask(name, out):
    rng = np.random.default_rng(5)
    snippets, expected = [], []
    takes = "addc" in name or "subb" in name
    for number in range(6):
        a, b = values("u32", rng, 64), values("u32", rng, 64)
        mask, carry = (random_mask(rng), random_mask(rng)) if number else ((1 << 64) - 1, 0)
        source = "" if not takes else ", vcc"
        snippets.append(
            Snippet(f"carry{number}", f"{name} v3, {out}, v1, v2{source}",
                    {"v1": a, "v2": b, "vcc": carry, "exec": mask}, ["v3", out])
        )  # fmt: skip
        carried = active_lanes(carry).astype(I64) if takes else 0
        total = CARRIES[name](a.astype(I64), b.astype(I64), carried)
        on = active_lanes(mask)
        expected.append((on, total, as_mask(on & ((total < 0) | (total >> 32 > 0)))))
    for result, (on, total, carries) in zip(run(snippets), expected, strict=True):
        np.testing.assert_array_equal(result["v3"][on], (total & 0xFFFFFFFF)[on])
        assert result[out] == carries


def signed(a, bits):
    return a - (1 << bits) if a >> bits - 1 else a


@pytest.mark.parametrize("name", ["v_mad_u64_u32", "v_mad_i64_i32"])
def test_wide_products_and_their_65th_bit(name):
    rng = np.random.default_rng(6)
    a, b, c = values("u32", rng, 64), values("u32", rng, 64), values("u64", rng, 64)
    mask = random_mask(rng)
    body = f"{name} v[8:9], s[10:11], v1, v2, v[4:5]"
    snippet = Snippet("mad64", body, {"v1": a, "v2": b, "v[4:5]": c, "exec": mask},
                      ["v[8:9]", "s[10:11]"])  # fmt: skip
    result = run([snippet])[0]
    got = result_words(result, "u64", "v[8:9]")
    flags = []
    for lane in range(64):
        x, y, z = int(a[lane]), int(b[lane]), int(c[lane])
        if "i64" in name:
            x, y, z = signed(x, 32), signed(y, 32), signed(z, 64)
        total = x * y + z
        flags.append(total >> 64 & 1)
        if mask >> lane & 1:
            assert int(got[lane]) == total & (1 << 64) - 1
    assert result["s[10:11]"] == as_mask(flags) & mask


def test_four_sums_of_differences():
    rng = np.random.default_rng(7)
    a, b = values("u64", rng, 64), values("u32", rng, 64)
    c = rng.integers(0, 1 << 32, (4, 64), np.uint32)
    snippet = Snippet("mqsad", "v_mqsad_u32_u8 v[12:15], v[2:3], v4, v[8:11]",
                      {"v[2:3]": a, "v4": b, "v[8:11]": c}, ["v[12:15]"])  # fmt: skip
    got = run([snippet])[0]["v[12:15]"]
    for n in range(4):
        want = [
            differences(int(x) >> 8 * n & 0xFFFFFFFF, int(y), True) + int(z) & 0xFFFFFFFF
            for x, y, z in zip(a, b, c[n], strict=True)
        ]
        np.testing.assert_array_equal(got[n], want)


def test_selection_and_counts_by_mask():
    rng = np.random.default_rng(8)
    a, b = values("u32", rng, 64), values("u32", rng, 64)
    mask, chosen = random_mask(rng), random_mask(rng)
    inputs = {"v1": a, "v2": b, "vcc": chosen, "exec": mask}
    snippets = [
        Snippet("select", "v_cndmask_b32 v3, v1, v2, vcc", inputs, ["v3"]),
        Snippet("select64", "v_cndmask_b32 v3, -v1, |v2|, s[10:11]",
                {**inputs, "s[10:11]": chosen}, ["v3"]),
        Snippet("lo", "v_mbcnt_lo_u32_b32 v3, v1, v2", inputs, ["v3"]),
        Snippet("hi", "v_mbcnt_hi_u32_b32 v3, v1, v2", inputs, ["v3"]),
    ]  # fmt: skip
    results = [r["v3"] for r in run(snippets)]
    on, yes = active_lanes(mask), active_lanes(chosen)
    lanes = np.arange(64)
    flipped, positive = a ^ U32(1 << 31), b & U32((1 << 31) - 1)
    below = [[int(x) & (1 << k) - 1 for x, k in zip(a, np.clip(lanes - s, 0, 32), strict=True)]
             for s in (0, 32)]  # fmt: skip
    wants = [
        np.where(yes, b, a), np.where(yes, positive, flipped),
        *([x.bit_count() + int(y) & 0xFFFFFFFF for x, y in zip(row, b, strict=True)]
          for row in below),
    ]  # fmt: skip
    for got, want in zip(results, wants, strict=True):
        np.testing.assert_array_equal(got[on], np.array(want, np.uint32)[on])


def test_constants_and_scalars_as_sources():
    rng = np.random.default_rng(9)
    check(
        [
            Case("v_add_u32 {d}, 64, {a}", "u32 u32", lambda a: a + U32(64)),
            Case("v_add_u32 {d}, -16, {a}", "u32 u32", lambda a: a - U32(16)),
            Case("v_add_u32 {d}, 0x12345678, {a}", "u32 u32", lambda a: a + U32(0x12345678)),
            Case("v_add_u32 {d}, 1.0, {a}", "u32 u32", lambda a: a + U32(0x3F800000)),
            Case("v_and_b32 {d}, s4, {a}", "u32 u32", lambda a: a & U32(0xDEADBEEF),
                 given={"s4": 0xDEADBEEF}),
            Case("v_lshl_add_u64 {d}, s[4:5], 2, {a}", "u64 u64",
                 lambda a: a + U64((0x123456789ABCDEF0 << 2) & (1 << 64) - 1),
                 given={"s[4:5]": 0x123456789ABCDEF0}),
            Case("v_lshl_add_u64 {d}, {a}, 0, -3", "u64 u64", lambda a: a - U64(3)),
            Case("v_mov_b64 {d}, 0x87654321", "u64", lambda: np.full(THREADS, 0x87654321)),
            Case("v_lshrrev_b16 {d}, 3, {a}", "u16 u16", lambda a: a >> 3),
            Case("v_lshlrev_b64 {d}, 33, {a}", "u64 u64", lambda a: a << U64(33)),
            Case("v_ashrrev_i64 {d}, s4, {a}", "i64 i64", lambda a: a >> 13, given={"s4": 13}),
        ],
        seed=int(rng.integers(100)),
    )  # fmt: skip


def test_sources_may_be_the_destination():
    rng = np.random.default_rng(10)
    a, b = values("u32", rng, 64), values("u32", rng, 64)
    pair = values("u64", rng, 64)
    inputs = {"v1": a, "v2": b, "v[4:5]": pair, "exec": random_mask(rng)}
    snippets = [
        Snippet("same", "v_add_u32 v1, v1, v1", inputs, ["v1"]),
        Snippet("wide", "v_lshl_add_u64 v[4:5], v[4:5], 1, v[4:5]", inputs, ["v[4:5]"]),
        Snippet("shift", "v_lshlrev_b64 v[4:5], v4, v[4:5]", inputs, ["v[4:5]"]),
        Snippet("mad", "v_mad_u64_u32 v[4:5], vcc, v4, v5, v[4:5]", inputs, ["v[4:5]"]),
    ]
    results = run(snippets)
    on = active_lanes(inputs["exec"])
    np.testing.assert_array_equal(results[0]["v1"], np.where(on, a + a, a))
    low, high = pair & U64(0xFFFFFFFF), pair >> U64(32)
    wants = [pair * U64(3), pair << (low & U64(63)), low * high + pair]
    for result, want in zip(results[1:], wants, strict=True):
        got = result_words(result, "u64", "v[4:5]")
        np.testing.assert_array_equal(got, np.where(on, want, pair))
