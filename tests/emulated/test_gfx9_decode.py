# SPDX-License-Identifier: MIT
"""fp4 to bf16 as the tiles do it: every code under every scale byte, at the ends of bf16 too."""

from __future__ import annotations

import numpy as np
import pytest
from gcn_hip import compiled

from aiter_moe.targets.emulator_library import emulator

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SOURCE = """
#include "hip/architecture.h"
using namespace aiter_moe::hip;
template <int Byte> AITER_MOE_DEVICE void decode(u32* out, u32 codes, u32 scales) {
  ((u32x4*)out)[Byte] = fp4_decoder<Byte>(scales)(codes);
}
KERNEL void kernel(u32* out, const u32* codes, const u32* scales) {
  const u32 at = GROUP * 64 + LANE;
  unroll<4>([&]<int byte>() { decode<byte>(out + 16 * at, codes[at], scales[at]); });
}
"""
MAGNITUDES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
# The order in which the 8 elements of a dword are multiplied; rows follow the same.
ORDER = {"gfx950": [0, 1, 2, 3, 4, 5, 6, 7], "gfx942": [0, 2, 4, 6, 1, 3, 5, 7]}


def decoded(arch: str, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return f32 [dwords, 4 bytes of the scale dword, 8 elements in natural order]."""
    out = np.zeros((len(codes), 4, 8), np.uint16)
    arguments = np.array([a.ctypes.data for a in (out, codes, scales)], np.uint64).tobytes()
    emulator(arch).launch(
        compiled(SOURCE, arch), "kernel", (len(codes) // 64, 1, 1), 64, arguments,
        [out, codes, scales],
    )  # fmt: skip
    natural = np.empty_like(out)
    natural[..., ORDER[arch]] = out
    return (natural.astype(np.uint32) << 16).view(np.float32)


def exact(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the products in f64, and infinity where bf16 ends."""
    nibbles = codes[:, None, None] >> (4 * np.arange(8)) & 15
    values = MAGNITUDES[nibbles & 7] * np.where(nibbles & 8, -1.0, 1.0)
    power = (scales[:, None, None] >> (8 * np.arange(4))[:, None] & 255).astype(int)
    product = np.where(power == 255, np.nan, values * 2.0 ** (power - 127))
    return np.where(np.abs(product) >= 2.0**128, np.copysign(np.inf, product), product)


@pytest.mark.parametrize("arch", ORDER)
def test_every_code_under_every_scale(arch):
    rng = np.random.default_rng(0)
    codes = np.tile(np.array([0x76543210, 0xFEDCBA98], np.uint32), 64)
    scales = np.repeat(np.arange(256, dtype=np.uint32).reshape(64, 4), 2, axis=0)
    scales = (scales << np.array([0, 8, 16, 24], np.uint32)).sum(1, dtype=np.uint32)
    codes = np.concatenate([codes, rng.integers(0, 1 << 32, 512, dtype=np.uint32)])
    scales = np.concatenate([scales, rng.integers(0, 1 << 32, 512, dtype=np.uint32)])
    got, want = decoded(arch, codes, scales), exact(codes, scales)
    assert np.isnan(want).any() and np.isinf(want).any()
    np.testing.assert_array_equal(got, want)
    finite = np.isfinite(want)
    assert (np.signbit(got) == np.signbit(want))[finite].all()
