# SPDX-License-Identifier: MIT
"""Every environment variable the package reads: one table, one reader.

Values are read per call, never at import, so tests and long-lived servers can change them.
No other module of the package touches ``os.environ`` (a lint rule holds that).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from aiter_moe.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: name, default text and what it does."""

    name: str
    default: str
    doc: str

    def text(self) -> str:
        """Return the variable's text, or the default where it is unset or empty."""
        return os.environ.get(self.name) or self.default

    def integer(self) -> int:
        """Return the variable as an integer.

        Raises
        ------
        ConfigError
            If the text is not an integer.
        """
        text = self.text()
        try:
            return int(text)
        except ValueError:
            raise ConfigError(
                f"{self.name}={text!r} is not an integer; unset it or give a number"
            ) from None

    def flag(self) -> bool:
        """Return True for 1, true, yes or on (any case)."""
        return self.text().strip().lower() in ("1", "true", "yes", "on")


CACHE_DIR = Variable(
    "AITER_MOE_CACHE_DIR", "", "where compiled kernels are kept (default: the user's cache folder)"
)
TARGET = Variable(
    "AITER_MOE_TARGET",
    "",
    "target of fused_moe and look-ups: cpu, gfx950, gfx942, or with :emulator behind one of the "
    "latter (default: by device)",
)
CONFIG = Variable(
    "AITER_MOE_CONFIG", "", "tuned CSV files, separated as in PATH; read before AITER_CONFIG_FMOE"
)
THREADS = Variable(
    "AITER_MOE_THREADS", "0", "threads of the CPU target (default 0: as many as torch uses)"
)
CPU_ISA = Variable(
    "AITER_MOE_CPU_ISA",
    "",
    "most of the instruction set that CPU kernels use: avx512_bf16, avx512_vbmi, "
    "avx512_vnni, avx512, avx2_vnni, avx2 or portable (default: all the CPU has)",
)
AITER_CONFIG_FMOE = Variable(
    "AITER_CONFIG_FMOE", "", "aiter's own variable: tuned CSV files, separated as in PATH"
)
AITER_KSPLIT = Variable(
    "AITER_KSPLIT", "0", "aiter: n forces split-k n for a16w4; -1 turns the rows' split-k off"
)
AITER_BYPASS_TUNE_CONFIG = Variable(
    "AITER_BYPASS_TUNE_CONFIG", "0", "aiter: 1 ignores tuned rows and uses the heuristics"
)
AITER_USE_NT = Variable(
    "AITER_USE_NT",
    "-1",
    "aiter: 0 or 1 decides use_non_temporal_load of the metadata; kernels here follow their tile",
)
SWIGLU_BF16_BOUND = Variable(
    "GPTOSS_SWIGLU_MXFP4_BF16_BOUND",
    "256",
    "aiter: Swiglu below this many tokens takes bf16 activations",
)
SITUV2_A4W4 = Variable("AITER_SITUV2_A4W4", "0", "aiter: 1 gives Situv2 problems fp4 activations")
CU_NUM = Variable("CU_NUM", "0", "aiter: compute units of the device (default 0: ask the device)")
HIPCC = Variable("HIPCC", "", "path of hipcc (before ROCM_PATH and PATH)")
ROCM_PATH = Variable("ROCM_PATH", "", "root of a ROCm installation: bin/hipcc, lib/libamdhip64.so")
HOST_CXX = Variable("CXX", "", "host C++ compiler (before g++ and clang++ on PATH)")
PREBUILD_KERNELS = Variable(
    "PREBUILD_KERNELS", "", "targets whose kernels are built at install time, separated by commas"
)

TABLE: tuple[Variable, ...] = (
    CACHE_DIR, TARGET, CONFIG, THREADS, CPU_ISA, AITER_CONFIG_FMOE, AITER_KSPLIT,
    AITER_BYPASS_TUNE_CONFIG, AITER_USE_NT, SWIGLU_BF16_BOUND, SITUV2_A4W4,
    CU_NUM, HIPCC, ROCM_PATH, HOST_CXX, PREBUILD_KERNELS,
)  # fmt: skip


# All but those of compilers, which steer no call.
_STEERING = tuple(v for v in TABLE if v not in (HIPCC, ROCM_PATH, HOST_CXX, PREBUILD_KERNELS))
_NAMES = tuple(variable.name for variable in _STEERING)
_RAW_NAMES = tuple(os.fsencode(name) for name in _NAMES)
_FILES = tuple(_STEERING.index(variable) for variable in (CONFIG, AITER_CONFIG_FMOE))

Snapshot = tuple[str | bytes | None, ...]


def snapshot() -> Snapshot:
    """Return what the variables that steer calls are now; equal snapshots mean equal texts."""
    # A look-up in os.environ encodes and decodes, which for so many takes longer than
    # launching a layer. What it looks up in holds bytes on every POSIX system.
    raw = getattr(os.environ, "_data", None)
    if type(raw) is dict and os.name == "posix":
        return tuple(map(raw.get, _RAW_NAMES))
    return tuple(map(os.environ.get, _NAMES))


def names_files(now: Snapshot) -> bool:
    """Say whether a variable names files, whose content counts as well."""
    return any(now[index] for index in _FILES)


def child_environment(changes: Mapping[Variable, str]) -> dict[str, str]:
    """Return this process's environment with some variables of the table changed."""
    return {**os.environ, **{variable.name: text for variable, text in changes.items()}}
