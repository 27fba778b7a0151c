# SPDX-License-Identifier: MIT
"""Time the CPU's micro-kernels by themselves, beside the machine's limits.

Each line is one kernel and number of rows: weights from memory (one stream a thread) and one panel
in the second cache, as GB/s and as percent of the register-only dot product, which is sampled
right beside it. Medians, interleaved.

    python benchmarks/cpu_kernels.py --threads 2 --rows 1 4 48
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
from pathlib import Path

import numpy as np

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cpu import COMMON_FLAGS, REQUIRES, SHAPES, PassShape, feature_flags
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.enums import Kind
from aiter_moe.targets.cpu_features import read_cpuinfo, thread_count
from aiter_moe.tuning.limits import DOT_OF, Machine, huge_memory

SOURCE = Path(__file__).with_suffix(".cpp")
ROWS = (1, 2, 4, 8, 12, 16, 24, 48, 96)
TILE_BYTES = 1088
WEIGHT_BYTES = 256 << 20
WORK = 2e9  # operations of a sample
AHEAD = 4


class Kernel:
    """One micro-kernel with packed rows of random activations."""

    def __init__(self, isa: str, kind: Kind, shape: PassShape) -> None:
        self.isa, self.kind, self.shape = isa, kind, shape
        name = f"aiter_moe::cpu::{isa}::{str(kind).upper()}<{shape.rows}, {shape.groups}>"
        flags = (*COMMON_FLAGS, *feature_flags(REQUIRES[isa]))
        source = f"#define KERNEL {name}\n" + SOURCE.read_text()
        unit = BuildUnit(f"cpu_kernels_{isa}_{kind}", "cpu", SOURCE.name, source, flags)
        self._library = ctypes.CDLL(str(ensure(unit).path))
        self._library.packed_words.restype = ctypes.c_long

    def pack(self, rows: int, blocks: int) -> np.ndarray:
        """Return random activations as the kernel packs them."""
        rng = np.random.default_rng(1)
        values = rng.standard_normal((rows, blocks * 32)).astype(np.float32).view(np.uint32) >> 16
        scales = rng.integers(125, 128, (rows, blocks), dtype=np.uint8)
        size = blocks * (64 if self.kind is Kind.A16W4 else 16)
        x = np.ascontiguousarray(values.astype(np.uint16).view(np.uint8)[:, :size])
        words = self._library.packed_words(rows, blocks)
        packed = huge_memory(4 * words + 64)
        self._library.pack(
            ctypes.c_void_p(x.ctypes.data), ctypes.c_long(size),
            ctypes.c_void_p(scales.ctypes.data), rows, blocks, ctypes.c_void_p(packed.ctypes.data),
        )  # fmt: skip
        return packed

    def sweep(  # noqa: PLR0913, PLR0917
        self, w: int, step: int, panels: int, blocks: int, x: np.ndarray, rows: int, out: np.ndarray
    ) -> None:
        """Multiply rows by `panels` panels, `step` bytes apart."""
        self._library.sweep(
            ctypes.c_void_p(w), ctypes.c_long(step), ctypes.c_long(panels), blocks, AHEAD,
            ctypes.c_void_p(x.ctypes.data), rows, ctypes.c_void_p(out.ctypes.data),
        )  # fmt: skip


def random_panels(blocks: int) -> np.ndarray:
    """Return WEIGHT_BYTES of panels [panels, blocks * 1088] with plausible scales."""
    panels = WEIGHT_BYTES // (blocks * TILE_BYTES)
    w = huge_memory(panels * blocks * TILE_BYTES).reshape(panels, blocks, TILE_BYTES)
    rng = np.random.default_rng(2)
    one = rng.integers(0, 256, (blocks, TILE_BYTES), dtype=np.uint8)
    one[:, :64] = rng.integers(118, 121, (blocks, 64))
    w[:] = one
    return w


def measure(machine: Machine, kernel: Kernel, rows: int, w: np.ndarray, repeats: int) -> str:
    """Return one line of the table."""
    panels, blocks, _ = w.shape
    step, part = blocks * TILE_BYTES, panels // machine.threads
    x = kernel.pack(rows, blocks)
    outs = [np.empty(rows * 64, np.float32) for _ in range(machine.threads)]
    operations = 2.0 * rows * blocks * 32 * 64
    count = min(part, max(32, int(WORK / operations)))
    passes = f"{kernel.shape.rows}x{kernel.shape.groups}"
    line = f"{kernel.isa:<12} {kernel.kind!s:<6} {passes:>5} {rows:>5}"
    for stride in (step, 0):
        rates, shares = [], []
        for _ in range(repeats):
            peak = machine.dot(DOT_OF[kernel.isa, kernel.kind])
            seconds = machine.together(
                lambda i, stride=stride: kernel.sweep(
                    w[i * part].ctypes.data, stride, count, blocks, x, rows, outs[i]
                )
            )
            calls = count * machine.threads
            rates.append(step * calls / seconds)
            shares.append(operations * calls / seconds / peak)
        line += f" {statistics.median(rates) / 1e9:>9.1f} {100 * statistics.median(shares):>7.0f} %"
    return line


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--k", type=int, default=2880)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    machine, w = Machine(options.threads), random_panels(options.k // 32)
    features = read_cpuinfo().features
    kernels = [
        Kernel(isa, kind, shape)
        for (isa, kind), shapes in SHAPES.items()
        if (isa, kind) in DOT_OF and REQUIRES[isa] <= features
        for shape in shapes
    ]
    reads = statistics.median(machine.read() for _ in range(options.repeats))
    print(f"{options.threads} threads, K {options.k}; sequential read {reads / 1e9:.1f} GB/s")
    print(f"{'isa':<12} {'kind':<6} {'pass':>5} {'rows':>5} {'mem GB/s':>9} {'of dot':>9} "
          f"{'L2 GB/s':>9} {'of dot':>9}")  # fmt: skip
    for rows in options.rows:
        for kernel in kernels:
            print(measure(machine, kernel, rows, w, options.repeats), flush=True)


if __name__ == "__main__":
    main()
