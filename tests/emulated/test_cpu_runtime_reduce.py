# SPDX-License-Identifier: MIT
from __future__ import annotations

import numpy as np
import pytest
import torch
from cpu_probe import build_features
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe.codegen.cpu import RUNTIME_BUILDS
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.targets.base import SortedTokens
from aiter_moe.targets.cpu import CpuLauncher

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.fixture(scope="module", params=RUNTIME_BUILDS)
def launcher(request: pytest.FixtureRequest) -> CpuLauncher:
    return CpuLauncher(build_features(request.param))


def summed(rows: torch.Tensor, topk: int, valid: torch.Tensor | None) -> torch.Tensor:
    """Add slot by slot in float32, the order that is promised."""
    slots = rows.view(-1, topk, rows.shape[1])
    total = torch.zeros(slots.shape[0], rows.shape[1])
    for slot in range(topk):
        added = total + slots[:, slot]
        total = added if valid is None else torch.where(valid[:, slot, None], added, total)
    return total


def assert_same(out: torch.Tensor, want: torch.Tensor) -> None:
    """Equal bits, but for the payload of a NaN."""
    nan = torch.isnan(want)
    assert torch.equal(torch.isnan(out), nan)
    bits = torch.int32 if out.dtype is torch.float32 else torch.int16
    assert torch.equal(out.contiguous().view(bits)[~nan], want.view(bits)[~nan])


def places(valid: torch.Tensor | None) -> torch.Tensor | None:
    """Return sorted slots of pairs, -1 where they are not valid."""
    return None if valid is None else torch.where(valid, 5, -1).int()


@settings(max_examples=80, deadline=None)
@given(
    tokens=st.integers(0, 9), topk=st.integers(1, 8), columns=st.sampled_from([1, 31, 64, 1025]),
    gap=st.integers(0, 9), dtype=st.sampled_from(DTYPES), masked=st.booleans(),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_slots_are_added_in_order_and_masked_rows_are_not_read(
    launcher: CpuLauncher, tokens: int, topk: int, columns: int, gap: int, dtype: torch.dtype,
    masked: bool, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.randint(-8, 8, (tokens * topk, 1), generator=generator)
    rows = torch.randn(tokens * topk, columns, generator=generator) * 2.0**exponent
    valid = None
    if masked:
        valid = torch.rand(tokens, topk, generator=generator) < 0.6
        rows[~valid.flatten()] = float("nan")
    wide = torch.full((tokens, columns + gap), 7.0, dtype=dtype)
    launcher.sum_slots(rows, topk, wide[:, :columns], places(valid))
    assert_same(wide[:, :columns], summed(rows, topk, valid).to(dtype))
    assert (wide[:, columns:] == 7.0).all()


def test_a_token_without_any_valid_slot_becomes_zero(launcher: CpuLauncher) -> None:
    rows = torch.full((6, 40), float("nan"))
    rows[2:4] = 1.5
    valid = torch.tensor([[False, False], [True, True], [False, False]])
    out = torch.full((3, 40), float("nan"), dtype=torch.bfloat16)
    launcher.sum_slots(rows, 2, out, places(valid))
    assert out.tolist() == [[0.0] * 40, [3.0] * 40, [0.0] * 40]


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversion_rounds_as_torch_does_for_any_bits(
    launcher: CpuLauncher, dtype: torch.dtype
) -> None:
    random = np.random.default_rng(5)
    any_bits = random.integers(0, 1 << 32, size=20_000, dtype=np.uint32)
    half = np.arange(1 << 16, dtype=np.uint32)
    # All of bf16 and all of fp16, exactly, at the midpoint above, and beside the midpoint.
    fp16 = half.astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    edges = np.concatenate([half << 16, (half << 16) + 0x7FFF, (half << 16) + 0x8000])
    edges = np.concatenate([edges, fp16, fp16 + 0xFFF, fp16 + 0x1000, fp16 + 0x1001])
    low = random.integers(0x30000000, 0x48000000, size=50_000, dtype=np.uint32)
    bits = np.concatenate([any_bits, edges, low, low | np.uint32(1 << 31)]).astype(np.uint32)
    values = torch.from_numpy(bits.view(np.float32))
    out = torch.empty(1, values.numel(), dtype=dtype)
    launcher.sum_slots(values.view(1, -1), 1, out, None)
    assert_same(out[0], (values + 0.0).to(dtype))


def test_large_sums_are_the_same_for_any_number_of_threads(
    launcher: CpuLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = torch.randn(130 * 4, 2880, generator=torch.Generator().manual_seed(3))
    want = summed(rows, 4, None).bfloat16()
    for threads in ("1", "2", "6"):
        monkeypatch.setenv("AITER_MOE_THREADS", threads)
        out = torch.full((130, 2880), float("nan"), dtype=torch.bfloat16)
        launcher.sum_slots(rows, 4, out, None)
        assert_same(out, want)


def test_columns_past_the_rows_become_zero(launcher: CpuLauncher) -> None:
    rows = torch.ones(6, 40)
    nothing = torch.empty(0, dtype=torch.int32)
    place = torch.tensor([[0, -1], [1, 2], [-1, -1]], dtype=torch.int32)
    out = torch.full((3, 50), float("nan"), dtype=torch.bfloat16)
    routed = SortedTokens(nothing, nothing, nothing, nothing, place)
    launcher.reduce(rows, routed, out)
    assert out[:, :40].tolist() == [[1.0] * 40, [2.0] * 40, [0.0] * 40]
    assert not out[:, 40:].any()


def test_unusable_inputs_are_named(launcher: CpuLauncher) -> None:
    rows, out = torch.zeros(6, 32), torch.zeros(3, 32, dtype=torch.bfloat16)
    with pytest.raises(ArgumentError, match="topk 3"):
        launcher.sum_slots(rows, 3, out, None)
    with pytest.raises(ArgumentError, match=r"\[3, 32\]"):
        launcher.sum_slots(torch.zeros(32, 6).t(), 2, out, None)
    with pytest.raises(ArgumentError, match="positions"):
        launcher.sum_slots(rows, 2, out, torch.ones(6, 2, dtype=torch.int32))
    with pytest.raises(DtypeError, match="positions"):
        launcher.sum_slots(rows, 2, out, torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(DtypeError, match="float64"):
        launcher.sum_slots(rows.double(), 2, out, None)
