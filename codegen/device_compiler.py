# SPDX-License-Identifier: MIT
"""Which compiler builds for an AMD GPU: hipcc, then a clang on PATH, then the pip clang.

hipcc comes from HIPCC, ROCM_PATH/bin or PATH; a folder such as /opt/rocm that merely exists is no
evidence of one. None of them needs ROCm's headers, device libraries or a GPU.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from aiter_moe import env
from aiter_moe.codegen.compiler import (
    INSTALL_HINT,
    PORTABLE_PATHS,
    PROBE_SECONDS,
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

# Without -fuse-cuid=none a symbol's name would depend on the source's path.
DEVICE_FLAGS = ("-nogpulib", "-nogpuinc", "-O3", "-std=c++20", "-fuse-cuid=none")

# First clang that knows each architecture; a hipcc with an older one may have it backported.
FIRST_CLANG = {"gfx942": 17, "gfx950": 20}
OLDEST_CLANG = 20
NEWEST_NAMED_CLANG = 29


def device_compiler(arch: str) -> Compiler:
    """Return the compiler of a GPU architecture.

    Parameters
    ----------
    arch : str
        ``gfx950`` or ``gfx942``.

    Raises
    ------
    ToolchainError
        If HIPCC names no hipcc that can compile for `arch`, or nothing usable was found.
    """
    if arch not in FIRST_CLANG:
        raise ToolchainError(f"no compiler recipe for {arch}; there are {', '.join(FIRST_CLANG)}")
    explicit = env.HIPCC.text()
    if explicit:
        return _explicit_hipcc(explicit, arch)
    refused: list[str] = []
    for compiler, reason in _candidates(arch):
        if compiler is not None:
            for line in refused:
                warn_once(("device compiler", arch, line), f"{line}; using {compiler.label}")
            return compiler
        refused.append(reason)
    raise NoCompilerError(
        f"no compiler for {arch}: "
        + "; ".join([*refused, "HIPCC is unset, no other hipcc or clang was found"])
        + f"; run {INSTALL_HINT}"
    )


def _candidates(arch: str) -> Iterator[tuple[Compiler | None, str]]:
    """Yield compilers in order of preference, or None with the reason one is refused."""
    for path in _hipcc_paths():
        program = probe((path,))
        reason = _hipcc_too_old(program, arch)
        yield (None, reason) if reason else (_hipcc(program, arch), "")
    names = ["clang", *(f"clang-{n}" for n in range(NEWEST_NAMED_CLANG, OLDEST_CLANG - 1, -1))]
    for clang in filter(None, map(which, names)):
        yield _clang(probe((clang,)), arch)
    pip = pip_clang()
    if pip is not None:
        yield _pip(pip, arch)


def _hipcc_paths() -> Iterator[str]:
    root = env.ROCM_PATH.text()
    for name in ([str(Path(root) / "bin" / "hipcc")] if root else []) + ["hipcc"]:
        path = which(name)
        if path:
            yield path


def _explicit_hipcc(text: str, arch: str) -> Compiler:
    path = which(text)
    if path is None:
        raise ToolchainError(f"HIPCC={text!r} names no program; unset it or give hipcc's path")
    program = probe((path,))
    reason = _hipcc_too_old(program, arch)
    if reason:
        raise ToolchainError(
            f"HIPCC={text!r}: {reason}; name a newer hipcc, or unset HIPCC and run {INSTALL_HINT}"
        )
    return _hipcc(program, arch)


def _hipcc_too_old(program: Program, arch: str) -> str | None:
    """Return why a hipcc cannot compile for `arch`, or None."""
    if program.is_clang and program.major >= FIRST_CLANG[arch]:
        return None
    error = _trial(program, arch)
    if error is None:
        return None
    return (
        f"{program.words[0]} ({_hipcc_label(program)}) is too old for {arch}, which needs "
        f"clang {FIRST_CLANG[arch]} or ROCm 7 ({error})"
    )


@lru_cache(maxsize=16)
def _trial(program: Program, arch: str) -> str | None:
    """Compile an empty kernel for `arch`; return the first error line, or None."""
    with tempfile.TemporaryDirectory(prefix="aiter_moe_") as folder:
        source = Path(folder) / "empty.hip"
        source.write_text('extern "C" __attribute__((global)) void empty() {}\n')
        words = [*program.words, *_hipcc_words(arch), source.name, "-o", "empty.co"]
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, errors="replace",
                timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the trial compile failed: {error}"
    if done.returncode == 0:
        return None
    lines = (done.stderr + done.stdout).splitlines()
    errors = [line.strip() for line in lines if "error" in line.lower()]
    return (errors or lines or [f"exit status {done.returncode}"])[0]


def _hipcc_words(arch: str) -> tuple[str, ...]:
    return (f"--offload-arch={arch}", "--genco", "--no-gpu-bundle-output", *DEVICE_FLAGS)


def _hipcc_label(program: Program) -> str:
    """Return hipcc's and its clang's version lines, which say nothing of their paths."""
    lines = [line.strip() for line in program.version_text.splitlines()]
    return ", ".join(li for li in lines if "version" in li.lower()) or program.version_line


def _hipcc(program: Program, arch: str) -> Compiler:
    step = (
        "{hipcc}", *_hipcc_words(arch), PORTABLE_PATHS, "{flags}", "-I{csrc}", "{source}",
        "-o", "kernel.co",
    )  # fmt: skip
    label = f"hipcc ({_hipcc_label(program)})"
    return Compiler(label, label, (step,), {"hipcc": program.words})


def _clang(program: Program, arch: str) -> tuple[Compiler | None, str]:
    """Return the recipe of a clang on PATH with the lld that belongs to it, or why not."""
    path = program.words[0]
    if not program.is_clang or program.major < OLDEST_CLANG:
        return None, f"{path} ({program.version_line}) is older than clang {OLDEST_CLANG}"
    linker = _linker(program)
    if linker is None:
        return None, f"{path} ({program.version_line}) has no ld.lld beside it or on PATH"
    identity = f"{program.version_line}; {linker.version_line}"
    programs = {"clang": program.words, "lld": linker.words}
    return Compiler(program.version_line, identity, _three_steps(arch), programs), ""


def _linker(clang: Program) -> Program | None:
    beside = Path(clang.words[0]).resolve().parent / "ld.lld"
    for name in (f"ld.lld-{clang.major}", str(beside), "ld.lld"):
        path = which(name)
        if path:
            return probe((path,))
    return None


def _pip(pip: PipClang, arch: str) -> tuple[Compiler | None, str]:
    if pip.clang.major < FIRST_CLANG[arch]:
        return None, (
            f"{pip.clang.version_line} of ziglang is older than clang {FIRST_CLANG[arch]}: "
            f"{INSTALL_HINT} --upgrade"
        )
    programs = {"clang": (pip.binary, "clang"), "lld": (pip.binary, "ld.lld")}
    label = f"{pip.clang.version_line} (ziglang)"
    identity = f"ziglang {pip.clang.version_line}"
    return Compiler(label, identity, _three_steps(arch), programs), ""


def _three_steps(arch: str) -> tuple[tuple[str, ...], ...]:
    """Compile to assembly, assemble, link: keeps the .s, and needs no lld on PATH."""
    return (
        ("{clang}", "-x", "hip", f"--offload-arch={arch}", "--cuda-device-only", *DEVICE_FLAGS,
         PORTABLE_PATHS, "{flags}", "-I{csrc}", "-S", "{source}", "-o", "kernel.s"),
        ("{clang}", "--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-c", "kernel.s",
         "-o", "kernel.o"),
        ("{lld}", "-shared", "kernel.o", "-o", "kernel.co"),
    )  # fmt: skip
