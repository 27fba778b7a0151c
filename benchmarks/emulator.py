# SPDX-License-Identifier: MIT
"""Measure the emulator: millions of instructions a second and core, with every check on.

Loops of vector instructions in assembly of the compiler's own, and the kernels of one MoE layer as
`fused_moe` launches them on the emulated gfx950. Seconds are CPU time of the emulator's threads,
without compiling, loading and decoding.

    python benchmarks/emulator.py
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict

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


def vector_loop(name: str, turns: int) -> LaunchReport:
    """Run one of LOOPS and return its report."""
    source = SOURCE.format(body=LOOPS[name], threads=THREADS)
    code = ensure(BuildUnit(f"loop_{name}", TARGET, f"loop_{name}.hip", source)).path
    out = np.zeros(GROUPS * THREADS, np.uint32)
    arguments = out.ctypes.data.to_bytes(8, "little") + turns.to_bytes(4, "little")
    return emulator(TARGET).launch(
        code, "loop", (GROUPS, 1, 1), THREADS, arguments, [out], raise_on_fault=False
    )


def layer_reports(layer: Layer, tokens: int, q_dtype_a: torch.dtype) -> dict[str, LaunchReport]:
    """Run the layer on the emulator and return the report of each kernel."""
    found: dict[str, LaunchReport] = {}
    launcher = EmulatorLauncher(TARGET, on_report=found.__setitem__)
    target = dataclasses.replace(running_target(f"{TARGET}:emulator"), launcher=lambda: launcher)
    experts, route = pack_experts(layer, SEED), routing(layer, SEED, tokens)
    fused_moe(
        hidden_states(layer, SEED, tokens), experts.w1, experts.w2, route.weights, route.ids,
        activation=layer.activation, bias1=experts.bias1, bias2=experts.bias2,
        q_dtype_a=q_dtype_a, target=target,
    )  # fmt: skip
    return found


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
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--inter", type=int, default=512)
    options = parser.parse_args()
    print(f"{'kernel':<48} {'M instr':>9} {'CPU s':>8} {'M/s':>8}  instructions by class")
    for name in LOOPS:
        show(f"loop of {name}", vector_loop(name, options.turns))
    layer = Layer(options.hidden, options.inter, 4, 2, ActivationType.Silu, has_bias=False)
    for q_dtype_a in (torch.bfloat16, dtypes.fp4x2):
        for symbol, report in layer_reports(layer, options.tokens, q_dtype_a).items():
            show(symbol, report)


if __name__ == "__main__":
    main()
