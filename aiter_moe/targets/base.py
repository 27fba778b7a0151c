# SPDX-License-Identifier: MIT
"""What a target offers the two-stage pipeline: one interface for CPU, HIP and emulator.

The pipeline (`aiter_moe.pipeline`) fills `StageArgs`; a target gives the memory kernels write,
sorts, quantises, lays scales out, launches stage kernels and reduces. On a GPU each of these is
one kernel. Nothing here knows a concrete device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeGuard

import torch

from aiter_moe.codegen.instance import Instance
from aiter_moe.targets.arguments import ElementType, StageArgs


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


@dataclass(frozen=True, slots=True)
class RowsLayout:
    """How rows of a matrix lie: type of the elements, and elements from row to row."""

    kind: ElementType
    stride: int


@dataclass(frozen=True, slots=True)
class LayerShape:
    """A planned layer of one shape: all but the values of its tensors.

    Attributes
    ----------
    stage1, stage2 : Instance
        Kernels, both of one sort block.
    ksplit : int
        Parts of stage 1's reduction where its kernel splits.
    tokens, topk : int
        Rows of the activations, routed experts per row.
    experts, held : int
        Experts that ids may name, and those whose weights are here.
    model_dim, inter_dim : int
        Sizes that are computed.
    weight1, weight2 : tuple of int
        Physical rows and columns of an expert.
    bias1, bias2 : int
        Floats from expert to expert of the biases; 0 without.
    doweight_stage1 : bool
        Routing weights multiply in stage 1 instead of stage 2.
    limit, beta, linear_beta : float
        Constants of the activation.
    x : RowsLayout
        Hidden states; fp4 where they come quantised.
    x_scale_stride : int
        Bytes from row to row of their scales.
    out : RowsLayout
        The output.
    out_columns : int
        Its columns; those from `model_dim` on become 0.
    """

    stage1: Instance
    stage2: Instance
    ksplit: int
    tokens: int
    topk: int
    experts: int
    held: int
    model_dim: int
    inter_dim: int
    weight1: tuple[int, int]
    weight2: tuple[int, int]
    bias1: int
    bias2: int
    doweight_stage1: bool
    limit: float
    beta: float
    linear_beta: float
    x: RowsLayout
    x_scale_stride: int
    out: RowsLayout
    out_columns: int


class LayerTensors(NamedTuple):
    """The tensors of one call of a `LayerShape`, and its number of leading tokens that are routed.

    Routing tensors are contiguous, `mask` is int32, and elements of a row of `x` and of `x_scale`
    lie one after the other.
    """

    x: torch.Tensor
    x_scale: torch.Tensor | None
    ids: torch.Tensor
    weights: torch.Tensor
    mask: torch.Tensor | None
    processed: int
    w1: torch.Tensor
    w2: torch.Tensor
    bias1: torch.Tensor | None
    bias2: torch.Tensor | None
    out: torch.Tensor


class Layer(Protocol):
    """A layer of one shape, ready to run."""

    def run(self, tensors: LayerTensors) -> None:
        """Write the layer's output; where the routing is unusable, raise and write nothing."""


class Launcher(Protocol):
    """Runs compiled kernels on one target."""

    @property
    def runs_layers(self) -> bool:
        """Whether it is a `LayerLauncher`."""

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


class LayerLauncher(Launcher, Protocol):
    """A launcher that runs the steps of a layer in one go."""

    def layer(self, shape: LayerShape) -> Layer:
        """Return the layer of a shape, with its kernels loaded."""


def runs_layers(launcher: Launcher) -> TypeGuard[LayerLauncher]:
    """Say whether a launcher runs the steps of a layer in one go."""
    return launcher.runs_layers
