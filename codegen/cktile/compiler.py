# SPDX-License-Identifier: MIT
"""The compiler of CK-tile kernels: the architecture's own, with the third-party headers.

hipcc brings HIP's headers and device library. For a clang alone, headers come from
`codegen.cktile.headers`, and csrc/cktile has what is still missing. Which files a source pulls in
the preprocessor alone can say; their contents enter the key of an artifact.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from aiter_moe.codegen.cktile.headers import WRAPPER, Headers, clang_resources, find_headers
from aiter_moe.codegen.compiler import PROBE_SECONDS, Compiler, probe
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import BuildError

# hipcc finds these itself; without them it would not look.
WITHOUT_ROCM = frozenset({"-nogpulib", "-nogpuinc"})
FOLDERS = ("ck", "hip", "resources")
"""Tokens of recipes that stand for folders of third-party headers."""
SYSTEM = "system"
"""Stands for the folders of the C and C++ library in the names of headers."""

_MARKER = re.compile(rb'^# \d+ "([^"<\n]+)"', re.MULTILINE)


def cktile_compiler(base: Compiler) -> Compiler:
    """Return `base` with what CK-tile sources need.

    Parameters
    ----------
    base : Compiler
        The compiler of the architecture (`codegen.device_compiler`).

    Raises
    ------
    AbsentHeadersError
        If the headers are not there.
    """
    headers = find_headers()
    words = base.programs.get("clang")
    if words is None:
        return _with_hipcc(base, headers)
    folders = {"ck": (str(headers.ck),), "hip": (str(headers.hip),)}
    resources = clang_resources(probe(words))
    if resources is not None:
        folders["resources"] = (str(resources),)
    first = _before_flags(base.recipe[0], _clang_words(resources is not None))
    return replace(base, recipe=(first, *base.recipe[1:]), programs={**base.programs, **folders})


def cktile_command(target: str, file_name: str) -> list[str]:
    """Return how a user with ROCm compiles a rendered source by itself, for its header."""
    return [
        "hipcc", f"--offload-arch={target}", "--genco", "--no-gpu-bundle-output", "-O3",
        "-std=c++20", "-DNDEBUG", "-isystem", "composable_kernel/include", "-Icsrc", file_name,
        "-o", f"{Path(file_name).stem}.co",
    ]  # fmt: skip


def _with_hipcc(base: Compiler, headers: Headers) -> Compiler:
    step = tuple(word for word in base.recipe[0] if word not in WITHOUT_ROCM)
    words = ("-DNDEBUG", "-ffile-prefix-map={ck}=ck", "-isystem", "{ck}")
    programs = {**base.programs, "ck": (str(headers.ck),)}
    return replace(base, recipe=(_before_flags(step, words),), programs=programs)


def _clang_words(resources_apart: bool) -> tuple[str, ...]:
    """Return what a clang needs to find headers, own wrappers first and stand-ins last."""
    apart = (
        "-resource-dir={resources}", "-ffile-prefix-map={resources}=clang",
        "-isystem", "{resources}/include/cuda_wrappers",
    ) if resources_apart else ()  # fmt: skip
    return (
        # HIP 6 asks for the wave size, which clang 22 no longer tells
        "-DNDEBUG", "-D__HIP_PLATFORM_AMD__", "-D__AMDGCN_WAVEFRONT_SIZE=64",
        "-DAITER_MOE_WITHOUT_DEVICE_LIBRARY",
        "-ffile-prefix-map={ck}=ck", "-ffile-prefix-map={hip}=hip", *apart,
        "-include", WRAPPER, "-isystem", "{ck}", "-isystem", "{hip}",
        "-idirafter", "{csrc}/cktile/missing",
    )  # fmt: skip


def _before_flags(step: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    at = step.index("{flags}")
    return (*step[:at], *words, *step[at:])


def preprocessed_headers(
    compiler: Compiler, unit: BuildUnit, csrc: Path
) -> tuple[tuple[str, bytes], ...]:
    """Return every header that the compiler reads for a unit, third-party ones included.

    Parameters
    ----------
    compiler : Compiler
        Of `cktile_compiler`.
    unit : BuildUnit
        What will be compiled.
    csrc : Path
        The package's include folder.

    Returns
    -------
    tuple of (str, bytes)
        A name without the folder that differs between machines, and contents; sorted.

    Raises
    ------
    BuildError
        If the preprocessor fails.
    """
    words = ["headers.hip" if w == unit.file_name else w for w in compiler.commands(unit, csrc)[0]]
    includes = "\n".join(w for w in unit.source.splitlines() if w.startswith("#include"))
    paths = _fresh_paths(tuple(_preprocessing(words)), includes + "\n")
    folders = {"csrc": str(csrc)} | {
        token: compiler.programs[token][0] for token in FOLDERS if token in compiler.programs
    }
    roots = {f"{token}/": os.path.realpath(folder) + "/" for token, folder in folders.items()}
    return tuple(sorted((_portable(path, roots), Path(path).read_bytes()) for path in paths))


def _preprocessing(command: Sequence[str]) -> list[str]:
    """Return a compile command that prints the preprocessed source instead."""
    return [*(word for word in command[:-1] if word != "-S"), "-", "-E"]


def _fresh_paths(command: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Return the headers of a source, asked for again once one of them has changed."""
    paths, stamps = _paths(command, source)
    if stamps != _stamps(paths):
        _paths.cache_clear()
        paths, _ = _paths(command, source)
    return paths


@lru_cache(maxsize=16)
def _paths(
    command: tuple[str, ...], source: str
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Return what the preprocessor reads for a source, and how the files stood then."""
    with tempfile.TemporaryDirectory(prefix="aiter_moe_") as folder:
        (Path(folder) / "headers.hip").write_text(source)
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, timeout=PROBE_SECONDS,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{command[0]} cannot list the headers of CK-tile: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        reason = next((line for line in lines if "error" in line), f"status {done.returncode}")
        raise BuildError(
            f"the headers of CK-tile cannot be read: {reason.strip()}\ncommand: {' '.join(command)}"
        )
    named = {match.decode() for match in _MARKER.findall(done.stdout)} - {"headers.hip"}
    paths = tuple(sorted({os.path.realpath(path) for path in named}))
    return paths, _stamps(paths)


def _stamps(paths: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return when each file was changed and its size; a lost file is like no other."""
    found = []
    for path in map(Path, paths):
        stat = path.stat() if path.exists() else None
        found.append((stat.st_mtime_ns, stat.st_size) if stat else (-1, -1))
    return tuple(found)


def _portable(path: str, roots: Mapping[str, str]) -> str:
    """Return the name of a header under a known folder, else its last part alone."""
    for token, root in roots.items():
        if path.startswith(root):
            return token + path.removeprefix(root)
    return f"{SYSTEM}/{Path(path).name}"
