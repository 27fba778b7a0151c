# SPDX-License-Identifier: MIT
"""Conversions between integers and floats of 16, 32 and 64 bits, against numpy; all halves."""

import numpy as np
import pytest
from gcn_asm import Snippet, run
from vector_cases import KEEP_DENORMALS, Case, check, values

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


def case(name, kinds, expected, **more):
    sources = ", ".join(f"{{{letter}}}" for letter in "abc"[: len(kinds.split()) - 1])
    return Case(f"{name} {{d}}, {sources}", kinds, expected, **more)


def truncated(kind):
    limits = np.iinfo(kind)
    return lambda a: np.where(
        np.isnan(a), 0, np.clip(np.trunc(a.astype(np.float64)), limits.min, limits.max)
    )


def floored(a):
    return truncated(np.int32)(np.floor(a))


def pair(low, high):
    """Return two 16-bit values as a word."""
    low, high = (np.ascontiguousarray(x).view(np.uint16).astype(np.uint32) for x in (low, high))
    return low | high << np.uint32(16)


def to_bfloat(a):
    bits = a.view(np.uint32).astype(np.uint64)
    even = bits + 0x7FFF + (bits >> np.uint64(16) & 1) >> np.uint64(16)
    return np.where(np.isnan(a), bits >> np.uint64(16) | 0x40, even).astype(np.uint16)


def towards_zero(a):
    """Return binary32 as binary16 without rounding away from zero."""
    half = a.astype(np.float16)
    over = np.abs(half.astype(np.float64)) > np.abs(a.astype(np.float64))
    smaller = np.nextafter(half, np.float16(0))
    return np.where(over, smaller, half)


def unsigned_norm(a):
    unit = np.clip(np.nan_to_num(a.astype(np.float32), nan=0), 0, 1)
    return np.rint(unit * np.float32(65535)).astype(np.uint16)


def signed_norm(a):
    unit = np.clip(np.nan_to_num(a.astype(np.float32), nan=0), -1, 1)
    return np.rint(unit * np.float32(32767)).astype(np.int16)


def byte_into(a, position, c):
    byte = truncated(np.uint8)(a).astype(np.uint32)
    shift = 8 * (position & 3)
    return c & ~(np.uint32(255) << shift) | byte << shift


def saturated(kind, a):
    limits = np.iinfo(kind)
    return np.clip(a.astype(np.int64), limits.min, limits.max).astype(kind)


BETWEEN = [
    case("v_cvt_u32_f32", "u32 f32", truncated(np.uint32)),
    case("v_cvt_i32_f32", "i32 f32", truncated(np.int32)),
    case("v_cvt_u32_f64", "u32 f64", truncated(np.uint32)),
    case("v_cvt_i32_f64", "i32 f64", truncated(np.int32)),
    case("v_cvt_u16_f16", "u16 f16", truncated(np.uint16)),
    case("v_cvt_i16_f16", "i16 f16", truncated(np.int16)),
    case("v_cvt_f32_u32", "f32 u32", lambda a: a),
    case("v_cvt_f32_i32", "f32 i32", lambda a: a),
    case("v_cvt_f64_u32", "f64 u32", lambda a: a),
    case("v_cvt_f64_i32", "f64 i32", lambda a: a),
    case("v_cvt_f16_u16", "f16 u16", lambda a: a),
    case("v_cvt_f16_i16", "f16 i16", lambda a: a),
    case("v_cvt_f64_f32", "f64 f32", lambda a: a),
    case("v_cvt_f32_f64", "f32 f64", lambda a: a),
    case("v_cvt_f16_f32", "f16 f32", lambda a: a),
    case("v_cvt_f32_f16", "f32 f16", lambda a: a),
    case("v_cvt_flr_i32_f32", "i32 f32", floored),
    case("v_cvt_rpi_i32_f32", "i32 f32", lambda a: floored(a + np.float32(0.5))),
    case("v_cvt_off_f32_i4", "f32 u32", lambda a: ((a.astype(np.int64) & 15 ^ 8) - 8) / 16),
    *(
        case(f"v_cvt_f32_ubyte{n}", "f32 u32", lambda a, n=n: a >> np.uint32(8 * n) & 255)
        for n in range(4)
    ),
]
PACKED = [
    case("v_cvt_pkrtz_f16_f32", "u32 f32 f32", lambda a, b: pair(towards_zero(a), towards_zero(b))),
    case("v_cvt_pk_u16_u32", "u32 u32 u32",
         lambda a, b: pair(saturated(np.uint16, a), saturated(np.uint16, b))),
    case("v_cvt_pk_i16_i32", "u32 i32 i32",
         lambda a, b: pair(saturated(np.int16, a), saturated(np.int16, b))),
    case("v_cvt_pknorm_u16_f32", "u32 f32 f32",
         lambda a, b: pair(unsigned_norm(a), unsigned_norm(b))),
    case("v_cvt_pknorm_i16_f32", "u32 f32 f32", lambda a, b: pair(signed_norm(a), signed_norm(b))),
    case("v_cvt_pknorm_u16_f16", "u32 f16 f16",
         lambda a, b: pair(unsigned_norm(a), unsigned_norm(b))),
    case("v_cvt_pknorm_i16_f16", "u32 f16 f16", lambda a, b: pair(signed_norm(a), signed_norm(b))),
    case("v_cvt_norm_u16_f16", "u16 f16", unsigned_norm),
    case("v_cvt_norm_i16_f16", "i16 f16", signed_norm),
    case("v_cvt_pk_u8_f32", "u32 f32 u32 u32", byte_into),
    case("v_pack_b32_f16", "u32 f16 f16", pair),
]  # fmt: skip
NEW = [
    case("v_cvt_pk_f16_f32", "u32 f32 f32",
         lambda a, b: pair(a.astype(np.float16), b.astype(np.float16))),
    case("v_cvt_pk_bf16_f32", "u32 f32 f32", lambda a, b: pair(to_bfloat(a), to_bfloat(b))),
    case("v_cvt_f32_bf16", "f32 u16",
         lambda a: (a.astype(np.uint32) << np.uint32(16)).view(np.float32)),
]  # fmt: skip


