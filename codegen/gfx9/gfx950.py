# SPDX-License-Identifier: MIT
"""The gfx950 catalogue: which tiles are built for each operand kind and block of rows.

Few rows: narrow tiles for many workgroups and a deep prefetch; many rows: one step ahead is long
enough, and registers are short. Rows go straight to the LDS and take a stage of it from their
request on, hence one stage more than the depth.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiter_moe.codegen.gfx9.cuts import Cut, Cuts, instances
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import Kind

# strips, waves, depth, stages, waves_per_simd, non_temporal
NARROW_FEW = Cut(2, 2, 2, 3, 2, True)
WIDE_FEW = Cut(2, 4, 2, 3, 2, True)
WIDE_DEEP = Cut(2, 4, 2, 3, 2, False)
WIDE_SHALLOW = Cut(2, 4, 1, 2, 2, False)
WIDE_ALONE = Cut(2, 4, 1, 2, 1, False)
ONE_STRIP_FEW = Cut(1, 4, 2, 3, 2, True)

STAGE1: dict[Kind, Cuts] = {
    Kind.A4W4: {
        16: (NARROW_FEW, WIDE_FEW), 32: (WIDE_FEW,), 64: (WIDE_DEEP,), 128: (WIDE_ALONE,)
    },
    Kind.A16W4: {
        16: (NARROW_FEW, WIDE_FEW), 32: (WIDE_FEW,), 64: (WIDE_SHALLOW,), 128: (WIDE_ALONE,)
    },
}  # fmt: skip
STAGE2: dict[Kind, Cuts] = {
    Kind.A4W4: {
        16: (ONE_STRIP_FEW, WIDE_FEW), 32: (WIDE_FEW,), 64: (WIDE_DEEP,), 128: (WIDE_ALONE,)
    },
    Kind.A16W4: {
        16: (ONE_STRIP_FEW, WIDE_FEW), 32: (WIDE_FEW,), 64: (WIDE_SHALLOW,), 128: (WIDE_ALONE,)
    },
}  # fmt: skip


def gfx950_instances() -> Iterator[Instance]:
    """Yield every gfx950 instance: kinds x block_m x tiles x activations, in fixed order."""
    for kind in Kind:
        yield from instances("gfx950", kind, STAGE1[kind], STAGE2[kind])
