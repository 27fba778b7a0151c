# SPDX-License-Identifier: MIT
"""Floating point vector instructions in all three formats against numpy, edges included."""

import math
from fractions import Fraction

import numpy as np
import pytest
from vector_cases import Case, check, values

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
BITS = {"f16": np.uint16, "f32": np.uint32, "f64": np.uint64}
QUIET = {"f16": 1 << 9, "f32": 1 << 22, "f64": 1 << 51}


def case(name, kinds, expected, **more):
    sources = ", ".join(f"{{{letter}}}" for letter in "abc"[: len(kinds.split()) - 1])
    return Case(f"{name} {{d}}, {sources}", kinds, expected, **more)


def nearest(value, kind, zero=0.0):
    """Return a fraction rounded once to a format; 0 gets the sign of `zero`."""
    if value == 0:
        return FLOATS[kind](math.copysign(0.0, zero))
    fraction_bits, least = {"f16": (10, -14), "f32": (23, -126), "f64": (52, -1022)}[kind]
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (max(exponent, least) - fraction_bits)
    steps = round(value / step)
    size = abs(steps) * step
    out = float(size) if size < Fraction(2) ** 1024 else math.inf
    with np.errstate(over="ignore"):
        return FLOATS[kind](-out if value < 0 else out)


def fused(kind):
    def one(a, b, c):
        if not all(map(math.isfinite, (a, b, c))):
            return FLOATS[kind](np.float64(a) * np.float64(b) + np.float64(c))
        zero = math.copysign(0.0, a) * math.copysign(1.0, b) + (0.0 if c else float(c))
        return nearest(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), kind, zero)

    return lambda a, b, c: np.array([one(*row) for row in zip(a, b, c, strict=True)], FLOATS[kind])


def is_signalling(a, kind):
    return np.isnan(a) & (a.view(BITS[kind]) & BITS[kind](QUIET[kind]) == 0)


def extreme(kind, f, ieee=True):
    """Return minimum or maximum of numbers; with IEEE rules signalling NaN wins."""

    def apply(a, b):
        signs = np.signbit(a).astype(int) - np.signbit(b).astype(int)
        first = a < b if f is np.fmin else a > b
        zero_first = signs > 0 if f is np.fmin else signs < 0
        out = np.where(first | ((a == b) & zero_first), a, b)
        out = np.where(np.isnan(a), b, np.where(np.isnan(b), a, out))
        if not ieee:
            return out
        signalling = is_signalling(a, kind) | is_signalling(b, kind)
        return np.where(signalling, FLOATS[kind](np.nan), out)

    return apply


def three(f):
    return lambda a, b, c: f(f(a, b), c)


def middle(kind, ieee=True):
    least = three(extreme(kind, np.fmin, ieee))

    def apply(a, b, c):
        rank = np.sort([a, b, c], axis=0)[1]
        nan = np.isnan(a) | np.isnan(b) | np.isnan(c)
        return np.where(nan, least(a, b, c), rank)

    return apply


def no_zero_signs(kind, rng, count=256):
    """Return values without -0, whose order against 0 a sort does not know."""
    found = values(kind, rng, count)
    return np.where(found == 0, np.abs(found), found)


def propagating(f):
    def apply(a, b, c):
        out = f(f(a, b), c)
        zeros = np.stack([s == 0 for s in (a, b, c)])
        signs = np.stack([np.signbit(s) for s in (a, b, c)])
        chosen = (zeros & (signs if f is np.minimum else ~signs)).any(0)
        sign = -1.0 if f is np.minimum else 1.0
        return np.where((out == 0) & chosen, np.copysign(out, out.dtype.type(sign)), out)

    return apply


def fraction(kind):
    below = np.nextafter(FLOATS[kind](1), FLOATS[kind](0))
    return lambda a: np.where(a - np.floor(a) >= 1, below, a - np.floor(a))


