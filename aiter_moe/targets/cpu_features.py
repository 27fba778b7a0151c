# SPDX-License-Identifier: MIT
"""What the CPU can do, as /proc/cpuinfo tells it, and how many threads the CPU target uses.

Reads one file once; starts nothing. The environment (AITER_MOE_CPU_ISA, AITER_MOE_THREADS) is
read per call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from aiter_moe import env
from aiter_moe.codegen.cpu import REQUIRES
from aiter_moe.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")
MAX_THREADS = 1024

_VECTOR_PREFIXES = ("avx", "amx", "fma", "f16c", "gfni")
_BEST_FIRST = tuple(REQUIRES)


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """A CPU's marketing name and its vector features by their names in /proc/cpuinfo."""

    product: str
    features: frozenset[str]


def parse_cpuinfo(text: str) -> CpuInfo:
    """Return the first name in a /proc/cpuinfo and the features that all its processors have.

    A feature the operating system does not let programs use, for want of its registers' state,
    has no flag there. Missing lines give empty fields.
    """
    product = ""
    flags: set[str] = set()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.rstrip() == "flags":
            flags.add(value)  # of hundreds of processors, one or two texts remain
        elif name.rstrip() == "model name":
            product = product or value.strip()
    common = frozenset.intersection(*(frozenset(text.split()) for text in flags or {""}))
    return CpuInfo(product, frozenset(f for f in common if f.startswith(_VECTOR_PREFIXES)))


@cache
def read_cpuinfo(path: Path = CPUINFO) -> CpuInfo:
    """Return the CPU of this machine; a system without /proc/cpuinfo counts as portable."""
    try:
        return parse_cpuinfo(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return CpuInfo("", frozenset())


@cache
def usable_features(isa: str, info: CpuInfo) -> frozenset[str]:
    """Return the features kernels may use.

    Parameters
    ----------
    isa : str
        Text of AITER_MOE_CPU_ISA: empty for all the CPU has, or a key of `REQUIRES`, above which
        nothing is used.
    info : CpuInfo
        The CPU.

    Raises
    ------
    ConfigError
        If `isa` is no instruction set, or the CPU lacks a part of it.
    """
    if not isa:
        return info.features
    if isa not in REQUIRES:
        raise ConfigError(
            f"{env.CPU_ISA.name}={isa!r}: give one of {', '.join(_BEST_FIRST)}, or unset it"
        )
    missing = REQUIRES[isa] - info.features
    if missing:
        best = next(name for name in _BEST_FIRST if REQUIRES[name] <= info.features)
        raise ConfigError(
            f"{env.CPU_ISA.name}={isa}, but this CPU ({info.product or 'unknown'}) lacks "
            f"{', '.join(sorted(missing))}; unset {env.CPU_ISA.name} or set it to {best}, the "
            "most this CPU has, or below"
        )
    allowed = _BEST_FIRST[_BEST_FIRST.index(isa) :]
    return info.features & frozenset[str]().union(*(REQUIRES[name] for name in allowed))


@cache
def _requested_threads(text: str) -> int:
    try:
        threads = int(text)
    except ValueError:
        threads = -1
    if not 0 <= threads <= MAX_THREADS:
        raise ConfigError(
            f"{env.THREADS.name}={text!r}: give a number of threads from 1 to {MAX_THREADS}, or 0 "
            "for as many as torch uses"
        )
    return threads


def thread_count() -> int:
    """Return the threads of the CPU target: AITER_MOE_THREADS, else those of torch.

    Raises
    ------
    ConfigError
        If AITER_MOE_THREADS is no number from 0 to 1024.
    """
    return _requested_threads(env.THREADS.text()) or min(torch.get_num_threads(), MAX_THREADS)
