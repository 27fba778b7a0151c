# SPDX-License-Identifier: MIT
"""A layer as one launch: the bits of the stages run one by one, its memory, its errors."""

from __future__ import annotations

import math
import os
import threading

import pytest
import torch
from reference import ODD_SHAPES, panel_operands, problem_of_a_rank, random_problem

from aiter_moe import (
    ActivationType,
    ArgumentError,
    Kind,
    dtypes,
    fused_moe,
    known_calls,
    per_1x32_f4_quant,
)
from aiter_moe.codegen import cpu_choice
from aiter_moe.codegen.instance import Output
from aiter_moe.dispatch import _metadata, metadata_for
from aiter_moe.targets.cpu import CpuLauncher, cpu_launcher
from aiter_moe.targets.cpu_arena import KEPT_BYTES, Arena

Q_DTYPE = {Kind.A16W4: torch.bfloat16, Kind.A4W4: dtypes.fp4x2}


def arguments(p, kind=Kind.A16W4, activation=ActivationType.Silu, **more):
    return {
        **panel_operands(p),
        "activation": activation,
        "bias1": p.bias1,
        "bias2": p.bias2,
        "q_dtype_a": Q_DTYPE[kind],
        **more,
    }


def by_stages(call):
    """Run the launches of a call one by one."""
    known_calls.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuLauncher, "runs_layers", False)
        return fused_moe(**call)


def same_as_by_stages(call) -> bool:
    out = torch.full_like(fused_moe(**call), math.nan)
    assert fused_moe(**call, output=out) is out
    return torch.equal(out, by_stages(call))


@pytest.fixture(params=[Output.FINAL, Output.ROWS], ids=lambda output: output.value)
def output(request, monkeypatch):
    """What stage 2 leaves untuned, as on a machine of few threads and on one of many."""
    monkeypatch.setattr(cpu_choice, "_feeds", lambda *_: request.param is Output.FINAL)
    _metadata.cache_clear()
    yield request.param
    _metadata.cache_clear()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("tokens", "hidden", "inter", "experts", "topk", "routing"),
    [*ODD_SHAPES, (600, 64, 64, 24, 5, "random")],
)
def test_a_layer_has_the_bits_of_its_stages(
    kind, tokens, hidden, inter, experts, topk, routing, output
):
    p = random_problem(tokens, hidden, inter, experts, topk, bias=True, routing=routing)
    call = arguments(p, kind, ActivationType.Swiglu)
    fused_moe(**call)
    (known,) = known_calls._calls.values()
    assert known.forward.metadata.plan.stage2.tile.output is output
    assert same_as_by_stages(call)


@pytest.mark.parametrize(
    "options",
    [
        {"doweight_stage1": True},
        {"q_dtype_a": torch.bfloat16, "splitk": 4},
        {"skip_inter_quant": True},
        {"skip_inter_quant": False},
        {"block_size_M": 16},
        {"block_size_M": 128},
        {"hidden_pad": 64, "intermediate_pad": 64},
        {"num_local_tokens": 5},
        {"num_local_tokens": 0},
        {"swiglu_limit": 1.0},
    ],
    ids=str,
)
def test_options_reach_the_layer(options):
    p = random_problem(33, 512, 192, 6, 3, bias=True)
    call = arguments(p, Kind.A4W4, ActivationType.Swiglu) | options
    if "num_local_tokens" in options:
        call["num_local_tokens"] = torch.tensor([options["num_local_tokens"]], dtype=torch.int64)
    assert same_as_by_stages(call)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool])