def scaled(kind):
    def one(a, n):
        if not math.isfinite(a) or a == 0:
            return a
        return nearest(Fraction(float(a)) * Fraction(2) ** max(-3000, min(3000, int(n))), kind, a)

    return lambda a, n: np.array([one(*row) for row in zip(a, n, strict=True)], FLOATS[kind])


def exponent(a):
    return np.where(np.isfinite(a), np.frexp(a.astype(np.float64))[1], 0)


def mantissa(a):
    return np.where(np.isfinite(a), np.frexp(a.astype(np.float64))[0], a.astype(np.float64))


def arithmetic(kind):
    two, three_ = f"{kind} {kind} {kind}", f"{kind} {kind} {kind} {kind}"
    sums = [
        case(f"v_add_{kind}", two, np.add),
        case(f"v_mul_{kind}", two, np.multiply),
        case(f"v_fma_{kind}", three_, fused(kind)),
        case(f"v_min_{kind}", two, extreme(kind, np.fmin)),
        case(f"v_max_{kind}", two, extreme(kind, np.fmax)),
    ]
    if kind == "f64":
        return sums
    return [
        *sums,
        case(f"v_sub_{kind}", two, np.subtract),
        case(f"v_subrev_{kind}", two, lambda a, b: b - a),
        case(f"v_min3_{kind}", three_, three(extreme(kind, np.fmin)), keeps_high_half=True),
        case(f"v_max3_{kind}", three_, three(extreme(kind, np.fmax)), keeps_high_half=True),
    ]


def parts(kind):
    one = f"{kind} {kind}"
    bits = kind[1:]
    integer = "i16" if kind == "f16" else "i32"
    return [
        case(f"v_floor_{kind}", one, np.floor),
        case(f"v_ceil_{kind}", one, np.ceil),
        case(f"v_trunc_{kind}", one, np.trunc),
        case(f"v_rndne_{kind}", one, np.rint),
        case(f"v_fract_{kind}", one, fraction(kind)),
        case(f"v_frexp_mant_{kind}", one, mantissa),
        case(f"v_frexp_exp_{integer}_f{bits}", f"{integer} {kind}", exponent),
        case(f"v_ldexp_{kind}", f"{kind} {kind} {integer}", scaled(kind)),
    ]


@pytest.mark.parametrize("table", [arithmetic, parts])
@pytest.mark.parametrize("kind", FLOATS)
def test_floats(table, kind):
    check(table(kind))


def test_floats_of_gfx942():
    check([*arithmetic("f16"), *arithmetic("f32"), *arithmetic("f64"), *parts("f64")], "gfx942")


def test_multiplications_and_additions_of_other_names():
    two_steps = case("v_mad_f16", "f16 f16 f16 f16", lambda a, b, c: a * b + c)
    check(
        [
            two_steps,
            case("v_mad_legacy_f16", "f16 f16 f16 f16", lambda a, b, c: a * b + c),
            case("v_fma_legacy_f16", "f16 f16 f16 f16", fused("f16")),
            case("v_mul_legacy_f32", "f32 f32 f32",
                 lambda a, b: np.where((a == 0) | (b == 0), 0, a * b)),
            Case("v_madmk_f16 {d}, {a}, 0x4200, {b}", "f16 f16 f16",
                 lambda a, b: a * np.float16(3) + b, keeps_high_half=True),
            Case("v_madak_f16 {d}, {a}, {b}, 0x4200", "f16 f16 f16",
                 lambda a, b: a * b + np.float16(3), keeps_high_half=True),
            Case("v_fmamk_f32 {d}, {a}, 0x40400000, {b}", "f32 f32 f32",
                 lambda a, b: fused("f32")(a, np.full_like(a, 3), b)),
            Case("v_fmaak_f32 {d}, {a}, {b}, 0x40400000", "f32 f32 f32",
                 lambda a, b: fused("f32")(a, b, np.full_like(a, 3))),
        ]
    )  # fmt: skip
    moved = "v_mov_b32 v12, {a}\nv_fmac_f32 v12, {a}, {b}\nv_mov_b32 {d}, v12"
    moved64 = "v_mov_b64 v[12:13], {a}\nv_fmac_f64 v[12:13], {a}, {b}\nv_mov_b64 {d}, v[12:13]"
    check(
        [
            Case(moved, "f32 f32 f32", lambda a, b: fused("f32")(a, b, a)),
            Case(moved64, "f64 f64 f64", lambda a, b: fused("f64")(a, b, a)),
        ]
    )


