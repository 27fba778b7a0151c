# SPDX-License-Identifier: MIT
"""Why was this kernel chosen: a tuned row if it may be used, else the rules; always the same data.

`make_plan` is pure: it reads nothing and announces nothing; what there is to say travels in the
plan. What a row or a rule asks for is `aiter_moe.wish`, verdicts on rows are `aiter_moe.verdict`,
refusals `aiter_moe.refusal`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from aiter_moe.codegen import cpu_choice
from aiter_moe.codegen.catalogue import TARGETS, offered
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.codegen.pairs import legal_pairs
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import Kind
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.problem import Problem
from aiter_moe.refusal import describe, refusal
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import Case, Kernels, Overrides, split_refusal, stage2_kinds
from aiter_moe.wish import (
    DIRECT_TOKENS,
    Log,
    Notice,
    Wish,
    default_block_m,
    on_cpu,
    row_wish,
    rule_wish,
    split_of,
)

DIRECT_BLOCK_M = 16
DIRECT = "sort and quantisation would take longer than the experts of so few tokens"
"""Why untuned problems of up to `DIRECT_TOKENS` tokens take kernels that read the routing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The kernels of one problem.

    Attributes
    ----------
    problem : Problem
        What was asked, with the sizes of the weight tensors.
    stage1, stage2 : Instance
        Chosen kernels, both of sort block `block_m`.
    block_m, ksplit : int
        Sort block, or that of the direct kernels; split of stage 1's reduction (0 for a4w4, at
        least 1 for a16w4).
    skip_inter_quant : bool
        a4w4 whose second stage reads the bf16 intermediate.
    source : str
        ``file:line`` of the tuned row, or ``rule: ...``.
    reasons : tuple of str
        How it came to this, in order.
    notices : tuple of Notice
        What the dispatcher announces once.
    """

    problem: Problem
    stage1: Instance
    stage2: Instance
    block_m: int
    ksplit: int
    skip_inter_quant: bool
    source: str
    reasons: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def direct(self) -> bool:
        """Whether the kernels read the routing themselves, without a sort."""
        return self.stage1.tile.direct


def kernels_of(facts: DeviceFacts) -> Kernels:
    """Return the catalogue of the device.

    Raises
    ------
    UnsupportedProblemError
        If the target has no kernels.
    """
    if facts.gfx not in TARGETS:
        raise UnsupportedProblemError(
            f"target {facts.gfx} has no kernels in this version; there are kernels for "
            f"{', '.join(TARGETS)}; set AITER_MOE_TARGET to one of them"
        )
    return Kernels(facts.gfx, offered(facts.gfx))


def make_plan(
    problem: Problem,
    facts: DeviceFacts,
    table: ConfigTable,
    overrides: Overrides | None = None,
    kernels: Kernels | None = None,
) -> Plan:
    """Choose the two kernels of a problem.

    Parameters
    ----------
    problem : Problem
        What is to be computed.
    facts : DeviceFacts
        Identity and features of the device.
    table : ConfigTable
        Tuned rows.
    overrides : Overrides or None
        What the caller or the environment insists on.
    kernels : Kernels or None
        Instances to choose from; None: the catalogue of the device.

    Returns
    -------
    Plan
        Kernels that support the problem, never with a split for a4w4.

    Raises
    ------
    UnsupportedProblemError
        If no kernel supports the problem: a reason per rejected candidate, and the nearest
        problem that is supported.
    """
    overrides = overrides or Overrides()
    case = Case.of(problem, facts, kernels or kernels_of(facts), overrides)
    log = Log(_family(case), [], [])
    wish = row_wish(case, table, log) or rule_wish(case, log)
    if wish.block_m == 0:
        wish = replace(wish, block_m=default_block_m(case))
    if overrides.block_m is not None:
        wish = replace(wish, block_m=overrides.block_m, direct=False)
        log.reasons.append(f"block_m {overrides.block_m} was asked for")
    wish = replace(wish, ksplit=split_of(case, wish, log))
    chosen = _direct_choice(case, wish)
    if chosen is not None and not (wish.kernel1 or wish.kernel2):
        wish = replace(wish, source=f"rule: up to {DIRECT_TOKENS} tokens without a sort")
        log.reasons.append(DIRECT)
    chosen = chosen or next(_choices(case, wish), None)
    if chosen is None:
        raise refusal(case)
    return _plan(case, wish, chosen, log)


def _family(case: Case) -> tuple[object, ...]:
    asked = case.asked
    shape = (asked.model_dim, asked.inter_dim, asked.experts, asked.topk)
    return (case.facts.gfx, *shape, asked.activation, asked.kind)


def _block_order(case: Case, wished: int) -> list[int]:
    """Return sort blocks to try: the wished one first, then by distance in powers of two."""
    if case.overrides.block_m is not None:
        return [case.overrides.block_m]
    existing = {instance.block_m for instance in case.kernels.instances}
    distance = {b: abs(math.log2(b / wished)) if wished > 0 else 0.0 for b in existing}
    return sorted(existing, key=lambda b: (distance[b], b))


def _preference(case: Case) -> Callable[[Instance], tuple[object, ...]]:
    """Return what orders kernels of one stage, the preferred ones first."""
    if on_cpu(case):
        return partial(cpu_choice.distance, case.work, case.facts.cu_num)
    return _fixed_order


def _fixed_order(instance: Instance) -> tuple[object, ...]:
    """Order kernels of one stage: deterministic ones first, and those that requantise.

    Stage 1 requantises where stage 2 reads fp4; no other stage 2 can follow it then.
    """
    output = instance.tile.output
    return (output is Output.ATOMIC, output is not Output.FP4)


def _candidates(
    case: Case, stage: int, block_m: int, *, direct: bool, named: str
) -> list[Instance]:
    """Return the usable instances of a stage and block, the preferred first.

    Of other families only the one that is `named`.
    """
    found = [
        instance
        for instance in case.kernels.instances
        if instance.stage == stage
        and (not instance.family or instance.name == named)
        and instance.block_m == block_m
        and instance.tile.direct is direct
        and case.refuses(instance) is None
    ]
    return sorted(found, key=_preference(case))


def _choices(
    case: Case, wish: Wish, *, direct: bool = False
) -> Iterator[tuple[Instance, Instance, int]]:
    """Yield (stage 1, stage 2, ksplit) that run the problem, the most wished first."""
    kinds = stage2_kinds(case)
    splits = (wish.ksplit, 1) if wish.ksplit > 1 else (wish.ksplit,)
    for block_m in (DIRECT_BLOCK_M,) if direct else _block_order(case, wish.block_m):
        firsts = _candidates(case, 1, block_m, direct=direct, named=wish.kernel1)
        seconds = _candidates(case, 2, block_m, direct=direct, named=wish.kernel2)
        seconds = [instance for instance in seconds if instance.kind in kinds]
        seconds.sort(key=lambda instance: kinds.index(instance.kind))
        for ksplit in splits:
            able = [i for i in firsts if split_refusal(case.work, i, ksplit) is None]
            pair = _most_granted(wish, able, seconds)
            if pair is not None:
                yield *pair, ksplit


def _most_granted(
    wish: Wish, firsts: Sequence[Instance], seconds: Sequence[Instance]
) -> tuple[Instance, Instance] | None:
    """Return the pair with the most of the named kernels, among equals the first."""
    pairs = legal_pairs(firsts, seconds)
    best = next(pairs, None)
    if best is None or not (wish.kernel1 or wish.kernel2):
        return best
    most = _granted(wish, best)
    for pair in pairs:
        if most == bool(wish.kernel1) + bool(wish.kernel2):
            break
        granted = _granted(wish, pair)
        best, most = (pair, granted) if granted > most else (best, most)
    return best


def _granted(wish: Wish, pair: tuple[Instance, Instance]) -> int:
    """Return how many of the named kernels a pair holds."""
    stage1, stage2 = pair
    return (stage1.name == wish.kernel1) + (stage2.name == wish.kernel2)


def _direct_choice(case: Case, wish: Wish) -> tuple[Instance, Instance, int] | None:
    """Return direct kernels where they are wished and run the problem unsplit, or None."""
    if not wish.direct or (case.overrides.ksplit or 0) > 1:
        return None
    unsplit = replace(wish, ksplit=min(wish.ksplit, 1))
    return next(_choices(case, unsplit, direct=True), None)


def _plan(case: Case, wish: Wish, chosen: tuple[Instance, Instance, int], log: Log) -> Plan:
    stage1, stage2, ksplit = chosen
    skip = case.asked.kind is Kind.A4W4 and stage2.kind is Kind.A16W4
    direct = stage1.tile.direct
    if not direct and wish.block_m and stage1.block_m != wish.block_m:
        log.say(
            "nearest block",
            f"no kernels of block_m {wish.block_m} run {describe(case.asked)}; block_m "
            f"{stage1.block_m} is used instead",
        )
    if not direct and ksplit != wish.ksplit:
        log.say(
            "no split kernel", f"no kernel splits by {wish.ksplit} here; ksplit {ksplit} is used"
        )
    if skip and not case.overrides.skip_inter_quant and not _granted(wish, (stage1, stage2)):
        log.say(
            "no a4w4 stage 2",
            f"no a4w4 stage-2 kernel runs {describe(case.asked)}; the intermediate stays bf16",
        )
    return Plan(
        case.asked, stage1, stage2, stage1.block_m, ksplit, skip, wish.source,
        tuple(log.reasons), tuple(log.notices),
    )  # fmt: skip
