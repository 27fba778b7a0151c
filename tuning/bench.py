# SPDX-License-Identifier: MIT
"""One layer laid out for measuring: runs a candidate on it, checks it, times it.

Lives in the measuring child (`tuning.worker`); the parent never runs a kernel. Launches go
through `aiter_moe.pipeline`, so what is timed is what `fused_moe` runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any

import torch

from aiter_moe import pipeline
from aiter_moe.enums import Kind
from aiter_moe.fused_moe import fused_moe
from aiter_moe.pipeline import Experts, MoeCall, Operand
from aiter_moe.problem import Problem
from aiter_moe.runs import Routing
from aiter_moe.targets.base import Launcher, RoutedTokens
from aiter_moe.tuning import operands
from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.expected import Expected, Stage2Way
from aiter_moe.tuning.operands import Layer
from aiter_moe.tuning.outcomes import Ok, WrongResult

TOLERANCE = 4e-3
ROW_TOLERANCE = 2 * TOLERANCE
CONFIRM_CALLS = 50
CONFIRM_NS = 500_000_000


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Make ``torch.empty`` hand out NaN, so that whatever a kernel does not write shows."""
    memory: Any = torch.utils.deterministic
    before = memory.fill_uninitialized_memory
    memory.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        memory.fill_uninitialized_memory = before


def compare(got: torch.Tensor, want: torch.Tensor) -> Ok | WrongResult:
    """Judge rows [..., n] against the reference: L2 error of the whole and of the worst row.

    bf16 rounding of the output alone costs 1.7e-3, evenly over the rows; the tolerance leaves
    as much again for float32 sums. A row may be off by twice the tolerance of the whole.
    """
    difference = (got.double() - want.double()).flatten(0, -2)
    reference = want.double().flatten(0, -2)
    error = float(difference.norm() / reference.norm().clamp(min=1e-300))
    rows = difference.norm(dim=1) / reference.norm(dim=1).clamp(min=1e-300)
    if error <= TOLERANCE and bool((rows <= ROW_TOLERANCE).all()):
        return Ok(error)
    holes = int(got.isnan().any(dim=-1).sum())
    if holes:
        return WrongResult(error, f"{holes} rows hold NaN or were not written")
    bad = int((rows > ROW_TOLERANCE).sum())
    return WrongResult(
        error,
        f"relative L2 error {error:.2e} (at most {TOLERANCE:g}), {bad} rows above "
        f"{ROW_TOLERANCE:g}",
    )