@pytest.mark.parametrize("ieee", [0, 1])
@pytest.mark.parametrize("kind", ["f16", "f32"])
def test_medians_and_extremes_by_the_ieee_bit(kind, ieee):
    two, three_ = f"{kind} {kind} {kind}", f"{kind} {kind} {kind} {kind}"
    check(
        [
            case(f"v_min_{kind}", two, extreme(kind, np.fmin, ieee)),
            case(f"v_max_{kind}", two, extreme(kind, np.fmax, ieee)),
            case(f"v_med3_{kind}", three_, middle(kind, ieee), keeps_high_half=True),
        ],
        directives={"ieee_mode": ieee},
        sources=no_zero_signs,
    )


def test_minimum_and_maximum_pass_nan_on():
    check(
        [
            case("v_minimum3_f32", "f32 f32 f32 f32", propagating(np.minimum)),
            case("v_maximum3_f32", "f32 f32 f32 f32", propagating(np.maximum)),
        ]
    )


def cube(which):
    def apply(x, y, z):
        ax, ay, az = np.abs(x), np.abs(y), np.abs(z)
        by_z, by_y = (az >= ax) & (az >= ay), ay >= ax
        rows = {
            "id": (np.where(z < 0, 5, 4), np.where(y < 0, 3, 2), np.where(x < 0, 1, 0)),
            "sc": (np.where(z < 0, -x, x), x, np.where(x < 0, z, -z)),
            "tc": (-y, np.where(y < 0, -z, z), -y),
            "ma": (2 * z, 2 * y, 2 * x),
        }[which]
        return np.where(by_z, rows[0], np.where(by_y, rows[1], rows[2]))

    return apply


def test_faces_of_a_cube():
    check([case(f"v_cube{w}_f32", "f32 f32 f32 f32", cube(w)) for w in ("id", "sc", "tc", "ma")])


DIVIDE_F32 = """
v_div_scale_f32 v20, s[4:5], {b}, {b}, {a}
v_div_scale_f32 v21, vcc, {a}, {b}, {a}
v_rcp_f32 v22, v20
v_fma_f32 v23, -v20, v22, 1.0
v_fma_f32 v22, v23, v22, v22
v_mul_f32 v24, v21, v22
v_fma_f32 v25, -v20, v24, v21
v_fma_f32 v24, v25, v22, v24
v_fma_f32 v20, -v20, v24, v21
v_div_fmas_f32 v20, v20, v22, v24
v_div_fixup_f32 {d}, v20, {b}, {a}
"""
DIVIDE_F64 = """
v_div_scale_f64 v[20:21], s[4:5], {b}, {b}, {a}
v_rcp_f64 v[22:23], v[20:21]
v_fma_f64 v[24:25], -v[20:21], v[22:23], 1.0
v_fma_f64 v[22:23], v[22:23], v[24:25], v[22:23]
v_fma_f64 v[24:25], -v[20:21], v[22:23], 1.0
v_fma_f64 v[22:23], v[22:23], v[24:25], v[22:23]
v_div_scale_f64 v[24:25], vcc, {a}, {b}, {a}
v_mul_f64 v[26:27], v[24:25], v[22:23]
v_fma_f64 v[20:21], -v[20:21], v[26:27], v[24:25]
v_div_fmas_f64 v[20:21], v[20:21], v[22:23], v[26:27]
v_div_fixup_f64 {d}, v[20:21], {b}, {a}
"""


