# SPDX-License-Identifier: MIT
"""The gfx942 catalogue: a16w4 tiles for each block of rows.

There is no a4w4: gfx942 has no matrix instruction on fp4. Rows reach the LDS through registers,
so that as many stages do as divide the sets of registers, and one, with a barrier more a step,
where two would leave no room for a second workgroup of a compute unit or not fit at all. Two steps
ahead for few rows: with three the compiler moves weights at the end of a loop and waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiter_moe.codegen.gfx9.cuts import Built, Cut, Cuts, instances
from aiter_moe.codegen.gfx9.direct import direct_instances
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import Kind

# strips, waves, depth, stages, waves_per_simd, non_temporal
NARROW_DEEP = Cut(2, 2, 2, 3, 2, True)
WIDE_DEEP = Cut(2, 4, 2, 3, 2, True)
WIDE_FEW = Cut(2, 4, 1, 2, 2, True)
WIDE = Cut(2, 4, 1, 2, 1, False)
WIDER = Cut(2, 8, 1, 2, 2, False)
TALL = Cut(2, 4, 1, 1, 1, False)
ONE_STRIP_DEEP = Cut(1, 4, 2, 3, 2, True)

# Parts of the reduction fill a device whose row blocks are too few; from 64 rows on none are. Of
# each block one tile of stage 2 also adds by atomics, where a row names it.
BF16, ROWS, BOTH = (Output.BF16,), (Output.ROWS,), (Output.ROWS, Output.ATOMIC)

STAGE1: Cuts = {
    16: (Built(NARROW_DEEP, BF16, split_k=True), Built(WIDE_DEEP, BF16, split_k=True)),
    32: (Built(WIDE_FEW, BF16, split_k=True),),
    64: (Built(WIDE, BF16), Built(WIDER, BF16)),
    128: (Built(TALL, BF16),),
}
STAGE2: Cuts = {
    16: (Built(ONE_STRIP_DEEP, BOTH), Built(WIDE_DEEP, ROWS)),
    32: (Built(WIDE_FEW, BOTH),),
    64: (Built(WIDE, BOTH), Built(WIDER, ROWS)),
    128: (Built(TALL, BOTH),),
}


def gfx942_instances() -> Iterator[Instance]:
    """Yield every gfx942 instance: block_m x tiles x activations, then direct ones."""
    yield from instances("gfx942", Kind.A16W4, STAGE1, STAGE2)
    yield from direct_instances("gfx942")
