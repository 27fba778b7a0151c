# SPDX-License-Identifier: MIT
"""Calls of a kind that was made before, found by all that their checks and plans depend on.

A call with the key of another one passes the same checks and runs the same kernels; only values
are left to look at, and the kernels do that. So a key must hold everything else: options, dtypes,
shapes, strides and places of tensors, the environment and the tuned files.

A layer of few tokens takes less time than a thousand lines of memory that are no longer in the
cache, so what runs on every call is short and makes few objects.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from aiter_moe import checks, env
from aiter_moe.configs.lookup import stamps
from aiter_moe.enums import GateMode
from aiter_moe.forward import Forward
from aiter_moe.layouts import PackedWeight
from aiter_moe.pipeline import Experts
from aiter_moe.runs import Routing
from aiter_moe.targets.base import LayerTensors
from aiter_moe.targets.registry import Target
from aiter_moe.weights import kernel_experts

# Layers of a model share their calls; what differs is the number of tokens.
_MOST = 4096

# Where layers read and write, whatever torch's default device is.
_HOST = torch.device("cpu")

Key = tuple[Hashable, ...]


class Operands(NamedTuple):
    """The tensors of a call, weights as the caller holds them."""

    hidden: torch.Tensor
    a1_scale: torch.Tensor | None
    w1: PackedWeight
    w2: PackedWeight
    bias1: torch.Tensor | None
    bias2: torch.Tensor | None
    weights: torch.Tensor
    ids: torch.Tensor
    expert_mask: torch.Tensor | None
    num_local_tokens: torch.Tensor | None
    output: torch.Tensor | None

    def experts(self, order: GateMode) -> Experts:
        """Return weights and biases, w1's rows in `order`."""
        return Experts(self.w1, self.w2, self.bias1, self.bias2, order)

    def routing(self) -> Routing:
        """Return what says who goes where."""
        return Routing(self.weights, self.ids, self.expert_mask, self.num_local_tokens)

    @property
    def plain(self) -> bool:
        """Whether a layer takes all but the weights as they are, and every token counts."""
        rows = self.hidden, self.ids, self.weights
        scale, mask = self.a1_scale, self.expert_mask
        return (
            all(tensor.is_contiguous() for tensor in rows)
            and (scale is None or scale.is_contiguous())
            and (mask is None or (mask.dtype == torch.int32 and mask.is_contiguous()))
            and self.num_local_tokens is None
        )


@dataclass(frozen=True, slots=True)
class KnownCall:
    """How calls of one key run.

    Attributes
    ----------
    forward : Forward
        With a layer: a call is one run of one launch.
    target : Target
        Where.
    order : GateMode
        Of w1's rows.
    converts : bool
        The weights must be laid out for its kernels first.
    plain : bool
        As `Operands.plain`.
    """

    forward: Forward
    target: Target
    order: GateMode
    converts: bool
    plain: bool

    def run(self, operands: Operands) -> torch.Tensor:
        """Return the layer's output; see `fused_moe` for what may be wrong with values."""
        hidden, scale, w1, w2, bias1, bias2, weights, ids, mask, _, out = operands
        if out is None:
            shape = hidden.shape[0], w2.rows
            out = torch.empty(shape, dtype=self.forward.dtype, device=_HOST)
        else:
            checks.check_overlap(out, hidden)
        layer = self.forward.layer
        if layer is None or self.converts or not self.plain:
            return self._run_laid_out(operands, out)
        tokens = hidden.shape[0]
        layer.run(
            LayerTensors(
                hidden, scale, ids, weights, mask, tokens, w1.codes, w2.codes, bias1, bias2, out
            )
        )
        return out

    def _run_laid_out(self, operands: Operands, out: torch.Tensor) -> torch.Tensor:
        experts = operands.experts(self.order)
        if self.converts:
            experts = kernel_experts(experts, self.target)
        hidden, scale = operands.hidden, operands.a1_scale
        return self.forward.run(hidden, scale, experts, operands.routing(), out)


_calls: dict[Key, KnownCall] = {}


def call_key(options: Key, operands: Operands) -> Key:
    """Return all that the checks and the plan of a call depend on but the values of tensors.

    Parameters
    ----------
    options : tuple
        What the caller gave that is not a tensor.
    operands : Operands
        What is.
    """
    hidden, scale, w1, w2, bias1, bias2, weights, ids, mask, local, out = operands
    # What torch answers for a tensor of a class of ours takes longer than for one of its own.
    packing1, codes1, packing2, codes2 = w1.packing, w1.codes, w2.packing, w2.codes
    environment = env.snapshot()
    return (
        options,
        environment,
        stamps() if env.names_files(environment) else (),
        torch.get_num_threads(),
        # layouts are the same objects for ever, and their hash is slow
        id(packing1.layout), packing1.rows, packing1.cols, codes1.shape, codes1.is_cpu,
        id(packing2.layout), packing2.rows, packing2.cols, codes2.shape, codes2.is_cpu,
        hidden.dtype, hidden.shape, hidden.stride(), hidden.is_cpu,
        weights.dtype, weights.shape, weights.is_contiguous(), weights.is_cpu,
        ids.dtype, ids.shape, ids.is_contiguous(), ids.is_cpu,
        None if scale is None else _traits(scale),
        None if bias1 is None else _traits(bias1),
        None if bias2 is None else _traits(bias2),
        None if mask is None else _traits(mask),
        None if local is None else _traits(local),
        None if out is None else _traits(out),
    )  # fmt: skip


def _traits(tensor: torch.Tensor) -> Key:
    return tensor.dtype, tensor.shape, tensor.is_contiguous(), tensor.is_cpu


def find(key: Key) -> KnownCall | None:
    """Return how calls of this key run, if there was one that is one launch."""
    try:
        return _calls.get(key)
    except TypeError:  # an option that is not hashable, and none that is known
        return None


def remember(key: Key, known: KnownCall) -> None:
    """Keep how calls of this key run, where that is one launch."""
    if known.forward.layer is None:
        return
    if len(_calls) >= _MOST:
        _calls.clear()
    _calls[key] = known


def forget() -> None:
    """Let every call be checked and planned again."""
    _calls.clear()
