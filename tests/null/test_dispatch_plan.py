# SPDX-License-Identifier: MIT
"""The planner: a tuned row if its kernels may be used, else the rules, over one set of reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import FACTS, KERNELS, FakeTile, catalogue, name, problem, row

from aiter_moe import dtypes
from aiter_moe.codegen.instance import Output
from aiter_moe.codegen.pairs import pair_refusal
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.plan import make_plan
from aiter_moe.verdict import Overrides

EMPTY = ConfigTable()


def plan(of, *rows, kernels=KERNELS, **overrides):
    return make_plan(of, FACTS, ConfigTable.of(rows), Overrides(**overrides), kernels)


def warnings(found):
    return [n.text for n in found.notices if n.warning]


def test_a_tuned_row_decides():
    found = plan(
        problem(),
        row(problem(), ksplit=2, kernel1=name("a16w4", 1, 32, split=True)),
    )
    assert (found.block_m, found.ksplit, found.source) == (32, 2, "tuned.csv:2")
    assert found.stage1.name == name("a16w4", 1, 32, split=True)
    assert found.stage2.name == name("a16w4", 2, 32)
    assert not warnings(found)


@pytest.mark.parametrize(
    ("tier", "block_m"), [(1, 16), (1024, 16), (2048, 32), (8192, 32), (16384, 64), (131072, 64)]
)
def test_untuned_a16w4_takes_aiters_block_by_tokens(tier, block_m):
    found = plan(problem(token=tier))
    assert found.block_m == block_m
    assert found.source.startswith("rule: a16w4")


@pytest.mark.parametrize("tier", [1, 16, 2048, 131072])
def test_untuned_a4w4_takes_block_64_and_no_split(tier):
    found = plan(problem("a4w4", token=tier))
    assert (found.block_m, found.ksplit, found.skip_inter_quant) == (64, 0, False)
    assert {found.stage1.kind, found.stage2.kind} == {Kind.A4W4}


def test_the_heuristic_split_is_limited_to_what_kernels_have():
    decode = problem(token=1, model_dim=3072, inter_dim=512, experts=128)
    found = plan(decode)
    assert found.ksplit == 4
    assert found.stage1.split_k
    assert any("says ksplit 12" in reason for reason in found.reasons)


def test_a_split_needs_a_whole_k_block_of_the_tile_per_part():
    wide = catalogue(lambda kind, stage, block: FakeTile(block_k=1024))
    decode = problem(token=1, model_dim=3072, inter_dim=512, experts=128)
    assert plan(decode, kernels=wide).ksplit == 2
    assert plan(replace(decode, model_dim=1024), kernels=wide).ksplit == 1


STALE = {
    "no such kernel": {"kernel1": "flydsl_moe1_afp4_wfp4_bf16_t32x128x256"},
    "no such second kernel": {"kernel2": "moe_ck2stages_gemm2_64x32x32x128"},
    "a longer name": {"kernel1": name("a16w4", 1, 32) + "_x"},
    "stages exchanged": {"kernel1": name("a16w4", 2, 32), "kernel2": name("a16w4", 1, 32)},
    "another block": {"block_m": 64},
    "another activation": {"kernel1": name("a16w4", 1, 32, "gelu")},
    "another kind": {"kernel1": name("a4w4", 1, 32), "kernel2": name("a4w4", 2, 32)},
    "other templates": {"template_hash": "f" * 16},
    "a split without a split kernel": {"ksplit": 2},
    "a split kernel without a split": {"kernel1": name("a16w4", 1, 32, split=True)},
    "stages that do not fit": {"kernel2": name("a16w4", 2, 64)},
    "an odd split": {"kernel1": name("a16w4", 1, 32, split=True), "ksplit": 3},
    "one stage": {"run_1stage": True},
}


@pytest.mark.parametrize("fields", STALE.values(), ids=STALE)
def test_a_stale_row_is_reported_with_the_command_and_not_used(fields):
    bad = row(problem(), **fields)
    found = plan(problem(), bad)
    assert found == replace(plan(problem()), reasons=found.reasons, notices=found.notices)
    (text,) = warnings(found)
    assert "tuned.csv:2 is stale" in text
    assert "re-tune with `aiter-moe tune -i tuned.csv -o tuned.csv --target gfx950`" in text


def test_retuning_a_table_of_others_goes_to_another_file():
    (text,) = warnings(plan(problem(), row(problem(), kernel1="theirs", template_hash="")))
    assert "-i tuned.csv -o <tuned.csv>" in text
    assert "AITER_MOE_CONFIG" in text


def test_a_row_without_hash_is_used_if_its_kernels_exist():
    assert plan(problem(), row(problem(), template_hash="")).source == "tuned.csv:2"


def test_a_row_without_names_gives_its_block_and_split():
    unnamed = row(problem(), kernel1="", kernel2="", block_m=64, ksplit=2)
    found = plan(problem(), unnamed)
    assert (found.block_m, found.ksplit, found.stage1.split_k) == (64, 2, True)
    assert found.source == "tuned.csv:2"
    nothing = plan(problem(), replace(unnamed, block_m=0, ksplit=0))
    assert (nothing.block_m, nothing.ksplit) == (16, 1)


def test_an_a4w4_row_may_leave_the_intermediate_bf16():
    of = problem("a4w4")
    bf16 = name("a4w4", 1, 32, output=Output.BF16)
    skipping = row(of, kernel1=bf16, kernel2=name("a16w4", 2, 32))
    assert plan(of, skipping).skip_inter_quant
    assert plan(of, row(of, kernel1=bf16, kernel2=""), skip_inter_quant=True).stage1.name == bf16
    assert plan(of, skipping).stage2.kind is Kind.A16W4
    kept = plan(of, skipping, skip_inter_quant=False)
    assert (kept.skip_inter_quant, kept.stage2.kind) == (False, Kind.A4W4)
    assert kept.source.startswith("rule")
    assert not warnings(kept)


def test_the_named_stage_1_decides_what_follows_it():
    of = problem("a4w4")
    fp4 = row(of, kernel2="")
    assert plan(of, fp4).stage2.kind is Kind.A4W4
    refused = plan(of, fp4, skip_inter_quant=True)
    assert refused.source.startswith("rule")
    assert any("no stage 2 of a16w4 follows" in reason for reason in refused.reasons)


def test_a_caller_may_ask_for_either_way_between_the_stages():
    of = problem("a4w4")
    asked = plan(of, skip_inter_quant=True)
    assert (asked.skip_inter_quant, asked.stage2.kind, asked.stage1.kind) == (
        True, Kind.A16W4, Kind.A4W4
    )  # fmt: skip
    assert not warnings(asked)
    assert not plan(of, row(of), skip_inter_quant=True).source.startswith("tuned")
    assert not plan(problem(), skip_inter_quant=True).skip_inter_quant


def test_an_a4w4_stage_2_that_cannot_run_is_replaced_aloud():
    narrow = catalogue(
        lambda kind, stage, block: FakeTile(multiple=256 if (kind, stage) == (Kind.A4W4, 2) else 32)
    )
    of = problem("a4w4", inter_dim=192)
    found = plan(of, kernels=narrow)
    assert found.skip_inter_quant
    assert any("the intermediate stays bf16" in text for text in warnings(found))
    with pytest.raises(UnsupportedProblemError) as caught:
        plan(of, kernels=narrow, skip_inter_quant=False)
    assert "stage 2: inter_dim 192 is not a multiple of 256" in str(caught.value)
    assert "leave block_m and skip_inter_quant to the dispatcher" in str(caught.value)


def test_the_nearest_block_is_taken_and_said():
    few = catalogue(blocks=(16, 128))
    found = plan(problem("a4w4"), kernels=few)
    assert found.block_m == 128
    assert any("block_m 128 is used instead" in text for text in warnings(found))


def test_a_forced_block_is_used_or_refused_never_replaced():
    assert plan(problem(), row(problem()), block_m=128).block_m == 128
    assert plan(problem(), row(problem()), block_m=32).source == "tuned.csv:2"
    with pytest.raises(UnsupportedProblemError) as caught:
        plan(problem(), block_m=48)
    assert "block_m 48 was asked for" in str(caught.value)
    assert "leave block_m and skip_inter_quant" in str(caught.value)


def test_a_forced_split_is_used_where_legal():
    assert plan(problem(), ksplit=2).ksplit == 2
    assert plan(problem(), row(problem()), ksplit=4).stage1.split_k
    split = row(problem(), ksplit=2, kernel1=name("a16w4", 1, 32, split=True))
    off = plan(problem(), split, ksplit=-1)
    assert (off.ksplit, off.stage1.split_k, off.source) == (1, False, "tuned.csv:2")
    assert plan(problem(), split, ksplit=4).stage1.name == split.kernel1


@pytest.mark.parametrize(("ksplit", "why"), [(3, "kernels split by 1, 2, 4"), (4, "K block")])
def test_an_illegal_forced_split_is_ignored_aloud(ksplit, why):
    found = plan(problem(model_dim=128), ksplit=ksplit)
    assert found.ksplit == 1
    (text,) = warnings(found)
    assert why in text


def with_direct(stages=(1, 2)):
    """The catalogue with kernels that read the routing themselves."""
    direct = [
        replace(i, tile=replace(i.tile, label=f"{i.tile.label}_direct", direct=True, output=output))
        for i in KERNELS.instances
        if i.stage in stages and i.block_m == 16 and not i.split_k
        for output in [Output.FINAL if i.stage == 2 else i.tile.output]
    ]
    return replace(KERNELS, instances=KERNELS.instances + tuple(direct))


@pytest.mark.parametrize("kind", ["a16w4", "a4w4"])
def test_a_few_tokens_run_without_a_sort_where_nothing_is_tuned(kind):
    found = plan(problem(kind), kernels=with_direct())
    assert found.direct and found.stage2.tile.direct and found.stage2.tile.output is Output.FINAL
    assert found.block_m == 16
    assert found.ksplit == (0 if kind == "a4w4" else 1)
    assert found.source == "rule: up to 16 tokens without a sort"
    assert any("would take longer" in reason for reason in found.reasons)
    assert not warnings(found)
    assert not plan(problem(kind, token=32), kernels=with_direct()).direct
    assert not plan(problem(kind), kernels=with_direct((1,))).direct


def test_what_needs_a_sort_is_not_run_without_one():
    direct = with_direct()
    assert not plan(problem(), kernels=direct, block_m=16).direct
    assert not plan(problem(), kernels=direct, ksplit=2).direct
    assert not plan(problem(), row(problem()), kernels=direct).direct
    assert plan(problem(), kernels=direct, ksplit=-1).direct
    skipping = plan(problem("a4w4"), kernels=direct, skip_inter_quant=True)
    assert skipping.direct and skipping.skip_inter_quant


def test_a_row_may_name_direct_kernels():
    kernels = with_direct()
    names = {
        i.stage: i.name
        for i in kernels.instances
        if i.tile.direct and i.kind is Kind.A16W4 and i.activation in (None, ActivationType.Silu)
    }
    fields = {"block_m": 16, "kernel1": names[1], "kernel2": names[2]}
    found = plan(problem(), row(problem(), **fields), kernels=kernels)
    assert (found.stage1.name, found.stage2.name) == (names[1], names[2])
    mixed = plan(
        problem(), row(problem(), **fields | {"kernel2": name("a16w4", 2, 16)}), kernels=kernels
    )
    assert "alone reads the routing directly" in warnings(mixed)[0]


def test_rows_are_summed_in_a_fixed_order_unless_a_row_names_atomics():
    atomic = replace(KERNELS.instances[-1].tile, label="t_atomic", output=Output.ATOMIC)
    added = tuple(replace(i, tile=atomic) for i in KERNELS.instances if i.stage == 2)
    kernels = replace(KERNELS, instances=added + KERNELS.instances)
    assert plan(problem(), kernels=kernels).stage2.tile.output is Output.ROWS
    named = next(i for i in added if (i.kind, i.block_m) == (Kind.A16W4, 32))
    found = plan(problem(), row(problem(), kernel2=named.name), kernels=kernels)
    assert found.stage2 == named


def test_rows_can_be_ignored():
    found = plan(problem(), row(problem(), block_m=32), ignore_rows=True)
    assert found.source.startswith("rule")


def test_padding_is_not_computed_but_stays_in_the_key():
    sixteenth = catalogue(lambda kind, stage, block: FakeTile(multiple=384))
    of = problem(inter_dim=512)
    found = plan(of, row(of), kernels=sixteenth, intermediate_pad=152)
    assert found.problem.inter_dim == 512
    assert found.source == "tuned.csv:2"
    with pytest.raises(UnsupportedProblemError):
        plan(of, kernels=sixteenth)


UNSUPPORTED = {
    "size": (problem(inter_dim=500), "inter_dim 500 is not", "inter_dim padded to 512"),
    "activation": (
        problem(activation=ActivationType.Situv2), "the kernel fuses Silu", "activation Silu",
    ),
    "fp8": (
        problem(q_dtype_a=torch.float8_e4m3fn), "only fp4x2 and bfloat16", "(a4w4)",
    ),
    "g1u0": (problem(use_g1u1=False), "no up rows", "g1u1"),
    "half": (problem(dtype=torch.float16), "takes bfloat16", "dtype torch.bfloat16"),
    "weights": (problem(q_dtype_w=torch.int8), "read MXFP4", "MXFP4 weights"),
}  # fmt: skip


@pytest.mark.parametrize(("of", "reason", "advice"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_an_unsupported_problem_gets_reasons_and_the_nearest_supported_one(of, reason, advice):
    with pytest.raises(UnsupportedProblemError) as caught:
        plan(of)
    lines = str(caught.value).splitlines()
    assert any(reason in line for line in lines if line.startswith("  stage 1: "))
    assert "nearest supported problem: " in lines[-1]
    assert advice in lines[-1]
    assert len(lines) < 14


def test_the_reason_of_the_nearest_miss_comes_first():
    with pytest.raises(UnsupportedProblemError) as caught:
        plan(problem(inter_dim=500))
    assert "inter_dim 500" in str(caught.value).splitlines()[1]


KINDS = {"a16w4": torch.bfloat16, "a4w4": dtypes.fp4x2}


@given(
    kind=st.sampled_from(list(KINDS)),
    tier=st.sampled_from([1, 16, 2048, 16384, 32768]),
    sizes=st.tuples(*[st.sampled_from([128, 192, 384, 640, 2880])] * 2),
    tuned=st.tuples(st.integers(-1, 9), st.booleans(), st.booleans()),
    asked=st.tuples(
        st.sampled_from([None, -1, 0, 1, 2, 3, 4, 100]), st.sampled_from([None, True, False])
    ),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_the_plan_obeys_the_rules(kind, tier, sizes, tuned, asked):
    ksplit, skip = asked
    of = problem(kind, token=tier, model_dim=sizes[0], inter_dim=sizes[1])
    row_split, named, splitting = tuned
    fields = {"ksplit": row_split, "kernel1": "", "kernel2": ""}
    if named:
        splits = splitting and kind == "a16w4"
        fields["kernel1"] = name(kind, 1, 32, split=splits)
    found = plan(of, row(of, **fields), ksplit=ksplit, skip_inter_quant=skip)
    assert found.stage1.kind is of.kind
    assert found.stage1.block_m == found.stage2.block_m == found.block_m
    assert of.supports(found.stage1)
    assert of.supports(found.stage2)
    assert pair_refusal(found.stage1, found.stage2) is None
    if kind == "a4w4":
        assert found.ksplit == 0
        assert found.skip_inter_quant is (found.stage2.kind is Kind.A16W4) is bool(skip)
    else:
        assert found.ksplit in (1, 2, 4)
        assert found.ksplit <= of.model_dim // 64
        assert found.stage1.split_k is (found.ksplit > 1)
        assert not found.skip_inter_quant
