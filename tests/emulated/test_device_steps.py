# SPDX-License-Identifier: MIT
"""The kernels between stage kernels give the CPU target's bits, under every check."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from golden import cases, floats, golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError, LaunchError
from aiter_moe.layouts import S
from aiter_moe.targets.base import RoutedTokens, SortedTokens
from aiter_moe.targets.cpu import cpu_launcher
from aiter_moe.targets.cpu_sort import SortExtras, routed_pairs
from aiter_moe.targets.emulator import EmulatorLauncher
from aiter_moe.targets.hip_launcher import HipLauncher

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

FLOATS = (torch.bfloat16, torch.float16, torch.float32)
TARGETS = ("gfx950", "gfx942")


@cache
def emulated(target: str) -> EmulatorLauncher:
    return EmulatorLauncher(target)


@pytest.fixture(params=TARGETS)
def launcher(request: pytest.FixtureRequest) -> EmulatorLauncher:
    return emulated(request.param)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()]
    return tensor.contiguous().view(integer)


def one(value: int | None) -> torch.Tensor | None:
    return None if value is None else torch.tensor([value], dtype=torch.int32)


def sorted_by_the_cpu(routed: RoutedTokens, block: int) -> SortedTokens:
    """Return the CPU target's sort, with positions."""
    pairs = routed_pairs(
        routed.ids, routed.weights, routed.experts, routed.expert_mask, routed.local_tokens
    )
    extras = SortExtras(reverse_sorted=torch.empty_like(pairs.ids))
    return cpu_launcher().sort_into(pairs, block, pairs.used_slots_bound(block), extras)


def assert_same_sort(got: SortedTokens, want: SortedTokens) -> None:
    for name in ("ids", "weights", "expert_ids", "num_valid", "positions"):
        found, wanted = getattr(got, name), getattr(want, name)
        assert found.dtype is wanted.dtype
        assert torch.equal(bits(found), bits(wanted)), name


emulations = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@emulations
@given(
    tokens=st.integers(1, 700), topk=st.integers(1, 16), experts=st.integers(1, 300),
    block=st.sampled_from([16, 32, 64, 128, 256]), masked=st.booleans(),
    part=st.none() | st.floats(0, 1), one_expert=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_sorts_are_those_of_the_cpu_target(
    launcher, tokens, topk, experts, block, masked, part, one_expert, seed
):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 1 if one_expert else experts, (tokens, topk), generator=g).int()
    weights = torch.rand(tokens, topk, generator=g)
    mask = torch.randint(0, 2, (experts,), generator=g).int() if masked else None
    processed = None if part is None else int(part * tokens)
    if processed is not None:
        ids[processed:] = 2**30
        weights[processed:] = torch.nan
    routed = RoutedTokens(ids, weights, experts, mask, one(processed))
    launcher.seed = seed & 0xFFFF
    assert_same_sort(launcher.sort(routed, block), sorted_by_the_cpu(routed, block))


@pytest.mark.parametrize(
    ("tokens", "topk", "experts"), [(3000, 8, 256), (2100, 9, 1024), (5000, 4, 6)]
)
def test_many_pairs_sort_the_same(launcher, tokens, topk, experts):
    g = torch.Generator().manual_seed(3)
    ids = torch.rand(tokens, experts, generator=g).topk(topk).indices.int()
    routed = RoutedTokens(ids, torch.rand(tokens, topk, generator=g), experts)
    assert_same_sort(launcher.sort(routed, 32), sorted_by_the_cpu(routed, 32))


