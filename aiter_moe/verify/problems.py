# SPDX-License-Identifier: MIT
"""The problems a stage kernel is run on: axes as data, one case as a value.

Which combinations of the axes are run is `verify.covering`; what is in the tensors of a case is
`verify.operands`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch

from aiter_moe.codegen.cktile import cktile
from aiter_moe.codegen.constraints import legal_ksplit
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.pipeline import ActivationConstants
from aiter_moe.problem import Q_DTYPE_A, Problem, token_tier
from aiter_moe.sizes import ceil_div


class Size(NamedTuple):
    """Elements that are computed: hidden size and intermediate size."""

    hidden: int
    inter: int

    def __str__(self) -> str:
        return f"{self.hidden}x{self.inter}"


class Spread(Enum):
    """Where the tokens of a case go.

    ``one``: the same experts get every token and the others none; ``sparse``: every other expert
    gets none; ``masked``: half the experts are another rank's; ``local``: the last third of the
    tokens is not processed (num_local_tokens).
    """

    RANDOM = "random"
    ONE = "one"
    SPARSE = "sparse"
    MASKED = "masked"
    LOCAL = "local"


class Padding(Enum):
    """Which sizes of the weight tensors exceed what is computed (hidden_pad, intermediate_pad)."""

    NONE = "none"
    HIDDEN = "hidden"
    INTER = "inter"
    BOTH = "both"

    @property
    def hidden(self) -> int:
        """Elements of hidden padding."""
        return 3 * MX_BLOCK if self in (Padding.HIDDEN, Padding.BOTH) else 0

    @property
    def inter(self) -> int:
        """Elements of intermediate padding."""
        return 5 * MX_BLOCK if self in (Padding.INTER, Padding.BOTH) else 0


class Scales(Enum):
    """Scale bytes of weights and activations: near one, or with blocks at either end of e8m0."""

    USUAL = "usual"
    EXTREME = "extreme"


CKTILE_SIZES = (Size(512, 256), Size(768, 512), Size(256, 768), Size(3072, 384))
"""Sizes of which each stage of a CK-tile kernel can run some, in odd and even numbers of blocks."""
SIZES = (
    Size(512, 128), Size(2880, 192), Size(3072, 384), Size(512, 640), Size(96, 32), Size(256, 1536)
)  # fmt: skip
TOKENS = (1, 3, 17, 129)
FEW_TOKENS = (1, 3, 7)
"""Of kernels that read the routing themselves, beside their block of 16."""
TOPKS = (1, 4, 8)
KSPLITS = (2, 1, 3, 4, 8)
CONSTANTS: Mapping[ActivationType | None, tuple[ActivationConstants, ...]] = {
    None: (ActivationConstants(),),
    ActivationType.Gelu: (ActivationConstants(),),
    ActivationType.Silu: (ActivationConstants(), ActivationConstants(limit=0.75)),
    ActivationType.Swiglu: (ActivationConstants(limit=7.0), ActivationConstants(limit=1.25)),
    ActivationType.Situv2: (
        ActivationConstants(),
        ActivationConstants(beta=4.0, linear_beta=25.0),
    ),
}


class Axis(NamedTuple):
    """A field of `StageCase` and the values it takes; the first is the plainest."""

    name: str
    values: tuple[Any, ...]


def axes_of(instance: Instance) -> tuple[Axis, ...]:
    """Return what varies from case to case of an instance, in a fixed order."""
    first, direct = instance.stage == 1, instance.tile.direct
    tokens = tuple(dict.fromkeys((*(FEW_TOKENS if direct else TOKENS), instance.block_m)))
    axes = (
        Axis("size", SIZES),
        Axis("tokens", tokens),
        Axis("spread", tuple(Spread)),
        Axis("padding", tuple(Padding)),
        Axis("topk", TOPKS),
        Axis("ksplit", KSPLITS if instance.split_k else (0 if instance.kind is Kind.A4W4 else 1,)),
        Axis("constants", CONSTANTS[instance.activation]),
        Axis("gate_mode", (GateMode.SEPARATED, GateMode.INTERLEAVE)[: 2 if first else 1]),
        Axis("doweight", (False, True) if first else (True, False)),
        Axis("bias", (False, True)),
        Axis("scales", tuple(Scales)),
        Axis("raw", _raw_types(instance)),
    )
    narrowed = _cktile_values(instance) if instance.family else {}
    return tuple(Axis(axis.name, narrowed.get(axis.name, axis.values)) for axis in axes)


def _raw_types(instance: Instance) -> tuple[torch.dtype | None, ...]:
    """Return the types of rows that a kernel quantises itself; None: it gets codes."""
    if instance.kind is not Kind.A4W4 or not instance.tile.direct:
        return (None,)
    return (None, torch.bfloat16, torch.float16)[: 3 if instance.stage == 1 else 2]


def _cktile_values(instance: Instance) -> dict[str, tuple[Any, ...]]:
    """Return the axes of which CK-tile's rules leave few values, whatever the others have."""
    first = instance.stage == 1
    return {
        "size": CKTILE_SIZES,
        "padding": (Padding.NONE,),
        "gate_mode": (GateMode.INTERLEAVE if first else GateMode.SEPARATED,),
        "doweight": (not first,),
        "bias": (cktile(instance).bias,),
    }


