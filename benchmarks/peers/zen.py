# SPDX-License-Identifier: MIT
"""zentorch's fused MoE: bf16 weights, and packed int4 with scales a group and 8-bit activations."""

from __future__ import annotations

from typing import Any

import torch

from aiter_moe.enums import ActivationType
from aiter_moe.runs import Routing
from peers.int4 import int4
from peers.layers import Operands
from peers.library import load_operators


class Dense:
    """zentorch_fused_moe on bf16 weights."""

    def __init__(self, given: Operands, threads: int) -> None:
        torch.set_num_threads(threads)
        load_operators("zentorch/libzentorch.so")
        self.swiglu = given.layer.activation is ActivationType.Swiglu
        self.bias1 = self.bias2 = None
        if given.bias1 is not None and given.bias2 is not None:
            rows = torch.stack([self.rows(bias) for bias in given.bias1])
            self.bias1, self.bias2 = rows.bfloat16(), given.bias2.bfloat16()
        self.scales: tuple[torch.Tensor, ...] = ()
        self.load(given)

    def load(self, given: Operands) -> None:
        """Lay out the weights."""
        self.w1, self.w2 = given.stacked(self.rows)

    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return gate and up rows as the activation reads them: in turns for swigluoai."""
        return torch.stack(rows.chunk(2), dim=1).flatten(0, 1) if self.swiglu else rows

    def take(self, x: torch.Tensor, route: Routing) -> tuple[torch.Tensor, ...]:
        """Return bf16 rows, float32 factors, int32 experts."""
        return x, route.weights.contiguous(), route.ids.contiguous()

    def run(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the output, bf16 [tokens, model_dim]."""
        x, factors, ids = taken
        out = torch.empty_like(x)
        torch.ops.zentorch.zentorch_fused_moe(
            out, x, self.w1, self.w2, self.bias1, self.bias2, factors, ids, False,
            "swigluoai" if self.swiglu else "silu", *self.scales,
        )  # fmt: skip
        return out

    def result(self, returned: Any) -> torch.Tensor:
        """Return the output."""
        return returned


class Int4(Dense):
    """zentorch_fused_moe on packed int4; activations are quantised to 8 bits by the operator."""

    def load(self, given: Operands) -> None:
        """Lay out the weights: values as zentorch packs them, scales [experts, groups, rows]."""
        made = []
        for e in range(given.layer.experts):
            first, second = given.dense(e)
            made.append((*self._packed(self.rows(first)), *self._packed(second)))
        stacked = [torch.stack(parts) for parts in zip(*made, strict=True)]
        self.w1, scales1, self.w2, scales2 = stacked
        self.scales = (scales1, scales2)

    @staticmethod
    def _packed(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, scales = int4(weight)
        codes = torch.ops.zentorch.zentorch_woq_repack_weight(values)
        return codes.view(torch.int8), scales.T.contiguous()
