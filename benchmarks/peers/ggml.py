# SPDX-License-Identifier: MIT
"""ggml's MXFP4 through ggml_moe.cpp: its weights and calls."""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch

from aiter_moe.enums import ActivationType
from aiter_moe.runs import Routing
from peers import layers
from peers.layers import Operands

LIBRARY = "libggml_moe.so"


class _Layer(ctypes.Structure):
    """GgmlMoeLayer of ggml_moe.cpp."""

    _fields_ = (
        *((name, c_int64) for name in ("model_dim", "inter_dim", "experts")),
        *((name, c_void_p) for name in ("up", "gate", "down", "up_bias", "gate_bias", "down_bias")),
        ("swiglu", c_int32), ("alpha", c_float), ("limit", c_float),
        ("repack", c_int32), ("threads", c_int32),
    )  # fmt: skip


def blocks(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return ggml's blocks uint8 [rows, cols / 32, 17] of codes [rows, cols / 2] and scales.

    Nibbles of ours are k and k + 1, ggml's are k and k + 16 of a block.
    """
    rows, count = scales.shape
    pairs = codes.view(rows, count, 16)
    values = torch.stack((pairs & 15, pairs >> 4), dim=-1).view(rows, count, 32)
    return torch.cat((scales[..., None], values[..., :16] | (values[..., 16:] << 4)), dim=-1)


def _library() -> ctypes.CDLL:
    path = next(p for folder in sys.path if (p := Path(folder) / LIBRARY).is_file())
    library = ctypes.CDLL(str(path))
    library.ggml_moe_new.restype = c_void_p
    library.ggml_moe_new.argtypes = [c_void_p]
    library.ggml_moe_prepare.argtypes = [c_void_p, c_int64, c_int64]
    library.ggml_moe_run.argtypes = [c_void_p] * 5
    return library


class Repacked:
    """Weights as ggml repacks them for this CPU; activations quantised to 8 bits by ggml."""

    def __init__(self, given: Operands, threads: int) -> None:
        layer = given.layer
        self.layer, self.library, self.prepared = layer, _library(), 0
        half = layer.inter_dim
        gate, up, down = [], [], []
        for e in range(layer.experts):
            w = given.expert(e)
            gate.append(blocks(w.codes1[:half], w.scales1[:half]))
            up.append(blocks(w.codes1[half:], w.scales1[half:]))
            down.append(blocks(w.codes2, w.scales2))
        kept = [torch.stack(parts) for parts in (up, gate, down)]
        bias1, bias2 = given.bias1, given.bias2
        if bias1 is not None and bias2 is not None:
            kept += [bias1[:, half:].contiguous(), bias1[:, :half].contiguous(), bias2]
        addresses = [t.data_ptr() for t in kept] + [None] * (6 - len(kept))
        swiglu = layer.activation is ActivationType.Swiglu
        described = _Layer(
            layer.model_dim, half, layer.experts, *addresses,
            swiglu, layers.ALPHA, layers.LIMIT, 1, threads,
        )  # fmt: skip
        self.handle = self.library.ggml_moe_new(ctypes.byref(described))
        if not self.handle:
            raise RuntimeError("ggml_moe_new found no memory")

    def take(self, x: torch.Tensor, route: Routing) -> tuple[torch.Tensor, ...]:
        """Return float32 rows, int32 experts, float32 factors, and room for the output."""
        if len(x) != self.prepared:
            if self.library.ggml_moe_prepare(self.handle, len(x), self.layer.topk):
                raise RuntimeError("ggml found no memory for its graph")
            self.prepared = len(x)
        rows = x.float().contiguous()
        return rows, route.ids.contiguous(), route.weights.contiguous(), torch.empty_like(rows)

    def run(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the output, float32 [tokens, model_dim]."""
        addresses = (c_void_p(t.data_ptr()) for t in taken)
        if self.library.ggml_moe_run(self.handle, *addresses):
            raise RuntimeError("ggml could not compute its graph")
        return taken[3]

    def result(self, returned: Any) -> torch.Tensor:
        """Return the output."""
        return returned