def test_golden_sorts(launcher):
    data = golden("moe_sorting")
    for name in cases(data, "cfg"):
        _, experts, _, block, masked, local = data[f"{name}_cfg"].tolist()
        mask = torch.from_numpy(data[f"{name}_expert_mask"]) if masked else None
        ids = torch.from_numpy(data[f"{name}_topk_ids"])
        weights = torch.from_numpy(data[f"{name}_topk_weights"])
        routed = RoutedTokens(ids, weights, experts, mask, one(local) if local else None)
        got = launcher.sort(routed, block)
        valid = data[f"{name}_num_valid_ids"]
        assert got.num_valid.tolist() == valid.tolist()
        used = int(valid[0])
        assert used
        assert np.array_equal(got.ids[:used], data[f"{name}_sorted_ids"][:used])
        assert np.array_equal(got.weights[:used], data[f"{name}_sorted_weights"][:used])
        want = data[f"{name}_sorted_expert_ids"][: used // block]
        assert np.array_equal(got.expert_ids[: used // block], want)


def test_a_slot_of_127_or_more_wraps_as_the_id_word_does(launcher):
    routed = RoutedTokens(torch.zeros((3, 200), dtype=torch.int32), torch.rand(3, 200), 1)
    got = launcher.sort(routed, 16)
    assert int(got.ids.min()) < 0
    assert_same_sort(got, sorted_by_the_cpu(routed, 16))


def test_ids_out_of_range_make_nan_of_the_nearest_expert(launcher):
    ids = torch.tensor([[0, 1], [-3, 2], [7, 0]], dtype=torch.int32)
    routed = RoutedTokens(ids, torch.ones(3, 2), 3)
    # Values of device memory are not looked at; here the launcher is told not to either.
    got = HipLauncher.sort(launcher, routed, 16)
    assert got.positions.tolist() == [[0, 16], [1, 32], [33, 2]]
    nan = got.weights[got.positions.flatten()].isnan()
    assert nan.tolist() == [False, False, True, False, True, False]


def test_masks_and_counts_of_other_integers_and_turned_ids_are_taken(launcher):
    ids, weights = torch.randint(0, 6, (9, 3), dtype=torch.int32), torch.rand(9, 3)
    mask, local = torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.int32), one(7)
    want = launcher.sort(RoutedTokens(ids, weights, 6, mask, local), 16)
    turned = ids.t().contiguous().t()
    for other in (mask.bool(), mask.long() * 5, mask.to(torch.uint8)):
        routed = RoutedTokens(turned, weights, 6, other, local.long())
        assert_same_sort(launcher.sort(routed, 16), want)
        plain = launcher.admit(routed)
        assert plain.ids.is_contiguous()
        assert plain.expert_mask.dtype is plain.local_tokens.dtype is torch.int32


@pytest.mark.parametrize("begin", [0, 4, 8])
def test_local_tokens_count_from_the_first_of_the_call(launcher, begin):
    ids = torch.randint(0, 5, (12, 2), dtype=torch.int32)
    weights, local = torch.rand(12, 2), one(6)
    cut = slice(begin, begin + 4)
    routed = RoutedTokens(ids[cut], weights[cut], 5, None, local, begin)
    whole = RoutedTokens(ids[cut], weights[cut], 5, None, one(min(max(6 - begin, 0), 4)))
    assert_same_sort(launcher.sort(routed, 16), sorted_by_the_cpu(whole, 16))
    assert_same_sort(cpu_launcher().sort(routed, 16), sorted_by_the_cpu(whole, 16))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "columns", "gap"), [(1, 64, 0), (37, 65, 7), (300, 260, 4)])
def test_a_sort_clears_the_memory_it_is_given_and_no_more(launcher, dtype, rows, columns, gap):
    wide = torch.full((rows, columns + gap), 7.0, dtype=dtype)
    routed = RoutedTokens(torch.zeros((rows, 2), dtype=torch.int32), torch.rand(rows, 2), 3)
    launcher.sort(routed, 16, wide[:, :columns])
    assert not wide[:, :columns].any()
    assert (wide[:, columns:] == 7.0).all()


