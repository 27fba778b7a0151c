# SPDX-License-Identifier: MIT
"""The two kinds of this project, as a user calls them."""

from __future__ import annotations

from typing import ClassVar

import torch

from aiter_moe import dtypes, fused_moe, prepare_weights
from aiter_moe.runs import Routing
from peers.layers import Operands


class A16W4:
    """`fused_moe` with bf16 activations."""

    q_dtype_a: ClassVar[torch.dtype] = torch.bfloat16

    def __init__(self, given: Operands, threads: int) -> None:
        torch.set_num_threads(threads)
        self.layer, self.bias1, self.bias2 = given.layer, given.bias1, given.bias2
        self.w1, self.w2 = prepare_weights(
            given.codes1.clone(), given.codes2.clone(), given.scales1.clone(), given.scales2.clone()
        )

    def take(self, x: torch.Tensor, route: Routing) -> tuple[torch.Tensor, Routing]:
        """Return the operands as they are."""
        return x, route

    def run(self, taken: tuple[torch.Tensor, Routing]) -> torch.Tensor:
        """Return the layer's output, bf16 [tokens, model_dim]."""
        x, route = taken
        return fused_moe(
            x, self.w1, self.w2, route.weights, route.ids,
            activation=self.layer.activation, bias1=self.bias1,
            bias2=self.bias2, q_dtype_a=self.q_dtype_a,
        )  # fmt: skip

    def result(self, returned: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        return returned


class A4W4(A16W4):
    """`fused_moe` that quantises activations to MXFP4."""

    q_dtype_a = dtypes.fp4x2
