# SPDX-License-Identifier: MIT
"""vLLM's CPU kernels, called as operators of its libraries.

Its Python would choose the MXFP4 kernel on CPUs with AMX alone; the kernel itself asks for AVX-512
with BF16. The library is the one its Python would load: by BF16, AVX-512, or neither.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from aiter_moe.enums import ActivationType
from aiter_moe.forward import Routing
from peers import layers
from peers.layers import Operands

MXFP4 = 4  # CPUQuantMethod.MXFP4
ALIGNMENT = 32


def _library(name: str) -> None:
    """Load one of the wheel's libraries; its package needs much that is not installed."""
    paths = (Path(folder) / "vllm" / f"{name}.abi3.so" for folder in sys.path)
    torch.ops.load_library(str(next(path for path in paths if path.is_file())))


def _by_cpu() -> str:
    if not torch.cpu._is_avx512_supported():
        return "_C_AVX2"
    return "_C" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512"


class Mxfp4:
    """fused_experts_cpu on packed MXFP4 weights; gate rows before up rows."""

    def __init__(self, given: Operands, threads: int) -> None:
        torch.set_num_threads(threads)
        _library("_C")
        self.layer, self.bias1, self.bias2 = given.layer, given.bias1, given.bias2
        pack, pack_scale = torch.ops._C.convert_weight_packed, torch.ops._C.convert_scale_packed
        self.w1, self.w2 = pack(given.codes1.clone()), pack(given.codes2.clone())
        self.s1, self.s2 = pack_scale(given.scales1.clone()), pack_scale(given.scales2.clone())
        swiglu = given.layer.activation is ActivationType.Swiglu
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
        swiglu = given.layer.activation is ActivationType.Swiglu
        self.activation = "swigluoai" if swiglu else "silu"
        made = [given.dense(e) for e in range(given.layer.experts)]
        self.w1 = self._packed(torch.stack([self._rows(first, swiglu) for first, _ in made]))
        self.w2 = self._packed(torch.stack([second for _, second in made]))
        self.bias1 = self.bias2 = None
        if given.bias1 is not None and given.bias2 is not None:
            rows = torch.stack([self._rows(bias, swiglu) for bias in given.bias1])
            self.bias1, self.bias2 = rows.bfloat16(), given.bias2.bfloat16()

    @staticmethod
    def _rows(rows: torch.Tensor, swiglu: bool) -> torch.Tensor:
        """Return gate and up rows as the kernel reads them: in turns for swigluoai."""
        return torch.stack(rows.chunk(2), dim=1).flatten(0, 1) if swiglu else rows

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
