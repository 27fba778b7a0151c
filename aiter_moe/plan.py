# SPDX-License-Identifier: MIT
"""Why was this kernel chosen: a tuned row if it may be used, else the rules; always the same data.

`make_plan` is pure: it reads nothing and announces nothing; what there is to say travels in the
plan. Verdicts on rows are `aiter_moe.verdict`, refusals `aiter_moe.refusal`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from aiter_moe.codegen import cpu_choice
from aiter_moe.codegen.catalogue import TARGETS, offered
from aiter_moe.codegen.constraints import KSPLITS
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.codegen.pairs import legal_pairs
from aiter_moe.configs.lookup import find
from aiter_moe.configs.schema import MODELLED
from aiter_moe.configs.table import ConfigTable, Key, Row
from aiter_moe.enums import Kind
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.heuristics import get_ksplit
from aiter_moe.problem import Problem
from aiter_moe.refusal import describe, refusal
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import (
    Case,
    Kernels,
    Overrides,
    row_refusal,
    split_refusal,
    stage2_kinds,
)

A4W4_BLOCK_M = 64
DIRECT_BLOCK_M = 16
DIRECT_TOKENS = 16
DIRECT = "sort and quantisation would take longer than the experts of so few tokens"
"""Why untuned problems of up to `DIRECT_TOKENS` tokens take kernels that read the routing."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to say once per process: the key that makes it one thing, and the text."""

    key: tuple[object, ...]
    text: str
    warning: bool = True


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


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a row or a rule asks for, before the catalogue has its say."""

    source: str
    block_m: int
    ksplit: int
    kernel1: str = ""
    kernel2: str = ""
    direct: bool = False


@dataclass(slots=True)
class _Log:
    """Collects reasons and notices while a plan is made."""

    family: tuple[object, ...]
    reasons: list[str]
    notices: list[Notice]

    def say(self, topic: str, text: str, *, warning: bool = True) -> None:
        """Record `text` as a reason and to be announced once per shape family and topic."""
        self.reasons.append(text)
        self.notices.append(Notice((topic, *self.family), text, warning))


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
    log = _Log(_family(case), [], [])
    wish = _row_wish(case, table, log) or _rule_wish(case, log)
    if wish.block_m == 0:
        wish = replace(wish, block_m=_default_block_m(case))
    if overrides.block_m is not None:
        wish = replace(wish, block_m=overrides.block_m, direct=False)
        log.reasons.append(f"block_m {overrides.block_m} was asked for")
    wish = replace(wish, ksplit=_split(case, wish, log))
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


def _row_wish(case: Case, table: ConfigTable, log: _Log) -> _Wish | None:
    """Return what the tuned row asks for, or None with the reason logged."""
    if case.overrides.ignore_rows:
        log.reasons.append("tuned rows are ignored, as asked")
        return None
    key = Key.of(case.asked, case.facts)
    match = find(table, key, is_ep=case.overrides.is_ep)
    if match is None:
        _log_miss(case, table.tiers(key), log)
        return None
    row = match.row
    refused = row_refusal(row, case)
    if refused is None:
        log.reasons += [f"tuned row {row.where}", *filter(None, [match.note])]
        if row.predicted:
            log.say(
                f"predicted row in {row.file}",
                f"{row.where} was chosen by a cost model, nothing was measured; a measured row for "
                f"{describe(case.asked)} in any file of the search path comes before it",
                warning=False,
            )
        named = (case.kernels.named(name) for name in (row.kernel1, row.kernel2))
        direct = any(kernel is not None and kernel.tile.direct for kernel in named)
        return _Wish(row.where, row.block_m, row.ksplit, row.kernel1, row.kernel2, direct)
    if refused.stale:
        log.say(
            f"stale row in {row.file}",
            f"{row.where} is stale and not used: {refused.reason}; {_retune(row, case)}",
        )
    else:
        log.reasons.append(f"{row.where} not used: {refused.reason}")
    return None


def _retune(row: Row, case: Case) -> str:
    """Return how to replace a stale row: in its own file if we wrote it, else in another."""
    source = row.file or "<untuned.csv>"
    ours = bool(row.template_hash and row.file)
    command = f"aiter-moe tune -i {source} -o {source if ours else '<tuned.csv>'}"
    way = " --model" if row.predicted else ""
    text = f"re-tune with `{command} --target {case.facts.gfx}{way}`"
    return text if ours else f"{text} and name that file in AITER_MOE_CONFIG"


def _log_miss(case: Case, tiers: tuple[int, ...], log: _Log) -> None:
    tuned = f" (tuned tiers: {', '.join(map(str, tiers))})" if tiers else ""
    gfx = case.facts.gfx
    log.say(
        "no row",
        f"no tuned row for {describe(case.asked)} at tier {case.asked.token} on {gfx} with "
        f"{case.facts.cu_num} units{tuned}; the default is used; tune with "
        f"`aiter-moe tune -i <untuned.csv> -o <tuned.csv> --target {gfx}`"
        + " (with --model: by predicted times, without the device)"
        * (gfx in MODELLED),
        warning=False,
    )


def _on_cpu(case: Case) -> bool:
    return case.facts.gfx == "cpu"


def _default_block_m(case: Case) -> int:
    problem = case.asked
    if _on_cpu(case):
        return cpu_choice.default_block_m(problem)
    if problem.kind is Kind.A4W4:
        return A4W4_BLOCK_M
    return 16 if problem.token < 2048 else 32 if problem.token < 16384 else 64


def _rule_wish(case: Case, log: _Log) -> _Wish:
    """Return the numbers of an untuned problem: the CPU's own, else aiter's; a4w4 unsplit."""
    asked = case.asked
    if _on_cpu(case):
        return _cpu_wish(case, log)
    suggested = get_ksplit(
        asked.token, asked.topk, asked.experts, asked.inter_dim, asked.model_dim,
        case.facts.cu_num, forced=0,
    )  # fmt: skip
    block_m, direct = _default_block_m(case), asked.token <= DIRECT_TOKENS
    if asked.kind is Kind.A4W4:
        if suggested:
            log.reasons.append(f"aiter's heuristic says ksplit {suggested}; a4w4 takes no split")
        return _Wish(f"rule: a4w4 takes block_m {block_m}", block_m, 0, direct=direct)
    legal = (k for k in KSPLITS if k <= suggested and _no_split(case, k) is None)
    ksplit = max(legal, default=1)
    log.reasons.append(f"aiter's heuristic says ksplit {suggested}, the largest legal is {ksplit}")
    return _Wish(f"rule: a16w4 at tier {asked.token}", block_m, ksplit, direct=direct)


def _cpu_wish(case: Case, log: _Log) -> _Wish:
    """Return the rule of the CPU; its threads share columns, so nothing is split."""
    facts = case.facts
    log.reasons += cpu_choice.reasons(case.work, facts.cu_num, facts.features)
    block_m = cpu_choice.default_block_m(case.asked)
    return _Wish(f"rule: {case.asked.kind} at tier {case.asked.token}", block_m, 0)


def _no_split(case: Case, ksplit: int) -> str | None:
    """Return why no stage-1 kernel of any block runs an a16w4 case in `ksplit` parts, or None."""
    if ksplit not in KSPLITS:
        return f"kernels split by {', '.join(map(str, KSPLITS))}"
    reason = "no kernel of stage 1 splits this problem"
    for instance in case.kernels.instances:
        runs = instance.stage == 1 and instance.split_k is (ksplit > 1)
        if runs and case.refuses(instance) is None:
            refused = split_refusal(case.work, instance, ksplit)
            if refused is None:
                return None
            reason = refused
    return reason


def _split(case: Case, wish: _Wish, log: _Log) -> int:
    """Return the split to use: 0 for a4w4 whoever asks, else what is asked for and legal."""
    forced, origin = case.overrides.ksplit or 0, case.overrides.origin
    if case.work.kind is Kind.A4W4:
        asker, asked = (origin, forced) if forced > 0 else (wish.source, wish.ksplit)
        if asked > 0:
            log.say(
                f"no split for a4w4: {asker}",
                f"ksplit {asked} of {asker} is ignored: split-k is never used with fp4x2 "
                "activations",
            )
        return 0
    if forced == 0:
        return max(wish.ksplit, 1)
    if forced < 0:
        log.reasons.append(f"{origin} turns split-k off")
        return 1
    reason = _no_split(case, forced)
    if reason is not None:
        log.say(f"forced split {forced}", f"ksplit {forced} of {origin} is ignored: {reason}")
        return max(wish.ksplit, 1)
    log.reasons.append(f"ksplit {forced} was asked for by {origin}")
    return forced


def _block_order(case: Case, wished: int) -> list[int]:
    """Return sort blocks to try: the wished one first, then by distance in powers of two."""
    if case.overrides.block_m is not None:
        return [case.overrides.block_m]
    existing = {instance.block_m for instance in case.kernels.instances}
    distance = {b: abs(math.log2(b / wished)) if wished > 0 else 0.0 for b in existing}
    return sorted(existing, key=lambda b: (distance[b], b))


def _preference(case: Case) -> Callable[[Instance], tuple[object, ...]]:
    """Return what orders kernels of one stage, the preferred ones first."""
    if _on_cpu(case):
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
    case: Case, wish: _Wish, *, direct: bool = False
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
    wish: _Wish, firsts: Sequence[Instance], seconds: Sequence[Instance]
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


def _granted(wish: _Wish, pair: tuple[Instance, Instance]) -> int:
    """Return how many of the named kernels a pair holds."""
    stage1, stage2 = pair
    return (stage1.name == wish.kernel1) + (stage2.name == wish.kernel2)


def _direct_choice(case: Case, wish: _Wish) -> tuple[Instance, Instance, int] | None:
    """Return direct kernels where they are wished and run the problem unsplit, or None."""
    if not wish.direct or (case.overrides.ksplit or 0) > 1:
        return None
    unsplit = replace(wish, ksplit=min(wish.ksplit, 1))
    return next(_choices(case, unsplit, direct=True), None)


def _plan(case: Case, wish: _Wish, chosen: tuple[Instance, Instance, int], log: _Log) -> Plan:
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
