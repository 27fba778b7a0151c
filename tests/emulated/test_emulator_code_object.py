# SPDX-License-Identifier: MIT
"""Loading a code object: text and data find each other, and addresses in data are relocated."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from gcn_hip import compiled

from aiter_moe.errors import LaunchError
from aiter_moe.targets.emulator_library import emulator
from aiter_moe.targets.emulator_report import FaultKind

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
# Written through pointers the compiler knows nothing of.
STORES = r"""
DEVICE u32 variable[64];
DEVICE const u32 constant[64] = {1, 2, 3};
DEVICE __attribute__((noinline)) u32 same(u32 x) { return x; }
DEVICE void store(const void* pointer, u32 value) {
  u32* at = (u32*)pointer;
  asm volatile("" : "+v"(at));
  at[LANE] = value;
}
KERNEL void to_variable(u32* out) { store(variable, 7); out[LANE] = variable[LANE]; }
KERNEL void to_constant(u32* out) { store(constant, 7); out[LANE] = constant[LANE]; }
KERNEL void to_code(u32* out) { store((const void*)same, 7); out[LANE] = 5; }
KERNEL void from_code(u32* out) {
  const u32* at = (const u32*)same;
  asm volatile("" : "+v"(at));
  out[LANE] = at[0];
}
KERNEL void behind_variable(u32* out) { store(variable + 64 + 4096, 7); out[LANE] = 5; }
"""
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


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize(
    ("kernel", "fault"),
    [
        ("to_variable", ""),
        ("to_constant", "not allowed in the code object's constants"),
        ("to_code", "not allowed in the code object's code"),
        ("from_code", ""),
        ("behind_variable", "in no allocation"),
    ],
)
def test_a_kernel_writes_only_the_variables_of_its_code_object(arch, kernel, fault):
    out = np.zeros(64, np.uint32)
    report = emulator(arch).launch(
        compiled(STORES, arch), kernel, (1, 1, 1), 64, struct.pack("<Q", out.ctypes.data), [out],
        raise_on_fault=False,
    )  # fmt: skip
    assert len(report.faults) == bool(fault), report.faults
    if fault:
        assert report.faults[0].kind is FaultKind.global_out_of_range
        assert fault in report.faults[0].detail
    elif kernel == "to_variable":
        assert (out == 7).all()
    else:
        assert out[0] != 0
    if kernel == "to_constant":
        assert out.tolist() == [1, 2, 3] + [0] * 61


def test_a_code_object_for_another_gpu_is_refused():
    with pytest.raises(LaunchError):
        emulator("gfx950").launch(compiled(SOURCE, "gfx942"), "calls", (1, 1, 1), 64, b"", [])


def test_a_kernel_that_is_not_there_is_refused():
    with pytest.raises(LaunchError):
        emulator("gfx950").launch(compiled(SOURCE, "gfx950"), "triple", (1, 1, 1), 64, b"", [])
