# SPDX-License-Identifier: MIT
"""Element formats of matrix instructions: values of all their codes, and codes packed into lanes.

Values come from the definition of each format, one code at a time, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Format:
    """A format of matrix elements.

    Attributes
    ----------
    bits, mantissa, bias : int
        Width of a code and of its fraction, and the exponent's bias.
    specials : str
        ``"ieee"`` (infinities and NaNs at the largest exponent), ``"nan"`` (one NaN, all ones),
        ``"fnuz"`` (NaN where minus zero would be) or ``""``.
    """

    bits: int
    mantissa: int
    bias: int
    specials: str


FORMATS = {
    "f16": Format(16, 10, 15, "ieee"),
    "bf16": Format(16, 7, 127, "ieee"),
    "fp8": Format(8, 3, 7, "nan"),
    "bf8": Format(8, 2, 15, "ieee"),
    "fp8_fnuz": Format(8, 3, 8, "fnuz"),
    "bf8_fnuz": Format(8, 2, 16, "fnuz"),
    "fp6": Format(6, 3, 1, ""),
    "bf6": Format(6, 2, 3, ""),
    "fp4": Format(4, 1, 1, ""),
}


def bits_of(name: str) -> int:
    return {"f32": 32, "xf32": 32, "i8": 8}.get(name) or FORMATS[name].bits


def value(name: str, code: int) -> float:
    """Return what a code of a format means."""
    form = FORMATS[name]
    magnitude = code & ((1 << form.bits - 1) - 1)
    sign = -1.0 if code >> form.bits - 1 else 1.0
    exponent, fraction = magnitude >> form.mantissa, magnitude & ((1 << form.mantissa) - 1)
    largest = (1 << form.bits - 1 - form.mantissa) - 1
    if form.specials == "ieee" and exponent == largest:
        return sign * np.inf if fraction == 0 else np.nan
    if form.specials == "nan" and magnitude == (1 << form.bits - 1) - 1:
        return np.nan
    if form.specials == "fnuz" and code == 1 << form.bits - 1:
        return np.nan
    hidden = 1 if exponent else 0
    power = max(exponent, 1) - form.bias - form.mantissa
    return float(sign * ((hidden << form.mantissa) + fraction) * 2.0**power)


@cache
def values(name: str) -> Array:
    """Return the values of all codes, in float64."""
    return np.array([value(name, code) for code in range(1 << FORMATS[name].bits)])


def decoded(name: str, codes: Array) -> Array:
    """Return the values of codes in float64 (of i8: int64)."""
    if name == "i8":
        return codes.astype(np.uint8).view(np.int8).astype(np.int64)
    if name == "f32":
        return codes.astype(np.uint32).view(np.float32).astype(np.float64)
    if name == "xf32":  # the low thirteen bits do not count
        return (codes.astype(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    return values(name)[codes]


def packed(codes: Array, bits: int) -> Array:
    """Return codes [lanes, n] as registers [n * bits / 32, lanes], little-endian in each lane."""
    stream = (codes[:, :, None] >> np.arange(bits)) & 1
    words = stream.reshape(len(codes), -1, 32).astype(np.uint64) << np.arange(32, dtype=np.uint64)
    return np.ascontiguousarray(words.sum(-1).astype(np.uint32).T)


def random_codes(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Return codes of finite values: of the narrow formats any, of the wide ones near one."""
    if name == "i8":
        return rng.integers(0, 256, shape)
    if name in {"f32", "xf32"}:
        return rng.normal(size=shape).astype(np.float32).view(np.uint32).astype(np.int64)
    if name == "bf16":
        return rng.normal(size=shape).astype(np.float32).view(np.uint32).astype(np.int64) >> 16
    finite = np.flatnonzero(np.isfinite(values(name)))
    return finite[rng.integers(0, len(finite), shape)]


def small_codes(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Return codes of small multiples of a half: any sum of their products is exact in f32."""
    if name in {"i8", "f32", "xf32"}:
        numbers = rng.integers(-4, 5, shape)
        return numbers & 0xFF if name == "i8" else _f32_codes(numbers)
    table = values(name)
    usable = np.flatnonzero((np.abs(table) <= 4) & (2 * table == np.round(2 * table)))
    return usable[rng.integers(0, len(usable), shape)]


def _f32_codes(numbers: Array) -> Array:
    return numbers.astype(np.float32).view(np.uint32).astype(np.int64)
