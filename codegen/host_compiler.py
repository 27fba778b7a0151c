# SPDX-License-Identifier: MIT
"""Which compiler builds for the CPU target: CXX, then g++ and clang++ on PATH, then the pip clang.

All build the same freestanding C++20: no libc headers, no C++ runtime; functions left undefined
resolve against the process when the library is loaded.
"""

from __future__ import annotations

import platform
import shlex

from aiter_moe import env
from aiter_moe.codegen.compiler import (
    INSTALL_HINT,
    PORTABLE_PATHS,
    Compiler,
    NoCompilerError,
    PipClang,
    Program,
    pip_clang,
    probe,
    which,
)
from aiter_moe.errors import ToolchainError
from aiter_moe.log import warn_once

HOST_FLAGS = (
    "-O3", "-std=c++20", "-fPIC", "-ffreestanding", "-fno-exceptions", "-fno-rtti",
    "-fno-math-errno",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-nostdlib")

# Oldest versions that know -std=c++20 with what the kernels use, and AVX-512 BF16.
OLDEST_GCC = 11
OLDEST_CLANG = 14


def host_flags(machine: str) -> tuple[str, ...]:
    """Return the flags of every host compile on a machine (``platform.machine()``)."""
    # GCC's helpers for old ARM cores live in libgcc, which freestanding code goes without.
    return HOST_FLAGS + (("-mno-outline-atomics",) if machine == "aarch64" else ())


def host_compiler() -> Compiler:
    """Return the compiler of the CPU target.

    Raises
    ------
    ToolchainError
        If CXX names no usable compiler, or none was found anywhere.
    """
    explicit = env.HOST_CXX.text()
    if explicit:
        return _explicit(explicit)
    for name in ("g++", "clang++"):
        path = which(name)
        program = probe((path,)) if path else None
        if program is None:
            continue
        reason = _too_old(program)
        if reason is None:
            return _driver(program)
        warn_once(
            ("host compiler", path), f"{path}: {reason}; looking for another (CXX=... names one)"
        )
    pip = pip_clang()
    if pip is not None:
        return _pip(pip)
    raise NoCompilerError(
        "no C++ compiler for the CPU target: CXX is unset, PATH has no usable g++ or clang++, and "
        f"the pip clang is not installed; run {INSTALL_HINT}"
    )


def _explicit(text: str) -> Compiler:
    words = shlex.split(text)
    path = which(words[0])
    if path is None:
        raise ToolchainError(
            f"CXX={text!r} names no program; unset it or give the path of g++ or clang++"
        )
    program = probe((path, *words[1:]))
    reason = _too_old(program)
    if reason is not None:
        raise ToolchainError(f"CXX={text!r}: {reason}; unset CXX or run {INSTALL_HINT}")
    return _driver(program)


def _too_old(program: Program) -> str | None:
    oldest = OLDEST_CLANG if program.is_clang else OLDEST_GCC
    if program.major == 0 or program.major >= oldest:
        return None
    return f"{program.version_line} is too old for the kernels, which need {oldest} or later"


def _driver(program: Program) -> Compiler:
    """Return the recipe of a compiler driver that also links (g++, clang++)."""
    machine = platform.machine()
    options = [word for word in program.words[1:] if word.startswith("-")]
    step = (
        "{cxx}", *host_flags(machine), *LINK_FLAGS, PORTABLE_PATHS, "{flags}", "-I{csrc}",
        "{source}", "-o", "kernel.so",
    )  # fmt: skip
    return Compiler(
        label=program.version_line,
        identity="; ".join([program.version_line, machine, *options]),
        recipe=(step,),
        programs={"cxx": program.words},
    )


def _pip(pip: PipClang) -> Compiler:
    """Return the recipe of the pip clang, called below its drivers, which would build a libc."""
    machine = platform.machine()
    compile_step = (
        "{zig}", "clang", "-x", "c++", f"--target={machine}-linux-gnu", *host_flags(machine),
        "-nostdinc", "-isystem", "{include}", PORTABLE_PATHS, "{flags}", "-I{csrc}", "-c",
        "{source}", "-o", "kernel.o",
    )  # fmt: skip
    return Compiler(
        label=f"{pip.clang.version_line} (ziglang)",
        identity=f"ziglang {pip.clang.version_line}; {machine}",
        recipe=(compile_step, ("{zig}", "ld.lld", "-shared", "kernel.o", "-o", "kernel.so")),
        programs={"zig": (pip.binary,), "include": (str(pip.include),)},
    )
