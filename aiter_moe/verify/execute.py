# SPDX-License-Identifier: MIT
"""One case, run: through the pipeline's own stage functions, then compared.

Sizes, arguments, workspaces and grids are those of `aiter_moe.pipeline`, so what is verified is
what `fused_moe` launches.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import torch

from aiter_moe import pipeline
from aiter_moe.codegen.gfx9.steps import is_step
from aiter_moe.codegen.instance import Output
from aiter_moe.errors import AiterMoeError
from aiter_moe.pipeline import Experts, MoeCall, Operand
from aiter_moe.targets.base import Launcher, RoutedTokens
from aiter_moe.targets.emulator_report import LaunchReport
from aiter_moe.verify.expected import Judgement, expected_rows
from aiter_moe.verify.figures import figures_of
from aiter_moe.verify.hostile import HostileLauncher
from aiter_moe.verify.machine import Machine
from aiter_moe.verify.operands import Prepared, prepare
from aiter_moe.verify.outcome import Outcome
from aiter_moe.verify.outputs import SUMMED, Left, judge_left
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


@dataclass(frozen=True, slots=True)
class Ran:
    """A case that was run: the memory it wrote, and what the target tells of its launches.

    Attributes
    ----------
    ready : Ready
        The case.
    left : Left
        The memory it was given: first the output, then the workspace of a split or the scales.
    trouble : tuple of str
        Why it ended early, if it did.
    reports : tuple of LaunchReport
        Of its launches.
    seconds : float
        Time of the launches.
    """

    ready: Ready
    left: Left
    trouble: tuple[str, ...]
    reports: tuple[LaunchReport, ...]
    seconds: float


def launch(ready: Ready, machine: Machine) -> Ran:
    """Run one case; nothing is looked at yet."""
    case = ready.prepared.case
    hostile = HostileLauncher(machine.launcher, case.topk, case.reduction)
    machine.drain()
    machine.choose_order(case.seed)
    begin = time.perf_counter()
    trouble: tuple[str, ...] = ()
    positions = None
    try:
        positions = _run_stage(ready.prepared, hostile, machine.device)
        machine.wait()
    except AiterMoeError as error:
        trouble = (str(error),)
    seconds = time.perf_counter() - begin
    left = Left(tuple(hostile.given), positions)
    return Ran(ready, left, trouble, machine.drain(), seconds)


def outcome_of(ran: Ran) -> Outcome:
    """Judge a run: its output, the margins of its memory, and what the emulator saw."""
    judged = Judgement(nan, nan, ran.trouble)
    if not ran.trouble:
        judged = judge_left(ran.ready.prepared, ran.ready.want, ran.left)
    return Outcome(
        str(ran.ready.prepared.case), judged.error, judged.worst, judged.reasons,
        faults_of(ran.reports), figures_of(_of_stage(ran.reports)), ran.seconds,
    )  # fmt: skip


def run_case(ready: Ready, machine: Machine) -> Outcome:
    """Run one case and judge it."""
    return outcome_of(launch(ready, machine))


def faults_of(reports: Sequence[LaunchReport]) -> tuple[str, ...]:
    """Return a line for each distinct fault of each launch."""
    return tuple(f"{report.kernel}: {fault}" for report in reports for fault in report.faults)


def _of_stage(reports: Sequence[LaunchReport]) -> list[LaunchReport]:
    """Return the reports of the kernel under test, without those of the steps before it."""
    return [report for report in reports if not is_step(report.kernel)]


def _run_stage(prepared: Prepared, launcher: Launcher, device: torch.device) -> torch.Tensor | None:
    """Run the case and return the sorted row of each pair, None without a sort."""
    case, routing = prepared.case, prepared.routing
    weight = prepared.weight.to(device)
    bias = None if prepared.bias is None else prepared.bias.to(device)
    mask, local = routing.expert_mask, routing.num_local_tokens
    routed = RoutedTokens(
        ids=routing.ids.to(device),
        weights=routing.weights.to(device),
        experts=case.global_experts,
        expert_mask=None if mask is None else mask.to(device),
        local_tokens=None if local is None else local.to(device),
    )
    tile, out = case.instance.tile, None
    if tile.output in SUMMED:
        out = launcher.empty((case.tokens, case.physical.hidden), torch.bfloat16, device)
    cleared = out if tile.output is Output.ATOMIC else None
    call = MoeCall(
        launcher=launcher,
        # a stage reads its own weight and bias alone
        experts=Experts(weight, weight, bias, bias),  # type: ignore[arg-type]
        sorted=None if tile.direct else launcher.sort(routed, case.instance.block_m, cleared),
        tokens=case.tokens,
        topk=case.topk,
        model_dim=case.size.hidden,
        inter_dim=case.size.inter,
        doweight_stage1=case.doweight is (case.instance.stage == 1),
        constants=case.constants,
        routed=launcher.admit(routed) if tile.direct else routed,
        out=out,
    )
    x = Operand(
        _moved(prepared.x.values, device),
        None if prepared.x.scales is None else prepared.x.scales.to(device),
    )
    if case.instance.stage == 1:
        pipeline.stage1(call, x, instance=case.instance, ksplit=case.ksplit)
    else:
        pipeline.stage2(call, x, instance=case.instance)
    return None if call.sorted is None else call.sorted.positions


def _moved(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return rows on a device, with the gaps between them."""
    if device.type == rows.device.type:
        return rows
    whole = rows.as_strided((rows.shape[0], rows.stride(0)), rows.stride())
    return whole.to(device)[:, : rows.shape[1]]