@pytest.mark.parametrize(("text", "kind"), [(DIVIDE_F32, "f32"), (DIVIDE_F64, "f64")])
def test_the_steps_of_a_division_round_the_quotient_correctly(text, kind):
    check([Case(text, f"{kind} {kind} {kind}", np.divide)] * 12, seed=4)


def fixed_up(a, b, c):
    with np.errstate(all="ignore"):
        quotient = c / b
    special = ~np.isfinite(b) | ~np.isfinite(c) | (b == 0) | (c == 0)
    sign = np.signbit(b) ^ np.signbit(c)
    return np.where(special, quotient, np.copysign(a, np.where(sign, -1, 1).astype(a.dtype)))


def test_fixing_up_half_quotients():
    check([case(n, "f16 f16 f16 f16", fixed_up)
           for n in ("v_div_fixup_f16", "v_div_fixup_legacy_f16")])  # fmt: skip


def test_segments_of_the_inverse_of_pi():
    digits = 1300
    pi = machin(digits + 64)
    inverse = (2 << 2 * (digits + 64)) // pi >> 64  # 2/pi, scaled by 2^digits

    def segment(a, n):
        out = []
        for x, s in zip(a, n, strict=True):
            bits = int(x.view(np.uint64)) >> 52 & 0x7FF
            first = (int(s) & 31) * 53 + max(0, bits - 1077)
            there = first >> 5 <= 35  # hardware's table ends
            part = inverse >> digits - first - 53 & (1 << 53) - 1 if there else 0
            power = -53 - first + (128 if bits >= 1968 else 0)
            out.append(nearest(Fraction(part) * Fraction(2) ** power, "f64"))
        return np.array(out)

    check([case("v_trig_preop_f64", "f64 f64 u32", segment)])


def machin(bits):
    """Return pi scaled by 2^bits."""

    def arctan_of_inverse(n):
        term = (1 << bits) // n
        total, k = term, 3
        while term:
            term //= -(n * n)
            total += term // k
            k += 2
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))


DENORMALS = np.array([1e-40, -1e-40, 1e-38, 2e-38, 3.0, -1e-45, 0.0, -0.0], np.float32)


def flush(a):
    return np.where(np.abs(a) < np.float32(2**-126), np.copysign(np.float32(0), a), a)


def denormals(kind, rng, count=256):
    return rng.choice(DENORMALS, count)


@pytest.mark.parametrize(
    ("mode", "inputs", "outputs"), [(0, True, True), (1, False, True), (2, True, False),
                                    (3, False, False)],
)  # fmt: skip
def test_denormals_are_flushed_as_the_mode_says(mode, inputs, outputs):
    """Mode 1 keeps those of sources, mode 2 those of results."""
    keep = (inputs, outputs)

    def expected(f):
        def apply(*sources):
            given = [flush(s) if keep[0] else s for s in sources]
            return flush(f(*given)) if keep[1] else f(*given)

        return apply

    check(
        [
            case("v_add_f32", "f32 f32 f32", expected(np.add)),
            case("v_mul_f32", "f32 f32 f32", expected(np.multiply)),
            Case("v_cndmask_b32 {d}, {a}, {b}, vcc", "f32 f32 f32", lambda a, b: b,
                 given={"vcc": (1 << 64) - 1}),
            Case("v_mov_b32 {d}, {a}", "f32 f32", lambda a: a),
        ],
        directives={"float_denorm_mode_32": mode},
        sources=denormals,
    )  # fmt: skip


def test_other_rounding_than_to_nearest_is_reported():
    from aiter_moe.targets.emulator_library import EmulatorFaultError

    with pytest.raises(EmulatorFaultError, match="rounding"):
        check([case("v_add_f32", "f32 f32 f32", np.add)], directives={"float_round_mode_32": 1})
