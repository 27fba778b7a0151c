# SPDX-License-Identifier: MIT
from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import cases, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.sorting import moe_mxfp4_sort, moe_sorting, mxfp4_moe_sort_fwd


def place(row: int, column: int, columns: int) -> int:
    """Offset of a scale in the 32x8 tile layout, written out from its definition."""
    tile = row // 32 * 32 * columns + column // 8 * 256
    return tile + column % 4 * 64 + row % 16 * 4 + column % 8 // 4 * 2 + row % 32 // 16


def slow_sort(scale: np.ndarray, ids: list[int], used: int, tokens: int) -> np.ndarray:
    columns = scale.shape[-1]
    padded = (columns + 7) // 8 * 8
    out = np.zeros((len(ids) + 31) // 32 * 32 * padded, dtype=np.uint8)
    for row, word in enumerate(ids[:used]):
        token, slot = word & 0xFFFFFF, word >> 24
        if token >= tokens:
            continue
        source = scale[token] if scale.ndim == 2 else scale[token, slot]
        for column in range(columns):
            out[place(row, column, padded)] = source[column]
    return out.reshape(-1, padded)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 40), experts=st.integers(1, 9), topk=st.integers(1, 5),
    columns=st.sampled_from([4, 6, 8, 12, 20, 90]), block=st.sampled_from([16, 32, 64]),
    per_slot=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_gathers_and_tiles_as_the_definition_does(
    tokens: int, experts: int, topk: int, columns: int, block: int, per_slot: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, experts, (tokens, topk), generator=generator, dtype=torch.int32)
    result = moe_sorting(ids, torch.rand(tokens, topk), experts, 8, torch.bfloat16, block)
    shape = (tokens, topk, columns) if per_slot else (tokens, columns)
    scale = torch.randint(1, 255, shape, generator=generator, dtype=torch.uint8)
    used = int(result[3][0])
    want = slow_sort(scale.numpy(), result[0].tolist(), used, tokens)
    found = moe_mxfp4_sort(scale, result[0], result[3], tokens, block)
    assert np.array_equal(found.numpy(), want)
    flat = scale.view(-1, columns)
    found = mxfp4_moe_sort_fwd(flat, result[0], result[3], tokens, 32 * columns)
    assert np.array_equal(found.numpy(), want)


def test_golden_scale_sorts() -> None:
    data = golden("moe_mxfp4_sort")
    names = cases(data, "cfg")
    assert len(names) == 5
    for name in names:
        tokens, _, _, block = data[f"{name}_cfg"].tolist()[:4]
        found = moe_mxfp4_sort(
            torch.from_numpy(data[f"{name}_scale"]),
            torch.from_numpy(data[f"{name}_sorted_ids"]),
            torch.from_numpy(data[f"{name}_num_valid_ids"]),
            tokens,
            block,
        )
        assert np.array_equal(found.numpy(), data[f"{name}_out"]), name


def sorted_five() -> tuple[torch.Tensor, ...]:
    ids = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 2], [1, 0]], dtype=torch.int32)
    return moe_sorting(ids, torch.rand(5, 2), 3, 8, torch.bfloat16, 32)


def test_e8m0_scales_come_back_as_e8m0() -> None:
    ids, _, _, valid, _ = sorted_five()
    scale = torch.randint(0, 255, (5, 12), dtype=torch.uint8)
    found = moe_mxfp4_sort(scale.view(dtypes.fp8_e8m0), ids, valid, 5)
    assert found.dtype is dtypes.fp8_e8m0
    assert torch.equal(found.view(torch.uint8), moe_mxfp4_sort(scale, ids, valid, 5))


def test_large_scales_sort_the_same_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = torch.randint(0, 4, (600, 4), dtype=torch.int32)
    result = moe_sorting(ids, torch.rand(600, 4), 4, 8, torch.bfloat16, 32)
    scale = torch.randint(0, 255, (600, 4, 90), dtype=torch.uint8)
    found = []
    for threads in ("1", "5"):
        monkeypatch.setenv("AITER_MOE_THREADS", threads)
        found.append(moe_mxfp4_sort(scale, result[0], result[3], 600))
    assert torch.equal(*found)


def test_unusable_arguments_are_named() -> None:
    ids, _, _, valid, _ = sorted_five()
    scale = torch.zeros(5, 12, dtype=torch.uint8)
    with pytest.raises(DtypeError, match="float32"):
        moe_mxfp4_sort(scale.float(), ids, valid, 5)
    with pytest.raises(DtypeError, match="int64"):
        moe_mxfp4_sort(scale, ids.long(), valid, 5)
    with pytest.raises(ArgumentError, match="6 tokens"):
        moe_mxfp4_sort(scale, ids, valid, 6)
    with pytest.raises(ArgumentError, match="num_valid_ids says 9999"):
        moe_mxfp4_sort(scale, ids, torch.tensor([9999, 5], dtype=torch.int32), 5)
    with pytest.raises(ArgumentError, match="block_size"):
        moe_mxfp4_sort(scale, ids, valid, 5, 0)
    with pytest.raises(ArgumentError, match="256 / 32"):
        mxfp4_moe_sort_fwd(scale, ids, valid, 5, 256)
