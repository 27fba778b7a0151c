# SPDX-License-Identifier: MIT
"""Asks the measuring child, and blames deaths: one candidate per command, so one suspect.

After a death or a hang the child is started again and its layer prepared again (the reference
is kept in a file); the sweep goes on with the next candidate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiter_moe.errors import LaunchError
from aiter_moe.problem import Problem
from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.child import ChildDied, ChildHung, Conversation, Message
from aiter_moe.tuning.messages import candidate_to_json, layer_to_json, problem_to_json
from aiter_moe.tuning.operands import Layer
from aiter_moe.tuning.outcomes import Fault, Outcome, Timeout, decode
from aiter_moe.tuning.peaks import Peaks

SLOWEST_OPERATIONS_PER_S = 1e9
START_S = 20.0
PREPARE_SILENCE_S = 300.0


def deadline_s(problem: Problem, calls: int = 1) -> float:
    """Return how long `calls` runs of one stage may take at the very least speed we accept.

    Twenty seconds for loading and first touches, then one billion operations per second, a
    hundredth of what one core of a present CPU does.
    """
    per_row = 6 * problem.model_dim * problem.inter_dim
    rows = problem.token * problem.topk + 128 * min(problem.experts, problem.token * problem.topk)
    return START_S + calls * rows * per_row / SLOWEST_OPERATIONS_PER_S


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a ``fused_moe`` run with the tuned file showed.

    Attributes
    ----------
    problem : Problem
        What was run.
    source : str
        File and row, or rule, the plan came from.
    kernels : tuple of str
        Names of both stages' kernels.
    error : float
        Relative L2 error against the float64 reference.
    microseconds : float
        Of a whole warm call, sort included.
    """

    problem: Problem
    source: str
    kernels: tuple[str, str]
    error: float
    microseconds: float


@dataclass(slots=True)
class Measurer:
    """Measures candidates of one layer in a child that may be lost at any time.

    Attributes
    ----------
    spawn : Callable
        Starts a child.
    scratch : Path
        Folder for the reference of the layer; outlives the children.
    seed : int
        Seed of the operands.
    deadline : Callable
        Seconds a number of runs of a problem may take, `deadline_s` outside of tests.
    """

    spawn: Callable[[], Conversation]
    scratch: Path
    seed: int = 0
    deadline: Callable[[Problem, int], float] = deadline_s
    respawns: int = 0
    _child: Conversation | None = None
    _layer: Layer | None = None
    _tokens: int = 0
    _news: Callable[[Message], None] = field(default=lambda message: None)

    def prepare(
        self, layer: Layer, tokens: int, news: Callable[[Message], None] = lambda message: None
    ) -> bool:
        """Make a child ready for the problems of a layer of up to `tokens` tokens.

        Returns
        -------
        bool
            Whether the reference had to be computed.

        Raises
        ------
        LaunchError
            If the child cannot be made ready.
        """
        self.close()
        self._layer, self._tokens, self._news = layer, tokens, news
        return self._start()

    def _start(self) -> bool:
        assert self._layer is not None, "no layer was prepared"
        request = {
            "op": "prepare",
            "layer": layer_to_json(self._layer),
            "seed": self.seed,
            "tokens": self._tokens,
        }
        name = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]
        request["reference"] = str(self.scratch / f"reference-{name}.npz")
        self._child = self.spawn()
        try:
            reply = self._child.ask(request, PREPARE_SILENCE_S, self._news)
        except (ChildDied, ChildHung) as loss:
            self._child = None
            raise LaunchError(
                f"the measuring process could not prepare {self._layer}: {loss}; no candidate "
                "was involved: check free memory, and that `aiter-moe build --target cpu` works"
            ) from None
        return bool(_checked(reply)["computed"])

    def _ask(self, request: dict[str, Any], seconds: float) -> Message:
        if self._child is None:
            self._start()
            self.respawns += 1
        assert self._child is not None
        try:
            return self._child.ask(request, seconds)
        except (ChildDied, ChildHung):
            self._child = None
            raise

    def _ask_about(self, op: str, problem: Problem, candidate: Candidate, calls: int) -> Message:
        """Ask about one candidate; its losing the child becomes its outcome."""
        request = {
            "op": op,
            "problem": problem_to_json(problem),
            "candidate": candidate_to_json(candidate),
            "calls": calls,
        }
        try:
            return self._ask(request, self.deadline(problem, calls))
        except ChildDied as death:
            return {"outcome": "Fault", "reason": f"the measuring process was {death}"}
        except ChildHung as hang:
            return {"outcome": "Timeout", "seconds": hang.seconds}

    def check(self, problem: Problem, candidate: Candidate) -> Outcome:
        """Run `candidate` once and compare; `Ok` carries no samples yet."""
        return decode(self._ask_about("check", problem, candidate, 1))

    def time(self, problem: Problem, candidate: Candidate, calls: int) -> list[int] | Outcome:
        """Return nanoseconds of `calls` runs, or what became of the candidate instead."""
        reply = self._ask_about("time", problem, candidate, calls)
        return reply["ns"] if "ns" in reply else decode(reply)

    def peaks(self) -> Peaks:
        """Probe the device in the child."""
        return Peaks.from_json(_checked(self._ask({"op": "peaks"}, PREPARE_SILENCE_S)))

    def confirm(self, problem: Problem) -> Confirmed | Fault | Timeout:
        """Run ``fused_moe`` in the child, which reads the tuned file as a user's process does."""
        request = {"op": "confirm", "problem": problem_to_json(problem)}
        try:
            reply = _checked(self._ask(request, 3 * self.deadline(problem, 2)))
        except ChildDied as death:
            return Fault(f"the process was {death}")
        except ChildHung as hang:
            return Timeout(hang.seconds)
        except LaunchError as error:
            return Fault(str(error))
        return Confirmed(
            problem,
            reply["source"],
            (reply["kernels"][0], reply["kernels"][1]),
            reply["error_l2"],
            reply["ns"] / 1e3,
        )

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.close()
            self._child = None


def _checked(reply: Message) -> Message:
    if "error" in reply:
        raise LaunchError(f"the measuring process answered: {reply['error']}")
    return reply
