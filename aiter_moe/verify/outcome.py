# SPDX-License-Identifier: MIT
"""What became of a case, of a kernel and of a whole pass: values that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from aiter_moe.verify.figures import Figures


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case.

    Attributes
    ----------
    case : str
        The case in words.
    error, worst : float
        Relative L2 error, and the largest error of an element as a part of what is allowed; NaN
        where there is no number.
    reasons : tuple of str
        What is wrong; empty if nothing.
    faults : tuple of str
        What the emulator's checks found, a line each.
    figures : Figures
        Of its launches.
    seconds : float
        Time of the launches.
    notes : Mapping
        Further figures for the JSON file.
    """

    case: str
    error: float
    worst: float
    reasons: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    figures: Figures = field(default_factory=Figures)
    seconds: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Nothing is wrong."""
        return not self.reasons and not self.faults


@dataclass(slots=True)
class Subject:
    """A kernel or a whole pass, and what became of its cases so far.

    Attributes
    ----------
    name : str
        Kernel name, or ``fused_moe ...``.
    resources : dict
        Registers and memory by the manifest's names; empty where there are none.
    planned : int
        Cases to run.
    refused : Counter
        Reason -> combinations that the kernel does not support.
    outcomes : list of Outcome
        In the order they were run.
    failure : str
        Why no case could be run; "" if they could.
    """

    name: str
    resources: dict[str, int] = field(default_factory=dict)
    planned: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    outcomes: list[Outcome] = field(default_factory=list)
    failure: str = ""

    @property
    def right(self) -> bool:
        """Every case that was run is right, and there was one."""
        return not self.failure and bool(self.outcomes) and not self.wrong

    @property
    def wrong(self) -> list[Outcome]:
        """Cases that are not right."""
        return [outcome for outcome in self.outcomes if not outcome.right]

    @property
    def error(self) -> float:
        """Largest relative L2 error; NaN if any is."""
        return _largest([outcome.error for outcome in self.outcomes])

    @property
    def worst(self) -> float:
        """Largest error of an element as a part of what is allowed; NaN if any is."""
        return _largest([outcome.worst for outcome in self.outcomes])

    @property
    def faults(self) -> int:
        """Faults of all cases."""
        return sum(len(outcome.faults) for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """Time of all launches."""
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def figures(self) -> Figures:
        """Sum over the cases."""
        total = Figures()
        for outcome in self.outcomes:
            total.merge(outcome.figures)
        return total


def _largest(values: list[float]) -> float:
    if not values or any(isnan(value) for value in values):
        return float("nan")
    return max(values)
