# SPDX-License-Identifier: MIT
"""The CPU target's tiles and its catalogue of instances.

A tile picks a micro-kernel (csrc/cpu/microkernel.h) and how work is cut up around it. What a
stage kernel does is in csrc/cpu/stage1.h and stage2.h. Sort block, columns of a work item,
prefetch distance and split are read at run time: instances that differ in nothing else share one
compiled kernel (`code_name`). What runs untuned is `codegen.cpu_choice`.
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
_AVX2 = frozenset({"avx2", "fma", "f16c"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
REQUIRES: dict[str, frozenset[str]] = {
    "avx512_bf16": _AVX512 | {"avx512_bf16"},
    "avx512_vbmi": _AVX512 | {"avx512_vnni", "avx512vbmi"},
    "avx512_vnni": _AVX512 | {"avx512_vnni"},
    "avx512": _AVX512,
    "avx2_vnni": _AVX2 | {"avx_vnni"},
    "avx2": _AVX2,
    "portable": frozenset(),
}
"""Features of each micro-kernel, best first; a CPU without any runs the portable one."""

# Vectors of 64 bytes never cross a call, so the notes about their ABI say nothing.
COMMON_FLAGS = ("-fvisibility=hidden", "-Wno-psabi")

RUNTIME_BUILDS: dict[str, frozenset[str]] = {
    "avx512": frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
    "avx2": _AVX2,
    "portable": frozenset(),
}
"""Features of each build of the support library, best first."""


def runtime_features(features: frozenset[str]) -> frozenset[str]:
    """Return the features of the best build of the support library for a CPU with `features`."""
    return next(build for build in RUNTIME_BUILDS.values() if build <= features)


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
        Micro-kernel, a key of `REQUIRES`.
    rows : int
        Most activation rows that share weights which are decoded once.
    groups : int
        Groups of 16 columns that are computed together where rows are many.
    output : Output
        BF16 in stage 1; ROWS or FINAL in stage 2.
    columns : int
        Output columns of a work item, a multiple of 64 (a panel has 64 of stage 2, and 32 of
        stage 1 beside their gates). Read at run time.
    ahead : int
        Prefetch distance in weight tiles of 32 k; 0 leaves it to the hardware. Read at run time.
    """

    stage: int
    isa: str
    rows: int
    groups: int
    output: Output
    columns: int
    ahead: int

    @property
    def code_label(self) -> str:
        """ISA, rows x groups, output: what is compiled in."""
        final = "_final" if self.output is Output.FINAL else ""
        return f"{self.isa}_r{self.rows}x{self.groups}{final}"

    @property
    def label(self) -> str:
        """What is compiled in, columns of an item, prefetch distance."""
        return f"{self.code_label}_c{self.columns}_a{self.ahead}"

    @property
    def template(self) -> str:
        """Template of the stage."""
        return f"cpu_stage{self.stage}.cpp.j2"

    @property
    def block_k(self) -> int:
        """Two MX blocks: the part a split of stage 1 leaves whole."""
        return 2 * MX_BLOCK

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
        return {
            "isa": self.isa,
            "rows": self.rows,
            "groups": self.groups,
            "final": self.output is Output.FINAL,
        }

    def constraints(self) -> Sequence[Constraint]:
        """Nothing beyond the general rules: any number of MX blocks and column tiles runs."""
        return ()


@dataclass(frozen=True, slots=True)
class PassShape:
    """Rows x groups; see `CpuTile`."""

    rows: int
    groups: int


# What is compiled of each micro-kernel; the first of a list is what runs untuned.
SHAPES: dict[tuple[str, Kind], tuple[PassShape, ...]] = {
    ("avx512_bf16", Kind.A16W4): (PassShape(12, 1), PassShape(48, 4)),
    ("avx512_vbmi", Kind.A4W4): (PassShape(96, 4), PassShape(12, 1), PassShape(24, 4)),
    ("avx512_vnni", Kind.A4W4): (PassShape(96, 4), PassShape(24, 4)),
    ("avx512", Kind.A16W4): (PassShape(48, 4), PassShape(12, 1)),
    ("avx2_vnni", Kind.A4W4): (PassShape(48, 4),),
    ("avx2", Kind.A16W4): (PassShape(48, 4),),
    ("avx2", Kind.A4W4): (PassShape(48, 4),),
    ("portable", Kind.A16W4): (PassShape(48, 1),),
    ("portable", Kind.A4W4): (PassShape(48, 1),),
}
COLUMNS = (64, 128, 256)
"""Columns of a work item: few spread few tokens over the threads, many cost less each."""
AHEAD = (0, 2, 4)
"""Prefetch distances, tiles of 1088 bytes; the portable kernel has none."""


def isas(kind: Kind) -> tuple[str, ...]:
    """Return the instruction sets with micro-kernels of a kind, best first."""
    return tuple(isa for isa in REQUIRES if (isa, kind) in SHAPES)


def best_isa(kind: Kind, features: frozenset[str]) -> str:
    """Return the best instruction set for a kind that a CPU with these features runs."""
    return next(isa for isa in isas(kind) if REQUIRES[isa] <= features)


def code_name(instance: Instance) -> str:
    """Return the name of a CPU instance's compiled kernel, which others may share."""
    tile = instance.tile
    assert isinstance(tile, CpuTile), "the kernel is not for the CPU"
    parts = [instance.target, str(instance.kind), f"s{instance.stage}"]
    if instance.activation is not None:
        parts.append(instance.activation.name.lower())
    return "aiter_moe_" + "_".join([*parts, tile.code_label])


def _tiles(stage: int, kind: Kind) -> Iterator[CpuTile]:
    outputs = (Output.BF16,) if stage == 1 else (Output.FINAL, Output.ROWS)
    for isa in isas(kind):
        distances = AHEAD if isa != "portable" else (0,)
        shapes = SHAPES[isa, kind]
        for shape, output, columns, ahead in product(shapes, outputs, COLUMNS, distances):
            yield CpuTile(stage, isa, shape.rows, shape.groups, output, columns, ahead)


def cpu_instances() -> Iterator[Instance]:
    """Yield every CPU instance: kinds x stages x block_m x activations x tiles, in fixed order."""
    for kind, block_m in product(Kind, BLOCK_M):
        splits = (False, True) if kind is Kind.A16W4 else (False,)
        for tile, activation, split_k in product(_tiles(1, kind), ACTIVATIONS, splits):
            yield Instance("cpu", kind, 1, block_m, activation, split_k, tile)
        for tile in _tiles(2, kind):
            yield Instance("cpu", kind, 2, block_m, None, False, tile)
