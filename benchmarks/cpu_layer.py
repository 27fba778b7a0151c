# SPDX-License-Identifier: MIT
"""Time one MoE layer on the CPU target beside torch, interleaved, and beside the memory's limit.

Both sides get the same routing and run from router output to layer output. torch multiplies in
bfloat16 with weights dequantised once (four times the memory). Weights are rotated from repeat
to repeat so that they come from memory. Ratios are of medians.

    python benchmarks/cpu_layer.py --shape gptoss-20b --tokens 1 16 128
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from aiter_moe import dtypes, fused_moe
from aiter_moe.enums import ActivationType
from aiter_moe.formats import dequantise
from aiter_moe.forward import Routing
from aiter_moe.targets.registry import running_target
from aiter_moe.tuning.model_shapes import MODELS
from aiter_moe.tuning.operands import (
    Layer,
    active_experts,
    biases,
    expert_weights,
    hidden_states,
    pack_experts,
    rotated,
    routing,
)

SEED = 7
ALPHA, LIMIT = 1.702, 7.0


def layer_named(name: str) -> Layer:
    """Return the layer of a packaged model shape."""
    model = next(model for model in MODELS if model.name == name)
    swiglu = model.activation is ActivationType.Swiglu
    return Layer(
        model.hidden,
        model.inter // model.tensor_parallel,
        model.experts,
        model.topk,
        model.activation,
        has_bias=swiglu,
    )


class TorchLayer:
    """The same layer in torch: bf16 weights, one matmul per active expert and stage."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        made = [expert_weights(layer, SEED, e) for e in range(layer.experts)]
        self.w1 = [dequantise(w.codes1, w.scales1, torch.float32).bfloat16() for w in made]
        self.w2 = [dequantise(w.codes2, w.scales2, torch.float32).bfloat16() for w in made]
        bias1, bias2 = biases(layer, SEED)
        self.bias1 = None if bias1 is None else bias1.bfloat16()
        self.bias2 = None if bias2 is None else bias2.bfloat16()

    def activate(self, z: torch.Tensor) -> torch.Tensor:
        """Return act(gate, up) of bf16 rows [n, 2 * inter_dim]."""
        gate, up = z.chunk(2, dim=1)
        if self.layer.activation is ActivationType.Swiglu:
            gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
            return gate * torch.sigmoid(ALPHA * gate) * (up + 1)
        return torch.nn.functional.silu(gate) * up

    def __call__(self, x: torch.Tensor, route: Routing) -> torch.Tensor:
        """Return the layer's output [tokens, model_dim]."""
        out = torch.zeros(x.shape, dtype=torch.float32)
        for e in route.ids.unique().tolist():
            token, slot = torch.where(route.ids == e)
            z = torch.nn.functional.linear(
                x[token], self.w1[e], None if self.bias1 is None else self.bias1[e]
            )
            y = torch.nn.functional.linear(
                self.activate(z), self.w2[e], None if self.bias2 is None else self.bias2[e]
            )
            out.index_add_(0, token, y * route.weights[token, slot, None])
        return out.bfloat16()


def read_bandwidth(memory: torch.Tensor) -> float:
    """Return bytes per second of reading `memory` (int64) once with all threads."""
    begin = time.perf_counter()
    memory.sum()
    return memory.nbytes / (time.perf_counter() - begin)


def medians(calls: dict[str, Callable[[int], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds per call, the calls interleaved and warmed up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(0)
    for turn in range(repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            call(turn)
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print one line per token count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="gptoss-20b", choices=[m.name for m in MODELS])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 4, 16, 64, 128])
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    layer = layer_named(options.shape)
    experts, peer = pack_experts(layer, SEED, "cpu"), TorchLayer(layer)
    memory = torch.ones(1 << 26, dtype=torch.int64)
    facts = running_target().facts
    print(f"{options.shape}, {facts.product}, {facts.cu_num} threads; ms are medians, interleaved")
    print(f"{'tokens':>6} {'a16w4 ms':>9} {'a4w4 ms':>9} {'torch ms':>9} "
          f"{'torch/a16w4':>12} {'torch/a4w4':>11} {'a16w4 GB/s':>11} "
          f"{'read GB/s':>10}")  # fmt: skip
    for tokens in options.tokens:
        x, route = hidden_states(layer, SEED, tokens), routing(layer, SEED, tokens)

        def ours(turn: int, q_dtype_a: torch.dtype, x=x, route=route) -> torch.Tensor:  # noqa: ANN001
            turned = rotated(route, turn, layer.experts)
            return fused_moe(
                x, experts.w1, experts.w2, turned.weights, turned.ids,
                activation=layer.activation, bias1=experts.bias1, bias2=experts.bias2,
                q_dtype_a=q_dtype_a,
            )  # fmt: skip

        bandwidths: list[float] = []
        seconds = medians(
            {
                "a16w4": lambda turn: ours(turn, torch.bfloat16),
                "a4w4": lambda turn: ours(turn, dtypes.fp4x2),
                "torch": lambda turn, x=x, r=route: peer(x, rotated(r, turn, layer.experts)),
                "read": lambda turn, b=bandwidths: b.append(read_bandwidth(memory)),
            },
            options.repeats,
        )
        touched = active_experts(route) * 3 * layer.inter_dim * layer.model_dim * 17 / 32
        print(f"{tokens:>6} {seconds['a16w4'] * 1e3:>9.2f} {seconds['a4w4'] * 1e3:>9.2f} "
              f"{seconds['torch'] * 1e3:>9.2f} {seconds['torch'] / seconds['a16w4']:>11.1f}x "
              f"{seconds['torch'] / seconds['a4w4']:>10.1f}x "
              f"{touched / seconds['a16w4'] / 1e9:>11.1f} "
              f"{statistics.median(bandwidths) / 1e9:>10.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
