# SPDX-License-Identifier: MIT
"""What a plan is to be before the catalogue has its say: a tuned row's wish, or that of a rule.

Pure, as `aiter_moe.plan` is; what there is to say is collected in a `Log`.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.codegen import cpu_choice
from aiter_moe.codegen.constraints import KSPLITS
from aiter_moe.configs.lookup import find
from aiter_moe.configs.schema import MODELLED
from aiter_moe.configs.table import ConfigTable, Key, Row
from aiter_moe.enums import Kind
from aiter_moe.heuristics import get_ksplit
from aiter_moe.refusal import describe
from aiter_moe.verdict import Case, row_refusal, split_refusal

A4W4_BLOCK_M = 64
DIRECT_TOKENS = 16
"""Up to so many tokens, untuned problems of a GPU take kernels that read the routing."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to say once per process: the key that makes it one thing, and the text."""

    key: tuple[object, ...]
    text: str
    warning: bool = True


@dataclass(frozen=True, slots=True)
class Wish:
    """What a row or a rule asks for, before the catalogue has its say."""

    source: str
    block_m: int
    ksplit: int
    kernel1: str = ""
    kernel2: str = ""
    direct: bool = False


@dataclass(slots=True)
class Log:
    """Collects reasons and notices while a plan is made."""

    family: tuple[object, ...]
    reasons: list[str]
    notices: list[Notice]

    def say(self, topic: str, text: str, *, warning: bool = True) -> None:
        """Record `text` as a reason and to be announced once per shape family and topic."""
        self.reasons.append(text)
        self.notices.append(Notice((topic, *self.family), text, warning))


def row_wish(case: Case, table: ConfigTable, log: Log) -> Wish | None:
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
        return Wish(row.where, row.block_m, row.ksplit, row.kernel1, row.kernel2, direct)
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


def _log_miss(case: Case, tiers: tuple[int, ...], log: Log) -> None:
    tuned = f" (tuned tiers: {', '.join(map(str, tiers))})" if tiers else ""
    gfx = case.facts.gfx
    model = " (with --model: by predicted times, without the device)" if gfx in MODELLED else ""
    log.say(
        "no row",
        f"no tuned row for {describe(case.asked)} at tier {case.asked.token} on {gfx} with "
        f"{case.facts.cu_num} units{tuned}; the default is used; tune with "
        f"`aiter-moe tune -i <untuned.csv> -o <tuned.csv> --target {gfx}`{model}",
        warning=False,
    )


def on_cpu(case: Case) -> bool:
    """Say whether the CPU's own rules decide."""
    return case.facts.gfx == "cpu"


def default_block_m(case: Case) -> int:
    """Return the sort block of an untuned problem."""
    problem = case.asked
    if on_cpu(case):
        return cpu_choice.default_block_m(problem)
    if problem.kind is Kind.A4W4:
        return A4W4_BLOCK_M
    return 16 if problem.token < 2048 else 32 if problem.token < 16384 else 64


def rule_wish(case: Case, log: Log) -> Wish:
    """Return the numbers of an untuned problem: the CPU's own, else aiter's; a4w4 unsplit."""
    asked = case.asked
    if on_cpu(case):
        return _cpu_wish(case, log)
    suggested = get_ksplit(
        asked.token, asked.topk, asked.experts, asked.inter_dim, asked.model_dim,
        case.facts.cu_num, forced=0,
    )  # fmt: skip
    block_m, direct = default_block_m(case), asked.token <= DIRECT_TOKENS
    if asked.kind is Kind.A4W4:
        if suggested:
            log.reasons.append(f"aiter's heuristic says ksplit {suggested}; a4w4 takes no split")
        return Wish(f"rule: a4w4 takes block_m {block_m}", block_m, 0, direct=direct)
    legal = (k for k in KSPLITS if k <= suggested and _no_split(case, k) is None)
    ksplit = max(legal, default=1)
    log.reasons.append(f"aiter's heuristic says ksplit {suggested}, the largest legal is {ksplit}")
    return Wish(f"rule: a16w4 at tier {asked.token}", block_m, ksplit, direct=direct)


def _cpu_wish(case: Case, log: Log) -> Wish:
    """Return the rule of the CPU; its threads share columns, so nothing is split."""
    facts = case.facts
    log.reasons += cpu_choice.reasons(case.work, facts.cu_num, facts.features)
    block_m = cpu_choice.default_block_m(case.asked)
    return Wish(f"rule: {case.asked.kind} at tier {case.asked.token}", block_m, 0)


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


def split_of(case: Case, wish: Wish, log: Log) -> int:
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
