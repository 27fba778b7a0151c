# SPDX-License-Identifier: MIT
"""The process of one peer: loads a layer, then times calls on request.

Requests and answers are lines of JSON, on standard input and on what was standard output; whatever
the peer prints itself goes to standard error. An exception is an answer too.

    python -m peers.child torch_dense:Bf16
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.peer import Implementation
from peers.usage import anonymous_bytes

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to end this process with its parent, even while it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def class_named(name: str) -> Callable[..., Any]:
    """Return the class of ``module:Class`` in this package."""
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"peers.{module}"), attribute)
    return found


def timed(implementation: Implementation, taken: Any) -> tuple[float, Any]:
    """Return the seconds of one call and what it returned."""
    begin = time.perf_counter()
    returned = implementation.run(taken)
    return time.perf_counter() - begin, returned


class Session:
    """What a process keeps between requests: a method per request."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def load(self, layer: str, folder: str, threads: int) -> dict[str, Any]:
        """Load a layer's weights, which `folder` has."""
        from peers import layers

        self.layer = layers.layer_named(layer)
        self.implementation = None  # the layer before this goes first
        before = anonymous_bytes()
        self.implementation = self.make(layers.load(layer, Path(folder)), threads)
        return {"memory": anonymous_bytes() - before}

    def _taken(self, tokens: int, turn: int) -> Any:
        from peers import layers

        route = layers.routing(self.layer, tokens, turn)
        return self.implementation.take(self.x, route)

    def prepare(self, tokens: int, reference: str) -> dict[str, Any]:
        """Make the inputs of a token count, run it twice, return its errors and its seconds."""
        from peers import layers
        from peers.reference import errors

        self.x = layers.hidden_states(self.layer, tokens)
        _, returned = timed(self.implementation, self._taken(tokens, 0))
        found = errors(self.implementation.result(returned), Path(reference))
        seconds, _ = timed(self.implementation, self._taken(tokens, 1))
        return {"errors": found, "seconds": seconds}

    def burst(self, turns: list[int], warm: bool) -> dict[str, Any]:
        """Time a call per turn; where `warm`, one that is not counted wakes threads before."""
        tokens, seconds = len(self.x), []
        if warm:
            self.implementation.run(self._taken(tokens, turns[0] - 1))
        for turn in turns:
            seconds.append(timed(self.implementation, self._taken(tokens, turn))[0])
        return {"seconds": seconds}

    def rates(self, threads: int) -> dict[str, Any]:
        """Measure the machine's limits once."""
        if not hasattr(self, "probe"):
            self.probe = self.make(threads)
        return {"rates": self.probe.rates()}


def answer(session: Session, request: dict[str, Any]) -> dict[str, Any]:
    """Return what a request comes to; any exception is told in its own words."""
    method = getattr(session, request.pop("do"))
    try:
        found: dict[str, Any] = method(**request)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    return found


def main() -> None:
    """Answer requests until there are no more."""
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        session = Session(class_named(sys.argv[1]))
    except Exception as error:
        answers.write(json.dumps({"failed": f"{type(error).__name__}: {error}"}) + "\n")
        return
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(session, json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
