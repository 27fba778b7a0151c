# SPDX-License-Identifier: MIT
"""amd-pace's MoE engine on bf16 weights, called as the operator of its library."""

from __future__ import annotations

from typing import Any

import torch

from aiter_moe.enums import ActivationType
from aiter_moe.runs import Routing
from peers.layers import Operands
from peers.library import load_operators

ROWS = 32


def packed(weight: torch.Tensor) -> torch.Tensor:
    """Return bf16 [rows, cols] as [rows / 32, cols / 64, 32, 32, 2]: pairs of columns innermost."""
    rows, cols = weight.shape
    blocks = weight.view(rows // ROWS, ROWS, cols // 64, 32, 2)
    return blocks.permute(0, 2, 3, 1, 4).contiguous()


class Dense:
    """libxsmm_moe_engine."""

    def __init__(self, given: Operands, threads: int) -> None:
        torch.set_num_threads(threads)
        load_operators("pace/lib/libpace_cpp.so")
        self.experts, half = given.layer.experts, given.layer.inter_dim
        swiglu = given.layer.activation is ActivationType.Swiglu
        self.activation = "gptoss_glu" if swiglu else "silu"
        self.weights: list[torch.Tensor] = []
        for e in range(self.experts):
            first, second = given.dense(e)
            made = [packed(part) for part in (first[:half], first[half:], second)]
            if not self.weights:
                self.weights = [part.new_empty((self.experts, *part.shape)) for part in made]
            for whole, part in zip(self.weights, made, strict=True):
                whole[e] = part
        self.biases: list[torch.Tensor | None] = [None] * 3
        if given.bias1 is not None and given.bias2 is not None:
            parts = (given.bias1[:, :half], given.bias1[:, half:], given.bias2)
            self.biases = [part.bfloat16().contiguous() for part in parts]

    def take(self, x: torch.Tensor, route: Routing) -> tuple[torch.Tensor, ...]:
        """Return bf16 rows, int64 experts, float32 factors."""
        return x, route.ids.long(), route.weights.contiguous()

    def run(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the output, bf16 [tokens, model_dim]."""
        x, ids, factors = taken
        out = torch.zeros_like(x)
        torch.ops.pace.libxsmm_moe_engine(
            out, x, ids, factors, *self.weights, *self.biases, self.activation, self.experts
        )
        return out

    def result(self, returned: Any) -> torch.Tensor:
        """Return the output."""
        return returned
