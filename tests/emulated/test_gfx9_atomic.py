# SPDX-License-Identifier: MIT
"""Stage 2 that adds to the rows of tokens, as the compiler emits it, against float64.

The emulator executes it with every check on. A token's slots are rounded as they are added, in
an order that is open: at most one rounding of the running sum for each.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cpu_kernels import Case, Shape, make_case
from gfx9_kernels import Run, instance_of, laid_out, run, with_output

from aiter_moe.codegen.instance import BLOCK_M, Instance, Output
from aiter_moe.enums import Kind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

HALF_STEP = {torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12, torch.float32: 2.0**-25}
ON = [("gfx950", Kind.A4W4), ("gfx950", Kind.A16W4), ("gfx942", Kind.A16W4)]
SHAPE = Shape(tokens=19, topk=3, experts=4, n=96, k=192)


def instance(target: str, kind: Kind, block_m: int, *, widest: bool = True) -> Instance:
    return with_output(instance_of(target, kind, 2, block_m, widest=widest), Output.ATOMIC)


def added(case: Case, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Return [T, columns] of what the kernel added to zeros."""
    made = laid_out(Run(case))
    out = made.sums(dtype)
    made.launch(seed)
    assert out[:, case.columns :].isnan().all(), "columns past n were written"
    return out[:, : case.columns]


def check(case: Case, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    """Compare with float64 element by element; return the output."""
    tokens, topk = case.weights.shape
    rows = case.reference().nan_to_num(0.0).reshape(tokens, topk, -1)
    got = added(case, dtype, seed)
    # A term of a slot is rounded, then the sum so far with it; sums are no larger than this.
    most = rows.abs().sum(1)
    f32_sums = 1e-5 * rows.abs().amax((1, 2))
    bound = 2.1 * topk * HALF_STEP[dtype] * most + f32_sums[:, None]
    assert ((got.double() - rows.sum(1)).abs() <= bound).all()
    return got


@pytest.mark.parametrize("block_m", BLOCK_M)
@pytest.mark.parametrize(("target", "kind"), ON, ids=str)
def test_every_block_of_rows(target, kind, block_m):
    case = make_case(instance(target, kind, block_m), SHAPE, bias=True, doweight=True)
    check(case, seed=block_m)


def test_tall_blocks_of_rows():
    shape = Shape(tokens=300, topk=1, experts=1, n=288, k=128)
    check(make_case(instance("gfx950", Kind.A4W4, 256), shape, bias=True, doweight=True))


@pytest.mark.parametrize("dtype", HALF_STEP, ids=str)
@pytest.mark.parametrize(("target", "kind"), ON, ids=str)
def test_every_type_of_output(target, kind, dtype):
    case = make_case(instance(target, kind, 32), SHAPE, seed=1, bias=True, doweight=True)
    if dtype is torch.float16:
        assert case.reference().nan_to_num(0.0).abs().max() < 2.0**14
    check(case, dtype)


@pytest.mark.parametrize("tokens", [1, 3, 17, 129])
@pytest.mark.parametrize("block_m", [16, 64])
def test_counts_of_tokens(block_m, tokens):
    shape = Shape(tokens=tokens, topk=2, experts=3, n=128, k=128)
    check(make_case(instance("gfx950", Kind.A4W4, block_m), shape, seed=tokens, doweight=True))


@pytest.mark.parametrize("k", [128, 192, 384, 640])
def test_hidden_size_2880_of_odd_inter_sizes(k):
    shape = Shape(tokens=5, topk=2, experts=2, n=2880, k=k)
    case = make_case(instance("gfx950", Kind.A4W4, 32), shape, seed=k, bias=True, doweight=True)
    check(case)


@pytest.mark.parametrize("routing", ["one", "sparse"])
def test_experts_elsewhere_add_nothing(routing):
    case = make_case(
        instance("gfx950", Kind.A4W4, 16, widest=False), SHAPE, routing=routing, bias=True,
    )  # fmt: skip
    got = check(case)
    absent = (case.sorted.expert_of < 0).all(1)
    assert (got[absent].view(torch.int16) == 0).all()


def test_no_used_rows_add_nothing():
    case = make_case(instance("gfx950", Kind.A4W4, 16), SHAPE)
    case.sorted.valid[:] = 0
    assert (added(case, torch.bfloat16) == 0).all()


@pytest.mark.parametrize("seed", range(1, 5))
def test_any_order_of_waves_gives_sums_within_the_roundings(seed):
    case = make_case(instance("gfx950", Kind.A4W4, 16), SHAPE, seed=4, bias=True, doweight=True)
    check(case, seed=seed)


def test_one_slot_a_token_is_the_row_rounded():
    shape = Shape(tokens=33, topk=1, experts=2, n=160, k=288)
    case = make_case(instance("gfx950", Kind.A4W4, 32), shape, bias=True, doweight=True)
    got = added(case, torch.bfloat16)
    case.instance = with_output(case.instance, Output.ROWS)
    np.testing.assert_array_equal(
        got.view(torch.int16), run(case).to(torch.bfloat16).view(torch.int16)
    )
