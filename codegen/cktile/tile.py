# SPDX-License-Identifier: MIT
"""One entry of aiter's CK-tile catalogue, as data, with the name that aiter prints for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiter_moe.codegen.gfx9.device import SIMD_REGISTERS
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import ActivationType
from aiter_moe.problem import Constraint

FAMILY = "cktile"
THREADS = 256
ODD_SUFFIX = "_odd"
"""Of the second kernel of an artifact, whose pipeline ends after an odd number of K blocks."""


@dataclass(frozen=True, slots=True)
class CkTile:
    """What aiter's generator knows of an instance.

    Attributes
    ----------
    stage : int
        1 (aiter's gemm1) or 2.
    block_m, block_n, block_k : int
        Rows, weight rows (gate and up together in stage 1) and elements of the reduction that a
        workgroup of 4 waves takes at a time.
    mfma_k : int
        Elements of the reduction of a matrix instruction: 32 for bf16 activations, 128 for fp8.
    per_cu : int
        Workgroups that the compiler is told to make room for on a compute unit.
    activation : ActivationType or None
        Fused activation of stage 1.
    bias : bool
        Adds the bias of an expert, which must then be given.
    split_k : bool
        Stage 1 leaves sums of a part of the reduction.
    """

    stage: int
    block_m: int
    block_n: int
    block_k: int
    mfma_k: int
    per_cu: int
    activation: ActivationType | None = None
    bias: bool = False
    split_k: bool = False

    @property
    def kernel_name(self) -> str:
        """Aiter's name of the kernel."""
        block = f"{THREADS}x{self.block_m}x{self.block_n}x{self.block_k}"
        told = {
            "MulRoutedWeight": self.stage == 2,
            "HasBias": self.bias,
            self.activation.name.lower() if self.activation else "": self.activation is not None,
            "SplitK": self.split_k,
        }
        return "_".join(
            [
                f"moe_cktile2stages_gemm{self.stage}_{block}_1x4_16x16x{self.mfma_k}",
                f"{self.per_cu}perCU_1x32",
                *(word for word, has in told.items() if has),
            ]
        )

    @property
    def label(self) -> str:
        """Columns, reduction step, workgroups of a compute unit; names do not use it."""
        return f"n{self.block_n}k{self.block_k}_{self.per_cu}perCU"

    @property
    def template(self) -> str:
        """Template of the stage."""
        return f"cktile_stage{self.stage}.hip.j2"

    @property
    def output(self) -> Output:
        """Bf16 rows in stage 1; stage 2 adds to the zeroed output."""
        return Output.BF16 if self.stage == 1 else Output.ATOMIC

    @property
    def direct(self) -> bool:
        """The routing is always sorted."""
        return False

    @property
    def requires(self) -> frozenset[str]:
        """Nothing beside the architecture."""
        return frozenset()

    @property
    def compile_flags(self) -> tuple[str, ...]:
        """No flags beside those of the family (`codegen.cktile.compiler`)."""
        return ()

    @property
    def vgpr_budget(self) -> int:
        """Registers a lane may use: a workgroup puts one wave on each SIMD of its compute unit."""
        return SIMD_REGISTERS // self.per_cu // 8 * 8

    @property
    def lds_bytes(self) -> int:
        """Static LDS: two stages of bf16 rows."""
        return 2 * self.block_m * self.block_k * 2

    def parameters(self) -> dict[str, int | str | bool]:
        """Template arguments of the device code."""
        return {
            "block_n": self.block_n,
            "block_k": self.block_k,
            "per_cu": self.per_cu,
            "bias": self.bias,
            "threads": THREADS,
            "odd_suffix": ODD_SUFFIX,
        }

    def constraints(self) -> Sequence[Constraint]:
        """Return what CK's kernels ask of a problem."""
        from aiter_moe.codegen.cktile.rules import RULES

        return RULES


def cktile(instance: Instance) -> CkTile:
    """Return the tile of a CK-tile instance."""
    tile = instance.tile
    assert isinstance(tile, CkTile), f"{instance.name} has no CK-tile tile"
    return tile
