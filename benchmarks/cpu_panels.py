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

import torch
from cpu_limits import Machine
from peers.layers import SEED, layer_named

from aiter_moe import Layout, PackedWeight
from aiter_moe.huge_pages import advise
from aiter_moe.pipeline import Experts
from aiter_moe.targets.cpu_features import thread_count
from aiter_moe.tuning.operands import pack_experts, routing

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
        print(f"{name:46} {panels.codes.numel() / seconds / 1e9:6.1f} GB/s")


def pages(shape: str, repeats: int) -> None:
    """Print what is read a second of the experts of one token, in huge and in small pages."""
    layer = layer_named(shape)
    huge = pack_experts(layer, SEED, "cpu")
    small = Experts(in_small_pages(huge.w1), in_small_pages(huge.w2))
    ids = routing(layer, SEED, 1).ids.flatten().tolist()
    for threads in sorted({1, thread_count()}):
        machine = Machine(threads)
        samples: dict[str, list[float]] = {"huge": [], "small": []}
        for turn in range(10 * repeats):
            for experts, found in zip((huge, small), samples.values(), strict=True):
                chosen = [(e + 4 * turn) % layer.experts for e in ids]
                codes = [w.codes[e] for e in chosen for w in (experts.w1, experts.w2)]
                found.append(machine.read_ranges([(c.data_ptr(), c.numel()) for c in codes]))
        for name, found in samples.items():
            what = f"experts of a token, {name} pages, {threads} threads"
            print(f"{what:46} {statistics.median(found) / 1e9:6.1f} GB/s")


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
