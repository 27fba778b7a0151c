# SPDX-License-Identifier: MIT
"""setup.py: the package map, and what PREBUILD_KERNELS may name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiter_moe.codegen.catalogue import TARGETS

ROOT = Path(__file__).parents[2]
PRINT = (
    "import setuptools; setuptools.setup = lambda **k: print(*k['packages'], sep='\\n'); "
    "exec(compile(open('setup.py').read(), 'setup.py', 'exec'))"
)


def run_setup(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py with its call of setup() replaced by printing the packages."""
    pytest.importorskip("setuptools")
    return subprocess.run(
        [sys.executable, "-c", PRINT], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_every_folder_that_ships_is_a_package():
    packages = run_setup().stdout.split()
    shipped = {"*.h", "*.inc", "*.cpp", "*.j2", "*.csv", "*.py"}
    folders = {
        path.parent.relative_to(ROOT)
        for top in ("aiter_moe", "codegen", "tuning", "templates", "csrc")
        for pattern in shipped
        for path in (ROOT / top).rglob(pattern)
        if "__pycache__" not in path.parts
    }
    names = {".".join(p.parts if p.parts[0] == "aiter_moe" else ("aiter_moe", *p.parts))
             for p in folders}  # fmt: skip
    assert names <= set(packages)


def test_prebuilding_an_unknown_target_is_one_message():
    done = run_setup(PREBUILD_KERNELS="cpu,bogus")
    assert done.returncode == 1
    assert done.stderr.startswith("PREBUILD_KERNELS=bogus: there is no such target")
    assert done.stderr.count("\n") == 1
    assert all(target in done.stderr for target in TARGETS)


def test_every_target_with_kernels_can_be_prebuilt():
    assert run_setup(PREBUILD_KERNELS=",".join(TARGETS)).returncode == 0
