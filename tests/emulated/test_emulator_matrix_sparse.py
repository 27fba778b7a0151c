# SPDX-License-Identifier: MIT
"""Sparse matrix instructions of the emulator: A is put back among its zeros, then float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from gcn_asm import Snippet, range_of, run
from matrix_cases import RANDOM, SMALL, Draw, assert_close
from matrix_formats import Array, bits_of, decoded, packed
from matrix_maps import Shape, result_map, sparse_a_column, sparse_b_k
from wave_lanes import LANES

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


@dataclass(frozen=True)
class Case:
    """A sparse instruction; `shape` counts the k of B."""

    mnemonic: str
    a: str
    b: str
    shape: Shape

    @property
    def stored(self) -> int:
        return self.shape.per_lane // 2

    @property
    def result(self) -> type:
        return np.int32 if self.a == "i8" else np.float32


HALVES = (Shape(16, 32), Shape(32, 16), Shape(16, 64), Shape(32, 32))
BYTES = (Shape(16, 64), Shape(32, 32), Shape(16, 128), Shape(32, 64))


def cases(a: str, b: str, shapes: tuple[Shape, ...], suffix: str) -> list[Case]:
    out = "i32" if a == "i8" else "f32"
    return [Case(f"v_smfmac_{out}_{s.edge}x{s.edge}x{s.depth}_{suffix}", a, b, s) for s in shapes]


KINDS = ("fp8", "bf8")
SPARSE = [
    *cases("f16", "f16", HALVES, "f16"),
    *cases("bf16", "bf16", HALVES, "bf16"),
    *cases("i8", "i8", BYTES, "i8"),
    *[case for a in KINDS for b in KINDS for case in cases(a, b, BYTES, f"{a}_{b}")],
]


@dataclass(frozen=True)
class Operands:
    """What lanes hold: codes [lane, field] of A and B, index [lane], C [register, lane]."""

    a: Array
    b: Array
    index: Array
    c: Array


def random_operands(case: Case, rng: np.random.Generator, draw: Draw) -> Operands:
    return Operands(
        draw(rng, case.a, (LANES, case.stored)),
        draw(rng, case.b, (LANES, case.shape.per_lane)),
        rng.integers(0, 1 << 32, LANES),
        rng.integers(-8, 9, (case.shape.result_registers, LANES)).astype(case.result),
    )


def dense_a(case: Case, operands: Operands, part: int, codes: Array) -> Array:
    """Return A by [row, k]; equal choices of a pair add up."""
    lane, i = np.indices(operands.a.shape)
    choice = operands.index[:, None] >> 2 * (case.stored * part + i) & 3
    k = sparse_a_column(case.shape, bits_of(case.a)) // 2 * 4 + choice
    out = np.zeros((case.shape.edge, case.shape.depth), codes.dtype)
    np.add.at(out, (lane % case.shape.edge, k), codes)
    return out


def dense_b(case: Case, operands: Operands) -> Array:
    lane = np.indices(operands.b.shape)[0]
    codes = decoded(case.b, operands.b)
    out = np.empty((case.shape.depth, case.shape.edge), codes.dtype)
    out[sparse_b_k(case.shape), lane % case.shape.edge] = codes
    return out


def reference(case: Case, operands: Operands, part: int) -> tuple[Array, Array]:
    """Return the exact result and the sum of magnitudes, [register, lane]."""
    codes, b = decoded(case.a, operands.a), dense_b(case, operands)
    at = result_map(case.shape)[1:]
    exact = (dense_a(case, operands, part, codes) @ b)[at] + operands.c
    size = (dense_a(case, operands, part, np.abs(codes)) @ np.abs(b))[at] + np.abs(operands.c)
    return exact, size


def snippet(name: str, case: Case, operands: Operands, cbsz: int, abid: int) -> Snippet:
    a, b = (packed(operands.a, bits_of(case.a)), packed(operands.b, bits_of(case.b)))
    d = range_of("v", 64, len(operands.c))
    ranges = range_of("v", 8, len(a)), range_of("v", 24, len(b))
    inputs = {ranges[0]: a, ranges[1]: b, "v4": operands.index.astype(np.uint32), d: operands.c}
    text = f"{case.mnemonic} {d}, {ranges[0]}, {ranges[1]}, v4 cbsz:{cbsz} abid:{abid}"
    return Snippet(name, f"s_mov_b64 exec, 0\n{text}", inputs, [d])


@pytest.mark.parametrize("draw", [SMALL, RANDOM], ids=["small", "random"])
@pytest.mark.parametrize("cbsz", [0, 1])
def test_sparse_instructions_choose_two_of_four(draw: Draw, cbsz: int) -> None:
    """abid names a part of the index, unless cbsz is set or the choices fill it."""
    rng = np.random.default_rng(11 + cbsz)
    snippets, references = [], []
    for n, case in enumerate(SPARSE):
        operands = random_operands(case, rng, draw)
        abid = int(rng.integers(16 // case.stored))
        snippets.append(snippet(f"k{n}", case, operands, cbsz, abid))
        references.append(reference(case, operands, 0 if cbsz else abid))
    for case, expected, result in zip(SPARSE, references, run(snippets), strict=True):
        (words,) = result.outputs.values()
        assert_close(words.view(case.result), *expected, draw)
