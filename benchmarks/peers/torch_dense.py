# SPDX-License-Identifier: MIT
"""torch with weights dequantised once: a linear per active expert and stage."""

from __future__ import annotations

from typing import ClassVar

import torch

from aiter_moe.enums import ActivationType
from aiter_moe.runs import Routing
from peers import layers
from peers.layers import Operands


def activate(z: torch.Tensor, activation: ActivationType) -> torch.Tensor:
    """Return act(gate, up) of rows [n, 2 * inter_dim] in their own dtype."""
    gate, up = z.chunk(2, dim=1)
    if activation is ActivationType.Swiglu:
        gate, up = gate.clamp(max=layers.LIMIT), up.clamp(-layers.LIMIT, layers.LIMIT)
        return gate * torch.sigmoid(layers.ALPHA * gate) * (up + 1)
    return torch.nn.functional.silu(gate) * up


class Bf16:
    """bf16 weights, four times the memory of MXFP4."""

    dtype: ClassVar[torch.dtype] = torch.bfloat16

    def __init__(self, given: Operands, threads: int) -> None:
        torch.set_num_threads(threads)
        self.layer = given.layer
        made = [given.dense(e) for e in range(given.layer.experts)]
        self.w1, self.w2 = ([w[i].to(self.dtype) for w in made] for i in (0, 1))
        none = [None] * given.layer.experts
        self.bias1 = none if given.bias1 is None else list(given.bias1.to(self.dtype))
        self.bias2 = none if given.bias2 is None else list(given.bias2.to(self.dtype))

    def take(self, x: torch.Tensor, route: Routing) -> tuple[torch.Tensor, Routing]:
        """Return the rows in the dtype of the weights."""
        return x.to(self.dtype), route

    def run(self, taken: tuple[torch.Tensor, Routing]) -> torch.Tensor:
        """Return the output in the dtype of the weights [tokens, model_dim]."""
        x, route = taken
        linear = torch.nn.functional.linear
        flat, factors = route.ids.flatten(), route.weights.flatten()
        order = flat.argsort(stable=True)
        experts, counts = flat[order].unique_consecutive(return_counts=True)
        out = torch.zeros(x.shape, dtype=torch.float32)
        for e, slots in zip(experts.tolist(), order.split(counts.tolist()), strict=True):
            token = slots // route.ids.shape[1]
            z = linear(x[token], self.w1[e], self.bias1[e])
            y = linear(activate(z, self.layer.activation), self.w2[e], self.bias2[e])
            out.index_add_(0, token, y * factors[slots, None])
        return out.to(self.dtype)

    def result(self, returned: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        return returned


class Float32(Bf16):
    """float32 weights, eight times the memory: the faster one where bf16 is emulated."""

    dtype = torch.float32
