# SPDX-License-Identifier: MIT
"""Whole passes of `fused_moe` on shapes of real models with few experts, against float64.

Sort, quantisation, both stages, the reduction and the plan are what a user gets; the CPU target
runs the same call beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch

from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.errors import AiterMoeError
from aiter_moe.fused_moe import fused_moe
from aiter_moe.pipeline import Experts
from aiter_moe.problem import Q_DTYPE_A
from aiter_moe.targets.registry import Target, running_target
from aiter_moe.tuning import operands
from aiter_moe.tuning.expected import STAGE2_WAYS, Expected, Stage2Way, compute_expected
from aiter_moe.tuning.operands import Layer
from aiter_moe.verify.execute import faults_of
from aiter_moe.verify.expected import BF16_TOLERANCE, Judgement, Tolerance, judge
from aiter_moe.verify.figures import figures_of
from aiter_moe.verify.machine import Machine
from aiter_moe.verify.outcome import Outcome

TOKENS = (1, 40)
LAYERS = {
    "gpt-oss": Layer(
        2880, 2880, 6, 4, ActivationType.Swiglu, has_bias=True, gate_mode=GateMode.INTERLEAVE
    ),
    "MiniMax-M2 TP8": Layer(3072, 192, 12, 8, ActivationType.Silu),
}
WAY_NAMES = {
    Stage2Way(Kind.A16W4, Kind.A16W4): "a16w4",
    Stage2Way(Kind.A4W4, Kind.A4W4): "a4w4 requantised",
    Stage2Way(Kind.A4W4, Kind.A16W4): "a4w4 skip_inter_quant",
}
# The intermediate is rounded to bf16, where a kernel's last bit may tip the scale: to the next bf16
# number, which is nothing here, or, when it is quantised again, to the next of 8 fp4 magnitudes,
# which moves an output by some hundredths of its row.
TOLERANCES = {
    Kind.A16W4: Tolerance(BF16_TOLERANCE, 2.0**-8, 2.0**-8),
    Kind.A4W4: Tolerance(BF16_TOLERANCE, 2.0**-8, 2.0**-3),
}


@dataclass(frozen=True, slots=True)
class Pass:
    """A model's layer and a way through it.

    Attributes
    ----------
    model : str
        Key of `LAYERS`.
    way : Stage2Way
        Kind of the activations, and what stage 2 reads.
    """

    model: str
    way: Stage2Way

    @property
    def name(self) -> str:
        """How it is called in tables and filters."""
        return f"fused_moe {self.model} {WAY_NAMES[self.way]}"


def passes_of(kinds: frozenset[Kind]) -> Iterator[Pass]:
    """Yield the passes that kernels of these kinds can serve."""
    for model in LAYERS:
        for way in STAGE2_WAYS:
            if {way.problem, way.stage2} <= kinds:
                yield Pass(model, way)


@lru_cache(maxsize=1)
def _layer(model: str, seed: int, gfx: str) -> tuple[Experts, Expected]:
    layer = LAYERS[model]
    return operands.pack_experts(layer, seed, gfx), compute_expected(layer, seed, max(TOKENS))


def run_pass(what: Pass, tokens: int, seed: int, machine: Machine) -> Outcome:
    """Run one pass of `tokens` tokens, and the CPU target beside it."""
    experts, expected = _layer(what.model, seed, machine.target.facts.gfx)
    want = expected.out[what.way][:tokens].double()
    machine.drain()
    machine.choose_order(seed + tokens)
    begin = time.perf_counter()
    beside = None
    try:
        got = _call(what, tokens, seed, machine.target, experts).cpu()
        machine.wait()
        seconds = time.perf_counter() - begin
        judged = judge(got, want, TOLERANCES[what.way.stage2])
        if machine.target.name != "cpu":
            cpu = _call(what, tokens, seed, running_target("cpu"), experts)
            beside = float((got.double() - cpu.double()).norm() / want.norm())
    except AiterMoeError as error:
        seconds = time.perf_counter() - begin
        judged = Judgement(float("nan"), float("nan"), (str(error),))
    reasons = judged.reasons
    if beside is not None and not beside <= 2 * BF16_TOLERANCE:
        reasons += (f"relative L2 distance {beside:.2e} from the CPU target's output",)
    reports = machine.drain()
    return Outcome(
        f"tokens {tokens} seed {seed}", judged.error, judged.worst, reasons, faults_of(reports),
        figures_of(reports), seconds, {} if beside is None else {"from_cpu_target": beside},
    )  # fmt: skip


def _call(what: Pass, tokens: int, seed: int, target: Target, experts: Experts) -> torch.Tensor:
    layer = LAYERS[what.model]
    route = operands.routing(layer, seed, tokens)
    device = torch.device(target.device)
    bias1, bias2 = (None if b is None else b.to(device) for b in (experts.bias1, experts.bias2))
    return fused_moe(
        operands.hidden_states(layer, seed, tokens).to(device),
        experts.w1.to(device),
        experts.w2.to(device),
        route.weights.to(device),
        route.ids.to(device),
        activation=layer.activation,
        bias1=bias1,
        bias2=bias2,
        q_dtype_a=Q_DTYPE_A[what.way.problem],
        skip_inter_quant=what.way.stage2 is Kind.A16W4 if what.way.problem is Kind.A4W4 else None,
        gate_mode=layer.gate_mode,
        target=target,
    )
