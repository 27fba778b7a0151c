# SPDX-License-Identifier: MIT
"""What processes take of the machine, as Linux tells it in /proc: memory, and who computes."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal of the line of all CPUs


def anonymous_bytes() -> int:
    """Return this process's memory that is in no file, after giving back what it can."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        text = (PROC / "self/status").read_text()
    except (OSError, AttributeError):
        return 0
    line = next((line for line in text.splitlines() if line.startswith("RssAnon")), "x 0")
    return int(line.split()[1]) * 1024


def busy_seconds() -> float:
    """Return the seconds that all CPUs together have been busy."""
    try:
        fields = (PROC / "stat").read_text().partition("\n")[0].split()[1:]
    except OSError:
        return 0.0
    return sum(int(fields[i]) for i in BUSY) / os.sysconf("SC_CLK_TCK")


def process_seconds(pids: Iterable[int]) -> float:
    """Return the seconds that processes have computed, and those of this one's that ended."""
    total = 0
    for pid in pids:
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return total / os.sysconf("SC_CLK_TCK") + ended.ru_utime + ended.ru_stime
