# SPDX-License-Identifier: MIT
"""The layers that are timed: their operands, and the bytes and operations a call cannot avoid.

Weights are those of the tuner (`tuning.operands`), made once into a file that every process maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from aiter_moe.durable import replacing
from aiter_moe.enums import ActivationType
from aiter_moe.formats import dequantise
from aiter_moe.runs import Routing
from aiter_moe.tuning import operands
from aiter_moe.tuning.model_shapes import MODELS
from aiter_moe.tuning.operands import ExpertWeights, Layer

SEED = 7
STEPS = 8
BYTES_PER_WEIGHT = 17 / 32
ALPHA, LIMIT = 1.702, 7.0


def layer_named(name: str) -> Layer:
    """Return the layer of a packaged model shape."""
    model = next(model for model in MODELS if model.name == name)
    return Layer(
        model.hidden,
        model.inter // model.tensor_parallel,
        model.experts,
        model.topk,
        model.activation,
        has_bias=model.activation is ActivationType.Swiglu,
    )


def described(layer: Layer) -> str:
    """Return a layer's sizes in words."""
    bias = " with bias" if layer.has_bias else ""
    return (
        f"E {layer.experts}, topk {layer.topk}, {layer.model_dim} x {layer.inter_dim}, "
        f"{layer.activation.name}{bias}"
    )


def hidden_states(layer: Layer, tokens: int) -> torch.Tensor:
    """Return bf16 activations [tokens, model_dim]; fewer tokens are a prefix of more."""
    return operands.hidden_states(layer, SEED, tokens)


def routing(layer: Layer, tokens: int, turn: int = 0) -> Routing:
    """Return the routing of a turn: the same load on other experts.

    Eight turns in a row share no expert at one token, and the next eight begin one further on, so
    that weights come from memory even where an eighth of them fits into the caches.
    """
    route = operands.routing(layer, SEED, tokens)
    shift = turn * max(1, layer.experts // STEPS) + turn // STEPS
    return replace(route, ids=((route.ids + shift) % layer.experts).to(torch.int32))


@dataclass(frozen=True)
class Operands:
    """A layer with its weights.

    Attributes
    ----------
    layer : Layer
        Its sizes.
    codes1, scales1, codes2, scales2 : torch.Tensor
        uint8 [experts, rows, cols / 2 or cols / 32], row-major, gate rows before up rows.
    bias1, bias2 : torch.Tensor or None
        float32 [experts, 2 * inter_dim] and [experts, model_dim].
    """

    layer: Layer
    codes1: torch.Tensor
    scales1: torch.Tensor
    codes2: torch.Tensor
    scales2: torch.Tensor
    bias1: torch.Tensor | None
    bias2: torch.Tensor | None

    def expert(self, index: int) -> ExpertWeights:
        """Return codes and scales of one expert."""
        return ExpertWeights(
            self.codes1[index], self.scales1[index], self.codes2[index], self.scales2[index]
        )

    @cached_property
    def _pairs(self) -> torch.Tensor:
        """Both values of every byte of codes: bf16 [256, 2] as int32 [256]."""
        codes = torch.arange(256, dtype=torch.uint8).repeat_interleave(16).view(256, 16)
        one = torch.full((256, 1), 127, dtype=torch.uint8)
        values = dequantise(codes, one, torch.float32)[:, :2].bfloat16()
        return values.contiguous().view(torch.int32).flatten()

    def _dense(self, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        values = self._pairs[codes.int().flatten()].view(torch.bfloat16)
        factors = (scales.int() << 7).to(torch.int16).view(torch.bfloat16)
        return (values.view(*scales.shape, 32) * factors[..., None]).view(len(codes), -1)

    def dense(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both weights of an expert as bf16 [rows, cols], which holds them exactly."""
        w = self.expert(index)
        return self._dense(w.codes1, w.scales1), self._dense(w.codes2, w.scales2)

    def stacked(
        self, first_rows: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.clone
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both weights of all experts as bf16 [experts, rows, cols].

        `first_rows` reorders the rows of w1 of one expert, so that no second copy of all is made.
        """
        sizes = self.layer
        inner, outer = sizes.inter_dim, sizes.model_dim
        w1 = torch.empty((sizes.experts, 2 * inner, outer), dtype=torch.bfloat16)
        w2 = torch.empty((sizes.experts, outer, inner), dtype=torch.bfloat16)
        for e in range(sizes.experts):
            first, w2[e] = self.dense(e)
            w1[e] = first_rows(first)
        return w1, w2


def _shapes(layer: Layer) -> list[tuple[int, ...]]:
    rows, cols, inner = 2 * layer.inter_dim, layer.model_dim, layer.inter_dim
    first, second = (layer.experts, rows), (layer.experts, cols)
    return [
        (*first, cols // 2),
        (*first, cols // 32),
        (*second, inner // 2),
        (*second, inner // 32),
    ]


def weights_file(name: str, folder: Path) -> Path:
    """Return the file of a layer's weights, made if it is not there."""
    path = folder / f"weights-{name}-{SEED}.bin"
    if path.is_file():
        return path
    layer = layer_named(name)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        sizes = [int(np.prod(shape)) for shape in _shapes(layer)]
        whole = np.memmap(draft, np.uint8, "w+", shape=(sum(sizes),))
        parts = _split(torch.from_numpy(whole), layer)
        for e in range(layer.experts):
            made = operands.expert_weights(layer, SEED, e)
            for part, tensor in zip(parts, made, strict=True):
                part[e] = tensor
        whole.flush()
    return path


def _split(whole: torch.Tensor, layer: Layer) -> list[torch.Tensor]:
    shapes = _shapes(layer)
    sizes = [int(np.prod(shape)) for shape in shapes]
    return [part.view(shape) for part, shape in zip(whole.split(sizes), shapes, strict=True)]


def load(name: str, folder: Path) -> Operands:
    """Return a layer with its weights, which stay in the file."""
    layer = layer_named(name)
    whole = np.memmap(weights_file(name, folder), np.uint8, "c")  # private: torch wants to write
    return Operands(layer, *_split(torch.from_numpy(whole), layer), *operands.biases(layer, SEED))


def touched_bytes(layer: Layer, tokens: int) -> float:
    """Return the bytes of MXFP4 weights with scales that the routed experts have."""
    active = operands.active_experts(routing(layer, tokens))
    return active * 3 * layer.inter_dim * layer.model_dim * BYTES_PER_WEIGHT


def operations(layer: Layer, tokens: int) -> float:
    """Return the multiplications and additions of a call's matrix products."""
    return 2.0 * tokens * layer.topk * 3 * layer.inter_dim * layer.model_dim
