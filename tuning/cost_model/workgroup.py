# SPDX-License-Identifier: MIT
"""A kernel as the cost model sees it: what a workgroup owns, and what a turn of its loop costs.

All kernels of this family, ours and others', do the same in a turn of 256 elements: a wave loads
its weight tiles and their scales to registers, reads row fragments from the LDS, decodes the
weights where the rows are bf16, and multiplies. The counts follow from the tile. What differs is
the rest of the loop: waits, addresses, copies; `Overhead` has it by family, from code objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from aiter_moe.codegen.instance import Output
from aiter_moe.enums import Kind

TURN_K = 256
TILE = 16
# Bytes that a wave moves by one 16-byte request of each lane.
REQUEST_BYTES = 1024
# MFMAs, LDS reads of a 16-row tile in a turn: fp4 fragments of 128 elements, bf16 of 32.
_STEPS = {Kind.A4W4: 2, Kind.A16W4: 8}
# 16 weight rows of a turn are 64 codes a lane: a convert decodes 2 of them, a shift a scale.
_CONVERTS = 32
_SCALE_SHIFTS = 2


@dataclass(frozen=True, slots=True)
class Overhead:
    """Instructions of a turn that the tile does not ask for: some, and some for every MFMA."""

    base: float
    per_mfma: float


# Fitted by eye to loops of compiled kernels: ours and CK-tile's as `aiter-moe inspect` counts
# them, FlyDSL's and CK's by the same analysis of what they compile to (benchmarks/gfx950.md).
OWN = Overhead(10, 0.1)
CKTILE = Overhead(35, 0.85)
FLYDSL = Overhead(23, 0.94)
CK = Overhead(13, 0.8)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one wave does in one turn.

    Attributes
    ----------
    mfma, vector, instructions : float
        Matrix instructions; those and the other vector ones; all.
    lds_bytes : float
        Read and written.
    """

    mfma: float
    vector: float
    instructions: float
    lds_bytes: float


def turn_of(kind: Kind, row_tiles: int, weight_tiles: float, waves: int, rest: Overhead) -> Turn:
    """Return what a turn of a wave costs.

    Parameters
    ----------
    kind : Kind
        Operands.
    row_tiles, weight_tiles : int, float
        Tiles of 16 rows, and of 16 weight rows, that a wave multiplies with each other.
    waves : int
        Waves that share the gathering of the rows.
    rest : Overhead
        Of the kernel's family.
    """
    steps = _STEPS[kind]
    mfma = steps * row_tiles * weight_tiles
    decode = (_CONVERTS + _SCALE_SHIFTS) * weight_tiles if kind is Kind.A16W4 else 0.0
    gathered = steps * row_tiles / waves
    row_scales = ceil(row_tiles / 2) if kind is Kind.A4W4 else 0
    loads = 2.5 * weight_tiles + row_scales + ceil(gathered)
    reads = steps * row_tiles
    others = rest.base + rest.per_mfma * mfma
    return Turn(
        mfma=mfma,
        vector=mfma + decode,
        instructions=mfma + decode + loads + reads + others,
        lds_bytes=REQUEST_BYTES * (reads + gathered),
    )


@dataclass(frozen=True, slots=True)
class Workgroup:
    """What the cost model knows of a kernel.

    Attributes
    ----------
    kind, stage : Kind, int
        Operands; 1 (gate and up rows) or 2.
    rows, columns : int
        Sorted rows and output columns of a workgroup.
    sort_block : int
        Rows of a sort block, a multiple of `rows`.
    waves, resident : int
        Waves of a workgroup, workgroups that a compute unit holds.
    parts : int
        Waves, or sets of them, that share the reduction of the workgroup.
    splits : int
        Workgroups that share the reduction, each leaving sums of its part.
    ahead : int
        Turns whose weights are requested before they are wanted.
    turn : Turn
        Of a wave.
    output : Output
        What is left behind.
    row_bytes : int
        Of an element that stage 2 leaves for its sum; f32 in our kernels.
    persistent : bool
        Whether workgroups stay for all rounds.
    walks_blocks : bool
        Whether a workgroup does all row blocks of its columns.
    """

    kind: Kind
    stage: int
    rows: int
    columns: int
    sort_block: int
    waves: int
    resident: int
    turn: Turn
    output: Output
    parts: int = 1
    splits: int = 1
    ahead: int = 1
    row_bytes: int = 4
    persistent: bool = False
    walks_blocks: bool = False

    @property
    def weight_rows(self) -> int:
        """Rows of the weights of a workgroup, gate and up together."""
        return self.columns * (2 if self.stage == 1 else 1)