@dataclass(frozen=True, slots=True)
class StageCase:
    """One run of one stage kernel.

    Attributes
    ----------
    instance : Instance
        The kernel; its block_m is the sort block.
    tokens, topk : int
        Rows of the hidden states, routed experts per row.
    size : Size
        What is computed; tensors are larger by `padding`.
    doweight : bool
        The routing weight multiplies in this stage.
    ksplit : int
        Parts of the reduction that a split-k kernel is told; else 1, or 0 for a4w4.
    raw : torch.dtype or None
        Type of the rows an a4w4 kernel quantises itself; None: it gets codes.
    seed : int
        Of activations, routing and biases, and of the order of waves on the emulator.
    """

    instance: Instance
    size: Size
    tokens: int
    spread: Spread
    padding: Padding
    topk: int
    ksplit: int
    constants: ActivationConstants
    gate_mode: GateMode
    doweight: bool
    bias: bool
    scales: Scales
    raw: torch.dtype | None
    seed: int

    @property
    def columns(self) -> int:
        """Output columns that are computed."""
        return self.size.inter if self.instance.stage == 1 else self.size.hidden

    @property
    def reduction(self) -> int:
        """Elements of the reduction."""
        return self.size.hidden if self.instance.stage == 1 else self.size.inter

    @property
    def physical(self) -> Size:
        """Sizes of the weight tensors."""
        return Size(self.size.hidden + self.padding.hidden, self.size.inter + self.padding.inter)

    @property
    def global_experts(self) -> int:
        """Experts that routing may name: enough for any spread to find `topk` distinct ones."""
        return 2 * self.topk + 1

    @property
    def local_tokens(self) -> int:
        """Leading tokens that are processed."""
        return 2 * self.tokens // 3 if self.spread is Spread.LOCAL else self.tokens

    def problem(self) -> Problem:
        """Return the problem this case poses, as constraints see it."""
        instance = self.instance
        doweight_stage1 = self.doweight is (instance.stage == 1)
        return Problem(
            token=token_tier(self.tokens),
            model_dim=self.size.hidden,
            inter_dim=self.size.inter,
            experts=ceil_div(self.global_experts, 2 if self.spread is Spread.MASKED else 1),
            topk=self.topk,
            activation=instance.activation or ActivationType.Silu,
            q_dtype_a=Q_DTYPE_A[instance.kind],
            doweight_stage1=doweight_stage1,
            has_bias=self.bias,
            gate_mode=self.gate_mode,
            hidden_pad=self.padding.hidden,
            intermediate_pad=self.padding.inter,
        )

    def refusal(self) -> str | None:
        """Return why the instance does not support this case, or None."""
        problem = self.problem()
        verdict = problem.supports(self.instance)
        if not verdict:
            return verdict.reason
        if self.instance.stage == 2:
            return None
        return legal_ksplit(problem, self.ksplit, self.instance.tile.block_k)

    def __str__(self) -> str:
        return " ".join(
            text
            for text in (
                f"tokens {self.tokens} topk {self.topk} {self.size} {self.spread.value}",
                f"ksplit {self.ksplit}" if self.instance.split_k else "",
                f"padded {self.padding.value}" if self.padding is not Padding.NONE else "",
                _constants_text(self.constants),
                "interleaved" if self.gate_mode is GateMode.INTERLEAVE else "",
                "weighted" if self.doweight else "",
                "bias" if self.bias else "",
                f"rows of {self.raw}".replace("torch.", "") if self.raw is not None else "",
                "extreme scales" if self.scales is Scales.EXTREME else "",
                f"seed {self.seed}",
            )
            if text
        )


def _constants_text(constants: ActivationConstants) -> str:
    if constants.limit:
        return f"limit {constants.limit:g}"
    if (constants.beta, constants.linear_beta) != (1.0, 1.0):
        return f"beta {constants.beta:g} {constants.linear_beta:g}"
    return ""