@dataclass(slots=True)
class Bench:
    """Operands of one layer with the results they must give.

    Attributes
    ----------
    launcher : Launcher
        Where candidates run.
    layer, seed, tokens : Layer, int, int
        The operands, and the largest token count they serve.
    experts : Experts
        Packed weights.
    expected : Expected
        Reference results.
    """

    launcher: Launcher
    layer: Layer
    seed: int
    tokens: int
    experts: Experts
    expected: Expected
    _held: int = 0
    _calls: dict[tuple[int, int], MoeCall] = field(default_factory=dict)
    _inputs: dict[Kind, Operand] = field(default_factory=dict)
    _middles: dict[Kind, torch.Tensor] = field(default_factory=dict)
    _turn: int = 0

    def hold(self, tokens: int) -> None:
        """Keep inputs of one token count only; those of the one before are dropped."""
        if tokens != self._held:
            for kept in (self._calls, self._inputs, self._middles):
                kept.clear()
            self._held = tokens

    def routing(self, tokens: int, turn: int = 0) -> Routing:
        """Return the routing of the first `tokens` tokens, rotated over the experts."""
        route = operands.routing(self.layer, self.seed, tokens)
        return operands.rotated(route, turn, self.layer.experts)

    def call(self, tokens: int, block_m: int, turn: int) -> MoeCall:
        """Return the sorted call of `tokens` tokens; sorting is not part of any stage's time."""
        self.hold(tokens)
        key = (block_m, turn)
        if key not in self._calls:
            route = self.routing(tokens, turn)
            self._calls[key] = MoeCall(
                launcher=self.launcher,
                experts=self.experts,
                sorted=self.launcher.sort(
                    RoutedTokens(route.ids, route.weights, self.layer.experts), block_m
                ),
                tokens=tokens,
                topk=self.layer.topk,
                model_dim=self.layer.model_dim,
                inter_dim=self.layer.inter_dim,
                doweight_stage1=self.layer.doweight_stage1,
                constants=self.layer.constants,
            )
        return self._calls[key]

    def first_operand(self, tokens: int, kind: Kind) -> Operand:
        """Return what stage 1 reads: bf16 rows, or their fp4 codes and scales."""
        self.hold(tokens)
        if kind not in self._inputs:
            x = operands.hidden_states(self.layer, self.seed, tokens)
            fp4 = kind is Kind.A4W4
            self._inputs[kind] = pipeline.quantised(self.launcher, x) if fp4 else Operand(x)
        return self._inputs[kind]

    def middle(self, tokens: int, kind: Kind) -> torch.Tensor:
        """Return stage 2's bf16 input [tokens * topk, inter_dim], which the reference gave.

        Rows of tokens beyond those the reference covers repeat rows it does cover: they are
        timed, and checked for holes, not compared.
        """
        self.hold(tokens)
        if kind not in self._middles:
            covered = self.expected.tokens
            position = torch.arange(tokens) % min(len(covered), 512)
            known = covered[covered < tokens]
            position[known] = torch.arange(len(known))
            rows = self.expected.stage1[kind].to(torch.bfloat16)[position]
            self._middles[kind] = rows.flatten(0, 1).contiguous()
        return self._middles[kind]

    def run(self, kind: Kind, tokens: int, candidate: Candidate, turn: int = 0) -> torch.Tensor:
        """Run one stage of a problem of `kind` once.

        Returns
        -------
        torch.Tensor
            Stage 1: bfloat16 [tokens, topk, inter_dim]. Stage 2, which includes requantising
            where the kernel reads fp4, and the reduction over topk: [tokens, model_dim].
        """
        call = self.call(tokens, candidate.block_m, turn)
        if candidate.stage == 1:
            x = self.first_operand(tokens, kind)
            rows = pipeline.stage1(call, x, instance=candidate.instance, ksplit=candidate.ksplit)
            return rows.values.view(tokens, self.layer.topk, self.layer.inter_dim)
        out = torch.empty((tokens, self.layer.model_dim), dtype=self.layer.dtype)
        call = replace(call, out=out)
        middle = Operand(self.middle(tokens, kind))
        a2 = pipeline.intermediate(call, middle, candidate.instance)
        down = pipeline.stage2(call, a2, instance=candidate.instance)
        pipeline.finish(call, down, candidate.instance)
        return out

    def check(self, kind: Kind, tokens: int, candidate: Candidate) -> Ok | WrongResult:
        """Compare one run, its memory filled with NaN before, with the reference."""
        with poisoned_memory():
            got = self.run(kind, tokens, candidate)
        if not bool(got.isfinite().all()):
            holes = int((~got.isfinite()).flatten(0, -2).any(dim=1).sum())
            return WrongResult(float("nan"), f"{holes} rows hold NaN or were not written")
        rows = self.expected.tokens[self.expected.tokens < tokens]
        if candidate.stage == 1:
            want = self.expected.stage1[kind][: len(rows)]
        else:
            want = self.expected.out[Stage2Way(kind, candidate.instance.kind)][: len(rows)]
        return compare(got[rows], want)

    def time(self, kind: Kind, tokens: int, candidate: Candidate, calls: int) -> list[int]:
        """Return the nanoseconds of `calls` runs, each over other experts than the one before."""
        durations = []
        for _ in range(calls):
            self._turn = (self._turn + 1) % operands.ROTATIONS
            self.call(tokens, candidate.block_m, self._turn)
            self._prepare_inputs(kind, tokens, candidate.stage)
            begin = time.perf_counter_ns()
            self.run(kind, tokens, candidate, self._turn)
            durations.append(time.perf_counter_ns() - begin)
        return durations

    def _prepare_inputs(self, kind: Kind, tokens: int, stage: int) -> None:
        if stage == 1:
            self.first_operand(tokens, kind)
        else:
            self.middle(tokens, kind)

    def confirm(self, problem: Problem, stage2: Kind) -> tuple[float, int]:
        """Call ``fused_moe`` as a user would and compare its output with the reference.

        Parameters
        ----------
        problem : Problem
            Names the token count and the activation dtype to ask for.
        stage2 : Kind
            Operand kind of the stage-2 kernel that the plan of this problem holds.

        Returns
        -------
        tuple of float and int
            Relative L2 error (NaN where the output has holes), median nanoseconds of warm calls.
        """
        tokens = problem.token
        route = self.routing(tokens)
        call = partial(
            fused_moe,
            operands.hidden_states(self.layer, self.seed, tokens),
            self.experts.w1,
            self.experts.w2,
            route.weights,
            route.ids,
            activation=self.layer.activation,
            doweight_stage1=self.layer.doweight_stage1,
            bias1=self.experts.bias1,
            bias2=self.experts.bias2,
            q_dtype_a=problem.q_dtype_a,
            gate_mode=self.layer.gate_mode,
        )
        with poisoned_memory():
            out = call()
        durations: list[int] = []
        while len(durations) < CONFIRM_CALLS and sum(durations) < CONFIRM_NS:
            begin = time.perf_counter_ns()
            call()
            durations.append(time.perf_counter_ns() - begin)
        rows = self.expected.tokens[self.expected.tokens < tokens]
        want = self.expected.out[Stage2Way(problem.kind, stage2)][: len(rows)]
        return compare(out[rows], want).error, round(median(durations))


def make_bench(launcher: Launcher, layer: Layer, seed: int, tokens: int, want: Expected) -> Bench:
    """Return the bench of a layer; packing all experts takes seconds for a full-size layer."""
    experts = operands.pack_experts(layer, seed, launcher.facts.gfx)
    return Bench(launcher, layer, seed, tokens, experts, want)
