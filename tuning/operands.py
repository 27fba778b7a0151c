# SPDX-License-Identifier: MIT
"""Random operands of one MoE layer, the same in every process that knows the seed.

Weights are made one expert at a time and scaled so that outputs stay of order one; tokens and
routing are made so that fewer tokens are a prefix of more. What should come out of them is
`tuning.expected`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2
from typing import NamedTuple

import numpy as np
import torch

from aiter_moe.enums import ActivationType, GateMode
from aiter_moe.formats import MX_BLOCK
from aiter_moe.layouts import PackedWeight
from aiter_moe.pipeline import ActivationConstants, Experts
from aiter_moe.problem import Problem
from aiter_moe.runs import Routing
from aiter_moe.weights import kernel_layout

ROTATIONS = 8
_FP4_RMS = 2.93


@dataclass(frozen=True, slots=True)
class Layer:
    """What problems of one layer share, whatever their tokens and operand kind."""

    model_dim: int
    inter_dim: int
    experts: int
    topk: int
    activation: ActivationType
    dtype: torch.dtype = torch.bfloat16
    has_bias: bool = False
    doweight_stage1: bool = False
    gate_mode: GateMode = GateMode.SEPARATED

    @classmethod
    def of(cls, problem: Problem) -> Layer:
        """Return the layer a problem belongs to."""
        return cls(
            problem.model_dim,
            problem.inter_dim,
            problem.experts,
            problem.topk,
            problem.activation,
            problem.dtype,
            problem.has_bias,
            problem.doweight_stage1,
            problem.gate_mode,
        )

    @property
    def constants(self) -> ActivationConstants:
        """Run-time constants of the activation, as `fused_moe` passes them by default."""
        return ActivationConstants.of(self.activation)


class ExpertWeights(NamedTuple):
    """Row-major weights of one expert: codes uint8 [rows, cols/2], scales uint8 [rows, cols/32]."""

    codes1: torch.Tensor
    scales1: torch.Tensor
    codes2: torch.Tensor
    scales2: torch.Tensor


def rotated(route: Routing, turn: int, experts: int) -> Routing:
    """Return the same routing over other experts: equal load, weights cold in the caches."""
    shift = (turn % ROTATIONS) * max(1, experts // ROTATIONS)
    return replace(route, ids=((route.ids + shift) % experts).to(torch.int32))


def active_experts(route: Routing) -> int:
    """Return how many experts get at least one token."""
    return len(set(route.ids.flatten().tolist()))


def _matrix(rows: int, cols: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    codes = torch.randint(0, 256, (rows, cols // 2), generator=generator, dtype=torch.uint8)
    centre = 127 - round(log2(_FP4_RMS * cols**0.5))
    scales = torch.randint(
        centre - 1, centre + 2, (rows, cols // MX_BLOCK), generator=generator, dtype=torch.uint8
    )
    return codes, scales


def expert_weights(layer: Layer, seed: int, expert: int) -> ExpertWeights:
    """Return both weights of one expert; e8m0 scales keep ``W x`` near unit variance."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + expert) % 2**63)
    first = _matrix(2 * layer.inter_dim, layer.model_dim, generator)
    second = _matrix(layer.model_dim, layer.inter_dim, generator)
    return ExpertWeights(*first, *second)


def biases(layer: Layer, seed: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return float32 [experts, 2 * inter_dim] and [experts, model_dim], or (None, None)."""
    if not layer.has_bias:
        return None, None
    generator = np.random.default_rng([seed, 1])
    shapes = ((layer.experts, 2 * layer.inter_dim), (layer.experts, layer.model_dim))
    first, second = (
        torch.from_numpy(0.5 * generator.standard_normal(s, dtype=np.float32)) for s in shapes
    )
    return first, second


def hidden_states(layer: Layer, seed: int, tokens: int) -> torch.Tensor:
    """Return activations [tokens, model_dim] of the layer's dtype, unit variance."""
    generator = np.random.default_rng([seed, 2])
    values = generator.standard_normal((tokens, layer.model_dim), dtype=np.float32)
    return torch.from_numpy(values).to(layer.dtype)


def routing(layer: Layer, seed: int, tokens: int) -> Routing:
    """Route tokens by a random router in which some experts are more popular than others.

    The weights are the softmax over the chosen logits, as gpt-oss and Qwen3 do.
    """
    popularity = np.random.default_rng([seed, 3]).standard_normal(layer.experts, dtype=np.float32)
    generator = np.random.default_rng([seed, 4])
    logits = generator.standard_normal((tokens, layer.experts), dtype=np.float32)
    chosen, ids = torch.from_numpy(logits + 0.5 * popularity).topk(layer.topk, dim=1)
    return Routing(ids=ids.to(torch.int32), weights=torch.softmax(chosen, dim=1))


def pack_experts(layer: Layer, seed: int, gfx: str) -> Experts:
    """Return all experts' weights in the layout the kernels of a device read, with their biases."""
    rows, cols = 2 * layer.inter_dim, layer.model_dim
    first = _empty(layer.experts, rows, cols)
    second = _empty(layer.experts, layer.model_dim, layer.inter_dim)
    for e in range(layer.experts):
        first[0][e], first[1][e], second[0][e], second[1][e] = expert_weights(layer, seed, e)
    w2 = PackedWeight.pack(*second, kernel_layout(gfx, "w2", layer.gate_mode))
    del second  # row-major and packed codes of both weights together need not fit
    w1 = PackedWeight.pack(*first, kernel_layout(gfx, "w1", layer.gate_mode))
    return Experts(w1, w2, *biases(layer, seed), gate_mode=layer.gate_mode)


def _empty(experts: int, rows: int, cols: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return room for the codes and scales of all experts."""
    return (
        torch.empty((experts, rows, cols // 2), dtype=torch.uint8),
        torch.empty((experts, rows, cols // MX_BLOCK), dtype=torch.uint8),
    )
