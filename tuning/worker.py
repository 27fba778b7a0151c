# SPDX-License-Identifier: MIT
"""The measuring child: ``python -m aiter_moe.tuning.worker``; JSON lines in, JSON lines out.

Candidate code runs here and nowhere else, because it may crash or hang. The parent's side is
`tuning.child`; each command names at most one candidate, so a death has one suspect.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from aiter_moe.dispatch import metadata_for
from aiter_moe.errors import (
    AiterMoeError,
    ArgumentError,
    BuildError,
    ToolchainError,
    UnsupportedProblemError,
)
from aiter_moe.targets.registry import Target, running_target
from aiter_moe.tuning.bench import Bench, make_bench
from aiter_moe.tuning.expected import Expected, compute_expected
from aiter_moe.tuning.messages import candidate_from_json, layer_from_json, problem_from_json
from aiter_moe.tuning.outcomes import CompileError, Fault, Outcome, Unsupported, encode
from aiter_moe.tuning.peaks import measure_peaks

PR_SET_PDEATHSIG = 1
Reply = dict[str, Any]


def outcome_of(error: Exception) -> Outcome:
    """Return the outcome that an exception raised while a candidate ran amounts to."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, UnsupportedProblemError):
        return Unsupported(str(error))
    if isinstance(error, BuildError | ToolchainError):
        return CompileError(text)
    return Fault(text)


class Worker:
    """Answers commands about one layer at a time."""

    def __init__(self, target: Target, say: Callable[[Reply], None]) -> None:
        self.target = target
        self.say = say
        self.bench: Bench | None = None

    def answer(self, request: Mapping[str, Any]) -> Reply:
        """Return the reply to one command; errors of the command become part of it."""
        commands: dict[str, Callable[[Mapping[str, Any]], Reply]] = {
            "prepare": self.prepare,
            "check": self.check,
            "time": self.time,
            "confirm": self.confirm,
            "peaks": self.peaks,
        }
        try:
            return commands[request["op"]](request)
        except AiterMoeError as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def ready(self) -> Bench:
        """Return the prepared bench; asking before ``prepare`` is a bug of the parent."""
        assert self.bench is not None, "no layer was prepared"
        return self.bench

    def prepare(self, request: Mapping[str, Any]) -> Reply:
        """Make operands and reference, or read the reference a former child left."""
        layer = layer_from_json(request["layer"])
        seed, tokens = request["seed"], request["tokens"]
        kept = Path(request["reference"])
        want = Expected.load(kept)
        computed = want is None
        if want is None:
            want = compute_expected(layer, seed, tokens, lambda done: self.say({"experts": done}))
            want.save(kept)
        self.bench = make_bench(self.target.launcher(), layer, seed, tokens, want)
        return {"computed": computed}

    def check(self, request: Mapping[str, Any]) -> Reply:
        """Run one candidate once on poisoned memory and compare."""
        problem = problem_from_json(request["problem"])
        try:
            candidate = candidate_from_json(request["candidate"])
            return encode(self.ready().check(problem.kind, problem.token, candidate))
        except Exception as error:  # whatever a candidate raises is that candidate's outcome
            return encode(outcome_of(error))

    def time(self, request: Mapping[str, Any]) -> Reply:
        """Time some runs of one candidate."""
        problem = problem_from_json(request["problem"])
        try:
            candidate = candidate_from_json(request["candidate"])
            ns = self.ready().time(problem.kind, problem.token, candidate, request["calls"])
        except Exception as error:  # as in `check`
            return encode(outcome_of(error))
        return {"ns": ns}

    def peaks(self, request: Mapping[str, Any]) -> Reply:
        """Probe the device."""
        return measure_peaks(self.target.facts.cu_num).to_json()

    def confirm(self, request: Mapping[str, Any]) -> Reply:
        """Run ``fused_moe`` with whatever plan a user's process would get."""
        problem = problem_from_json(request["problem"])
        plan = metadata_for(problem, self.target).plan
        error, ns = self.ready().confirm(problem, plan.stage2.kind)
        return {
            "error_l2": error,
            "ns": ns,
            "source": plan.source,
            "kernels": [plan.stage1.name, plan.stage2.name],
        }


def serve(worker: Worker, commands: IO[bytes]) -> None:
    """Answer commands until the parent closes the pipe."""
    for line in commands:
        worker.say({"reply": worker.answer(json.loads(line))})


def _die_with_parent() -> None:
    """Ask the kernel to end this process with its parent; a hung candidate can't notice EOF."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve the pipe on stdin and stdout; whatever candidates print goes to stderr."""
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def say(message: Reply) -> None:
        replies.write(json.dumps(message).encode() + b"\n")
        replies.flush()

    if len(sys.argv) != 2:
        raise ArgumentError("usage: python -m aiter_moe.tuning.worker TARGET")
    serve(Worker(running_target(sys.argv[1]), say), sys.stdin.buffer)


if __name__ == "__main__":
    main()
