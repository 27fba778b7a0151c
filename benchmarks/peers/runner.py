# SPDX-License-Identifier: MIT
"""Times peers in turns: in every round each computes a burst of calls while all others are stopped.

Rounds spread a change of the machine over all peers; medians drop what hits one burst. Slow peers
take part in fewer rounds, evenly spread, so that a row ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from peers import layers
from peers.process import PeerFailedError
from peers.results import Cell, Row

LOAD_S, PREPARE_S, ANSWER_S = 300.0, 120.0, 60.0
WRONG = 0.5


class Asked(Protocol):
    """What can be asked: `process.PeerProcess`, or a fake."""

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """Return the answer to a request, or raise `PeerFailedError`."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a row may take.

    Attributes
    ----------
    rounds : int
        Bursts of a fast peer.
    burst_s : float
        A burst has as many calls as this holds, from 1 to `most_calls`. If it holds more than one,
        a call that is not counted comes before.
    cell_s : float
        What a peer may take for a row; it has at least `least_rounds` bursts.
    """

    rounds: int = 9
    burst_s: float = 0.04
    most_calls: int = 8
    cell_s: float = 3.0
    least_rounds: int = 3

    def calls(self, seconds: float) -> int:
        """Return the calls of a burst for a call of `seconds`."""
        return max(1, min(self.most_calls, int(self.burst_s / max(seconds, 1e-9))))

    def rounds_of(self, seconds: float) -> int:
        """Return the rounds that a peer takes part in."""
        calls = self.calls(seconds)
        burst = seconds * (calls + (calls > 1))
        return max(min(self.least_rounds, self.rounds), min(self.rounds, int(self.cell_s / burst)))

    def joins(self, turn: int, rounds: int) -> bool:
        """Say whether a peer of so many rounds takes part in round `turn`."""
        return (turn + 1) * rounds // self.rounds > turn * rounds // self.rounds


@dataclass(slots=True)
class _Timing:
    """A peer in a row: what it takes, its errors, its times so far."""

    errors: dict[str, float]
    calls: int
    rounds: int
    next_turn: int = 2
    seconds: list[float] = field(default_factory=list)

    def turns(self) -> list[int]:
        """Return the turns of the next burst; one before them is left to the uncounted call."""
        first = self.next_turn + 1
        self.next_turn = first + self.calls
        return list(range(first, self.next_turn))


def _attempt(
    name: str, failed: Callable[[str, str], None], ask: Callable[[], dict[str, Any]]
) -> dict[str, Any] | None:
    try:
        return ask()
    except PeerFailedError as error:
        failed(name, str(error))
        return None


def load(
    processes: Mapping[str, Asked],
    layer: str,
    folder: Path,
    threads: int,
    failed: Callable[[str, str], None],
) -> dict[str, int]:
    """Load a layer of `folder` into every peer, one after the other.

    Returns
    -------
    dict
        Column -> bytes it has taken, for those that have the layer.
    """
    loaded = {}
    for name, process in processes.items():
        request = {"do": "load", "layer": layer, "folder": str(folder), "threads": threads}
        found = _attempt(name, failed, lambda p=process, r=request: p.ask(LOAD_S, **r))
        if found is not None:
            loaded[name] = found["memory"]
    return loaded


@dataclass(frozen=True, slots=True)
class Case:
    """What a row is about: a loaded layer, tokens of a call, and the file of its results."""

    layer: str
    tokens: int
    reference: Path


def _prepared(
    case: Case, processes: Mapping[str, Asked], pace: Pace, failed: Callable[[str, str], None]
) -> dict[str, _Timing]:
    timings = {}
    for name, process in processes.items():
        request = {"do": "prepare", "tokens": case.tokens, "reference": str(case.reference)}
        found = _attempt(name, failed, lambda p=process, r=request: p.ask(PREPARE_S, **r))
        if found is None:
            continue
        errors = found["errors"]
        if not any(error < WRONG for error in errors.values()):  # NaN is wrong too
            failed(name, f"wrong: relative error {errors['exact']:.2g} at {case.tokens} tokens")
        else:
            seconds = found["seconds"]
            timings[name] = _Timing(errors, pace.calls(seconds), pace.rounds_of(seconds))
    return timings


def measure(
    case: Case,
    processes: Mapping[str, Asked],
    limits: Callable[[], Mapping[str, float]],
    pace: Pace,
    failed: Callable[[str, str], None],
) -> Row:
    """Return the row of a token count.

    Parameters
    ----------
    case : Case
        What is computed.
    processes : mapping
        Column -> its process, which has loaded the layer.
    limits : callable
        Measures the machine's limits once; called in every round.
    pace : Pace
        How long it may take.
    failed : callable
        Told column and reason of a peer that fails; it is left out from then on.
    """
    timings = _prepared(case, processes, pace, failed)
    rates: list[Mapping[str, float]] = []
    for turn in range(pace.rounds):
        rates.append(limits())
        for name in [n for n, t in timings.items() if pace.joins(turn, t.rounds)]:
            timing = timings[name]
            request = {"do": "burst", "turns": timing.turns(), "warm": timing.calls > 1}
            process = processes[name]
            found = _attempt(name, failed, lambda p=process, r=request: p.ask(ANSWER_S, **r))
            if found is None:
                del timings[name]
            else:
                timing.seconds += found["seconds"]
    described = layers.layer_named(case.layer)
    cells = (Cell.of(name, t.seconds, t.errors) for name, t in timings.items())
    return Row(
        case.layer,
        case.tokens,
        layers.touched_bytes(described, case.tokens),
        layers.operations(described, case.tokens),
        _medians(rates),
        tuple(cells),
    )


def _medians(rates: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found = list(rates)
    return {name: median(r[name] for r in found) for name in (found[0] if found else ())}
