# SPDX-License-Identifier: MIT
"""The machine's limits (`tuning.limits`) as one more process that is asked in turns."""

from __future__ import annotations

from aiter_moe.codegen.cpu import REQUIRES
from aiter_moe.enums import Kind
from aiter_moe.targets.cpu_features import read_cpuinfo
from aiter_moe.tuning.limits import DOT_OF, Machine
from peers.peer import Peer

LIMITS = Peer("limits", "", "limits:Limits")


def dots() -> dict[str, str]:
    """Return kind -> the dot product that bounds it on this CPU, as far as there is one."""
    features = read_cpuinfo().features
    found = {}
    for kind in Kind:
        names = [DOT_OF[isa, kind] for isa, needed in REQUIRES.items()
                 if (isa, kind) in DOT_OF and needed <= features]  # fmt: skip
        if names:
            found[str(kind)] = names[0]
    return found


class Limits:
    """One sample of each limit."""

    def __init__(self, threads: int) -> None:
        self.machine, self.dots = Machine(threads), dots()

    def rates(self) -> dict[str, float]:
        """Return ``read`` in bytes a second, and the dot products of each kind a second."""
        samples = {kind: self.machine.dot(name) for kind, name in self.dots.items()}
        return {"read": self.machine.read(), **samples}
