# SPDX-License-Identifier: MIT
"""Compiles HIP source that needs no ROCm header into a code object, and runs it in the emulator.

Kernels are plain: ``KERNEL`` in front of ``void name(arguments)``, and clang's builtins for what
HIP's headers would give (``BLOCK_DIM``, ``GRID_DIM``, ``BARRIER``).
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.unit import BuildUnit

PRELUDE = r"""
#define KERNEL extern "C" __attribute__((global))
#define DEVICE __attribute__((device))
#define SHARED __attribute__((shared))
#define LANE __builtin_amdgcn_workitem_id_x()
#define GROUP __builtin_amdgcn_workgroup_id_x()
#define BLOCK_DIM(axis) __builtin_amdgcn_workgroup_size_##axis()
#define GRID_DIM(axis) \
  (__builtin_amdgcn_grid_size_##axis() / __builtin_amdgcn_workgroup_size_##axis())
#define BARRIER() \
  (__builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup"), __builtin_amdgcn_s_barrier(), \
   __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup"))
using u32 = unsigned; using u64 = unsigned long; using u8 = unsigned char;
"""


@cache
def compiled(source: str, arch: str = "gfx950", flags: tuple[str, ...] = ()) -> Path:
    """Return the code object of a HIP source; the prelude above stands before it."""
    name = "test_" + hashlib.sha256((source + repr(flags)).encode()).hexdigest()[:16]
    return ensure(BuildUnit(name, arch, f"{name}.hip", PRELUDE + source, flags)).path
