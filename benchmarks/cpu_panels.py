# SPDX-License-Identifier: MIT
"""Weights in panels: how fast other layouts become them, what huge pages are worth to reads.

    python benchmarks/cpu_panels.py

Bytes are those of the panels; samples are interleaved and medians are told.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import count

import torch
from peers.layers import SEED, layer_named

from aiter_moe import Kind, Layout, PackedWeight, fused_moe
from aiter_moe.huge_pages import advise
from aiter_moe.problem import Q_DTYPE_A
from aiter_moe.tuning.operands import hidden_states, pack_experts, rotated, routing

SOURCES = (Layout.PLAIN, Layout.SHUFFLED, Layout.SHUFFLED_GATE_UP)


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each call, all called in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def in_small_pages(weight: PackedWeight) -> PackedWeight:
    """Return a copy whose pages are the processor's smallest."""
    codes = torch.empty_like(weight.codes)
    advise(codes, mmap.MADV_NOHUGEPAGE)
    return weight.rebuild(codes.copy_(weight.codes), weight.scales)


def conversions(rows: int, cols: int, experts: int, repeats: int) -> None:
    """Print a line for each layout that becomes panels, and for panels that become rows."""
    codes = torch.randint(0, 256, (experts, rows, cols // 2), dtype=torch.uint8)
    scales = torch.randint(0, 255, (experts, rows, cols // 32), dtype=torch.uint8)
    weights = {layout: PackedWeight.pack(codes, scales, layout) for layout in SOURCES}
    panels = weights[Layout.PLAIN].to_layout(Layout.PANEL_GATE_UP)
    calls: dict[str, Callable[[], object]] = {
        f"{layout} to PANEL_GATE_UP": lambda w=weight: w.to_layout(Layout.PANEL_GATE_UP)
        for layout, weight in weights.items()
    }
    calls["PANEL_GATE_UP to PLAIN"] = lambda: panels.to_layout(Layout.PLAIN)
    calls["plain copy"] = panels.codes.clone
    for name, seconds in medians(calls, repeats).items():
        print(f"{name:40} {panels.codes.numel() / seconds / 1e9:6.1f} GB/s")


def pages(shape: str, repeats: int) -> None:
    """Print what a call of one token reads a second, with weights in huge and in small pages."""
    layer = layer_named(shape)
    experts = pack_experts(layer, SEED, "cpu")
    weights = {
        "huge": (experts.w1, experts.w2),
        "small": (in_small_pages(experts.w1), in_small_pages(experts.w2)),
    }
    x, route = hidden_states(layer, SEED, 1), routing(layer, SEED, 1)
    turns = count()

    def call(w1: PackedWeight, w2: PackedWeight, kind: Kind) -> None:
        turned = rotated(route, next(turns), layer.experts)
        fused_moe(
            x, w1, w2, turned.weights, turned.ids, activation=layer.activation,
            bias1=experts.bias1, bias2=experts.bias2, q_dtype_a=Q_DTYPE_A[kind],
        )  # fmt: skip

    calls: dict[str, Callable[[], object]] = {}
    for name, pair in weights.items():
        for kind in Kind:
            calls[f"1 token of {kind}, {name} pages"] = partial(call, *pair, kind)
    size = layer.topk * sum(w.codes[0].numel() for w in weights["huge"])
    for name, seconds in medians(calls, 10 * repeats).items():
        print(f"{name:40} {size / seconds / 1e9:6.1f} GB/s")


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="gptoss-20b")
    parser.add_argument("--experts", type=int, default=16, help="experts that are converted")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    layer = layer_named(options.shape)
    print(f"{options.shape}, {torch.get_num_threads()} threads of torch")
    conversions(2 * layer.inter_dim, layer.model_dim, options.experts, options.repeats)
    pages(options.shape, options.repeats)


if __name__ == "__main__":
    main()
