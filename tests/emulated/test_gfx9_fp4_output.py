# SPDX-License-Identifier: MIT
"""Stage 1 with fp4 rows has the bits of stage 1 with bf16 rows, quantised, scales sorted in map S.

The emulator executes both with every check on. Nothing but rows of pairs held here, columns
before n, and scales of used sorted rows may be written.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cpu_kernels import ACTIVATION_CONSTANTS, Case, Shape, make_case
from gfx9_kernels import UNTOUCHED, Run, gfx950, laid_out, run, with_output

from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M, Instance, Output
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.formats import NAN_SCALE, quantise_1x32

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

TALL_TOO = (*BLOCK_M, 256)


def instance(
    block_m: int, activation: ActivationType = ActivationType.Silu, *, widest: bool = True
) -> Instance:
    """Return a tile with bf16 rows."""
    found = gfx950(Kind.A4W4, 1, block_m, activation, widest=widest)
    return with_output(found, Output.BF16)


def quantised(rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and scales by row; codes of blocks with an infinity or NaN are 0."""
    codes, scales = quantise_1x32(rows)
    codes[(scales == NAN_SCALE).repeat_interleave(16, 1)] = 0
    return codes.numpy(), scales.numpy()


def expected(case: Case, rows: torch.Tensor, codes: np.ndarray, scales: np.ndarray):
    """Return what buffers like `codes` and `scales` must hold, given the bf16 rows."""
    made, row_scales = quantised(rows)
    held = np.flatnonzero((case.sorted.expert_of >= 0).reshape(-1))
    want_codes, want_scales = np.full_like(codes, UNTOUCHED), np.full_like(scales, UNTOUCHED)
    want_codes[held, : case.columns // 2] = made[held]
    used, topk = int(case.sorted.valid[0]), case.weights.shape[1]
    words = case.sorted.ids.view(np.uint32)[:used]
    token, slot = (words & 0xFFFFFF).astype(int), (words >> 24).astype(int)
    of_pair = np.minimum(token * topk + slot, case.rows - 1)
    gathered = np.where((slot < topk)[:, None], row_scales[of_pair], 0)
    r, g = np.indices(gathered.shape)
    place = (r // 32) * 32 * scales.shape[1] + (g // 8) * 256 + (g % 4) * 64
    want_scales.reshape(-1)[place + (r % 16) * 4 + ((g % 8) // 4) * 2 + (r % 32) // 16] = gathered
    return want_codes, want_scales


def check(case: Case, seed: int = 0) -> torch.Tensor:
    """Compare both outputs of a case, whose instance has bf16 rows; return those."""
    rows = run(case, seed)
    case.instance = with_output(case.instance, Output.FP4)
    made = laid_out(Run(case))
    codes, scales = made.quantised_rows()
    made.launch(seed)
    want_codes, want_scales = expected(case, rows, codes, scales)
    np.testing.assert_array_equal(codes, want_codes)
    np.testing.assert_array_equal(scales, want_scales)
    return rows


@pytest.mark.parametrize("block_m", BLOCK_M)
@pytest.mark.parametrize("tokens", [1, 3, 17, 129])
def test_counts_of_tokens(block_m, tokens):
    shape = Shape(tokens=tokens, topk=2, experts=3, n=128, k=288)
    check(make_case(instance(block_m), shape, seed=tokens, bias=True))


@pytest.mark.parametrize("block_m", TALL_TOO)
@pytest.mark.parametrize("n", [32, 192, 384, 640])
def test_widths_that_tiles_do_not_divide(block_m, n):
    shape = Shape(tokens=19, topk=3, experts=4, n=n, k=160)
    check(make_case(instance(block_m), shape, seed=n, interleaved=n % 128 == 0))


@pytest.mark.parametrize("block_m", TALL_TOO)
def test_hidden_size_2880_with_everything(block_m):
    shape = Shape(tokens=33, topk=2, experts=2, n=192, k=2880)
    case = make_case(
        instance(block_m, ActivationType.Swiglu), shape, bias=True, doweight=True,
        interleaved=True, constants={"limit": 7.0},
    )  # fmt: skip
    check(case)


@pytest.mark.parametrize("block_m", [128, 256])
def test_full_blocks_of_rows(block_m):
    shape = Shape(tokens=300, topk=1, experts=1, n=160, k=160)
    check(make_case(instance(block_m), shape, bias=True, doweight=True))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_the_narrow_tile_and_each_activation(activation):
    shape = Shape(tokens=5, topk=2, experts=3, n=96, k=64)
    case = make_case(
        instance(16, activation, widest=False), shape, bias=True,
        constants=ACTIVATION_CONSTANTS[activation],
    )  # fmt: skip
    check(case)


@pytest.mark.parametrize("routing", ["one", "sparse"])
@pytest.mark.parametrize("block_m", BLOCK_M)
def test_experts_without_tokens_and_one_with_all(block_m, routing):
    shape = Shape(tokens=37, topk=3, experts=4, n=64, k=160)
    check(make_case(instance(block_m), shape, routing=routing, doweight=True))


HOSTILE = ("zeros", "tiny", "huge", "infinite", "nan")


def spoil(case: Case, token: int, how: str) -> None:
    """Make the first quarter of a token's activations what the word says."""
    assert case.x_scale is not None
    codes, scales = case.x[token], case.x_scale[token]
    blocks = max(len(scales) // 4, 1)
    codes[: 16 * blocks] &= 0x77  # no cancellation
    if how == "zeros":
        codes[:] = 0
    else:
        scales[:blocks] = {"tiny": 0, "huge": 246, "infinite": 254, "nan": 255}[how]
    if how == "tiny":
        codes[16 * blocks :] = 0


@pytest.mark.parametrize("block_m", TALL_TOO)
def test_zeros_tiny_huge_and_unordered_values(block_m):
    shape = Shape(tokens=23, topk=2, experts=2, n=160, k=288)
    case = make_case(instance(block_m), shape, seed=2)
    for token, how in enumerate(HOSTILE):
        spoil(case, 4 * token, how)
    rows = check(case).float()
    seen = rows.reshape(23, -1)
    assert (seen[0] == 0).all() and seen[16].isnan().all()
    assert not seen[12].isfinite().all() and seen[4].abs().max() < 2.0**-120
    assert seen[8].isfinite().any() and seen[8][seen[8].isfinite()].abs().max() > 2.0**100


def test_bias_reaches_every_exponent_and_tie():
    # Zero activations: the value is silu(gate bias) * up bias, gate so large that silu is itself.
    shape = Shape(tokens=8, topk=1, experts=8, n=640, k=32)
    case = make_case(instance(32), shape, routing="random", bias=True)
    assert case.bias is not None
    case.x[:] = 0
    g = torch.Generator().manual_seed(5)
    size = (shape.experts, shape.n)
    steps = torch.randint(-64, 65, size, generator=g) / 8.0
    power = torch.randint(-140, 120, (shape.experts, shape.n // 32), generator=g)
    case.bias[:, : shape.n] = 128.0
    case.bias[:, shape.n :] = steps * torch.exp2(power.repeat_interleave(32, 1).float() - 7)
    check(case)


@pytest.mark.parametrize("block_m", BLOCK_M)
def test_the_order_of_waves_changes_nothing(block_m):
    for seed in range(1, 4):
        case = make_case(instance(block_m), Shape(tokens=9, topk=2, experts=3, n=288, k=608))
        check(case, seed)
