# SPDX-License-Identifier: MIT
"""Installs packages of peers from PyPI, each into a folder of its own.

Nothing is installed into the environment that runs the benchmark, and nothing that it has already:
peers find its torch and numpy, so a peer costs tens of megabytes, not another torch.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiter_moe import env
from peers.peer import Package

HERE = Path(__file__).resolve().parent
STAMP = "installed.json"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


class InstallError(Exception):
    """A command that failed; the text has its end."""


def contents(package: Package) -> list[str]:
    """Return what the stamp of a complete installation says."""
    return [*package.requires, *([package.source] if package.source else []), sys.version]


def is_installed(package: Package, root: Path) -> bool:
    """Say whether these versions are there whole, for this Python."""
    try:
        return bool(json.loads((root / package.name / STAMP).read_text()) == contents(package))
    except (OSError, ValueError):
        return False


def install(package: Package, root: Path) -> None:
    """Install a package, in place of what was there.

    Raises
    ------
    InstallError
        If a command fails.
    """
    folder = root / package.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tools = folder / "tools" if package.source else folder
    _run([*PIP, "install", "-q", "--no-deps", "--target", str(tools), *package.requires])
    if package.source:
        build_ggml(package.source, folder, tools)
    (folder / STAMP).write_text(json.dumps(contents(package)))


def build_ggml(source: str, folder: Path, tools: Path) -> None:
    """Build libggml_moe.so of a source distribution that holds llama.cpp, for this CPU."""
    name = source.partition("==")[0]
    search = {"PYTHONPATH": str(tools)}
    _run(
        [*PIP, "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", name,
         "-d", str(folder), source],
        search,
    )  # fmt: skip
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    ggml = next(folder.glob("*/vendor/llama.cpp/ggml"))
    cmake, build = str(tools / "cmake/data/bin/cmake"), str(folder / "build")
    _run(
        [cmake, "-S", str(HERE), "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
         f"-DCMAKE_MAKE_PROGRAM={tools / 'bin/ninja'}", f"-DGGML_SOURCE={ggml}"],
        search,
    )  # fmt: skip
    _run([cmake, "--build", build, "--target", "ggml_moe"], search)
    shutil.copy(Path(build) / "libggml_moe.so", folder)
    for spent in (archive, ggml.parents[2], Path(build), tools):
        shutil.rmtree(spent) if spent.is_dir() else spent.unlink()


def _run(command: Sequence[str], changes: Mapping[str, str] | None = None) -> None:
    environment = {**env.child_environment({}), **(changes or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise InstallError(f"{' '.join(command)}\nended with status {done.returncode}:\n{end}")
