# SPDX-License-Identifier: MIT
"""torch's OpenMP team, whose threads CPU kernels may run on.

OpenMP threads stay awake for a while after each parallel region. Threads of our own would share
the CPUs with them, and a layer that follows one of torch's matmuls would take twice as long.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_void_p
from functools import cache
from pathlib import Path

import torch

# Symbols of the team in the order of Team in csrc/common/pool.h; every OpenMP library that GCC's
# code can use has them.
_SYMBOLS = ("GOMP_parallel", "omp_get_thread_num", "omp_in_parallel")

# OpenMP threads do not survive a fork, and a child that asks for them waits for ever.
_home = os.getpid()


class Team(ctypes.Structure):
    """Mirror of Team in csrc/common/pool.h."""

    _fields_ = [(name, c_void_p) for name in ("parallel", "thread_number", "in_parallel")]


@cache
def _team() -> Team | None:
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        library = ctypes.CDLL(str(path))  # loaded already; symbols of what it depends on count
        found = (ctypes.cast(getattr(library, name), c_void_p) for name in _SYMBOLS)
        return Team(*found)
    except (OSError, AttributeError):
        return None


def torch_team(threads: int) -> Team | None:
    """Return torch's team where it has exactly so many threads and lives in this process."""
    if threads != torch.get_num_threads() or os.getpid() != _home:
        return None
    return _team()
