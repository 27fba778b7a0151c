# SPDX-License-Identifier: MIT
"""Loading a code object: text and data find each other, and addresses in data are relocated."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from gcn_hip import compiled

from aiter_moe.errors import LaunchError
from aiter_moe.targets.emulator_library import emulator

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

# Constants are reached from the pc, variables through addresses the loader puts into the image,
# the function through a table of addresses of code.
SOURCE = r"""
DEVICE u32 first = 111, second = 222;
DEVICE u32* volatile chosen[2] = {&first, &second};
DEVICE const u32 squares[8] = {0, 1, 4, 9, 16, 25, 36, 49};
DEVICE __attribute__((noinline)) u32 triple(u32 x) { return 3 * x; }
DEVICE __attribute__((noinline)) u32 negate(u32 x) { return -x; }
DEVICE u32 (*volatile functions[2])(u32) = {triple, negate};

KERNEL void pointers(u32* out) { out[LANE] = *chosen[LANE % 2]; }
KERNEL void constants(u32* out) { out[LANE] = squares[LANE % 8]; }
KERNEL void calls(u32* out) { out[LANE] = functions[GROUP](LANE); }
"""
LANES = np.arange(64, dtype=np.uint32)
EXPECTED = {
    "pointers": np.where(LANES % 2 == 0, 111, 222),
    "constants": (LANES % 8) ** 2,
    "calls": 3 * LANES,
}


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize("kernel", EXPECTED)
def test_a_kernel_reaches_the_data_and_functions_of_its_code_object(arch, kernel):
    out = np.zeros(64, np.uint32)
    arguments = struct.pack("<Q", out.ctypes.data)
    emulator(arch).launch(compiled(SOURCE, arch), kernel, (1, 1, 1), 64, arguments, [out])
    np.testing.assert_array_equal(out, EXPECTED[kernel])


def test_a_code_object_for_another_gpu_is_refused():
    with pytest.raises(LaunchError):
        emulator("gfx950").launch(compiled(SOURCE, "gfx942"), "calls", (1, 1, 1), 64, b"", [])


def test_a_kernel_that_is_not_there_is_refused():
    with pytest.raises(LaunchError):
        emulator("gfx950").launch(compiled(SOURCE, "gfx950"), "triple", (1, 1, 1), 64, b"", [])