def hard_rows(dtype: torch.dtype) -> torch.Tensor:
    """Return [400, 160] of bits near each other by row, and of any bits."""
    random = np.random.default_rng(7)
    spread = random.integers(0, 255, size=(200, 1), dtype=np.uint32) << 23
    noise = random.integers(0, 1 << 32, size=(200, 160), dtype=np.uint32)
    near = torch.from_numpy((spread | noise & np.uint32(0x807FFFFF)).view(np.float32))
    return torch.cat((near, torch.from_numpy(noise.view(np.float32)))).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_quantises_as_the_cpu_target_does(launcher, dtype):
    rows = hard_rows(dtype)
    codes, scales = launcher.quantise(rows)
    want_codes, want_scales = cpu_launcher().quantise(rows)
    assert (scales == 255).any()
    assert torch.equal(scales, want_scales)
    assert torch.equal(codes, want_codes)


def test_every_exponent_and_every_boundary_of_scales(launcher):
    # Largest magnitudes at, below and above each multiple of a power of two that can matter.
    top = np.arange(0, 0x7F800000, 0x200000, dtype=np.uint32)
    largest = np.unique(np.concatenate([top, top + 1, top[1:] - 1, np.arange(40, dtype=np.uint32)]))
    rows = np.zeros((len(largest), 32), np.uint32)
    rows[np.arange(len(largest)), np.arange(len(largest)) % 32] = largest
    rows[:, 5] |= largest >> 1
    x = torch.from_numpy(rows.view(np.float32))
    codes, scales = launcher.quantise(x)
    want_codes, want_scales = cpu_launcher().quantise(x)
    assert torch.equal(scales, want_scales)
    assert torch.equal(codes, want_codes)


def test_every_bf16_under_its_own_scale(launcher):
    words = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 32)
    x = torch.from_numpy(words.view(np.int16)).view(torch.bfloat16)
    alone = torch.zeros(1 << 16, 32, dtype=torch.bfloat16)
    alone[torch.arange(1 << 16), torch.arange(1 << 16) % 32] = x.flatten()
    for rows in (x, alone):
        for got, want in zip(launcher.quantise(rows), cpu_launcher().quantise(rows), strict=True):
            assert torch.equal(got, want)


@pytest.mark.parametrize("name", ["mxfp4_quant_random", "mxfp4_quant_edge"])
def test_golden_quantised_rows(launcher, name):
    data = golden(name)
    for case in cases(data, "xdtype"):
        if case.startswith("rhs"):
            continue
        x = floats(data[f"{case}_x"], str(data[f"{case}_xdtype"]))
        codes, scales = launcher.quantise(x.reshape(-1, x.shape[-1]))
        want = data[f"{case}_s_m{int(ScaleRounding.RoundUp)}"].reshape(scales.shape)
        assert np.array_equal(scales.numpy(), want)
        defined = np.repeat(scales.numpy() != 255, 16, axis=1)
        want = data[f"{case}_q_m{int(ScaleRounding.RoundUp)}"].reshape(codes.shape)
        assert np.array_equal(codes.numpy()[defined], want[defined])


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_may_lie_apart_at_any_address(launcher, dtype):
    wide = torch.randn(9, 333, dtype=torch.float32).to(dtype)
    rows = wide[:, 3:323]
    for got, want in zip(launcher.quantise(rows), cpu_launcher().quantise(rows), strict=True):
        assert torch.equal(got, want)
    turned = torch.randn(64, 9).to(dtype).t()
    for got, want in zip(launcher.quantise(turned), cpu_launcher().quantise(turned), strict=True):
        assert torch.equal(got, want)


