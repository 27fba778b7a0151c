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
from aiter_moe.codegen.cpu import REQUIRES, RUNTIME_FEATURES
from aiter_moe.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")
MAX_THREADS = 1024

_VECTOR_PREFIXES = ("avx", "amx", "fma", "f16c", "gfni")
_ISAS = ("avx512", "portable")


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """A CPU's marketing name and its vector features by their names in /proc/cpuinfo."""

    product: str
    features: frozenset[str]


def parse_cpuinfo(text: str) -> CpuInfo:
    """Return the first processor of a /proc/cpuinfo; missing lines give empty fields."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", "").split()
    features = frozenset(flag for flag in flags if flag.startswith(_VECTOR_PREFIXES))
    return CpuInfo(fields.get("model name", ""), features)


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
        Text of AITER_MOE_CPU_ISA: empty, ``avx512`` or ``portable``.
    info : CpuInfo
        The CPU.

    Raises
    ------
    ConfigError
        If `isa` is neither, or asks for AVX-512 where the CPU lacks a part of it.
    """
    if not isa:
        return info.features
    if isa not in _ISAS:
        raise ConfigError(
            f"{env.CPU_ISA.name}={isa!r}: give one of {', '.join(_ISAS)}, or unset it"
        )
    if isa == "portable":
        return frozenset()
    missing = (REQUIRES["avx512"] | RUNTIME_FEATURES) - info.features
    if missing:
        raise ConfigError(
            f"{env.CPU_ISA.name}=avx512, but this CPU ({info.product or 'unknown'}) lacks "
            f"{', '.join(sorted(missing))}; unset {env.CPU_ISA.name} or set it to portable"
        )
    return info.features


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
