# SPDX-License-Identifier: MIT
"""A kernel instance: one tile configuration of one kernel kind for one target, as data.

The set of instances is `codegen.catalogue`; what they can run is `codegen.constraints`. A name
is printed from an instance and never parsed: rows of a CSV find their instance by equality of
names within a catalogue.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiter_moe.enums import ActivationType, Kind
from aiter_moe.problem import Constraint

# Sort blocks that every target has kernels for; a GPU's catalogue may have larger ones too.
BLOCK_M = (16, 32, 64, 128)
# What stage 1 can fuse, on every target.
ACTIVATIONS = tuple(a for a in ActivationType if a is not ActivationType.No)


class Output(enum.Enum):
    """What a stage kernel leaves behind, and with it what the next kernel must take."""

    BF16 = "bf16"
    """Stage 1: bf16 rows token * topk + slot."""
    FP4 = "fp4"
    """Stage 1: the same rows requantised, and their scales as stage 2 reads them."""
    ROWS = "rows"
    """Stage 2: f32 rows token * topk + slot, which another kernel sums in slot order."""
    ATOMIC = "atomic"
    """Stage 2: added to the zeroed output in the order in which workgroups finish."""
    FINAL = "final"
    """Stage 2: the output itself, summed in slot order."""


class Tile(Protocol):
    """Target-specific part of an instance: tile sizes and code-generation choices."""

    @property
    def label(self) -> str:
        """Short text that tells this tile from others, part of the instance's name."""

    @property
    def template(self) -> str:
        """File name of the Jinja template that instantiates the kernel."""

    @property
    def block_k(self) -> int:
        """Elements of the reduction whose multiples a split falls on."""

    @property
    def output(self) -> Output:
        """What the kernel leaves behind."""

    @property
    def direct(self) -> bool:
        """Whether the kernel reads the routing itself, for a few tokens, instead of a sort."""

    @property
    def requires(self) -> frozenset[str]:
        """CPU features the compiled code needs (empty on GPUs: the architecture says it all)."""

    @property
    def compile_flags(self) -> tuple[str, ...]:
        """Compiler flags of this tile beside those of the target, e.g. ``-mavx512f``."""

    def parameters(self) -> dict[str, int | str | bool]:
        """Values the template sees beside those of the instance."""

    def constraints(self) -> Sequence[Constraint]:
        """Constraints that follow from the tile alone."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One kernel.

    Attributes
    ----------
    target : str
        ``cpu``, ``gfx950`` or ``gfx942``.
    kind : Kind
        Operand formats; a stage-2 a16w4 kernel also serves a4w4 problems that skip the
        requantisation of the intermediate.
    stage : int
        1 (gate/up, activation) or 2 (down projection).
    block_m : int
        Sorted rows a workgroup (GPU) or work item (CPU) owns; equals the sort block.
    activation : ActivationType or None
        Fused activation of stage 1; None in stage 2.
    split_k : bool
        Stage 1 writes f32 partial sums per K split, and a second entry point of the same
        artifact sums them in fixed order with bias and activation.
    tile : Tile
        Target-specific tile configuration.
    """

    target: str
    kind: Kind
    stage: int
    block_m: int
    activation: ActivationType | None
    split_k: bool
    tile: Tile

    @property
    def name(self) -> str:
        """Kernel name, as it stands in a CSV's kernelName1 or kernelName2."""
        parts = [self.target, str(self.kind), f"s{self.stage}"]
        if self.activation is not None:
            parts.append(self.activation.name.lower())
        parts += [f"m{self.block_m}", self.tile.label]
        if self.split_k:
            parts.append("splitk")
        return "aiter_moe_" + "_".join(parts)

    @property
    def family(self) -> str:
        """Whose device code it is made from: ours (""), or another that is used where named."""
        return ""

    @property
    def constraints(self) -> Sequence[Constraint]:
        """Everything a problem must meet to run on this instance."""
        from aiter_moe.codegen.constraints import GENERAL

        return (*GENERAL, *self.tile.constraints())

    def __str__(self) -> str:
        return self.name
