# SPDX-License-Identifier: MIT
"""One case, run: through the pipeline's own stage functions, then compared.

Sizes, arguments, workspaces and grids are those of `aiter_moe.pipeline`, so what is verified is
what `fused_moe` launches.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from aiter_moe import pipeline
from aiter_moe.errors import AiterMoeError
from aiter_moe.pipeline import Experts, MoeCall, Operand
from aiter_moe.targets.base import Launcher
from aiter_moe.targets.emulator_report import LaunchReport
from aiter_moe.verify.expected import Judgement, expected_rows, judge, tolerance_of
from aiter_moe.verify.figures import figures_of
from aiter_moe.verify.hostile import Given, HostileLauncher
from aiter_moe.verify.machine import Machine
from aiter_moe.verify.operands import Prepared, prepare
from aiter_moe.verify.outcome import Outcome
from aiter_moe.verify.problems import StageCase


@dataclass(frozen=True, slots=True)
class Ready:
    """A case with its tensors and what must come out of them."""

    prepared: Prepared
    want: torch.Tensor


def make_ready(case: StageCase, seed: int) -> Ready:
    """Make the tensors of a case and their reference; `seed` is that of the weights."""
    prepared = prepare(case, seed)
    return Ready(prepared, expected_rows(prepared))


def run_case(ready: Ready, machine: Machine) -> Outcome:
    """Run one case and judge its output, its margins, and what the emulator saw."""
    prepared = ready.prepared
    case = prepared.case
    hostile = HostileLauncher(machine.launcher, case.topk, case.reduction)
    machine.drain()
    machine.choose_order(case.seed)
    begin = time.perf_counter()
    trouble: tuple[str, ...] = ()
    try:
        _run_stage(prepared, hostile, machine.device)
        machine.wait()
    except AiterMoeError as error:
        trouble = (str(error),)
    seconds = time.perf_counter() - begin
    reports = machine.drain()
    judged = (
        Judgement(float("nan"), float("nan"), trouble) if trouble else _judge(ready, hostile.given)
    )
    return Outcome(
        str(case), judged.error, judged.worst, judged.reasons, faults_of(reports),
        figures_of(reports), seconds,
    )  # fmt: skip


def faults_of(reports: Sequence[LaunchReport]) -> tuple[str, ...]:
    """Return a line for each distinct fault of each launch."""
    return tuple(f"{report.kernel}: {fault}" for report in reports for fault in report.faults)


def _run_stage(prepared: Prepared, launcher: Launcher, device: torch.device) -> None:
    case, routing = prepared.case, prepared.routing
    weight = prepared.weight.to(device)
    bias = None if prepared.bias is None else prepared.bias.to(device)
    mask, local = routing.expert_mask, routing.num_local_tokens
    call = MoeCall(
        launcher=launcher,
        # a stage reads its own weight and bias alone
        experts=Experts(weight, weight, bias, bias),  # type: ignore[arg-type]
        sorted=launcher.sort(
            routing.ids.to(device),
            routing.weights.to(device),
            case.global_experts,
            case.instance.block_m,
            None if mask is None else mask.to(device),
            None if local is None else local.to(device),
        ),
        tokens=case.tokens,
        topk=case.topk,
        model_dim=case.size.hidden,
        inter_dim=case.size.inter,
        doweight_stage1=case.doweight is (case.instance.stage == 1),
        constants=case.constants,
    )
    x = Operand(
        _moved(prepared.x.values, device),
        None if prepared.x.scales is None else prepared.x.scales.to(device),
    )
    if case.instance.stage == 1:
        pipeline.stage1(call, x, instance=case.instance, ksplit=case.ksplit)
    else:
        pipeline.stage2(call, x, instance=case.instance)


def _moved(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return rows on a device, with the gaps between them."""
    if device.type == rows.device.type:
        return rows
    whole = rows.as_strided((rows.shape[0], rows.stride(0)), rows.stride())
    return whole.to(device)[:, : rows.shape[1]]


def _judge(ready: Ready, given: Sequence[Given]) -> Judgement:
    """Judge the output, which is the first memory a stage asks for, and the margins of all."""
    case = ready.prepared.case
    out = given[0]
    computed = (ready.prepared.owners >= 0).flatten()
    judged = judge(
        out.inside.cpu()[computed],
        ready.want[computed],
        tolerance_of(case.instance.stage, case.reduction),
    )
    reasons = list(judged.reasons)
    foreign = int(out.written().cpu()[~computed].any(dim=1).sum())
    if foreign:
        reasons.append(f"{foreign} rows that are not computed here were written")
    for name, memory in zip(("output", "workspace"), given, strict=False):
        spilt = memory.spilt()
        if spilt:
            reasons.append(f"{spilt} elements outside the {name} were written")
    return Judgement(judged.error, judged.worst, tuple(reasons))
