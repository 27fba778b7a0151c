# SPDX-License-Identifier: MIT
"""What bounds a CPU kernel: reads that leave nothing out, threads beyond the number of cores."""

from __future__ import annotations

import os

import pytest
from cpu_probe import build_features

from aiter_moe.codegen.cpu import COMMON_FLAGS, RUNTIME_BUILDS, feature_flags
from aiter_moe.tuning import limits
from aiter_moe.tuning.limits import OPERATIONS, Machine, huge_memory

SIZE = 4096


@pytest.mark.parametrize("build", RUNTIME_BUILDS)
def test_a_read_takes_every_line_whatever_the_instruction_set(build, monkeypatch):
    flags = (*COMMON_FLAGS, *feature_flags(build_features(build)))
    monkeypatch.setattr(limits, "cpu_flags", lambda: flags)
    read = Machine(1, SIZE)._library.read_stream
    memory = huge_memory(SIZE)
    assert read(memory.ctypes.data, SIZE) == 0
    for line in range(0, SIZE, 64):
        memory[line] = 1
        assert read(memory.ctypes.data, SIZE) == 1, line
        memory[line] = 0


def test_there_may_be_more_threads_than_cores():
    machine = Machine(len(os.sched_getaffinity(0)) + 1, 1 << 20)
    assert machine.read() > 0
    assert set(machine.instructions) <= set(OPERATIONS)
    assert all(machine.dot(name, 1000) > 0 for name in machine.instructions)