def gathered(scales: torch.Tensor, routed: SortedTokens, per_slot: bool) -> torch.Tensor:
    """Return rows of scales in sorted order, 0 in pads and padding columns."""
    topk = routed.positions.shape[1]
    rows, width = S.physical_shape(len(routed.ids), scales.shape[1])
    out = torch.zeros((rows, width), dtype=torch.uint8)
    for pair, place in enumerate(routed.positions.flatten().tolist()):
        if place >= 0:
            out[place, : scales.shape[1]] = scales[pair if per_slot else pair // topk]
    return out


def real_slots(routed: SortedTokens, rows: int) -> torch.Tensor:
    real = torch.zeros(rows, dtype=torch.bool)
    places = routed.positions.flatten()
    real[places[places >= 0].long()] = True
    return real


@emulations
@given(
    tokens=st.integers(1, 60), topk=st.integers(1, 11), experts=st.integers(1, 12),
    columns=st.sampled_from([32, 128, 192, 256, 384, 640, 2880]),
    block=st.sampled_from([16, 32, 64]), dtype=st.sampled_from(FLOATS), per_slot=st.booleans(),
    masked=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_scales_go_to_every_sorted_row_that_takes_the_row(
    launcher, tokens, topk, experts, columns, block, dtype, per_slot, masked, seed
):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, experts, (tokens, topk), generator=g).int()
    mask = torch.randint(0, 2, (experts,), generator=g).int() if masked else None
    local = one(int(torch.randint(0, tokens + 1, (1,), generator=g))) if masked else None
    routed = launcher.sort(RoutedTokens(ids, torch.rand(tokens, topk), experts, mask, local), block)
    x = torch.randn(tokens * topk if per_slot else tokens, columns, generator=g).to(dtype)
    if local is not None:
        x[int(local) * (topk if per_slot else 1) :] = torch.nan
    want_codes, by_row = cpu_launcher().quantise(x)
    want = gathered(by_row, routed, per_slot)
    real = real_slots(routed, len(want))
    codes, tiles = launcher.quantise(x, routed)
    assert tiles.shape == want.shape
    assert torch.equal(S.unshuffle(tiles)[real], want[real])
    taken = (routed.positions >= 0).flatten() if per_slot else (routed.positions >= 0).any(1)
    assert torch.equal(codes[taken], want_codes[taken])
    again = launcher.stage_scales(by_row, routed)
    assert torch.equal(S.unshuffle(again)[real], want[real])


def test_golden_scale_sorts(launcher):
    data = golden("moe_mxfp4_sort")
    for name in cases(data, "cfg"):
        tokens, _, topk = data[f"{name}_cfg"].tolist()[:3]
        ids = data[f"{name}_sorted_ids"].view(np.uint32)
        used = int(data[f"{name}_num_valid_ids"][0])
        positions = np.full((tokens, topk), -1, np.int32)
        slot, token = ids[:used] >> 24, ids[:used] & 0xFFFFFF
        real = slot < topk
        positions[token[real], slot[real]] = np.flatnonzero(real)
        routed = SortedTokens(
            torch.from_numpy(data[f"{name}_sorted_ids"]), torch.empty(0), torch.empty(0),
            torch.tensor([used, tokens], dtype=torch.int32), torch.from_numpy(positions),
        )  # fmt: skip
        scale = torch.from_numpy(data[f"{name}_scale"])
        got = S.unshuffle(launcher.stage_scales(scale.reshape(-1, scale.shape[-1]), routed))
        want = S.unshuffle(torch.from_numpy(data[f"{name}_out"]))
        places = real_slots(routed, len(want))
        assert places.sum() == real.sum()
        assert torch.equal(got[places], want[places]), name


@emulations
@given(
    tokens=st.integers(1, 12), topk=st.integers(1, 17), columns=st.sampled_from([4, 32, 1028]),
    padding=st.sampled_from([0, 4, 64]), gap=st.integers(0, 9), dtype=st.sampled_from(FLOATS),
    masked=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_sums_are_those_of_the_cpu_target(
    launcher, tokens, topk, columns, padding, gap, dtype, masked, seed
):
    g = torch.Generator().manual_seed(seed)
    exponent = torch.randint(-8, 8, (tokens * topk, 1), generator=g)
    rows = torch.randn(tokens * topk, columns, generator=g) * 2.0**exponent
    place = torch.arange(tokens * topk, dtype=torch.int32).view(tokens, topk)
    if masked:
        valid = torch.rand(tokens, topk, generator=g) < 0.6
        rows[~valid.flatten()] = torch.nan
        place = torch.where(valid, place, -1).int()
    nothing = torch.empty(0, dtype=torch.int32)
    routed = SortedTokens(nothing, nothing, nothing, nothing, place, whole=not masked)
    found = []
    for which in (launcher, cpu_launcher()):
        wide = torch.full((tokens, columns + padding + gap), 7.0, dtype=dtype)
        which.reduce(rows, routed, wide[:, : columns + padding])
        found.append(bits(wide))
    assert torch.equal(*found)


def test_many_slots_are_summed_in_order(launcher):
    rows = torch.randn(2 * 130, 8, generator=torch.Generator().manual_seed(1))
    place = torch.ones((2, 130), dtype=torch.int32)
    place[1, 60:70] = -1
    nothing = torch.empty(0, dtype=torch.int32)
    routed = SortedTokens(nothing, nothing, nothing, nothing, place)
    found = []
    for which in (launcher, cpu_launcher()):
        out = torch.empty(2, 8)
        which.reduce(rows, routed, out)
        found.append(out)
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_round_any_bits_as_the_cpu_target_does(launcher, dtype):
    any_bits = np.random.default_rng(5).integers(0, 1 << 32, size=(64, 1024), dtype=np.uint32)
    rows = torch.from_numpy(any_bits.view(np.float32))
    nothing = torch.empty(0, dtype=torch.int32)
    place = torch.zeros((64, 1), dtype=torch.int32)
    routed = SortedTokens(nothing, nothing, nothing, nothing, place)
    found = []
    for which in (launcher, cpu_launcher()):
        out = torch.empty(64, 1024, dtype=dtype)
        which.reduce(rows, routed, out)
        found.append(out)
    nan = found[1].isnan()
    assert torch.equal(found[0].isnan(), nan)
    assert torch.equal(bits(found[0])[~nan], bits(found[1])[~nan])


def test_what_cannot_be_sorted_is_named_as_the_cpu_target_names_it(launcher):
    def told(change: str, which) -> str:
        ids = torch.zeros((9, 3), dtype=torch.int32)
        weights = torch.rand(9, 3)
        mask = torch.tensor([1, 1, 1, 0], dtype=torch.int32)
        count = one(8)
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
            which.sort(RoutedTokens(ids, weights, 4, mask, count), 16)
        return str(caught.value)

    for change in ("expert", "negative", "weight", "elsewhere", "count"):
        assert told(change, launcher) == told(change, cpu_launcher())


def test_unusable_tensors_are_named(launcher):
    ids, weights = torch.zeros((2, 2), dtype=torch.int32), torch.zeros(2, 2)
    with pytest.raises(DtypeError, match="int64"):
        launcher.sort(RoutedTokens(ids.long(), weights, 4), 16)
    with pytest.raises(ArgumentError, match="block_size=0"):
        launcher.sort(RoutedTokens(ids, weights, 4), 0)
    with pytest.raises(ArgumentError, match="block_size=48"):
        launcher.sort(RoutedTokens(ids, weights, 4), 48)
    with pytest.raises(LaunchError, match="4096 experts"):
        launcher.sort(RoutedTokens(ids, weights, 4097), 16)
    with pytest.raises(ArgumentError, match=r"expert_mask \[3\]"):
        launcher.sort(RoutedTokens(ids, weights, 4, torch.ones(3).int()), 16)
    with pytest.raises(ArgumentError, match=r"\[rows, K\]"):
        launcher.quantise(torch.zeros(32))
    with pytest.raises(DtypeError, match="float64"):
        launcher.quantise(torch.zeros(2, 32).double())
    routed = launcher.sort(RoutedTokens(ids, weights, 4), 16)
    with pytest.raises(ArgumentError, match="topk 2"):
        launcher.reduce(torch.zeros(6, 8), routed, torch.zeros(2, 8))
    with pytest.raises(DtypeError, match="float64"):
        launcher.reduce(torch.zeros(4, 8).double(), routed, torch.zeros(2, 8))
    with pytest.raises(LaunchError, match="columns by 4"):
        launcher.reduce(torch.zeros(4, 6), routed, torch.zeros(2, 6))
