# SPDX-License-Identifier: MIT
"""Floats of 8, 6 and 4 bits: every code, every scale, rounding to nearest and by random numbers.

Codes are turned into numbers by the formula of their format, numbers into codes by searching the
nearest code, so neither restates what the emulator does.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from gcn_asm import UNTOUCHED, Snippet, run
from vector_cases import KEEP_DENORMALS, values

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

THREADS = 256


@dataclass(frozen=True)
class Format:
    """A small float: bits of exponent and mantissa, bias, and what its largest codes mean."""

    name: str
    exponent: int
    mantissa: int
    bias: int
    specials: str

    @property
    def bits(self):
        return 1 + self.exponent + self.mantissa

    def numbers(self):
        """Return the number of every code."""
        codes = np.arange(1 << self.bits)
        size = codes & (1 << self.bits - 1) - 1
        field, fraction = size >> self.mantissa, size & (1 << self.mantissa) - 1
        normal = (1 + fraction / 2**self.mantissa) * 2.0 ** (field - self.bias)
        denormal = fraction / 2**self.mantissa * 2.0 ** (1 - self.bias)
        out = np.where(field == 0, denormal, normal) * np.where(codes >> self.bits - 1, -1.0, 1.0)
        top = (1 << self.exponent) - 1
        if self.specials == "ieee":
            out = np.where(field == top, np.where(fraction, np.nan, np.copysign(np.inf, out)), out)
        elif self.specials == "nan":
            out = np.where(size == (1 << self.bits - 1) - 1, np.nan, out)
        elif self.specials == "fnuz":
            out = np.where(codes == 1 << self.bits - 1, np.nan, out)
        return out


FP8, BF8 = Format("fp8", 4, 3, 7, "nan"), Format("bf8", 5, 2, 15, "ieee")
FP8_FNUZ, BF8_FNUZ = Format("fp8", 4, 3, 8, "fnuz"), Format("bf8", 5, 2, 16, "fnuz")
FP6, BF6 = Format("fp6", 2, 3, 1, "none"), Format("bf6", 3, 2, 3, "none")
FP4 = Format("fp4", 2, 1, 1, "none")
UNSCALED = [("gfx950", FP8), ("gfx950", BF8), ("gfx942", FP8_FNUZ), ("gfx942", BF8_FNUZ)]


def nearest_code(numbers, fmt, saturate=False):
    """Return the code nearest to each number, ties to the even code."""
    known = fmt.numbers()[: 1 << fmt.bits - 1]
    finite = known[np.isfinite(known)]
    size = np.abs(np.nan_to_num(numbers, nan=0.0, posinf=1e300, neginf=-1e300))
    after = np.clip(np.searchsorted(finite, size), 1, len(finite) - 1)
    below, above = size - finite[after - 1], finite[after] - size
    code = np.where((below < above) | ((below == above) & (after % 2 == 1)), after - 1, after)
    # One step beyond the largest number is where rounding leaves the format.
    last = len(finite) - 1
    limit = finite[last] + (finite[last] - finite[last - 1]) / 2
    even_is_beyond = (last + 1) % 2 == 0
    beyond = (size > limit) | ((size == limit) & even_is_beyond)
    return with_specials(numbers, code, beyond, fmt, saturate)


def with_specials(numbers, code, beyond, fmt, saturate=False):
    """Put in what a format has for numbers beyond its range and for NaN, and the sign."""
    known = fmt.numbers()[: 1 << fmt.bits - 1]
    last = int(np.isfinite(known).sum()) - 1
    sign = np.signbit(numbers).astype(int) << fmt.bits - 1
    nan = {"none": last, "nan": last + 1, "ieee": (1 << fmt.bits - 1) - 1,
           "fnuz": 1 << fmt.bits - 1}[fmt.specials]  # fmt: skip
    over = last if saturate or fmt.specials == "none" else min(nan, last + 1)
    over = nan if fmt.specials == "fnuz" and not saturate else over
    code = np.where(np.isnan(numbers), nan, np.where(beyond, over, code))
    if fmt.specials == "fnuz":  # no negative zero
        return np.where((code == 0) | (code == nan), code, code | sign)
    return code | sign


def random_code(numbers, noise, fmt, saturate=False):
    """Return codes by stochastic rounding: the noise decides below the last place."""
    known = fmt.numbers()[: 1 << fmt.bits - 1]
    finite = known[np.isfinite(known)]
    size = np.minimum(np.abs(np.nan_to_num(numbers, nan=0.0)), 1e9)
    below = np.searchsorted(finite, size, side="right") - 1
    last = len(finite) - 1
    top_step = finite[last] - finite[last - 1]
    step = np.where(below < last, finite[np.minimum(below + 1, last)] - finite[below], top_step)
    up = np.minimum(np.floor((size - finite[below]) / step + noise / 2**32), 1e6).astype(int)
    return with_specials(numbers, below + up, below + up > last, fmt, saturate)


def same_numbers(got, want):
    np.testing.assert_array_equal(got, want.astype(got.dtype))


def power(fields):
    return np.where(fields == 255, np.nan, 2.0 ** (fields.astype(np.float64) - 127))


def scales(rng, count=THREADS):
    """Return binary32 scales whose exponent fields have all values; the rest is garbage."""
    fields = np.concatenate([rng.integers(100, 150, count - 40), rng.integers(0, 256, 37),
                             np.array([0, 254, 255])])  # fmt: skip
    fields = rng.permutation(fields)
    garbage = rng.integers(0, 1 << 23, count) | rng.integers(0, 2, count) << 31
    return fields, (fields << 23 | garbage).astype(np.uint32)


def small_numbers(fmt, rng, count=THREADS):
    """Return numbers around the codes of a format: codes, midpoints, and what lies near them."""
    finite = fmt.numbers()
    finite = finite[np.isfinite(finite)]
    ordered = np.unique(finite)
    middles = (ordered[1:] + ordered[:-1]) / 2
    base = rng.choice(np.concatenate([finite, middles, middles, 1.2 * finite]), count)
    with np.errstate(all="ignore"):
        found = (base * (1 + rng.choice([0, 0, 2**-20, -(2**-20)], count))).astype(np.float32)
    return np.where(rng.random(count) < 0.15, values("f32", rng, count), found)


@pytest.mark.parametrize(("arch", "fmt"), UNSCALED)
def test_every_code_of_8_bits_as_a_number(arch, fmt):
    codes = np.arange(256, dtype=np.uint32)
    word = codes | (codes ^ 0xFF) << 8 | (codes * 7 & 255) << 16 | (codes * 11 & 255) << 24
    body = "\n".join(
        [f"v_cvt_f32_{fmt.name}_e32 v10, v2"]
        + [f"v_cvt_f32_{fmt.name}_sdwa v{11 + n}, v2 src0_sel:BYTE_{n}" for n in range(4)]
        + [f"v_cvt_pk_f32_{fmt.name}_e32 v[16:17], v2"]
        + [f"v_cvt_pk_f32_{fmt.name}_sdwa v[18:19], v2 src0_sel:WORD_1"]
    )
    outputs = [f"v{n}" for n in range(10, 15)] + ["v[16:17]", "v[18:19]"]
    result = run([Snippet("codes", body, {"v2": word}, outputs, threads=256)], arch)[0]
    numbers = fmt.numbers()
    byte = [word >> np.uint32(8 * n) & 255 for n in range(4)]
    for key, row in [("v10", byte[0]), *((f"v{11 + n}", byte[n]) for n in range(4))]:
        same_numbers(result[key].view(np.float32), numbers[row])
    for key, first in (("v[16:17]", 0), ("v[18:19]", 2)):
        for n in range(2):
            same_numbers(result[key][n].view(np.float32), numbers[byte[first + n]])


@pytest.mark.parametrize(("arch", "fmt"), UNSCALED)
@pytest.mark.parametrize("saturate", [0, 1])
def test_numbers_to_the_nearest_code_of_8_bits(arch, fmt, saturate):
    rng = np.random.default_rng(30)
    a, b = small_numbers(fmt, rng), small_numbers(fmt, rng)
    body = f"""
    v_cvt_pk_{fmt.name}_f32 v10, v2, v3
    v_cvt_pk_{fmt.name}_f32 v11, -v2, |v3| op_sel:[0,0,1]
    """
    snippet = Snippet("pack", body, {"v2": a, "v3": b}, ["v10", "v11"], threads=THREADS,
                      directives=KEEP_DENORMALS | {"fp16_overflow": saturate})  # fmt: skip
    result = run([snippet], arch)[0]
    rows = [nearest_code(x.astype(float), fmt, saturate) for x in (a, b, -a, np.abs(b))]
    np.testing.assert_array_equal(result["v10"], rows[0] | rows[1] << 8 | 0xA5A50000)
    np.testing.assert_array_equal(result["v11"], (rows[2] | rows[3] << 8) << 16 | 0xA5A5)


@pytest.mark.parametrize(("arch", "fmt"), UNSCALED)
def test_stochastic_rounding_to_8_bits(arch, fmt):
    rng = np.random.default_rng(31)
    a, noise = small_numbers(fmt, rng), rng.integers(0, 1 << 32, THREADS, np.uint32)
    body = "\n".join(
        f"v_cvt_sr_{fmt.name}_f32 v{10 + n}, v2, v3 op_sel:[0,0,{n & 1},{n >> 1}]" for n in range(4)
    )
    outputs = [f"v{10 + n}" for n in range(4)]
    result = run([Snippet("sr", body, {"v2": a, "v3": noise}, outputs, threads=THREADS,
                          directives=KEEP_DENORMALS)], arch)[0]  # fmt: skip
    with np.errstate(invalid="ignore"):  # signalling NaN
        want = random_code(a.astype(float), noise, fmt)
    for n in range(4):
        kept = UNTOUCHED & ~(255 << 8 * n)
        np.testing.assert_array_equal(result[f"v{10 + n}"], want << 8 * n | kept)


WIDE = {"f32": np.float32, "f16": np.float16, "bf16": None}


def as_bits(numbers, wide):
    """Return numbers rounded once to a format of 16 or 32 bits, as its bits."""
    with np.errstate(all="ignore"):
        if wide == "f16":
            return numbers.astype(np.float16).view(np.uint16).astype(np.uint32)
        bits = numbers.astype(np.float32).view(np.uint32)
    if wide == "f32":
        return bits
    even = bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1) >> np.uint64(16)
    return np.where(np.isnan(numbers), 0x7FC0, even).astype(np.uint32)


def assert_bits(got, numbers, wide):
    """Compare bits of a format; NaN is any NaN."""
    want = as_bits(numbers, wide)
    mask, infinity = {"f32": (0x7FFFFFFF, 0x7F800000), "f16": (0x7FFF, 0x7C00),
                      "bf16": (0x7FFF, 0x7F80)}[wide]  # fmt: skip
    nan = np.isnan(numbers)
    assert ((got[nan] & mask) > infinity).all()
    np.testing.assert_array_equal(got[~nan], want[~nan])


@pytest.mark.parametrize("fmt", [FP8, BF8, FP4], ids=lambda f: f.name)
@pytest.mark.parametrize("wide", WIDE)
def test_scaled_codes_as_numbers(fmt, wide):
    rng = np.random.default_rng(32)
    fields, scale = scales(rng)
    word = rng.integers(0, 1 << 32, THREADS, np.uint32)
    places = 4 if fmt is FP4 else 2
    select = "op_sel:[{0},{1},0]" if fmt is FP4 else "op_sel:[{0},0,0]"
    lines, keys = [], []
    for n in range(places):
        key = f"v[{10 + 2 * n}:{11 + 2 * n}]" if wide == "f32" else f"v{10 + n}"
        text = select.format(n & 1, n >> 1)
        lines.append(f"v_cvt_scalef32_pk_{wide}_{fmt.name} {key}, v2, v3 {text}")
        keys.append(key)
    result = run([Snippet("wide", "\n".join(lines), {"v2": word, "v3": scale}, keys,
                          threads=THREADS, directives=KEEP_DENORMALS)])[0]  # fmt: skip
    numbers = fmt.numbers()
    for n, key in enumerate(keys):
        for part in range(2):
            shift = np.uint32(n * 2 * fmt.bits + part * fmt.bits)
            want = numbers[word >> shift & (1 << fmt.bits) - 1] * power(fields)
            got = result[key][part] if wide == "f32" else result[key] >> np.uint32(16 * part)
            assert_bits(got if wide == "f32" else got & 0xFFFF, want, wide)


@pytest.mark.parametrize("fmt", [FP8, BF8], ids=lambda f: f.name)
def test_scaled_single_codes_as_numbers(fmt):
    rng = np.random.default_rng(33)
    fields, scale = scales(rng)
    word = rng.integers(0, 1 << 32, THREADS, np.uint32)
    lines = [f"v_cvt_scalef32_f32_{fmt.name} v{10 + n}, v2, v3 op_sel:[{n & 1},{n >> 1},0]"
             for n in range(4)]  # fmt: skip
    lines += [f"v_cvt_scalef32_f16_{fmt.name} v{14 + n}, v2, v3 op_sel:[{n & 1},{n >> 1},{n & 1}]"
              for n in range(4)]  # fmt: skip
    outputs = [f"v{n}" for n in range(10, 18)]
    result = run([Snippet("one", "\n".join(lines), {"v2": word, "v3": scale}, outputs,
                          threads=THREADS, directives=KEEP_DENORMALS)])[0]  # fmt: skip
    numbers = fmt.numbers()
    for n in range(4):
        want = numbers[word >> np.uint32(8 * n) & 255] * power(fields)
        assert_bits(result[f"v{10 + n}"], want, "f32")
        half = result[f"v{14 + n}"]
        assert_bits(half >> 16 if n & 1 else half & 0xFFFF, want, "f16")
        assert ((half & 0xFFFF if n & 1 else half >> 16) == 0xA5A5).all()


def wide_sources(fmt, fields, wide, rng):
    """Return numbers of a format around scaled codes, as values and as bits."""
    with np.errstate(all="ignore"):
        plain = small_numbers(fmt, rng) * power(np.where(fields == 255, 127, fields))
    bits = as_bits(plain, wide)
    if wide == "f16":
        return bits.astype(np.uint16).view(np.float16).astype(float), bits
    return (bits << (16 if wide == "bf16" else 0)).view(np.float32).astype(float), bits


@pytest.mark.parametrize("fmt", [FP8, BF8, FP4], ids=lambda f: f.name)
@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("saturate", [0, 1])
def test_numbers_to_scaled_codes(fmt, wide, saturate):
    rng = np.random.default_rng(34)
    fields, scale = scales(rng)
    a, a_bits = wide_sources(fmt, fields, wide, rng)
    b, b_bits = wide_sources(fmt, fields, wide, rng)
    packed = wide != "f32"
    inputs = {"v2": a_bits | b_bits << 16 if packed else a_bits, "v3": b_bits, "v4": scale}
    sources = "v2, v4" if packed else "v2, v3, v4"
    places = 4 if fmt is FP4 else 2
    lines = []
    for n in range(places):
        select = f"op_sel:[0,0,{n & 1},{n >> 1}]" if fmt is FP4 else f"op_sel:[0,0,{n}]"
        if fmt is not FP4 and not packed:
            select = f"op_sel:[0,0,0,{n}]"
        lines.append(f"v_cvt_scalef32_pk_{fmt.name}_{wide} v{10 + n}, {sources} {select}")
    outputs = [f"v{10 + n}" for n in range(places)]
    result = run([Snippet("narrow", "\n".join(lines), inputs, outputs, threads=THREADS,
                          directives=KEEP_DENORMALS | {"fp16_overflow": saturate})])[0]  # fmt: skip
    with np.errstate(all="ignore"):
        low, high = (nearest_code(x / power(fields), fmt, saturate) for x in (a, b))
    want, bits = low | high << fmt.bits, 2 * fmt.bits
    for n in range(places):
        kept = UNTOUCHED & ~((1 << bits) - 1 << bits * n)
        np.testing.assert_array_equal(result[f"v{10 + n}"], want << bits * n | kept)


def next_random(state):
    return (state << np.uint32(1)) ^ np.where(state >> 31, np.uint32(197), np.uint32(0))


@pytest.mark.parametrize("fmt", [FP8, BF8, FP4], ids=lambda f: f.name)
@pytest.mark.parametrize("wide", WIDE)
def test_stochastic_rounding_to_scaled_codes(fmt, wide):
    rng = np.random.default_rng(35)
    fields, scale = scales(rng)
    a, a_bits = wide_sources(fmt, fields, wide, rng)
    b, b_bits = wide_sources(fmt, fields, wide, rng)
    noise = rng.integers(0, 1 << 32, THREADS, np.uint32)
    pairs = fmt is FP4
    source = "v[2:3]" if pairs and wide == "f32" else "v2"
    word = a_bits | b_bits << 16 if wide != "f32" else a_bits
    inputs = {"v2": word, "v3": b_bits, "v4": noise, "v5": scale}
    name = f"v_cvt_scalef32_sr_{'pk_' if pairs else ''}{fmt.name}_{wide}"
    lines = [f"{name} v{10 + n}, {source}, v4, v5 op_sel:[0,0,{n & 1},{n >> 1}]" for n in range(4)]
    outputs = [f"v{10 + n}" for n in range(4)]
    result = run([Snippet("sr", "\n".join(lines), inputs, outputs, threads=THREADS,
                          directives=KEEP_DENORMALS)])[0]  # fmt: skip
    with np.errstate(all="ignore"):
        want = random_code(a / power(fields), noise, fmt)
        if pairs:
            want = want | random_code(b / power(fields), next_random(noise), fmt) << 4
    for n in range(4):
        kept = UNTOUCHED & ~(255 << 8 * n)
        np.testing.assert_array_equal(result[f"v{10 + n}"], want << 8 * n | kept)


def pack_six(codes):
    """Return 32 codes of 6 bits a lane as six registers."""
    lanes = [sum(int(c) << 6 * n for n, c in enumerate(column)) for column in codes.T]
    return np.array([[lane >> 32 * r & 0xFFFFFFFF for lane in lanes] for r in range(6)], np.uint32)


def many(fmt, fields, wide, rng, count=32):
    """Return [count, lanes] numbers and the registers that hold them."""
    rows = [wide_sources(fmt, fields, wide, rng) for _ in range(count)]
    numbers, bits = np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])
    return numbers, bits if wide == "f32" else bits[::2] | bits[1::2] << np.uint32(16)


def span(first, count):
    return f"v[{first}:{first + count - 1}]"


@pytest.mark.parametrize("fmt", [FP6, BF6], ids=lambda f: f.name)
@pytest.mark.parametrize("wide", WIDE)
def test_32_codes_of_6_bits_as_numbers(fmt, wide):
    rng = np.random.default_rng(36)
    fields, scale = scales(rng)
    codes = rng.integers(0, 64, (32, THREADS))
    count = 32 if wide == "f32" else 16
    body = f"v_cvt_scalef32_pk32_{wide}_{fmt.name} {span(20, count)}, v[2:7], v8"
    inputs = {"v[2:7]": pack_six(codes), "v8": scale}
    result = run([Snippet("many", body, inputs, [span(20, count)], threads=THREADS,
                          directives=KEEP_DENORMALS)])[0][span(20, count)]  # fmt: skip
    for n in range(32):
        got = result[n] if wide == "f32" else result[n // 2] >> np.uint32(16 * (n % 2)) & 0xFFFF
        assert_bits(got, fmt.numbers()[codes[n]] * power(fields), wide)


@pytest.mark.parametrize("fmt", [FP6, BF6], ids=lambda f: f.name)
@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("stochastic", [False, True])
def test_32_numbers_to_codes_of_6_bits(fmt, wide, stochastic):
    rng = np.random.default_rng(37)
    fields, scale = scales(rng)
    numbers, registers = many(fmt, fields, wide, rng)
    noise = rng.integers(0, 1 << 32, THREADS, np.uint32)
    count = len(registers)
    inputs = {span(20, count): registers, "v8": scale, "v9": noise}
    if stochastic:
        body = f"v_cvt_scalef32_sr_pk32_{fmt.name}_{wide} v[10:15], {span(20, count)}, v9, v8"
    elif wide == "f32":
        numbers = numbers.reshape(2, 16, THREADS).swapaxes(0, 1).reshape(32, THREADS)
        body = f"v_cvt_scalef32_2xpk16_{fmt.name}_f32 v[10:15], {span(20, 16)}, {span(36, 16)}, v8"
    else:
        body = f"v_cvt_scalef32_pk32_{fmt.name}_{wide} v[10:15], {span(20, count)}, v8"
    result = run([Snippet("many", body, inputs, ["v[10:15]"], threads=THREADS,
                          directives=KEEP_DENORMALS)])[0]["v[10:15]"]  # fmt: skip
    codes = []
    for row in numbers:
        with np.errstate(all="ignore"):
            scaled = row / power(fields)
        codes.append(random_code(scaled, noise, fmt) if stochastic else nearest_code(scaled, fmt))
        noise = next_random(noise)
    np.testing.assert_array_equal(result, pack_six(np.array(codes)))
