# SPDX-License-Identifier: MIT
"""The gfx950 catalogue: which tiles are built for each operand kind and block of rows, and why.

Few rows: weights are read once and set the time. Narrow tiles make many workgroups of a small
problem, several steps ahead and waves of several workgroups keep the memory busy, and weights pass
by the caches, since no other block reads them. Many rows: wide tiles read rows less often, one
step ahead is long enough, and registers are short. Rows go straight to the LDS and take a stage of
it from their request on, hence one stage more than the depth.

Sizes under tensor parallelism ask for narrow tiles too: 192 intermediate columns are three tiles
of 64 and waste a fourth of two tiles of 128; 2880 hidden columns are 45 tiles of 64.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiter_moe.codegen.gfx9.cuts import Built, Cut, Cuts, instances
from aiter_moe.codegen.gfx9.direct import direct_instances
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import ActivationType, Kind


def _ahead(  # noqa: PLR0913 - the fields of a cut
    strips: int, waves: int, depth: int, waves_per_simd: int, *, stream: bool = False,
    row_waves: int = 1, persistent: bool = False,
) -> Cut:  # fmt: skip
    """Return a cut whose LDS holds the rows of every step that is requested ahead."""
    return Cut(strips, waves, depth, depth + 1, waves_per_simd, stream, row_waves, persistent)


# Columns of stage 1 are 16 x strips x waves, of stage 2 twice that.
NARROW_FEW = _ahead(2, 2, 2, 2, stream=True)
WIDE_FEW = _ahead(2, 4, 2, 2, stream=True)
ONE_STRIP_FEW = _ahead(1, 4, 2, 2, stream=True)
NARROW_DEEP = _ahead(2, 2, 2, 2)
WIDE_DEEP = _ahead(2, 4, 2, 2)
WIDE_DEEP_ROUND = _ahead(2, 4, 2, 2, persistent=True)
ONE_STRIP_DEEP = _ahead(1, 4, 2, 2)
ONE_STRIP_ROUND = _ahead(1, 4, 2, 2, persistent=True)
WIDE_SHALLOW = _ahead(2, 4, 1, 2)
WIDER_SHALLOW = _ahead(2, 8, 1, 2)
ONE_STRIP_SHALLOW = _ahead(1, 4, 1, 2)
WIDE_ALONE = _ahead(2, 4, 1, 1)
TWO_HIGH = _ahead(2, 8, 1, 2, row_waves=2)

# Stage 1 of a4w4 requantises its rows where stage 2 reads fp4, and leaves bf16 where that is
# skipped: of each block the tile that runs most problems. Stage 2 adds by atomics only where a row
# names it. Parts of the reduction fill a device whose row blocks are too few for it: up to 32 rows.
# A prefill has rounds of work items, and a persistent kernel starts its workgroups once: tiles that
# have registers left for the loop (in stage 1 two activations do without spills).
BF16 = (Output.BF16,)
REQUANTISED = (Output.FP4,)
BOTH_WAYS = (Output.FP4, Output.BF16)
ROWS = (Output.ROWS,)
ROWS_OR_SUMS = (Output.ROWS, Output.ATOMIC)

STAGE1: dict[Kind, Cuts] = {
    Kind.A4W4: {
        16: (Built(NARROW_FEW, REQUANTISED), Built(WIDE_FEW, BOTH_WAYS)),
        32: (Built(WIDE_FEW, BOTH_WAYS), Built(NARROW_FEW, REQUANTISED)),
        64: (
            Built(WIDE_DEEP, BOTH_WAYS),
            Built(NARROW_DEEP, REQUANTISED),
            Built(
                WIDE_DEEP_ROUND,
                REQUANTISED,
                activations=(ActivationType.Silu, ActivationType.Swiglu),
            ),
        ),
        128: (Built(WIDE_SHALLOW, BOTH_WAYS),),
        256: (Built(TWO_HIGH, REQUANTISED),),
    },
    Kind.A16W4: {
        16: (Built(NARROW_FEW, BF16, split_k=True), Built(WIDE_FEW, BF16, split_k=True)),
        32: (Built(WIDE_FEW, BF16, split_k=True), Built(NARROW_FEW, BF16)),
        64: (Built(WIDE_SHALLOW, BF16), Built(WIDER_SHALLOW, BF16)),
        128: (Built(WIDE_ALONE, BF16),),
    },
}
STAGE2: dict[Kind, Cuts] = {
    Kind.A4W4: {
        16: (Built(ONE_STRIP_FEW, ROWS_OR_SUMS), Built(WIDE_FEW, ROWS_OR_SUMS)),
        32: (Built(WIDE_FEW, ROWS_OR_SUMS), Built(ONE_STRIP_FEW, ROWS_OR_SUMS)),
        64: (
            Built(WIDE_DEEP, ROWS_OR_SUMS),
            Built(ONE_STRIP_DEEP, ROWS_OR_SUMS),
            Built(WIDE_DEEP_ROUND, ROWS),
        ),
        128: (
            Built(WIDE_SHALLOW, ROWS_OR_SUMS),
            Built(ONE_STRIP_DEEP, ROWS),
            Built(ONE_STRIP_ROUND, ROWS),
        ),
        256: (Built(TWO_HIGH, ROWS_OR_SUMS),),
    },
    Kind.A16W4: {
        16: (Built(ONE_STRIP_FEW, ROWS_OR_SUMS), Built(WIDE_FEW, ROWS_OR_SUMS)),
        32: (Built(WIDE_FEW, ROWS_OR_SUMS), Built(ONE_STRIP_FEW, ROWS_OR_SUMS)),
        64: (Built(WIDE_SHALLOW, ROWS_OR_SUMS), Built(ONE_STRIP_SHALLOW, ROWS)),
        128: (Built(WIDE_ALONE, ROWS_OR_SUMS),),
    },
}


def gfx950_instances() -> Iterator[Instance]:
    """Yield every gfx950 instance: kinds x block_m x tiles x activations, then direct ones."""
    for kind in Kind:
        yield from instances("gfx950", kind, STAGE1[kind], STAGE2[kind])
    yield from direct_instances("gfx950")
