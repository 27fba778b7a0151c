# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden import cases, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe.errors import ArgumentError, DtypeError, UnsupportedProblemError
from aiter_moe.sorting import moe_sorting
from aiter_moe.targets.base import RoutedTokens
from aiter_moe.targets.cpu import cpu_launcher


class Expected(NamedTuple):
    """Used slots only, as plain lists."""

    ids: list[int]
    weights: list[float]
    experts: list[int]
    local_ids: list[list[int]]
    reverse: list[int]


def slow_sort(
    ids: list[list[int]], weights: list[list[float]], block: int, local: list[int],
    processed: int, pad: int,
) -> Expected:  # fmt: skip
    """Sort by definition; `local` lists the global ids of the experts held here."""
    out = Expected([], [], [], [[-1] * len(row) for row in ids], [])
    place = {}
    for index, expert in enumerate(local):
        begin = len(out.ids)
        for token in range(processed):
            for slot, named in enumerate(ids[token]):
                if named == expert:
                    place[token, slot] = len(out.ids)
                    out.local_ids[token][slot] = index
                    out.ids.append(slot << 24 | token)
                    out.weights.append(weights[token][slot])
        while (len(out.ids) - begin) % block:
            out.ids.append(pad)
            out.weights.append(0.0)
        out.experts.extend([index] * ((len(out.ids) - begin) // block))
    for token, row in enumerate(ids):
        out.reverse.extend(place.get((token, slot), -1) for slot in range(len(row)))
    return out


def as_int32(words: list[int]) -> list[int]:
    return np.array(words, dtype=np.uint32).view(np.int32).tolist()


@st.composite
def routings(draw: st.DrawFn) -> dict[str, object]:
    experts = draw(st.integers(1, 40))
    tokens = draw(st.integers(0, 40))
    topk = draw(st.integers(1, 9))
    one_expert = st.just(draw(st.integers(0, experts - 1)))
    expert = draw(st.sampled_from([st.integers(0, experts - 1), one_expert]))
    ids = draw(st.lists(st.lists(expert, min_size=topk, max_size=topk), min_size=tokens,
                        max_size=tokens))  # fmt: skip
    mask = st.lists(st.integers(0, 2), min_size=experts, max_size=experts)
    return {
        "ids": torch.tensor(ids, dtype=torch.int32).reshape(tokens, topk),
        "experts": experts,
        "block": draw(st.sampled_from([1, 5, 16, 32, 64, 128])),
        "mask": draw(st.none() | mask),
        "processed": draw(st.none() | st.integers(0, tokens)),
    }


def expected(routing: dict, weights: torch.Tensor) -> Expected:
    ids = routing["ids"]
    tokens, topk = ids.shape
    mask = routing["mask"]
    local = [e for e in range(routing["experts"]) if mask is None or mask[e]]
    processed = tokens if routing["processed"] is None else routing["processed"]
    return slow_sort(
        ids.tolist(), weights.tolist(), routing["block"], local, processed, topk << 24 | tokens
    )


def arguments(routing: dict) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    mask, processed = routing["mask"], routing["processed"]
    return (
        None if mask is None else torch.tensor(mask, dtype=torch.int32),
        None if processed is None else torch.tensor([processed], dtype=torch.int32),
    )


def check(result: tuple[torch.Tensor, ...], want: Expected, routing: dict) -> None:
    ids, weights, experts, num_valid = result[:4]
    tokens, topk = routing["ids"].shape
    used = len(want.ids)
    processed = tokens if routing["processed"] is None else routing["processed"]
    assert num_valid.tolist() == [used, processed]
    pad = topk << 24 | tokens
    assert ids.tolist() == as_int32(want.ids + [pad] * (len(ids) - used))
    assert weights.tolist() == want.weights + [0.0] * (len(ids) - used)
    assert experts.tolist() == want.experts + [-1] * (len(experts) - len(want.experts))


@settings(max_examples=200, deadline=None)
@given(routing=routings())
def test_sorts_as_a_slow_sort_by_definition_does(routing: dict) -> None:
    ids = routing["ids"]
    weights = torch.rand(ids.shape)
    want = expected(routing, weights)
    mask, processed = arguments(routing)
    experts, block = routing["experts"], routing["block"]
    launched = cpu_launcher().sort(RoutedTokens(ids, weights, experts, mask, processed), block)
    check((launched.ids, launched.weights, launched.expert_ids, launched.num_valid), want, routing)
    assert len(launched.ids) == block * len(launched.expert_ids)
    public = moe_sorting(
        ids, weights, experts, 8, torch.bfloat16, block, mask, processed,
        return_local_topk_ids=True,
    )  # fmt: skip
    check(public, want, routing)
    assert public[5].tolist() == want.local_ids
    aux = moe_sorting(
        ids, weights, experts, 8, torch.bfloat16, block, mask, processed, output_aux=True
    )
    check(aux, want, routing)
    pad = routing["ids"].shape[0]
    slots = [word & 0xFFFFFF for word in want.ids]
    assert aux[5].tolist() == slots + [pad] * (len(aux[0]) - len(slots))
    assert aux[6].tolist() == want.reverse


@pytest.mark.parametrize("threads", ["1", "2", "7"])
@pytest.mark.parametrize("masked", [False, True])
def test_many_tokens_sort_the_same_on_any_number_of_threads(
    threads: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITER_MOE_THREADS", threads)
    generator = torch.Generator().manual_seed(11)
    tokens, experts, topk, block = 5000, 130, 6, 64
    ids = torch.rand(tokens, experts, generator=generator).topk(topk).indices.int()
    weights = torch.rand(tokens, topk, generator=generator)
    mask = (torch.rand(experts, generator=generator) < 0.5).int() if masked else None
    result = moe_sorting(
        ids, weights, experts, 16, torch.float32, block, mask,
        torch.tensor([4900], dtype=torch.int32), return_local_topk_ids=True,
    )  # fmt: skip
    routing = {
        "ids": ids, "experts": experts, "block": block, "processed": 4900,
        "mask": None if mask is None else mask.tolist(),
    }  # fmt: skip
    want = expected(routing, weights)
    check(result, want, routing)
    assert result[5].tolist() == want.local_ids


def test_golden_sorts() -> None:
    data = golden("moe_sorting")
    names = cases(data, "cfg")
    assert len(names) == 9
    for name in names:
        _, experts, topk, block, masked, local = data[f"{name}_cfg"].tolist()
        ids = torch.from_numpy(data[f"{name}_topk_ids"])
        assert ids.shape[1] == topk
        result = moe_sorting(
            ids,
            torch.from_numpy(data[f"{name}_topk_weights"]),
            experts,
            64,
            torch.bfloat16,
            block,
            torch.from_numpy(data[f"{name}_expert_mask"]) if masked else None,
            torch.tensor([local], dtype=torch.int32) if local else None,
        )
        keys = ("sorted_ids", "sorted_weights", "sorted_expert_ids", "num_valid_ids")
        for key, found in zip(keys, result, strict=False):
            assert np.array_equal(found.numpy(), data[f"{name}_{key}"]), f"{name} {key}"


def sorting(ids: torch.Tensor, weights: torch.Tensor | None = None, **more: object) -> tuple:
    if weights is None:
        weights = torch.rand(ids.shape)
    given = {"num_experts": 8, "model_dim": 64, "moebuf_dtype": torch.bfloat16} | more
    return moe_sorting(ids, weights, **given)


def some_ids(tokens: int = 5, topk: int = 3, experts: int = 8) -> torch.Tensor:
    return torch.rand(tokens, experts).topk(topk).indices.int()


def test_sizes_are_those_aiter_allocates() -> None:
    ids, _, experts, _, buffer = sorting(some_ids(), block_size=32)
    assert ids.shape == (5 * 3 + 8 * 32 - 3,)
    assert experts.shape == (9,)
    assert buffer.shape == (5, 64)
    assert buffer.dtype is torch.bfloat16
    assert not buffer.any()
    aux = sorting(some_ids(), block_size=32, output_aux=True)
    assert aux[0].shape == (15 + 8 * 31 + 25,)
    assert aux[2].shape == (9,)


def test_without_accumulation_stage_2_owns_its_output_unless_experts_are_masked() -> None:
    assert sorting(some_ids(), accumulate=False)[4].shape == (0, 0)
    mask = torch.ones(8, dtype=torch.int32)
    assert sorting(some_ids(), accumulate=False, expert_mask=mask)[4].shape == (5, 64)


def test_a_given_output_is_zeroed_and_returned() -> None:
    given = torch.full((5, 64), float("nan"), dtype=torch.bfloat16)
    assert sorting(some_ids(), output=given)[4] is given
    assert not given.any()
    with pytest.raises(ArgumentError, match="output"):
        sorting(some_ids(), output=given.float())


def test_masks_of_other_integer_types_and_transposed_ids_are_taken() -> None:
    ids, weights = some_ids(), torch.rand(5, 3)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1], dtype=torch.int32)
    want = sorting(ids, weights, expert_mask=mask)
    for other in (mask.bool(), mask.long() * 5, mask.to(torch.uint8)):
        found = sorting(ids.t().contiguous().t(), weights, expert_mask=other)
        assert all(map(torch.equal, found, want))


@pytest.mark.parametrize("expert", [8, -1, 2**31 - 1, -(2**31)])
def test_an_expert_out_of_range_is_named_by_token_and_slot(expert: int) -> None:
    ids = some_ids()
    ids[3, 1] = expert
    with pytest.raises(ArgumentError, match=rf"token 3, slot 1\] is {expert}.* 8 experts"):
        sorting(ids)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named_by_token_and_slot(weight: float) -> None:
    weights = torch.rand(5, 3)
    weights[2, 0] = weight
    weights[4, 1] = weight
    with pytest.raises(ArgumentError, match=rf"token 2, slot 0\] is {weight}"):
        sorting(some_ids(), weights)


def test_the_first_offender_is_named_whichever_thread_finds_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AITER_MOE_THREADS", "4")
    ids = some_ids(tokens=20_000)
    weights = torch.rand(ids.shape)
    weights[19_000, 1] = float("nan")
    ids[9000, 2] = 99
    weights[8999, 0] = float("inf")
    with pytest.raises(ArgumentError, match=r"token 8999, slot 0"):
        sorting(ids, weights)


def test_what_is_not_sorted_is_not_checked() -> None:
    ids, weights = some_ids(), torch.rand(5, 3)
    ids[4], weights[3] = 77, float("nan")
    sorting(ids, weights, num_local_tokens=torch.tensor([3], dtype=torch.int32))
    ids[4] = torch.tensor([0, 1, 2])
    ids[3] = torch.tensor([6, 7, 7])
    mask = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0], dtype=torch.int32)
    sorting(ids, weights, expert_mask=mask)


