# SPDX-License-Identifier: MIT
"""Measure the emulator: millions of instructions a second and core, with every check on.

Loops of vector instructions in assembly of the compiler's own, and the kernels of one MoE layer as
`fused_moe` launches them on the emulated gfx950. Seconds are CPU time of the emulator's threads,
without compiling, loading and decoding, of the fastest of some launches: other load on the machine
slows a thread down even by that measure. What a launch costs beside its instructions (loading and
decoding the code object, starting, the report) is the last line.

    python benchmarks/emulator.py
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import torch

from aiter_moe import dtypes, fused_moe
from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.enums import ActivationType
from aiter_moe.targets.emulator import EmulatorLauncher
from aiter_moe.targets.emulator_library import emulator
from aiter_moe.targets.emulator_report import InstructionClass, LaunchReport
from aiter_moe.targets.registry import running_target
from aiter_moe.tuning.operands import Layer, hidden_states, pack_experts, routing

SEED = 7
TARGET = "gfx950"
GROUPS, THREADS = 4, 256

# What stands for code of its kind: what the body of a loop does to each lane's numbers.
LOOPS = {
    "f32": "a = __builtin_fmaf(a, b, c); b = b * c + a; c = __builtin_fmaxf(c, a) - b;",
    "i32": "x = (x ^ y) + (x << 3); y = (y >> 5 | y << 27) * 9; x += y > x ? y : 3;",
    "both": "a = a * b + 1.0f; x = x * 5 + (u32)(a > b); b = (float)(x & 1023) - a; y ^= x >> 7;",
}
SOURCE = """
using u32 = unsigned;
extern "C" __attribute__((global)) void loop(u32* out, u32 turns) {{
  u32 x = __builtin_amdgcn_workitem_id_x(), y = x * 3 + 1;
  float a = x, b = y, c = 1.5f;
  #pragma unroll 4
  for (u32 turn = 0; turn < turns; ++turn) {{ {body} }}
  out[__builtin_amdgcn_workgroup_id_x() * {threads} + __builtin_amdgcn_workitem_id_x()] =
      x + y + __builtin_bit_cast(u32, a + b + c);
}}
"""


@functools.cache
def loop_code(name: str) -> bytes:
    """Compile one of LOOPS."""
    source = SOURCE.format(body=LOOPS[name], threads=THREADS)
    return ensure(BuildUnit(f"loop_{name}", TARGET, f"loop_{name}.hip", source)).path.read_bytes()


def vector_loop(name: str, turns: int) -> LaunchReport:
    """Run one of LOOPS and return its report."""
    out = np.zeros(GROUPS * THREADS, np.uint32)
    arguments = out.ctypes.data.to_bytes(8, "little") + turns.to_bytes(4, "little")
    return emulator(TARGET).launch(
        loop_code(name), "loop", (GROUPS, 1, 1), THREADS, arguments, [out], raise_on_fault=False
    )


def loop_report(name: str, turns: int) -> dict[str, LaunchReport]:
    """Return the same by what to print of it."""
    return {f"loop of {name}": vector_loop(name, turns)}


def layer_reports(layer: Layer, tokens: int, q_dtype_a: torch.dtype) -> dict[str, LaunchReport]:
    """Run the layer on the emulator and return the report of each kernel."""
    found: dict[str, LaunchReport] = {}
    launcher = EmulatorLauncher(TARGET, on_report=found.__setitem__)
    target = dataclasses.replace(running_target(f"{TARGET}:emulator"), launcher=lambda: launcher)
    experts, route = pack_experts(layer, SEED, TARGET), routing(layer, SEED, tokens)
    fused_moe(
        hidden_states(layer, SEED, tokens), experts.w1, experts.w2, route.weights, route.ids,
        activation=layer.activation, bias1=experts.bias1, bias2=experts.bias2,
        q_dtype_a=q_dtype_a, target=target,
    )  # fmt: skip
    return found


def fastest(run: Callable[[], Mapping[str, LaunchReport]], repeats: int) -> dict[str, LaunchReport]:
    """Return the report of the fastest of `repeats` launches of each kernel that `run` launches."""
    best: dict[str, LaunchReport] = {}
    for _ in range(repeats):
        for symbol, report in run().items():
            if symbol not in best or report.seconds < best[symbol].seconds:
                best[symbol] = report
    return best


def launch_milliseconds(launches: int = 50) -> float:
    """Return the CPU time of the process for a launch that executes next to nothing."""
    vector_loop("f32", 0)  # the first allocates storage
    begin = time.process_time()
    for _ in range(launches):
        vector_loop("f32", 0)
    return (time.process_time() - begin) / launches * 1e3


def show(name: str, report: LaunchReport) -> None:
    """Print one line about a launch."""
    total = report.counters["instructions"]
    shares: defaultdict[str, float] = defaultdict(float)
    for kind, count in report.by_class().items():
        shares[kind.name] += 100 * count / total
    parts = " ".join(
        f"{kind.name} {shares[kind.name]:.0f}%"
        for kind in InstructionClass
        if shares[kind.name] >= 0.5
    )
    rate = total / report.seconds / 1e6
    faults = f"  {len(report.faults)} FAULTS" if report.faults else ""
    print(f"{name:<48} {total / 1e6:9.2f} {report.seconds:8.2f} {rate:8.1f}  {parts}{faults}")


def main() -> None:
    """Print one line per kernel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40_000, help="of the vector loops")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--inter", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5, help="launches, the fastest counts")
    options = parser.parse_args()
    print(f"{'kernel':<48} {'M instr':>9} {'CPU s':>8} {'M/s':>8}  instructions by class")
    for name in LOOPS:
        loop = functools.partial(loop_report, name, options.turns)
        for symbol, report in fastest(loop, options.repeats).items():
            show(symbol, report)
    layer = Layer(options.hidden, options.inter, 4, 2, ActivationType.Silu, has_bias=False)
    for q_dtype_a in (torch.bfloat16, dtypes.fp4x2):
        reports = functools.partial(layer_reports, layer, options.tokens, q_dtype_a)
        for symbol, report in fastest(reports, options.repeats).items():
            show(symbol, report)
    print(f"a launch beside its instructions: {launch_milliseconds():.2f} ms")


if __name__ == "__main__":
    main()
