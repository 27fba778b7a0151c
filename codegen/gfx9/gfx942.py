# SPDX-License-Identifier: MIT
"""The gfx942 catalogue: a16w4 tiles for each block of rows.

There is no a4w4: gfx942 has no matrix instruction on fp4. Rows reach the LDS through registers,
so that two stages do whatever the depth, and one, with a barrier more a step, where two would
leave no room for a second workgroup of a compute unit or not fit at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiter_moe.codegen.gfx9.cuts import Cut, Cuts, instances
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import Kind

# strips, waves, depth, stages, waves_per_simd, non_temporal
NARROW_DEEP = Cut(2, 2, 3, 2, 2, True)
WIDE_DEEP = Cut(2, 4, 3, 2, 2, True)
WIDE_FEW = Cut(2, 4, 1, 2, 2, True)
WIDE = Cut(2, 4, 1, 2, 1, False)
WIDER = Cut(2, 8, 1, 2, 2, False)
TALL = Cut(2, 4, 1, 1, 1, False)
ONE_STRIP_DEEP = Cut(1, 4, 3, 2, 2, True)

STAGE1: Cuts = {
    16: (NARROW_DEEP, WIDE_DEEP), 32: (WIDE_FEW,), 64: (WIDE, WIDER), 128: (TALL,)
}  # fmt: skip
STAGE2: Cuts = {
    16: (ONE_STRIP_DEEP, WIDE_DEEP), 32: (WIDE_FEW,), 64: (WIDE, WIDER), 128: (TALL,)
}  # fmt: skip


def gfx942_instances() -> Iterator[Instance]:
    """Yield every gfx942 instance: block_m x tiles x activations, in fixed order."""
    yield from instances("gfx942", Kind.A16W4, STAGE1, STAGE2)
