# SPDX-License-Identifier: MIT
"""The error for a problem no kernel runs: a reason per candidate, and the nearest problem one runs.

Reasons are grouped so that a catalogue of hundreds stays readable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from aiter_moe import dtypes
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.pairs import legal_pairs
from aiter_moe.configs.schema import format_dtype
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.problem import Problem
from aiter_moe.sizes import round_up
from aiter_moe.verdict import Case, stage2_kinds, usable

_SHOWN = 2
_SIZE_UNITS = (32, 64, 128, 256)


def describe(problem: Problem) -> str:
    """Return one line that names a problem without its token tier."""
    parts = [
        str(problem.kind) if problem.q_dtype_a in (dtypes.fp4x2, dtypes.bf16) else
        f"A {format_dtype(problem.q_dtype_a)}",
        problem.activation.name,
        f"model_dim {problem.model_dim}",
        f"inter_dim {problem.inter_dim}",
        f"{problem.experts} experts",
        f"topk {problem.topk}",
    ]  # fmt: skip
    if problem.gate_mode is not GateMode.SEPARATED:
        parts.append(f"w1 {problem.gate_mode.value}")
    return ", ".join(parts)


def verdicts(case: Case, instances: Iterable[Instance]) -> dict[Instance, str]:
    """Return the reason per kernel, "" where the kernel runs the problem."""
    return {instance: case.refuses(instance) or "" for instance in instances}


def _distance(case: Case, instance: Instance) -> int:
    """Return how many constraints speak against an instance: the fewer, the nearer a miss."""
    failing = sum(c.reject(case.work, instance) is not None for c in instance.constraints)
    return failing + len(instance.tile.requires - case.facts.features)


def grouped(case: Case, reasons: dict[Instance, str]) -> list[str]:
    """Return ``reason: n kernels (names, ...)`` lines, those of the nearest misses first."""
    groups: dict[str, list[Instance]] = {}
    for instance, reason in reasons.items():
        if reason:
            groups.setdefault(reason, []).append(instance)
    order = {
        reason: (min(_distance(case, i) for i in found), -len(found), reason)
        for reason, found in groups.items()
    }
    return [
        f"{reason}: {_names([i.name for i in groups[reason]])}"
        for reason in sorted(groups, key=order.__getitem__)
    ]


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    if len(names) <= _SHOWN:
        return shown
    return f"{len(names)} kernels ({shown}, ...)"


def refusal(case: Case) -> UnsupportedProblemError:
    """Return the error for a problem that no pair of kernels runs."""
    lines = [f"no kernels of {case.facts.gfx} run {describe(case.work)}:"]
    for stage in (1, 2):
        lines += [f"  stage {stage}: {line}" for line in _stage_lines(case, stage)]
    lines.append(f"  {_advice(case)}")
    return UnsupportedProblemError("\n".join(lines))


def _stage_lines(case: Case, stage: int) -> list[str]:
    instances = [i for i in case.kernels.defaults if i.stage == stage]
    if stage == 2:
        instances = [i for i in instances if i.kind in stage2_kinds(case)]
    if not instances:
        return ["the catalogue has no kernel for it"]
    reasons = verdicts(case, instances)
    running = [i for i in instances if not reasons[i]]
    if not running:
        return grouped(case, reasons)
    kinds = "/".join(sorted({str(i.kind) for i in running}))
    blocks = ", ".join(map(str, sorted({i.block_m for i in running})))
    asked = case.overrides.block_m
    wanted = f", block_m {asked} was asked for" if asked is not None else ""
    return [f"{kinds} kernels of block_m {blocks} run it{wanted}"]


def _advice(case: Case) -> str:
    if _runs(case.work, case):
        return "leave block_m and skip_inter_quant to the dispatcher"
    for change, other in _neighbours(case.work):
        if _runs(other, case):
            return f"nearest supported problem: {change}"
    return "no single change makes it supported; `aiter-moe lookup --explain` lists all candidates"


def _runs(problem: Problem, case: Case) -> bool:
    """Say whether some pair of kernels runs `problem` when nothing narrows the choice."""
    firsts, seconds = (
        [
            i
            for i in case.kernels.defaults
            if i.stage == stage and usable(problem, case.facts, i) is None
        ]
        for stage in (1, 2)
    )
    return next(legal_pairs(firsts, seconds), None) is not None


def _neighbours(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """Yield problems one change away, the cheapest change for the caller first."""
    yield f"dtype torch.bfloat16 instead of {problem.dtype}", replace(problem, dtype=torch.bfloat16)
    other = dtypes.bf16 if problem.kind is Kind.A4W4 else dtypes.fp4x2
    for q_dtype_a in dict.fromkeys((other, dtypes.bf16, dtypes.fp4x2)):
        changed = replace(problem, q_dtype_a=q_dtype_a)
        yield f"q_dtype_a={format_dtype(q_dtype_a)} ({changed.kind})", changed
    mode = GateMode.SEPARATED
    yield f"gate_mode {mode.value!r}", replace(problem, gate_mode=mode)
    yield "w1 with gate and up rows (g1u1)", replace(problem, use_g1u1=True)
    mxfp4 = replace(problem, q_dtype_w=dtypes.fp4x2, q_type=QuantType.per_1x32)
    yield "MXFP4 weights (fp4x2, per_1x32)", mxfp4
    if problem.has_bias:
        yield "no bias", replace(problem, has_bias=False)
    if problem.doweight_stage1:
        yield "doweight_stage1=False", replace(problem, doweight_stage1=False)
    yield from _padded(problem)
    for activation in ActivationType:
        yield f"activation {activation.name}", replace(problem, activation=activation)


def _padded(problem: Problem) -> Iterator[tuple[str, Problem]]:
    for unit in _SIZE_UNITS:
        model = round_up(max(problem.model_dim, 1), unit)
        inter = round_up(max(problem.inter_dim, 1), unit)
        yield f"inter_dim padded to {inter}", replace(problem, inter_dim=inter)
        yield f"model_dim padded to {model}", replace(problem, model_dim=model)
        both = replace(problem, inter_dim=inter, model_dim=model)
        yield f"inter_dim padded to {inter} and model_dim to {model}", both
