# SPDX-License-Identifier: MIT
"""A stage kernel that does no arithmetic: it records which items ran, and when.

Its arguments are a ``Probe`` in the place of ``StageArgs``: item counts per phase, and counters.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_long, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cpu import RUNTIME_BUILDS
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.targets.cpu_features import read_cpuinfo
from aiter_moe.targets.cpu_runtime import Task

SOURCE = """
#define EXPORT extern "C" __attribute__((visibility("default")))
struct Task { void* entries[3]; };
struct Probe {
  int* counts;              // [phases][items], of run items
  int* workers;             // [phases][items], who ran them
  long* early;              // items that ran or were counted before the phase before was over
  long items;
  int phases;
  int spin;                 // work per item
  int (*pool_run)(const Task*, const void*, int);   // nested launch of the last item, or null
  const Task* nested_task;
  const Probe* nested;
};
EXPORT int aiter_moe_args_size() { return ARGS_SIZE; }
EXPORT long aiter_moe_scratch_bytes(const Probe* args) { return args->items; }
EXPORT int aiter_moe_phases(const Probe* args) { return args->phases; }
EXPORT long aiter_moe_items(const Probe* args, int phase) {
  for (long cell = (phase - 1) * args->items; phase > 0 && cell < phase * args->items; ++cell) {
    if (__atomic_load_n(&args->counts[cell], __ATOMIC_RELAXED) == 0)
      __atomic_add_fetch(args->early, 1, __ATOMIC_RELAXED);
  }
  return args->items;
}
EXPORT void aiter_moe_run(const Probe* args, int phase, long begin, long end, int worker) {
  for (long item = begin; item < end; ++item) {
    const long cell = phase * args->items + item;
    for (long before = 0; phase > 0 && before < args->items; ++before) {
      if (__atomic_load_n(&args->counts[cell - item - args->items + before], __ATOMIC_RELAXED) == 0)
        __atomic_add_fetch(args->early, 1, __ATOMIC_RELAXED);
    }
    for (volatile int i = 0; i < args->spin; i = i + 1) {}
    if (args->pool_run != nullptr && item == args->items - 1)
      args->pool_run(args->nested_task, args->nested, 4);
    args->workers[cell] = worker;
    __atomic_add_fetch(&args->counts[cell], 1, __ATOMIC_RELAXED);
  }
}
"""


class Probe(ctypes.Structure):
    """Arguments of the probe kernel."""

    _fields_ = [
        ("counts", c_void_p),
        ("workers", c_void_p),
        ("early", c_void_p),
        ("items", c_long),
        ("phases", c_int),
        ("spin", c_int),
        ("pool_run", c_void_p),
        ("nested_task", c_void_p),
        ("nested", c_void_p),
    ]


class Recorder:
    """A probe's arguments together with the memory they point to."""

    def __init__(self, items: int, phases: int = 1, spin: int = 0) -> None:
        self.counts = np.zeros((phases, items), dtype=np.int32)
        self.workers = np.full((phases, items), -1, dtype=np.int32)
        self.early = np.zeros(1, dtype=np.int64)
        self.args = Probe(
            self.counts.ctypes.data, self.workers.ctypes.data, self.early.ctypes.data, items,
            phases, spin,
        )  # fmt: skip
        self.address = ctypes.addressof(self.args)

    @property
    def complete(self) -> bool:
        """Whether every item of every phase ran once, and no phase began early."""
        return bool((self.counts == 1).all()) and self.early[0] == 0


def probe_path(args_size: int, without: str = "") -> Path:
    """Return the probe kernel, claiming a size of StageArgs, perhaps without one symbol."""
    source = SOURCE.replace("ARGS_SIZE", str(args_size))
    if without:
        source = source.replace(without, f"other_{without}")
    return ensure(BuildUnit("probe", "cpu", "probe.cpp", source)).path


@cache
def probe_task() -> Task:
    """Return the entry points of a loaded probe kernel; it stays loaded."""
    library = ctypes.CDLL(str(probe_path(0)))
    names = ("aiter_moe_phases", "aiter_moe_items", "aiter_moe_run")
    task = Task(*(ctypes.cast(getattr(library, name), c_void_p).value for name in names))
    task.library = library
    return task


def build_features(build: str) -> frozenset[str]:
    """Return the features of a build of the support library; skip where this CPU lacks one."""
    missing = RUNTIME_BUILDS[build] - read_cpuinfo().features
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(sorted(missing))}")
    return RUNTIME_BUILDS[build]
