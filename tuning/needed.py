# SPDX-License-Identifier: MIT
"""Which kernels a list of problems can use: what ``aiter-moe build --shapes`` compiles.

A kernel is needed if some problem is run by it and by a partner for the other stage, and neither
is beaten by rule (`codegen.gfx9.worth`), or if it runs a problem that nothing was tuned for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from aiter_moe.codegen.gfx9.worth import unsuited
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.pairs import legal_pairs
from aiter_moe.configs.table import ConfigTable
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.plan import make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.candidates import candidates
from aiter_moe.verdict import Overrides


@dataclass(slots=True)
class Needed:
    """What was found.

    Attributes
    ----------
    problems : dict
        Instance -> how many problems can use it; in no order.
    refused : dict
        Problem -> why no kernels run it.
    """

    problems: dict[Instance, int] = field(default_factory=dict)
    refused: dict[Problem, str] = field(default_factory=dict)


def needed(problems: Iterable[Problem], facts: DeviceFacts) -> Needed:
    """Return the kernels of a device that a list of problems can use.

    Parameters
    ----------
    problems : iterable of Problem
        Of an untuned file.
    facts : DeviceFacts
        The device.
    """
    found = Needed()
    for problem in problems:
        try:
            used = _defaults(problem, facts)
        except UnsupportedProblemError as error:
            found.refused[problem] = str(error)
            continue
        for instance in used | _suited(problem, facts):
            found.problems[instance] = found.problems.get(instance, 0) + 1
    return found


def _defaults(problem: Problem, facts: DeviceFacts) -> set[Instance]:
    """Return what runs without a table, with a sort too where a problem may do without."""
    plans = [make_plan(problem, facts, ConfigTable())]
    if plans[0].direct:
        plans.append(make_plan(problem, facts, ConfigTable(), Overrides(block_m=16)))
    return {instance for plan in plans for instance in (plan.stage1, plan.stage2)}


def _suited(problem: Problem, facts: DeviceFacts) -> set[Instance]:
    listed = dict.fromkeys(c.instance for c in candidates(problem, facts))
    suited = [i for i in listed if not i.family and unsuited(problem, i) is None]
    firsts = [i for i in suited if i.stage == 1]
    seconds = [i for i in suited if i.stage == 2]
    return {instance for pair in legal_pairs(firsts, seconds) for instance in pair}
