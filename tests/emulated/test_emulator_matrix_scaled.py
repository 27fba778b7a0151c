# SPDX-License-Identifier: MIT
"""f8f6f4 matrix instructions of the emulator, scaled and not, against float64."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from gcn_asm import Snippet, range_of, run, run_one
from matrix_cases import RANDOM, SMALL, ULP, Draw, assert_close
from matrix_formats import bits_of, decoded, packed
from matrix_maps import Shape, result_map, scaled_k
from wave_lanes import LANES

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

CODES = ("fp8", "bf8", "fp6", "bf6", "fp4")  # what cbsz and blgp count


@dataclass(frozen=True)
class Scaled:
    """An f8f6f4 instruction; `bytes` select the scales' bytes of A and B, none: unscaled."""

    a: str
    b: str
    shape: Shape
    bytes: tuple[int, int] | None = (0, 0)
    draw: Draw = RANDOM
    scales: dict[str, np.ndarray] = field(default_factory=dict)  # dwords [lane]


def scaled_snippet(name: str, case: Scaled, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Snippet:
    edge = case.shape.edge
    row = np.indices((LANES, 32))[0] % edge
    lanes_a = packed(a[row, scaled_k(edge, bits_of(case.a))], bits_of(case.a))
    lanes_b = packed(b[row, scaled_k(edge, bits_of(case.b))], bits_of(case.b))
    c = c[None][result_map(case.shape)].view(np.uint32)
    ranges = [
        range_of("v", f, n)
        for f, n in ((64, len(c)), (8, len(lanes_a)), (24, len(lanes_b)), (112, len(c)))
    ]
    inputs = dict(zip(ranges[1:], (lanes_a, lanes_b, c), strict=True))
    formats = f" cbsz:{CODES.index(case.a)} blgp:{CODES.index(case.b)}"
    size = f"f32_{edge}x{edge}x{case.shape.depth}_f8f6f4"
    if case.bytes is None:
        text = f"v_mfma_{size} {', '.join(ranges)}{formats}"
    else:
        low, high = ([n >> bit & 1 for n in case.bytes] for bit in (0, 1))
        text = (
            f"v_mfma_scale_{size} {', '.join(ranges)}, v4, v5 "
            f"op_sel:[{low[0]},{low[1]},0] op_sel_hi:[{high[0]},{high[1]},0]{formats}"
        )
        inputs |= {"v4": case.scales["a"], "v5": case.scales["b"]}
    return Snippet(name, f"s_mov_b64 exec, 0x5\n{text}", inputs, [ranges[0]])


def scale_values(case: Scaled, operand: int) -> np.ndarray:
    """Return the factor of [row or column, k]."""
    shape = case.shape
    if case.bytes is None:
        return np.ones((shape.edge, shape.depth))
    codes = case.scales["ab"[operand]] >> 8 * case.bytes[operand] & 0xFF
    factors = np.where(codes == 255, np.nan, 2.0 ** (codes.astype(np.float64) - 127))
    lane_of = np.arange(shape.depth) // 32 * shape.edge + np.arange(shape.edge)[:, None]
    return factors[lane_of]


def random_scales(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0x76, 0x86, (LANES, 4)).astype(np.uint8).view(np.uint32)[:, 0]


def check_scaled(cases: list[Scaled], seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [replace(case, scales={key: random_scales(rng) for key in "ab"}) for case in cases]
    snippets, references = [], []
    for n, case in enumerate(cases):
        s = case.shape
        a, b = case.draw(rng, case.a, (s.edge, s.depth)), case.draw(rng, case.b, (s.edge, s.depth))
        c = rng.integers(-8, 9, (s.edge, s.edge)).astype(np.float32)
        snippets.append(scaled_snippet(f"k{n}", case, a, b, c))
        left = decoded(case.a, a) * scale_values(case, 0)
        right = decoded(case.b, b) * scale_values(case, 1)
        at = result_map(s)[1:]
        references.append(
            ((left @ right.T + c)[at], (np.abs(left) @ np.abs(right).T + np.abs(c))[at])
        )
    for case, (exact, size), result in zip(cases, references, run(snippets), strict=True):
        (words,) = result.outputs.values()
        got = words.view(np.float32)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
        keep = ~np.isnan(exact)
        assert_close(got[keep], exact[keep], size[keep], case.draw)


PAIRS = [(a, b) for a in CODES for b in CODES]
SCALED_SHAPES = (Shape(16, 128), Shape(32, 64))


@pytest.mark.parametrize("shape", SCALED_SHAPES, ids=["16x16x128", "32x32x64"])
def test_every_pair_of_small_formats_with_scales(shape: Shape) -> None:
    selects = [(n % 4, (n // 4 + 1) % 4) for n in range(len(PAIRS))]
    cases = [Scaled(*pair, shape, select) for pair, select in zip(PAIRS, selects, strict=True)]
    check_scaled(cases, seed=shape.edge)


@pytest.mark.parametrize("shape", SCALED_SHAPES, ids=["16x16x128", "32x32x64"])
def test_every_pair_of_small_formats_without_scales(shape: Shape) -> None:
    check_scaled([Scaled(*pair, shape, None, SMALL) for pair in PAIRS], seed=shape.depth)


@pytest.mark.parametrize("shape", SCALED_SHAPES, ids=["16x16x128", "32x32x64"])
def test_every_byte_of_the_scales(shape: Shape) -> None:
    cases = [Scaled("fp4", "fp4", shape, (a, b)) for a in range(4) for b in range(4)]
    check_scaled(cases, seed=7)


@pytest.mark.parametrize("pair", [("fp4", "fp4"), ("fp8", "fp4")], ids="-".join)
def test_extreme_scales_overflow_underflow_and_are_nan(pair: tuple[str, str]) -> None:
    """Opposite extremes cancel, equal ones leave f32's range, code 255 is a NaN."""
    extremes = {"a": np.full(LANES, 0x7F, np.uint32), "b": np.full(LANES, 0x7F, np.uint32)}
    extremes["a"][:] = np.array([0, 254, 127, 1])[np.arange(LANES) % 4]
    extremes["b"][:] = np.array([254, 127, 0, 0])[np.arange(LANES) // 4 % 4]
    with_nan = {key: codes.copy() for key, codes in extremes.items()}
    with_nan["a"][17] = with_nan["b"][40] = 255
    with np.errstate(over="ignore"):
        check_extremes(pair, extremes, np.random.default_rng(8))
        check_extremes(pair, with_nan, np.random.default_rng(9))


def check_extremes(
    pair: tuple[str, str], scales: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    case = Scaled(*pair, Shape(16, 128), (0, 0), SMALL, scales)
    positive = {
        name: np.flatnonzero(decoded(name, np.arange(1 << bits_of(name))) == 2) for name in pair
    }
    a, b = (positive[name][rng.integers(0, len(positive[name]), (16, 128))] for name in pair)
    c = np.zeros((16, 16), np.float32)
    left = decoded(case.a, a) * scale_values(case, 0)
    right = decoded(case.b, b) * scale_values(case, 1)
    exact = (left @ right.T)[result_map(case.shape)[1:]].astype(np.float32)
    (words,) = run_one(scaled_snippet("extreme", case, a, b, c)).outputs.values()
    got = words.view(np.float32)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(exact))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    np.testing.assert_allclose(got, exact, rtol=4 * ULP, atol=4 * 2.0**-149)
