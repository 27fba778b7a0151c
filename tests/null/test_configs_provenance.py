# SPDX-License-Identifier: MIT
"""The hash rows carry: over the sources of their target's kernels, and nothing else."""

from __future__ import annotations

import shutil
from importlib.resources import files

import pytest

from aiter_moe.configs import provenance
from aiter_moe.configs.provenance import template_hash


@pytest.fixture
def sources(tmp_path, monkeypatch):
    for package in ("templates", "csrc"):
        shutil.copytree(str(files(f"aiter_moe.{package}")), tmp_path / f"aiter_moe.{package}")
    monkeypatch.setattr(provenance, "files", lambda name: tmp_path / name)
    template_hash.cache_clear()
    yield tmp_path
    template_hash.cache_clear()


def hashes() -> tuple[str, str]:
    template_hash.cache_clear()
    return template_hash("cpu"), template_hash("gfx950")


def test_a_copy_elsewhere_has_the_same_hash(sources, monkeypatch):
    copied = hashes()
    monkeypatch.undo()
    assert hashes() == copied
    assert copied[0] != copied[1]


@pytest.mark.parametrize(
    ("file", "cpu", "gpu"),
    [
        ("aiter_moe.templates/cpu_new.cpp.j2", True, False),
        ("aiter_moe.templates/gfx9_new.hip.j2", False, True),
        ("aiter_moe.csrc/common/new.h", True, True),
        ("aiter_moe.csrc/cpu/deep/new.h", True, False),
        ("aiter_moe.csrc/hip/new.h", False, True),
        ("aiter_moe.csrc/cpu/runtime/new.cpp", False, False),
        ("aiter_moe.csrc/cpu/notes.txt", False, False),
    ],
)
def test_a_source_counts_for_the_targets_it_makes(sources, file, cpu, gpu):
    before = hashes()
    path = sources / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    after = hashes()
    assert (after[0] != before[0], after[1] != before[1]) == (cpu, gpu)
    path.write_text("y")
    assert (hashes()[0] != after[0], hashes()[1] != after[1]) == (cpu, gpu)
