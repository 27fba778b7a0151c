# SPDX-License-Identifier: MIT
"""vLLM's CPU kernels, called as operators of its libraries.

Its Python would choose the MXFP4 kernel on CPUs with AMX alone; the kernel itself asks for AVX-512
with BF16. The library is the one its Python would load: by BF16, AVX-512, or neither.
"""

from __future__ import annotations

from typing import Any

import torch

from aiter_moe.enums import ActivationType
from aiter_moe.runs import Routing
from aiter_moe.tuning.operands import Layer
from peers import layers
from peers.layers import Operands
from peers.library import load_operators

MXFP4 = 4  # CPUQuantMethod.MXFP4


def _library(name: str) -> None:
    load_operators(f"vllm/{name}.abi3.so")


def _by_cpu() -> str:
    if not torch.cpu._is_avx512_supported():
        return "_C_AVX2"
    return "_C" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512"


def gate_up(rows: torch.Tensor, layer: Layer, axis: int = 1) -> torch.Tensor:
    """Return gate and up rows as the kernels read them: Swiglu's in turns."""
    if layer.activation is not ActivationType.Swiglu:
        return rows.contiguous()
    return torch.stack(rows.chunk(2, axis), axis + 1).flatten(axis, axis + 1)


class Mxfp4:
    """fused_experts_cpu on packed MXFP4 weights."""

    def __init__(self, given: Operands, threads: int) -> None:
        torch.set_num_threads(threads)
        _library("_C")
        layer, pack = given.layer, torch.ops._C.convert_weight_packed
        pack_scale = torch.ops._C.convert_scale_packed
        self.w1, self.s1 = (
            pack(gate_up(given.codes1, layer)),
            pack_scale(gate_up(given.scales1, layer)),
        )
        self.w2, self.s2 = pack(given.codes2.clone()), pack_scale(given.scales2.clone())
        self.bias1 = None if given.bias1 is None else gate_up(given.bias1, layer)
        self.bias2 = given.bias2
        swiglu = layer.activation is ActivationType.Swiglu
        self.alpha, self.limit = (layers.ALPHA, layers.LIMIT) if swiglu else (None, None)

    def take(self, x: torch.Tensor, route: Routing) -> tuple[torch.Tensor, ...]:
        """Return the output's room, bf16 rows, float32 factors, int32 experts."""
        return torch.empty_like(x), x, route.weights.contiguous(), route.ids.contiguous()

    def run(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the output, bf16 [tokens, model_dim]."""
        out, x, factors, ids = taken
        torch.ops._C.fused_experts_cpu(
            out, x, self.w1, self.w2, factors, ids, MXFP4, self.s1, self.s2, None, None, None,
            None, self.bias1, self.bias2, self.alpha, self.limit, True,
        )  # fmt: skip
        return out

    def result(self, returned: Any) -> torch.Tensor:
        """Return the output."""
        return returned


class Dense:
    """cpu_fused_moe on bf16 weights: AMX tiles where the CPU has them, else vectors."""

    def __init__(self, given: Operands, threads: int) -> None:
        torch.set_num_threads(threads)
        _library(_by_cpu())
        self.isa = "amx" if torch.cpu._is_amx_tile_supported() else "vec"
        layer = given.layer
        self.activation = "swigluoai" if layer.activation is ActivationType.Swiglu else "silu"
        w1, self.w2 = given.stacked(lambda rows: gate_up(rows, layer, axis=0))
        self.w1 = self._packed(w1)
        del w1
        self.w2 = self._packed(self.w2)
        self.bias1 = self.bias2 = None
        if given.bias1 is not None and given.bias2 is not None:
            self.bias1 = gate_up(given.bias1, layer).bfloat16()
            self.bias2 = given.bias2.bfloat16()

    def _packed(self, weight: torch.Tensor) -> torch.Tensor:
        packed = torch.empty_like(weight)
        torch.ops._C.prepack_moe_weight(weight, packed, self.isa)
        return packed

    def take(self, x: torch.Tensor, route: Routing) -> tuple[torch.Tensor, ...]:
        """Return the output's room, bf16 rows, float32 factors, int32 experts."""
        return torch.empty_like(x), x, route.weights.contiguous(), route.ids.contiguous()

    def run(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the output, bf16 [tokens, model_dim]."""
        out, x, factors, ids = taken
        torch.ops._C.cpu_fused_moe(
            out, x, self.w1, self.w2, self.bias1, self.bias2, factors, ids, False,
            self.activation, self.isa,
        )  # fmt: skip
        return out

    def result(self, returned: Any) -> torch.Tensor:
        """Return the output."""
        return returned
