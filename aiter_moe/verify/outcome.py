# SPDX-License-Identifier: MIT
"""What became of a case, of a kernel and of a whole pass: values that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan
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
    keep_right : bool
        Keep every outcome; else those that are wrong, and the sums of all.
    planned, done : int
        Cases to run, and cases that were run.
    refused : Counter
        Reason -> combinations that the kernel does not support.
    outcomes : list of Outcome
        In the order they were run.
    error, worst : float
        Largest relative L2 error, and largest error of an element as a part of what is allowed;
        NaN if any is, or nothing was run.
    faults : int
        Of all cases.
    seconds : float
        Time of all launches.
    figures : Figures
        Sum over the cases.
    failure : str
        Why no case could be run; "" if they could.
    """

    name: str
    resources: dict[str, int] = field(default_factory=dict)
    keep_right: bool = True
    planned: int = 0
    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    outcomes: list[Outcome] = field(default_factory=list)
    error: float = nan
    worst: float = nan
    faults: int = 0
    seconds: float = 0.0
    figures: Figures = field(default_factory=Figures)
    failure: str = ""

    def add(self, outcome: Outcome) -> None:
        """Count a case."""
        first = self.done == 0
        self.error = outcome.error if first else _larger(self.error, outcome.error)
        self.worst = outcome.worst if first else _larger(self.worst, outcome.worst)
        self.done += 1
        self.faults += len(outcome.faults)
        self.seconds += outcome.seconds
        self.figures.merge(outcome.figures)
        if self.keep_right or not outcome.right:
            self.outcomes.append(outcome)

    @property
    def right(self) -> bool:
        """Every case that was run is right, and there was one."""
        return not self.failure and self.done > 0 and not self.wrong

    @property
    def wrong(self) -> list[Outcome]:
        """Cases that are not right."""
        return [outcome for outcome in self.outcomes if not outcome.right]


def _larger(one: float, other: float) -> float:
    return nan if isnan(one) or isnan(other) else max(one, other)
