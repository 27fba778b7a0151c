# SPDX-License-Identifier: MIT
"""Calls of a kind that was made before, found by all that their checks and plans depend on.

A call with the key of another one passes the same checks and runs the same kernels; only values
are left to look at, and the kernels do that. So a key must hold everything else: dtypes, shapes,
strides and places of tensors, options, the environment and the tuned files.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch

from aiter_moe import env
from aiter_moe.configs.lookup import stamps
from aiter_moe.forward import Forward, Options, Routing
from aiter_moe.pipeline import Experts
from aiter_moe.targets.registry import Target

# Layers of a model share their calls; what differs is the number of tokens.
_MOST = 4096

Key = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class KnownCall:
    """How calls of one key run.

    Attributes
    ----------
    forward : Forward
        With a layer: a call is one run of one launch.
    target : Target
        Where.
    converts : bool
        The weights must be laid out for its kernels first.
    """

    forward: Forward
    target: Target
    converts: bool


_calls: dict[Key, KnownCall] = {}


def call_key(
    hidden: torch.Tensor,
    a1_scale: torch.Tensor | None,
    experts: Experts,
    routing: Routing,
    options: Options,
    output: torch.Tensor | None,
) -> Key:
    """Return all that the checks and the plan of a call depend on but the values of tensors."""
    w1, w2 = experts.w1, experts.w2
    codes1, codes2 = w1.codes, w2.codes
    environment = env.snapshot()
    return (
        options, environment, stamps() if env.names_files(environment) else (),
        torch.get_num_threads(), experts.gate_mode,
        w1.packing, codes1.shape, codes1.is_cpu, w2.packing, codes2.shape, codes2.is_cpu,
        hidden.dtype, hidden.shape, hidden.stride(), hidden.is_cpu,
        *_traits(routing.ids), *_traits(routing.weights),
        None if a1_scale is None else _traits(a1_scale),
        None if experts.bias1 is None else _traits(experts.bias1),
        None if experts.bias2 is None else _traits(experts.bias2),
        None if routing.expert_mask is None else _traits(routing.expert_mask),
        None if routing.num_local_tokens is None else _traits(routing.num_local_tokens),
        None if output is None else _traits(output),
    )  # fmt: skip


def _traits(tensor: torch.Tensor) -> Key:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.is_cpu


def find(key: Key) -> KnownCall | None:
    """Return how calls of this key run, if there was one that is one launch."""
    return _calls.get(key)


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
