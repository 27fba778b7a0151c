# SPDX-License-Identifier: MIT
"""The CPU target's tiles and its catalogue of instances.

A tile picks a micro-kernel (csrc/cpu/microkernel_*.h) and how work is cut up around it. What a
stage kernel does is in csrc/cpu/stage1.h and stage2.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M, Instance, Output
from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Constraint

# Features by their names in /proc/cpuinfo.
AVX512 = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi", "avx512_vnni",
    "avx512_bf16",
)  # fmt: skip
REQUIRES: dict[str, frozenset[str]] = {"avx512": frozenset(AVX512), "portable": frozenset()}
# Vectors of 64 bytes never cross a call, so the notes about their ABI say nothing.
COMMON_FLAGS = ("-fvisibility=hidden", "-Wno-psabi")
# The support library comes in two builds: with these features, and with none.
RUNTIME_FEATURES = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})


def feature_flags(features: frozenset[str]) -> tuple[str, ...]:
    """Return the compiler flags that allow instruction-set features, in a fixed order.

    Features have the kernel's names of /proc/cpuinfo (``avx512_bf16``), flags the compilers'
    (``-mavx512bf16``).
    """
    return tuple(f"-m{name.replace('_', '')}" for name in sorted(features))


@dataclass(frozen=True, slots=True)
class CpuTile:
    """How a CPU kernel is cut up.

    Attributes
    ----------
    stage : int
        1 or 2: which template instantiates it.
    isa : str
        Micro-kernel: ``avx512`` or ``portable``.
    columns : int
        Output columns of a work item (of gate and of up in stage 1), a multiple of 16.
    ahead : int
        Prefetch distance in weight tiles of 256 bytes; 0 leaves it to the hardware.
    """

    stage: int
    isa: str
    columns: int
    ahead: int

    @property
    def label(self) -> str:
        """ISA, columns and prefetch distance."""
        return f"{self.isa}_c{self.columns}_a{self.ahead}"

    @property
    def template(self) -> str:
        """Template of the stage."""
        return f"cpu_stage{self.stage}.cpp.j2"

    @property
    def block_k(self) -> int:
        """Two MX blocks: the part a split of stage 1 leaves whole."""
        return 2 * MX_BLOCK

    @property
    def output(self) -> Output:
        """Rows in either stage; what is between stages is the launcher's."""
        return Output.BF16 if self.stage == 1 else Output.ROWS

    @property
    def direct(self) -> bool:
        """No: sorting a few tokens costs nothing here."""
        return False

    @property
    def requires(self) -> frozenset[str]:
        """Features of /proc/cpuinfo that the micro-kernel needs."""
        return REQUIRES[self.isa]

    @property
    def compile_flags(self) -> tuple[str, ...]:
        """Flags that switch on exactly the required features."""
        return (*COMMON_FLAGS, *feature_flags(self.requires))

    def parameters(self) -> dict[str, int | str | bool]:
        """Template arguments of the C++ kernel."""
        return {"isa": self.isa, "columns": self.columns, "ahead": self.ahead}

    def constraints(self) -> Sequence[Constraint]:
        """Nothing beyond the general rules: any number of MX blocks and column tiles runs."""
        return ()


# (columns, ahead) per ISA: small chunks share the work of few tokens, large ones cost less each.
SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "avx512": ((64, 16), (256, 16)),
    "portable": ((64, 0),),
}


def _tiles(stage: int) -> Iterator[CpuTile]:
    for isa, shapes in SHAPES.items():
        for columns, ahead in shapes:
            yield CpuTile(stage, isa, columns, ahead)


def cpu_instances() -> Iterator[Instance]:
    """Yield every CPU instance: kinds x stages x block_m x activations x tiles, in fixed order."""
    for kind, block_m in product(Kind, BLOCK_M):
        splits = (False, True) if kind is Kind.A16W4 else (False,)
        for tile, activation, split_k in product(_tiles(1), ACTIVATIONS, splits):
            yield Instance("cpu", kind, 1, block_m, activation, split_k, tile)
        for tile in _tiles(2):
            yield Instance("cpu", kind, 2, block_m, None, False, tile)