def test_masked_experts(kind, dtype):
    p, local = problem_of_a_rank()
    assert same_as_by_stages(arguments(p, kind, expert_mask=local.to(dtype)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rows_further_apart_and_of_both_types_are_quantised(dtype):
    p = random_problem(9, 256, 128, 4, 2)
    call = arguments(p, Kind.A4W4)
    dense = fused_moe(**call | {"hidden_states": p.x.to(dtype)})
    wide = torch.full((9, 300), math.nan, dtype=dtype)
    wide[:, :256] = p.x
    assert torch.equal(fused_moe(**call | {"hidden_states": wide[:, :256]}), dense)
    columns = p.x.to(dtype).t().contiguous().t()
    assert torch.equal(fused_moe(**call | {"hidden_states": columns}), dense)
    assert same_as_by_stages(call | {"hidden_states": wide[:, :256]})


def test_quantised_hidden_states():
    p = random_problem(9, 256, 128, 4, 2)
    codes, scale = per_1x32_f4_quant(p.x)
    call = arguments(p, Kind.A4W4)
    given = call | {"hidden_states": codes, "a1_scale": scale, "dtype": torch.bfloat16}
    assert torch.equal(fused_moe(**given), fused_moe(**call))
    assert same_as_by_stages(given)


@pytest.mark.parametrize("kind", list(Kind))
def test_any_number_of_threads_gives_the_same_bits(kind, monkeypatch):
    p = random_problem(40, 512, 256, 8, 4, bias=True)
    call = arguments(p, kind, ActivationType.Swiglu)
    planned = []

    def once(*arguments):
        planned.append(planned[0] if planned else metadata_for(*arguments))
        return planned[0]

    # threads count as compute units, which plans depend on
    monkeypatch.setattr("aiter_moe.forward.metadata_for", once)
    results = []
    for threads in range(1, 9):
        monkeypatch.setenv("AITER_MOE_THREADS", str(threads))
        results.append(fused_moe(**call))
    assert len(planned) == 8
    assert all(torch.equal(result, results[0]) for result in results)


def test_a_sort_that_fails_writes_nothing_and_says_who():
    p = random_problem(9, 128, 128, 4, 2)
    call = arguments(p)
    fused_moe(**call)
    out = torch.full((9, 128), math.nan, dtype=torch.bfloat16)
    ids, weights = p.topk_ids.clone(), p.topk_weights.clone()
    ids[3, 1], weights[7, 0] = 4, math.inf
    for bad, words in (
        ({"topk_ids": ids}, r"\[token 3, slot 1\] is 4"),
        ({"topk_weight": weights}, r"\[token 7, slot 0\] is inf"),
        ({"topk_ids": ids, "topk_weight": weights}, "token 3"),
    ):
        with pytest.raises(ArgumentError, match=words):
            fused_moe(**call | bad, output=out)
    assert out.isnan().all()


def test_a_mask_whose_values_change_is_looked_at_again():
    p, local = problem_of_a_rank()
    call = arguments(p, expert_mask=local.clone())
    first = fused_moe(**call)
    out = torch.full_like(first, math.nan)
    call["expert_mask"].zero_()
    with pytest.raises(ArgumentError, match="marks 0 experts"):
        fused_moe(**call, output=out)
    assert out.isnan().all()
    call["expert_mask"].copy_(local)
    assert torch.equal(fused_moe(**call), first)


def allocations(call) -> int:
    """Return how often 100 calls ask torch for memory, or give it back."""
    with torch.profiler.profile(profile_memory=True) as profile:
        for _ in range(100):
            fused_moe(**call)
    return sum(event.name == "[memory]" for event in profile.events())


def test_warm_calls_ask_for_no_memory():
    p = random_problem(40, 512, 256, 8, 4, bias=True)
    call = arguments(p, Kind.A4W4, ActivationType.Swiglu)
    given = {**call, "output": torch.empty_like(p.x)}
    fused_moe(**call)
    fused_moe(**given)
    before = cpu_launcher().arena.growths
    assert allocations(given) == 0
    assert allocations(call) >= 100
    assert cpu_launcher().arena.growths == before


def test_the_arena_grows_and_gives_back_what_is_huge():
    arena = Arena()
    arena.grow(1)
    first = arena.bytes, arena.address
    arena.grow(arena.bytes)
    assert (arena.bytes, arena.address) == first
    assert arena.address % 4096 == 0
    arena.grow(KEPT_BYTES + 1)
    assert arena.growths == 2
    arena.shrink()
    assert (arena.bytes, arena.address) == (0, 0)
    arena.grow(KEPT_BYTES)
    arena.shrink()
    assert arena.bytes == KEPT_BYTES


def test_every_thread_has_an_arena_of_its_own():
    p = random_problem(20, 256, 128, 4, 2)
    call = arguments(p, Kind.A4W4)
    want = fused_moe(**call)
    wrong = []

    def caller() -> None:
        for _ in range(50):
            if not torch.equal(fused_moe(**call), want):
                wrong.append(1)

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for one in callers:
        one.start()
    for one in callers:
        one.join(timeout=120)
    assert not any(one.is_alive() for one in callers)
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_runs_layers():
    p = random_problem(20, 256, 128, 4, 2)
    call = arguments(p)
    want = fused_moe(**call)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(fused_moe(**call), want) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(fused_moe(**call), want)
