# SPDX-License-Identifier: MIT
"""What this CPU can do at most: dot products a second, and bytes read from memory a second.

`Machine` samples either once, so that it can be interleaved with what is measured; `limits` gives
medians. The source is csrc/cpu/limits.cpp.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

import numpy as np

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cpu import COMMON_FLAGS, REQUIRES, feature_flags
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.enums import Kind
from aiter_moe.targets.cpu_features import read_cpuinfo

SOURCE = '#include "cpu/limits.cpp"\n'
STREAM_BYTES = 1 << 30
HUGE_PAGE = 2 << 20
CHAINS = 14  # as in the source
ROUNDS = 4_000_000

OPERATIONS = {
    "vdpbf16ps_512": 64,
    "vpdpbusd_512": 128,
    "vfmadd_512": 32,
    "vpdpbusd_256": 64,
    "vpmaddubsw_256": 64,
    "vfmadd_256": 16,
}
"""Multiplications and additions of one dot-product instruction."""

DOT_OF: dict[tuple[str, Kind], str] = {
    ("avx512_bf16", Kind.A16W4): "vdpbf16ps_512",
    ("avx512", Kind.A16W4): "vfmadd_512",
    ("avx2", Kind.A16W4): "vfmadd_256",
    ("avx512_vbmi", Kind.A4W4): "vpdpbusd_512",
    ("avx512_vnni", Kind.A4W4): "vpdpbusd_512",
    ("avx2_vnni", Kind.A4W4): "vpdpbusd_256",
    ("avx2", Kind.A4W4): "vpmaddubsw_256",
}
"""The instruction that bounds a micro-kernel, by its ISA and kind."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Medians of one machine with so many threads.

    Attributes
    ----------
    read : float
        Bytes a second of sequential reads, one stream a thread.
    dots : dict of str to float
        Operations a second by instruction, of those the CPU has (keys of `OPERATIONS`).
    """

    threads: int
    read: float
    dots: dict[str, float]


def huge_memory(size: int) -> np.ndarray:
    """Return `size` bytes (uint8, aligned to 64) on 2 MB pages where the system gives them."""
    memory = mmap.mmap(-1, size + HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, np.uint8)
    return array[-array.ctypes.data % HUGE_PAGE :][:size]


def cpu_flags() -> tuple[str, ...]:
    """Return the compiler flags that allow every instruction set of `REQUIRES` the CPU has."""
    known = frozenset().union(*REQUIRES.values())
    return (*COMMON_FLAGS, *feature_flags(known & read_cpuinfo().features))


class Machine:
    """The CPU with a number of threads, each bound to a core; they share cores beyond their number.

    Parameters
    ----------
    threads : int
        How many.
    stream_bytes : int
        What `read` reads, more than caches hold.

    Raises
    ------
    ToolchainError
        If there is no compiler.
    """

    def __init__(self, threads: int, stream_bytes: int = STREAM_BYTES) -> None:
        self.threads = threads
        self._stream_bytes = stream_bytes
        unit = BuildUnit("cpu_limits", "cpu", "cpu_limits.cpp", SOURCE, cpu_flags())
        self._library = ctypes.CDLL(str(ensure(unit).path))
        self._library.read_stream.argtypes = (ctypes.c_void_p, ctypes.c_long)
        cores = cycle(sorted(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(
            threads, initializer=lambda: os.sched_setaffinity(0, {next(cores)})
        )
        self.together(lambda _: time.sleep(0.01))  # starts every thread

    def together(self, work: Callable[[int], object]) -> float:
        """Return the seconds that work(0), ..., work(threads - 1) take side by side."""
        begin = time.perf_counter()
        list(self._pool.map(work, range(self.threads)))
        return time.perf_counter() - begin

    @property
    def instructions(self) -> list[str]:
        """Dot products that this CPU has, keys of `OPERATIONS`."""
        return [name for name in OPERATIONS if hasattr(self._library, name)]

    def dot(self, instruction: str, rounds: int = ROUNDS) -> float:
        """Return operations a second of one dot product on registers alone: one sample."""
        function = getattr(self._library, instruction)
        seconds = self.together(lambda _: function(ctypes.c_long(rounds)))
        return OPERATIONS[instruction] * CHAINS * rounds * self.threads / seconds

    @cached_property
    def _stream(self) -> np.ndarray:
        memory = huge_memory(self._stream_bytes)
        memory[:] = 1
        return memory

    def read(self) -> float:
        """Return bytes a second of a sequential read, a contiguous part a thread: one sample."""
        return self.read_ranges([(self._stream.ctypes.data, self._stream_bytes)])

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> float:
        """Return bytes a second of reading ranges (address, size), of each a part a thread."""
        parts = [(address, size // self.threads & -4096) for address, size in ranges]

        def work(thread: int) -> None:
            for address, part in parts:
                self._library.read_stream(address + thread * part, part)

        seconds = self.together(work)
        return self.threads * sum(part for _, part in parts) / seconds


def limits(threads: int, repeats: int = 7) -> Limits:
    """Measure medians of `repeats` samples, reads and dots interleaved."""
    machine = Machine(threads)
    machine.read()
    reads: list[float] = []
    dots: dict[str, list[float]] = {name: [] for name in machine.instructions}
    for _ in range(repeats):
        reads.append(machine.read())
        for name, samples in dots.items():
            samples.append(machine.dot(name))
    medians = {name: statistics.median(samples) for name, samples in dots.items()}
    return Limits(threads, statistics.median(reads), medians)
