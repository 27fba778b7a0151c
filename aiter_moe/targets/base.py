# SPDX-License-Identifier: MIT
"""What a target offers the two-stage pipeline: one interface for CPU, HIP and emulator.

The pipeline (`aiter_moe.pipeline`) fills `StageArgs`; a target gives the memory kernels write,
sorts, quantises, lays scales out, launches stage kernels and reduces. On a GPU each of these is
one kernel. Nothing here knows a concrete device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from aiter_moe.codegen.instance import Instance
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
class RoutedTokens:
    """Who goes where, before the sort.

    Attributes
    ----------
    ids, weights : torch.Tensor
        int32 and float32 [tokens, topk].
    experts : int
        Experts that ids may name: of all ranks where `expert_mask` is given.
    expert_mask : torch.Tensor or None
        int32 [experts], nonzero for experts held here; others are skipped.
    local_tokens : torch.Tensor or None
        One integer: leading tokens that are sorted, counted from the first of the whole call.
    first_token : int or None
        Tokens of the call before these; None: they are all of it.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    experts: int
    expert_mask: torch.Tensor | None = None
    local_tokens: torch.Tensor | None = None
    first_token: int | None = None


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
    positions : torch.Tensor or None
        int32 [tokens, topk]: sorted slot of each pair, -1 of one that has none. None where a
        target has no use for it and every pair has one.
    whole : bool
        Every pair has a slot, whatever the values of the routing.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    expert_ids: torch.Tensor
    num_valid: torch.Tensor
    positions: torch.Tensor | None = None
    whole: bool = False


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
        self, routed: RoutedTokens, block_m: int, cleared: torch.Tensor | None = None
    ) -> SortedTokens:
        """Sort (token, slot) pairs by expert, padded per expert to `block_m`.

        `cleared`, [rows, columns], is filled with zeros on the way.
        """

    def admit(self, routed: RoutedTokens) -> RoutedTokens:
        """Return the routing as kernels that read it themselves take it; refuse what no sort takes.

        Tensors are dense, those of the mask and of the number of tokens int32.
        """

    def quantise(
        self, x: torch.Tensor, routed: SortedTokens | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise rows to MXFP4 by aiter's default rule: codes, and scales for a stage's kernels.

        `x` is [tokens, K] or [tokens * topk, K]. Codes are uint8 [rows, K/2]; scales are those of
        `stage_scales`, or uint8 [rows, K/32] where `routed` is None.
        """

    def stage_scales(self, scales: torch.Tensor, routed: SortedTokens) -> torch.Tensor:
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

    def reduce(self, rows: torch.Tensor, routed: SortedTokens, out: torch.Tensor) -> None:
        """Sum f32 rows [T*topk, n] over the slots of a token in fixed order into `out`.

        Rows of pairs without a sorted slot are skipped. `out` is [T, columns]; columns past n
        become 0.
        """
