# SPDX-License-Identifier: MIT
"""The torch steps of the GPU targets give the CPU target's bits, and never wait for a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import cases, floats, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.targets import torch_steps
from aiter_moe.targets.cpu import cpu_launcher

FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()]
    return tensor.contiguous().view(integer)


def one(value: int | None) -> torch.Tensor | None:
    return None if value is None else torch.tensor([value], dtype=torch.int32)


@settings(max_examples=150, deadline=None)
@given(
    tokens=st.integers(0, 50), topk=st.integers(1, 9), experts=st.integers(1, 40),
    block=st.sampled_from([1, 5, 16, 32, 64, 128]), masked=st.booleans(),
    part=st.none() | st.floats(0, 1), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_sorts_are_those_of_the_cpu_target(tokens, topk, experts, block, masked, part, seed):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, experts, (tokens, topk), generator=g, dtype=torch.int32)
    weights = torch.rand(tokens, topk, generator=g)
    mask = torch.randint(0, 2, (experts,), generator=g).int() if masked else None
    processed = None if part is None else int(part * tokens)
    if processed is not None:
        ids[processed:] = 2**30
        weights[processed:] = torch.nan
    given_count = one(processed)
    want = cpu_launcher().sort(ids, weights, experts, block, mask, given_count)
    got = torch_steps.sort(ids, weights, experts, block, mask, given_count)
    for name in ("ids", "weights", "expert_ids", "num_valid"):
        found, wanted = getattr(got, name), getattr(want, name)
        assert found.dtype is wanted.dtype
        assert torch.equal(bits(found), bits(wanted)), name


def test_a_slot_of_127_or_more_wraps_as_the_id_word_does():
    ids = torch.zeros((3, 200), dtype=torch.int32)
    weights = torch.rand(3, 200)
    got = torch_steps.sort(ids, weights, 1, 16, None, None)
    assert int(got.ids.min()) < 0
    assert torch.equal(got.ids, cpu_launcher().sort(ids, weights, 1, 16, None, None).ids)


def test_golden_sorts():
    data = golden("moe_sorting")
    for name in cases(data, "cfg"):
        _, experts, _, block, masked, local = data[f"{name}_cfg"].tolist()
        got = torch_steps.sort(
            torch.from_numpy(data[f"{name}_topk_ids"]),
            torch.from_numpy(data[f"{name}_topk_weights"]),
            experts, block, torch.from_numpy(data[f"{name}_expert_mask"]) if masked else None,
            one(local) if local else None,
        )  # fmt: skip
        valid = data[f"{name}_num_valid_ids"]
        assert got.num_valid.tolist() == valid.tolist()
        used = int(valid[0])
        assert used
        assert np.array_equal(got.ids[:used], data[f"{name}_sorted_ids"][:used])
        assert np.array_equal(got.weights[:used], data[f"{name}_sorted_weights"][:used])
        blocks = used // block
        want = data[f"{name}_sorted_expert_ids"][:blocks]
        assert np.array_equal(got.expert_ids[:blocks], want)


@pytest.mark.parametrize("mode", ScaleRounding)
@pytest.mark.parametrize("dtype", FLOATS)
def test_quantises_as_the_cpu_target_does(dtype, mode):
    random = np.random.default_rng(int(mode))
    spread = random.integers(0, 255, size=(200, 1), dtype=np.uint32) << 23
    noise = random.integers(0, 1 << 32, size=(200, 160), dtype=np.uint32)
    near = torch.from_numpy((spread | noise & np.uint32(0x807FFFFF)).view(np.float32))
    rows = torch.cat((near, torch.from_numpy(noise.view(np.float32)))).to(dtype)
    codes, scales = torch_steps.quantise(rows, mode)
    want_codes, want_scales = cpu_launcher().quantise(rows, mode)
    assert (scales == 255).any()
    assert torch.equal(scales, want_scales)
    assert torch.equal(codes, want_codes)


@pytest.mark.parametrize("mode", ScaleRounding)
def test_golden_quantised_rows(mode):
    data = golden("mxfp4_quant_random")
    for name in cases(data, "xdtype"):
        x = floats(data[f"{name}_x"], str(data[f"{name}_xdtype"]))
        codes, scales = torch_steps.quantise(x.reshape(-1, x.shape[-1]), mode)
        want = data[f"{name}_s_m{int(mode)}"].reshape(scales.shape)
        assert np.array_equal(scales.numpy(), want)
        defined = np.repeat(scales.numpy() != 255, 16, axis=1)
        want = data[f"{name}_q_m{int(mode)}"].reshape(codes.shape)
        assert np.array_equal(codes.numpy()[defined], want[defined])


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 40), topk=st.integers(1, 5), experts=st.integers(1, 9),
    columns=st.sampled_from([1, 4, 6, 8, 12, 20, 90]), block=st.sampled_from([16, 32, 64]),
    per_slot=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_scales_are_tiled_as_the_cpu_target_does(
    tokens, topk, experts, columns, block, per_slot, seed
):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, experts, (tokens, topk), generator=g, dtype=torch.int32)
    routed = torch_steps.sort(ids, torch.rand(tokens, topk), experts, block, None, None)
    slots = topk if per_slot else 1
    scales = torch.randint(1, 255, (tokens * slots, columns), generator=g, dtype=torch.uint8)
    got = torch_steps.sort_scales(scales, routed.ids, routed.num_valid[:1], tokens)
    used = int(routed.num_valid[0])
    want = cpu_launcher().sort_scales(scales.view(tokens, slots, columns), routed.ids, used, tokens)
    assert torch.equal(got, want)


def test_golden_scale_sorts():
    data = golden("moe_mxfp4_sort")
    for name in cases(data, "cfg"):
        tokens = int(data[f"{name}_cfg"][0])
        scale = torch.from_numpy(data[f"{name}_scale"])
        got = torch_steps.sort_scales(
            scale.reshape(-1, scale.shape[-1]),
            torch.from_numpy(data[f"{name}_sorted_ids"]),
            torch.from_numpy(data[f"{name}_num_valid_ids"])[:1],
            tokens,
        )
        assert np.array_equal(got.numpy(), data[f"{name}_out"]), name


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(0, 9), topk=st.integers(1, 8), columns=st.sampled_from([1, 31, 64, 1025]),
    gap=st.integers(0, 9), dtype=st.sampled_from(FLOATS), masked=st.booleans(),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_sums_are_those_of_the_cpu_target(tokens, topk, columns, gap, dtype, masked, seed):
    g = torch.Generator().manual_seed(seed)
    exponent = torch.randint(-8, 8, (tokens * topk, 1), generator=g)
    rows = torch.randn(tokens * topk, columns, generator=g) * 2.0**exponent
    valid = None
    if masked:
        valid = torch.rand(tokens, topk, generator=g) < 0.6
        rows[~valid.flatten()] = torch.nan
    found = []
    for step in (torch_steps.reduce, cpu_launcher().reduce):
        wide = torch.full((tokens, columns + gap), 7.0, dtype=dtype)
        step(rows, topk, wide[:, :columns], valid)
        found.append(bits(wide))
    assert torch.equal(*found)


def test_what_cannot_be_sorted_is_named_as_the_cpu_target_names_it():
    def told(change: str, launcher_sort) -> str:
        ids = torch.randint(0, 4, (9, 3), dtype=torch.int32)
        weights = torch.rand(9, 3)
        mask = torch.tensor([1, 1, 1, 0], dtype=torch.int32)
        count = one(8)
        ids[2, 1] = 0
        if change == "expert":
            ids[2, 1], weights[3, 0] = 7, torch.nan
        elif change == "negative":
            ids[2, 1] = -1
        elif change == "weight":
            weights[2, 1] = torch.inf
        elif change == "elsewhere":
            ids[8], ids[3], weights[3] = 99, 3, torch.nan  # not local, not held
            ids[5, 2], weights[5, 2] = 1, torch.nan
        elif change == "count":
            count = one(10)
        with pytest.raises(ArgumentError) as caught:
            launcher_sort(ids, weights, 4, 16, mask, count)
        return str(caught.value)

    for change in ("expert", "negative", "weight", "elsewhere", "count"):
        assert told(change, torch_steps.sort) == told(change, cpu_launcher().sort)


def test_unusable_tensors_are_named():
    ids, weights = torch.zeros((2, 2), dtype=torch.int32), torch.zeros(2, 2)
    with pytest.raises(DtypeError, match="int64"):
        torch_steps.sort(ids.long(), weights, 4, 16, None, None)
    with pytest.raises(ArgumentError, match="block_size=0"):
        torch_steps.sort(ids, weights, 4, 0, None, None)
    with pytest.raises(ArgumentError, match=r"expert_mask \[3\]"):
        torch_steps.sort(ids, weights, 4, 16, torch.ones(3).int(), None)
    with pytest.raises(ArgumentError, match=r"\[rows, K\]"):
        torch_steps.quantise(torch.zeros(32), ScaleRounding.RoundUp)
    with pytest.raises(DtypeError, match="float64"):
        torch_steps.quantise(torch.zeros(2, 32).double(), ScaleRounding.RoundUp)
    with pytest.raises(ArgumentError, match="topk 3"):
        torch_steps.reduce(torch.zeros(4, 8), 3, torch.zeros(2, 8), None)
    with pytest.raises(DtypeError, match="float64"):
        torch_steps.reduce(torch.zeros(4, 8).double(), 2, torch.zeros(2, 8), None)


def test_nothing_reads_a_value_of_device_memory():
    # Tensors of the meta device have shapes and no values: asking for one is an error.
    def on_device(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to("meta")

    ids = on_device(torch.zeros((7, 3), dtype=torch.int32))
    mask, count = on_device(torch.ones(5, dtype=torch.int32)), on_device(torch.zeros(1).int())
    routed = torch_steps.sort(ids, on_device(torch.rand(7, 3)), 5, 16, mask, count)
    assert routed.ids.shape == (16 * routed.expert_ids.shape[0],)
    codes, scales = torch_steps.quantise(on_device(torch.rand(21, 64)), ScaleRounding.RoundUp)
    assert codes.shape == (21, 32)
    tiles = torch_steps.sort_scales(scales, routed.ids, routed.num_valid[:1], 7)
    assert tiles.shape[1] == 8
    valid = on_device(torch.ones((7, 3), dtype=torch.bool))
    torch_steps.reduce(on_device(torch.rand(21, 64)), 3, on_device(torch.zeros(7, 64)), valid)
