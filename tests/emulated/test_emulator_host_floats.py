# SPDX-License-Identifier: MIT
"""The caller's floating-point environment has no say in what kernels compute."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from gcn_hip import compiled

from aiter_moe.targets.emulator_library import emulator

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SOURCE = """
KERNEL void small(float* out, double* wide, const float* in) {
  u32 at = GROUP * 64 + LANE;
  out[at] = in[at] * 0.5f;
  wide[at] = in[at] * 0x1p-900;
}
"""
GROUPS = 64


@pytest.mark.parametrize("threads", [1, 3])  # 3: workers may start while the caller flushes
def test_a_caller_that_flushes_denormals_gets_the_same_results(threads):
    random = np.random.default_rng(4)
    given = random.integers(1 << 12, 1 << 23, 64 * GROUPS).astype(np.uint32).view(np.float32)
    want, want_wide = given * np.float32(0.5), given.astype(np.float64) * 2.0**-900
    assert ((want > 0) & (want < 2.0**-126)).all()
    assert ((want_wide > 0) & (want_wide < 2.0**-1022)).all()
    out, wide = np.zeros_like(want), np.zeros_like(want_wide)
    arguments = struct.pack("<3Q", *(array.ctypes.data for array in (out, wide, given)))
    code_object = compiled(SOURCE)
    device = emulator()
    device.set_option("threads", threads)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        device.launch(code_object, "small", (GROUPS, 1, 1), 64, arguments, [out, wide, given])
    finally:
        torch.set_flush_denormal(False)
        device.set_option("threads", 0)
    np.testing.assert_array_equal(out.view(np.uint32), want.view(np.uint32))
    np.testing.assert_array_equal(wide.view(np.uint64), want_wide.view(np.uint64))
