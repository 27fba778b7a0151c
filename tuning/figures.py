# SPDX-License-Identifier: MIT
"""Bandwidth and TFLOPS of a choice, counted honestly, and the CSV row that records it.

Bytes are those the layer must move once: weights and scales of the experts the routing really
touched, activations in, output out. A figure above the device's measured peak is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiter_moe.configs.table import Key, Row
from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.outcomes import Ok
from aiter_moe.tuning.peaks import Peaks
from aiter_moe.tuning.select import Choice

SOURCE = "aiter_moe tune"
UNTUNED_US = "us_untuned"
ACTIVE_EXPERTS = "active_experts"
NOISE = "noise"
SEED = "seed"


def bytes_moved(problem: Problem, active_experts: int) -> int:
    """Return the least bytes a call moves: weights of the active experts, input, output."""
    elements = 3 * problem.model_dim * problem.inter_dim
    weights = active_experts * (elements // 2 + elements // MX_BLOCK)
    width = {Kind.A16W4: 2.0, Kind.A4W4: 0.5 + 1 / MX_BLOCK}[problem.kind]
    rows = problem.token * problem.model_dim
    return weights + round(rows * width) + rows * problem.dtype.itemsize


def operations(problem: Problem) -> int:
    """Return multiplications and additions of both stages over the routed rows."""
    return 6 * problem.token * problem.topk * problem.model_dim * problem.inter_dim


@dataclass(frozen=True, slots=True)
class Rates:
    """GB/s and TFLOPS, None where the figure would exceed what the device can do."""

    gb_per_s: float | None
    tflops: float | None


def rates(problem: Problem, active_experts: int, total_ns: float, peaks: Peaks) -> Rates:
    """Return the rates of a call of `total_ns` nanoseconds."""
    bandwidth = bytes_moved(problem, active_experts) / total_ns * 1e9
    speed = operations(problem) / total_ns * 1e9
    return Rates(
        bandwidth / 1e9 if bandwidth <= peaks.bytes_per_s else None,
        speed / 1e12 if speed <= peaks.operations_per_s(problem.kind) else None,
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What tuning one problem found.

    Attributes
    ----------
    problem : Problem
        The problem.
    choice : Choice
        The winning pair.
    untuned : Choice or None
        What runs without a table, timed beside it; None if it was not right or not listed.
    active_experts : int
        Experts that got tokens in the measured routing.
    """

    problem: Problem
    choice: Choice
    untuned: Choice | None
    active_experts: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a row, beside the measurements."""

    template_hash: str
    compiler: str
    seed: int


def with_rates(row: Row, peaks: Peaks) -> Row:
    """Return a row read from a file with its rates counted anew; a file's own are not trusted."""
    active = dict(row.extra).get(ACTIVE_EXPERTS, "")
    if not active or not row.us:
        return row
    found = rates(row.key.problem(), int(active), row.us * 1e3, peaks)
    return replace(row, bw=found.gb_per_s, tflops=found.tflops)


def row_of(result: Result, facts: DeviceFacts, peaks: Peaks, made: Provenance) -> Row:
    """Return the CSV row of a result."""
    first, second = result.choice.candidates
    timing1, timing2 = result.choice.timings
    total = result.choice.total
    rate = rates(result.problem, result.active_experts, total.median_ns, peaks)
    extra = [
        (NOISE, f"{100 * total.noise_ns / total.median_ns:.2f}%"),
        (ACTIVE_EXPERTS, str(result.active_experts)),
        (SEED, str(made.seed)),
    ]
    if result.untuned is not None:
        extra.insert(0, (UNTUNED_US, f"{result.untuned.total.median_ns / 1e3:.4f}"))
    outcome1, outcome2 = result.choice.stage1.outcome, result.choice.stage2.outcome
    assert isinstance(outcome1, Ok)
    assert isinstance(outcome2, Ok)
    return Row(
        key=Key.of(result.problem, facts),
        block_m=first.block_m,
        ksplit=first.ksplit,
        kernel1=first.instance.name,
        kernel2=second.instance.name,
        us1=timing1.median_ns / 1e3,
        us2=timing2.median_ns / 1e3,
        us=total.median_ns / 1e3,
        err1=outcome1.error,
        err2=outcome2.error,
        tflops=rate.tflops,
        bw=rate.gb_per_s,
        source=SOURCE,
        template_hash=made.template_hash,
        compiler=made.compiler,
        repeats=min(len(outcome1.samples_ns), len(outcome2.samples_ns)),
        extra=tuple(extra),
    )