def no_nan(kind, rng, count=256):
    """Return values without NaN, whose payload numpy and hardware narrow differently."""
    found = values(kind, rng, count)
    return np.where(np.isnan(found), found.dtype.type(1), found) if kind[0] == "f" else found


@pytest.mark.parametrize("table", [BETWEEN, PACKED, NEW])
def test_conversions(table):
    check(table, seed=20, sources=values if table is BETWEEN else no_nan)


def test_conversions_of_gfx942():
    check([*BETWEEN, *PACKED], "gfx942", seed=21, sources=no_nan)


def test_nan_stays_nan_when_narrowed():
    nan = np.array([0x7F800001, 0xFFC00000, 0x7FFFFFFF, 0xFF80FFFF] * 16, np.uint32)
    ops = ("v_cvt_pk_bf16_f32 v3, v1, v1", "v_cvt_pk_f16_f32 v3, v1, v1",
           "v_cvt_pkrtz_f16_f32 v3, v1, v1", "v_cvt_f16_f32 v3, v1")  # fmt: skip
    results = run([Snippet(f"nan{n}", op, {"v1": nan}, ["v3"]) for n, op in enumerate(ops)])
    for op, result in zip(ops, results, strict=True):
        low = result["v3"].astype(np.uint16)
        infinity = 0x7F80 if "bf16" in op else 0x7C00
        assert ((low & 0x7FFF) > infinity).all(), op


def test_every_half_is_widened_and_narrowed():
    """In sixteen launches of 1024 lanes times four registers."""
    codes = np.arange(1 << 16, dtype=np.uint16).reshape(16, 4, 1024)
    body = "\n".join(
        f"v_cvt_f32_f16 v{10 + n}, v{2 + n}\nv_cvt_f16_f32 v{20 + n}, v{10 + n}" for n in range(4)
    )
    outputs = [f"v{k}" for n in range(4) for k in (10 + n, 20 + n)]
    snippets = [
        Snippet(f"half{n}", body, {f"v{2 + k}": row[k].astype(np.uint32) for k in range(4)},
                outputs, threads=1024, directives=KEEP_DENORMALS)
        for n, row in enumerate(codes)
    ]  # fmt: skip
    for row, result in zip(codes, run(snippets), strict=True):
        for k in range(4):
            half = row[k].view(np.float16)
            wide = result[f"v{10 + k}"].view(np.float32)
            np.testing.assert_array_equal(wide, half.astype(np.float32))
            back = result[f"v{20 + k}"]
            numbers = ~np.isnan(half)
            np.testing.assert_array_equal(back[numbers], row[k][numbers])
            assert np.isnan(back.astype(np.uint16).view(np.float16)[~numbers]).all()


def stochastic(a, random, bits, least):
    """Return a float cut to `bits` bits behind the first after adding noise below them."""
    size = np.abs(a.astype(np.float64))
    exponent = np.maximum(np.frexp(size)[1] - 1, least)
    step = np.ldexp(1.0, exponent - bits)
    return np.copysign(np.floor(size / step + random / 2**32) * step, a)


def test_stochastic_rounding_to_16_bits():
    rng = np.random.default_rng(22)
    a = no_nan("f32", rng)
    a = np.where(np.isinf(a) | (np.abs(a) > 60000), np.float32(0.3), a)
    random = rng.integers(0, 1 << 32, 256, np.uint32)
    body = """
    v_cvt_sr_f16_f32 v10, v2, v4
    v_cvt_sr_f16_f32 v11, v2, v4 op_sel:[0,0,1]
    v_cvt_sr_bf16_f32 v12, v2, v4
    v_cvt_sr_bf16_f32 v13, v2, v4 op_sel:[0,0,1]
    """
    outputs = ["v10", "v11", "v12", "v13"]
    result = run([Snippet("sr", body, {"v2": a, "v4": random}, outputs, threads=256,
                          directives=KEEP_DENORMALS)])[0]  # fmt: skip
    half = stochastic(a, random, 10, -14).astype(np.float16).view(np.uint16).astype(np.uint32)
    bfloat = stochastic(a, random, 7, -126).astype(np.float32).view(np.uint32) >> 16
    for low, high, want in (("v10", "v11", half), ("v12", "v13", bfloat)):
        np.testing.assert_array_equal(result[low], want | 0xA5A50000)
        np.testing.assert_array_equal(result[high], want << 16 | 0xA5A5)


def test_bytes_collected_in_a_register():
    rng = np.random.default_rng(23)
    a, position = values("f32", rng, 64), values("u32", rng, 64)
    old = values("u32", rng, 64)
    snippet = Snippet("accumulate", "v_cvt_pkaccum_u8_f32 v10, v2, v4",
                      {"v2": a, "v4": position, "v10": old}, ["v10"])  # fmt: skip
    with np.errstate(all="ignore"):
        want = byte_into(a, position, old)
    np.testing.assert_array_equal(run([snippet])[0]["v10"], want)
