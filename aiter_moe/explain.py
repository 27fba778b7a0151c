# SPDX-License-Identifier: MIT
"""Why these kernels: every row considered, every candidate, and what spoke against each.

The same functions decide here and in a dispatch; nothing is chosen in this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiter_moe.codegen.catalogue import Family, family_note
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.render import unit_name
from aiter_moe.configs.lookup import find, stamps, table_of
from aiter_moe.configs.table import ConfigTable, Key, Row
from aiter_moe.dispatch import merged_overrides
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.plan import Plan, kernels_of, make_plan
from aiter_moe.problem import Problem
from aiter_moe.refusal import describe, grouped, verdicts
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import Case, Kernels, Overrides, row_refusal


@dataclass(frozen=True, slots=True)
class Explanation:
    """A dispatch with everything that was weighed.

    Attributes
    ----------
    problem : Problem
        What was asked.
    facts : DeviceFacts
        The device.
    plan : Plan or None
        What was chosen; None where nothing runs the problem.
    error : str
        Why nothing does.
    files : tuple of str
        Tuned files searched, the first one wins.
    rows : tuple of (where, verdict)
        Rows of the problem's shape; the others are counted in `other_rows`.
    other_rows : int
        Rows of other shapes.
    running : tuple of Instance
        Instances of the target that run the problem, in catalogue order.
    rejected : tuple of (stage, line)
        The others by reason, the nearest misses first.
    left_out : str
        Why kernels of another family are not among them, or "".
    """

    problem: Problem
    facts: DeviceFacts
    plan: Plan | None
    error: str
    files: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    other_rows: int
    running: tuple[Instance, ...]
    rejected: tuple[tuple[int, str], ...]
    left_out: str = ""

    def choice(self) -> str:
        """Return what was chosen and from where, or the error."""
        if self.plan is None:
            return self.error
        plan = self.plan
        lines = [
            f"problem   {describe(self.problem)}, tier {self.problem.token}",
            f"device    {self.facts.gfx}, {self.facts.cu_num} units",
            f"stage 1   {plan.stage1.name}",
            f"stage 2   {plan.stage2.name}",
            f"block_m   {plan.block_m}",
            f"ksplit    {plan.ksplit}",
            f"source    {plan.source}",
        ]
        if plan.skip_inter_quant:
            lines.append("between   bf16, not requantised (skip_inter_quant)")
        return "\n".join(lines)

    def details(self) -> str:
        """Return reasons, rows and candidates, one line each or grouped by reason."""
        lines = ["reasons:"]
        lines += [f"  {reason}" for reason in (self.plan.reasons if self.plan else ())]
        lines.append(f"files searched: {', '.join(self.files) or 'none'}")
        lines.append(f"rows of this shape: {len(self.rows)} (and {self.other_rows} of others)")
        lines += [f"  {where}: {verdict}" for where, verdict in self.rows]
        for stage in (1, 2):
            lines += self._stage_lines(stage)
        lines += filter(None, [self.left_out])
        return "\n".join(lines)

    def _stage_lines(self, stage: int) -> list[str]:
        running = [i for i in self.running if i.stage == stage]
        lines = [f"stage {stage}: {len(running)} kernels run it"]
        lines += _running_lines(running)
        return lines + [f"  not {line}" for of, line in self.rejected if of == stage]


def _running_lines(running: Sequence[Instance]) -> Iterator[str]:
    """Yield the names of kernels, those of one compiled kernel in one line."""
    compiled: dict[str, list[Instance]] = {}
    for instance in running:
        compiled.setdefault(unit_name(instance), []).append(instance)
    for name, found in compiled.items():
        blocks = ", ".join(str(block) for block in sorted({i.block_m for i in found}))
        yield f"  {name}" if name == found[0].name else f"  {name}: {len(found)}, block_m {blocks}"


def explain(
    problem: Problem,
    facts: DeviceFacts,
    overrides: Overrides | None = None,
    *,
    config_file: str | None = None,
    kernels: Kernels | None = None,
) -> Explanation:
    """Return how a problem is dispatched and why.

    Parameters
    ----------
    problem : Problem
        What is to be computed.
    facts : DeviceFacts
        The device.
    overrides : Overrides or None
        What the caller insists on; the environment is added, as in a dispatch.
    config_file : str or None
        Tuned CSV files to search first.
    kernels : Kernels or None
        Instances to choose from; None: the catalogue of the device.

    Raises
    ------
    ConfigError
        If a tuned file or a variable cannot be used.
    UnsupportedProblemError
        If the target has no kernels at all.
    """
    files = stamps(config_file)
    table = table_of(files)
    kernels = kernels or kernels_of(facts)
    case = Case.of(problem, facts, kernels, merged_overrides(overrides or Overrides()))
    plan, error = None, ""
    try:
        plan = make_plan(problem, facts, table, case.overrides, kernels)
    except UnsupportedProblemError as refused:
        error = str(refused)
    key = Key.of(problem, facts)
    rows = table.same_shape(key)
    reasons = verdicts(case, kernels.instances)
    return Explanation(
        problem=problem,
        facts=facts,
        plan=plan,
        error=error,
        files=tuple(stamp.path for stamp in files),
        rows=tuple((row.where, _row_verdict(row, key, case, table)) for row in rows),
        other_rows=len(table.rows) - len(rows),
        running=tuple(i for i, reason in reasons.items() if not reason),
        rejected=tuple(
            (stage, line)
            for stage in (1, 2)
            for line in grouped(case, {i: r for i, r in reasons.items() if i.stage == stage})
        ),
        left_out=family_note(kernels.target, Family.ALL),
    )


def _row_verdict(row: Row, key: Key, case: Case, table: ConfigTable) -> str:
    match = find(table, key, is_ep=case.overrides.is_ep)
    if match is None or match.row is not row:
        return "; ".join(key.differences(row.key)) or "an earlier row has this key"
    if case.overrides.ignore_rows:
        return "its key matches, but tuned rows are ignored"
    refused = row_refusal(row, case)
    if refused is None:
        return "used" + (f" ({match.note})" if match.note else "")
    return f"its key matches, but {refused.reason}" + (" (stale)" if refused.stale else "")