def test_unusable_arguments_are_named() -> None:
    ids = some_ids()
    with pytest.raises(DtypeError, match="int64"):
        sorting(ids.long())
    with pytest.raises(DtypeError, match="float64"):
        sorting(ids, torch.rand(5, 3).double())
    with pytest.raises(ArgumentError, match="tokens, topk"):
        sorting(ids, torch.rand(5, 2))
    with pytest.raises(ArgumentError, match="block_size=0"):
        sorting(ids, block_size=0)
    with pytest.raises(ArgumentError, match=r"expert_mask \[7\]"):
        sorting(ids, expert_mask=torch.ones(7, dtype=torch.int32))
    with pytest.raises(DtypeError, match="expert_mask"):
        sorting(ids, expert_mask=torch.ones(8))
    with pytest.raises(ArgumentError, match="num_local_tokens=6"):
        sorting(ids, num_local_tokens=torch.tensor([6]))
    with pytest.raises(ArgumentError, match="num_local_tokens=-1"):
        sorting(ids, num_local_tokens=torch.tensor([-1]))
    with pytest.raises(ArgumentError, match="one integer"):
        sorting(ids, num_local_tokens=torch.tensor([1, 2]))
    with pytest.raises(UnsupportedProblemError, match="flat"):
        sorting(ids, flat=True)
    with pytest.raises(ArgumentError, match="exclude"):
        sorting(ids, output_aux=True, return_local_topk_ids=True)


def test_sizes_an_id_word_cannot_hold_are_refused() -> None:
    with pytest.raises(ArgumentError, match="topk 256"):
        sorting(torch.zeros(1, 256, dtype=torch.int32))
    many = torch.zeros(1, 1, dtype=torch.int32).expand(1 << 24, 1)
    with pytest.raises(ArgumentError, match=r"2\^24"):
        sorting(many, torch.zeros(1, 1).expand(1 << 24, 1))
    with pytest.raises(ArgumentError, match="int32"):
        sorting(some_ids(), num_experts=1 << 25, block_size=128)


def test_the_largest_topk_keeps_slots_apart() -> None:
    ids = torch.arange(255, dtype=torch.int32)[None]
    result = sorting(ids, num_experts=255, block_size=1)
    slots = result[0][:255].numpy().view(np.uint32) >> 24
    assert slots.tolist() == list(range(255))
    assert result[3].tolist() == [255, 1]
