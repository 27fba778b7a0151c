# SPDX-License-Identifier: MIT
"""What a target offers the two-stage pipeline: one interface for CPU, HIP and emulator.

The pipeline (`aiter_moe.pipeline`) fills `StageArgs`; a target gives the memory kernels write,
sorts, quantises, lays scales out, launches stage kernels and reduces. Nothing here knows a
concrete device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import ScaleRounding
from aiter_moe.targets.arguments import StageArgs


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Identity of the device a problem runs on, as tuned tables key it.

    Attributes
    ----------
    gfx : str
        ``gfx950``, ``gfx942`` or ``cpu``.
    cu_num : int
        Compute units; threads on the CPU target.
    features : frozenset of str
        Instruction-set features that instances may ask for (CPU target).
    product : str
        Marketing name, recorded and never matched.
    """

    gfx: str
    cu_num: int
    features: frozenset[str] = frozenset()
    product: str = ""


@dataclass(frozen=True, slots=True)
class SortedTokens:
    """Result of the MoE sort (aiter ``moe_sorting``).

    Attributes
    ----------
    ids : torch.Tensor
        int32 [P], ``slot << 24 | token``; pads are ``topk << 24 | tokens``.
    weights : torch.Tensor
        float32 [P], 0 in pads.
    expert_ids : torch.Tensor
        int32 [ceil(P / block)], local expert per block, -1 past the last used block.
    num_valid : torch.Tensor
        int32 [2]: used sorted slots, tokens processed.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    expert_ids: torch.Tensor
    num_valid: torch.Tensor


class Launcher(Protocol):
    """Runs compiled kernels on one target."""

    @property
    def facts(self) -> DeviceFacts:
        """Identity of the device."""

    def empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return memory for kernels to write: of any content, or NaN where that is looked for."""

    def sort(
        self,
        topk_ids: torch.Tensor,
        topk_weights: torch.Tensor,
        num_experts: int,
        block_m: int,
        expert_mask: torch.Tensor | None,
        num_local_tokens: torch.Tensor | None,
    ) -> SortedTokens:
        """Sort (token, slot) pairs by expert, padded per expert to `block_m`."""

    def quantise(
        self, x: torch.Tensor, rounding: ScaleRounding
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise rows [R, K] to fp4 codes uint8 [R, K/2] and e8m0 scales uint8 [R, K/32]."""

    def stage_scales(self, scales: torch.Tensor, routed: SortedTokens, tokens: int) -> torch.Tensor:
        """Lay the e8m0 scales of a stage's rows out as its kernels read them.

        `scales` is uint8 [tokens, columns], or [tokens * topk, columns] in stage 2. The result
        is uint8 [rows, ``x_scale_stride``]; what kernels may read of its padding lies inside.
        """

    def run_stage(
        self, instance: Instance, args: StageArgs, tensors: Sequence[torch.Tensor]
    ) -> None:
        """Launch one stage kernel (with its split-k finish, if any) and order it after before.

        `tensors` are those `args` points into: all memory the kernel may touch.
        """

    def reduce(
        self, rows: torch.Tensor, topk: int, out: torch.Tensor, valid: torch.Tensor | None
    ) -> None:
        """Sum f32 rows [T*topk, H] over the slots of a token in fixed order into `out` [T, H].

        `valid` is bool [T, topk]; False slots (masked experts) are skipped.
        """
