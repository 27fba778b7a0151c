# SPDX-License-Identifier: MIT
"""f64 matrix instructions of the emulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from gcn_asm import Snippet, range_of, run_one
from wave_lanes import LANES

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


@pytest.mark.parametrize("edge", [16, 4])
@pytest.mark.parametrize("negated", range(8))
def test_doubles(edge: int, negated: int) -> None:
    rng = np.random.default_rng(12 + negated)
    a, b = rng.normal(size=(2, LANES))
    pairs = edge // 4
    c = rng.normal(size=(pairs, LANES))
    signs = [-1.0 if negated >> n & 1 else 1.0 for n in range(3)]
    lane = np.arange(LANES)
    row, column = lane[None] // 16 + 4 * np.arange(pairs)[:, None], lane % 16
    sums, size = signs[2] * c, np.abs(c)
    for k in range(4):  # lanes 16k.. hold rows of A; four blocks of four, or one of sixteen
        a_lane = 16 * k + (row if edge == 16 else column // 4 * 4 + row)
        product = a[a_lane] * b[16 * k + column]
        sums, size = sums + signs[0] * signs[1] * product, size + np.abs(product)
    name = "v_mfma_f64_16x16x4_f64" if edge == 16 else "v_mfma_f64_4x4x4_4b_f64"
    d, addend = (range_of("v", first, 2 * pairs) for first in (64, 112))
    bits = ",".join(str(negated >> n & 1) for n in range(3))
    text = f"s_mov_b64 exec, 1\n{name} {d}, v[8:9], v[24:25], {addend} neg:[{bits}]"
    got = run_one(Snippet("f64", text, {"v[8:9]": a, "v[24:25]": b, addend: c}, [d])).lanes(
        d, np.float64
    )
    assert (np.abs(got.reshape(sums.shape) - sums) <= 8 * 2.0**-53 * size).all()


def test_a_double_addend_may_be_a_constant() -> None:
    a = np.zeros(LANES)
    body = "v_mfma_f64_16x16x4_f64 v[64:71], v[8:9], v[8:9], 0.5"
    got = run_one(Snippet("f64", body, {"v[8:9]": a}, ["v[64:71]"])).lanes("v[64:71]", np.float64)
    np.testing.assert_array_equal(got, 0.5)
