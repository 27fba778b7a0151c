# SPDX-License-Identifier: MIT
"""Random C++ kernels give the same bits as emulated machine code and as native code."""

from __future__ import annotations

from collections import Counter

import pytest
from differential.compare import BATCH, Pair, compare, compiled
from differential.generate import operations, operations_source

from aiter_moe.targets.emulator_library import emulator

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
def test_every_operation_by_itself_agrees_with_native_code(arch, tmp_path):
    pair = Pair(emulator(arch), *compiled(operations_source(), arch, tmp_path))
    wrong = [
        f"{operation}: {text}"
        for number, operation in enumerate(operations())
        for seed in (3 * number, 3 * number + 1, 3 * number + 2)
        for text in pair.differences(number, seed)
    ]
    assert wrong == []


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize("seed", range(1001, 1008))
def test_random_kernels_agree_with_native_code(arch, seed):
    seen = Counter()
    assert [str(d) for d in compare(emulator(arch), seed, BATCH, seen)] == []
    assert sum(seen.values()) > 10_000, "the kernels have hardly run"


def test_a_few_files_cover_many_instructions():
    seen = Counter()
    for seed in (2001, 2002):
        assert list(compare(emulator("gfx950"), seed, BATCH, seen)) == []
    assert len(seen) > 250
