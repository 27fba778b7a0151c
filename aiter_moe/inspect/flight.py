# SPDX-License-Identifier: MIT
"""How many bytes of weights a wave has requested and not yet waited for, round its hot loop.

Vector memory returns in the order of requests, and a wait for vmcnt(n) leaves the last n of them
unfinished; so the code alone says what is in flight, however long the memory takes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from aiter_moe.codegen.gfx9.device import VMCNT_MAX
from aiter_moe.inspect.instructions import VECTOR_MEMORY, Instruction
from aiter_moe.inspect.loops import Loop

# Turns after which what is in flight repeats: more than requests are ever kept for.
TURNS = VMCNT_MAX + 1


@dataclass(frozen=True, slots=True)
class InFlight:
    """Bytes of weights of one wave between request and wait.

    Attributes
    ----------
    least : int
        After the strictest wait of a turn.
    most : int
        Before a wait.
    mean : float
        Averaged over what arrives while the wave waits, as when the memory is all it waits for.
    requests : int
        Vector memory requests of all kinds left by the strictest wait.
    """

    least: int
    most: int
    mean: float
    requests: int


@dataclass(slots=True)
class _Queue:
    """Requests under way, oldest first, as bytes of weights (0 for anything else)."""

    waiting: deque[int] = field(default_factory=deque)
    weights: int = 0
    least: int | None = None
    most: int = 0
    requests: int = VMCNT_MAX
    arrived: int = 0
    sum_in_flight: int = 0

    def request(self, weights: int) -> None:
        # a full counter makes the next request wait for the oldest
        if len(self.waiting) == VMCNT_MAX:
            self._finish()
        self.waiting.append(weights)
        self.weights += weights
        self.most = max(self.most, self.weights)

    def wait(self, count: int) -> None:
        while len(self.waiting) > count:
            self._finish()
        self.least = self.weights if self.least is None else min(self.least, self.weights)
        self.requests = min(self.requests, len(self.waiting))

    def measure_anew(self) -> None:
        self.least, self.most, self.requests = None, self.weights, VMCNT_MAX
        self.arrived = self.sum_in_flight = 0

    def _finish(self) -> None:
        done = self.waiting.popleft()
        self.arrived += done
        self.sum_in_flight += done * self.weights
        self.weights -= done


def in_flight(loop: Loop) -> InFlight:
    """Return what a wave keeps in flight once the loop runs as it will go on to run."""
    queue = _Queue()
    for turn in range(TURNS + 1):
        if turn == TURNS:
            queue.measure_anew()
        for instruction in loop.instructions:
            _pass(queue, instruction, loop)
    least = queue.weights if queue.least is None else queue.least
    mean = queue.sum_in_flight / queue.arrived if queue.arrived else float(least)
    return InFlight(least, queue.most, mean, min(queue.requests, len(queue.waiting)))


def _pass(queue: _Queue, instruction: Instruction, loop: Loop) -> None:
    if instruction.group in VECTOR_MEMORY:
        weights = instruction.pc in loop.weight_loads
        queue.request(instruction.wave_bytes if weights else 0)
    elif "vmcnt" in instruction.waits:
        queue.wait(instruction.waits["vmcnt"])
