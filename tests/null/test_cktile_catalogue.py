# SPDX-License-Identifier: MIT
"""aiter's CK-tile catalogue as data: its names, what has a kernel here, and which problems fit."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import (
    Family,
    by_name,
    catalogue,
    family_note,
    of_family,
    offered,
    why_no_kernel,
)
from aiter_moe.codegen.cktile import cktile_instances, headers, left_out
from aiter_moe.codegen.cktile.catalogue import tiles
from aiter_moe.codegen.cktile.compiler import cktile_compiler
from aiter_moe.codegen.compiler import Compiler
from aiter_moe.codegen.device_compiler import DEVICE_FLAGS
from aiter_moe.codegen.gfx9 import Launch, launches
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.codegen.render import render
from aiter_moe.configs.table import ConfigTable, Key, Row
from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.errors import ArgumentError, LaunchError, ToolchainError
from aiter_moe.explain import explain
from aiter_moe.plan import Plan, make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import Kernels, Overrides

KERNELS = cktile_instances("gfx950")
GPT_OSS = Problem(
    token=64, model_dim=3072, inter_dim=512, experts=32, topk=4,
    activation=ActivationType.Swiglu, q_dtype_a=dtypes.bf16, has_bias=True,
    gate_mode=GateMode.INTERLEAVE,
)  # fmt: skip
FACTS = DeviceFacts("gfx950", 256)
ROOT = Path(__file__).resolve().parents[2]


def kernel(stage: int, block_m: int, *, bias: bool) -> Instance:
    """Return the kernel of a block that aiter takes by default."""
    return next(i for i in KERNELS if (i.stage, i.block_m, i.tile.bias) == (stage, block_m, bias))


@pytest.mark.parametrize("target", ["gfx950", "gfx942"])
def test_names_are_those_aiter_generates(target: str) -> None:
    path = ROOT.parent / "shared" / "data" / "cktile_catalog.json"
    if not path.is_file():
        pytest.skip("the list of aiter's names is not at hand")
    wanted = {entry["name"] for entry in json.loads(path.read_text())["tree_2026_08_22"][target]}
    names = [tile.kernel_name for tile in tiles(target)]
    assert len(set(names)) == len(names)
    assert set(names) == wanted


def test_the_names_of_both_stages_are_spelt_as_aiter_does() -> None:
    assert kernel(1, 16, bias=True).name == (
        "moe_cktile2stages_gemm1_256x16x128x256_1x4_16x16x32_2perCU_1x32_HasBias_swiglu"
    )
    assert kernel(2, 64, bias=False).name == (
        "moe_cktile2stages_gemm2_256x64x256x256_1x4_16x16x32_1perCU_1x32_MulRoutedWeight"
    )


def test_every_entry_is_a_kernel_or_has_a_reason() -> None:
    names = {tile.kernel_name for tile in tiles("gfx950")}
    assert {i.name for i in KERNELS} | left_out("gfx950").keys() == names
    assert len(KERNELS) + len(left_out("gfx950")) == len(names)
    reasons = Counter(why.split(" ")[0] for why in left_out("gfx950").values())
    assert reasons == {"fp8": 32, "Composable": 24, "it": 20}
    assert all("defines none" in why for why in left_out("gfx942").values())


def test_instances_say_what_the_pipeline_needs() -> None:
    for instance in KERNELS:
        assert (instance.kind, instance.target, instance.family) == (
            Kind.A16W4, "gfx950", "cktile",
        )  # fmt: skip
        assert instance.tile.output is (Output.BF16 if instance.stage == 1 else Output.ATOMIC)
        assert (instance.activation is None) is (instance.stage == 2)
        assert instance.name in render(instance).source
        assert render(instance).family == "cktile"


def test_a_problem_of_whole_blocks_is_run_by_both_stages() -> None:
    for stage in (1, 2):
        for block in (16, 32, 64):
            assert GPT_OSS.supports(kernel(stage, block, bias=True))


@pytest.mark.parametrize(
    ("change", "stages", "reason"),
    [
        ({"gate_mode": GateMode.SEPARATED}, (1,), "interleaved by 16"),
        ({"has_bias": False}, (1, 2), "adds a bias"),
        ({"doweight_stage1": True}, (1, 2), "in stage 2 alone"),
        ({"model_dim": 2880}, (1, 2), "not a multiple of"),
        ({"inter_dim": 384}, (2,), "reduction of 384"),
        ({"hidden_pad": 96}, (1, 2), "computes padding too"),
        ({"token": 131072, "topk": 32}, (1, 2), "buffer descriptor"),
        ({"activation": ActivationType.Silu}, (1,), "activation Silu"),
    ],
)
def test_other_problems_are_refused_with_a_reason(
    change: dict[str, object], stages: tuple[int, ...], reason: str
) -> None:
    problem = replace(GPT_OSS, **change)  # type: ignore[arg-type]
    for stage in (1, 2):
        verdict = problem.supports(kernel(stage, 32, bias=True))
        assert bool(verdict) is (stage not in stages), verdict.reason
        if stage in stages:
            assert reason in verdict.reason


def test_an_a4w4_problem_of_float16_cannot_end_in_bf16_atomics() -> None:
    problem = replace(GPT_OSS, q_dtype_a=dtypes.fp4x2)
    assert problem.supports(kernel(2, 32, bias=True))
    reason = replace(problem, dtype=torch.float16).supports(kernel(2, 32, bias=True)).reason
    assert reason == "CK-tile adds bfloat16 to the output, which is torch.float16"


def plan_of(*rows: Row) -> Plan:
    kernels = Kernels("gfx950", catalogue("gfx950") + KERNELS, "hash")
    return make_plan(GPT_OSS, FACTS, ConfigTable.of(rows), Overrides(), kernels)


def row_naming(stage1: str, stage2: str) -> Row:
    return Row(
        key=Key.of(GPT_OSS, FACTS), block_m=32, ksplit=0, kernel1=stage1, kernel2=stage2,
        template_hash="hash", file="tuned.csv", line=2,
    )  # fmt: skip


def test_a_plan_takes_one_only_where_a_row_names_it() -> None:
    plain = plan_of()
    assert not plain.stage1.family and not plain.stage2.family
    first, second = kernel(1, 32, bias=True), kernel(2, 32, bias=True)
    named = plan_of(row_naming(first.name, second.name))
    assert (named.stage1, named.stage2) == (first, second)
    assert named.source == "tuned.csv:2"
    mixed = plan_of(row_naming("", second.name))
    assert (mixed.stage1.family, mixed.stage2) == ("", second)


def test_a_row_that_names_an_entry_without_kernel_is_told_why() -> None:
    name = next(name for name in left_out("gfx950") if name.endswith("SplitK"))
    reasons = " ".join(plan_of(row_naming(name, kernel(2, 32, bias=True).name)).reasons)
    assert f"no kernel {name}" in reasons and "have no split-k kind" in reasons


def test_without_headers_the_family_is_left_out_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(headers, "package_folders", lambda name: iter(()))
    monkeypatch.delenv("ROCM_PATH", raising=False)
    assert offered("gfx950") == catalogue("gfx950")
    assert KERNELS[0].name not in by_name("gfx950")
    assert "pip install 'aiter_moe[cktile]'" in why_no_kernel("gfx950", KERNELS[0].name)
    for family in Family:
        assert "pip install 'aiter_moe[cktile]'" in family_note("gfx950", family)
    assert family_note("cpu", Family.OWN) == ""
    with pytest.raises(ToolchainError, match="ROCM_PATH is unset, and the package amd-aiter"):
        of_family("gfx950", Family.CKTILE)


def test_an_explanation_says_that_the_family_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "package_folders", lambda name: iter(()))
    monkeypatch.delenv("ROCM_PATH", raising=False)
    told = explain(GPT_OSS, FACTS).details()
    assert told.splitlines()[-1].startswith(
        "CK-tile kernels are left out: no headers of Composable"
    )


def test_an_explanation_lists_the_family_where_its_headers_are() -> None:
    kernels = Kernels("gfx950", catalogue("gfx950") + KERNELS, "hash")
    told = explain(GPT_OSS, FACTS, kernels=kernels).details()
    assert f"\n  {kernel(2, 64, bias=True).name}\n" in told
    assert "the kernel adds no bias: " in told


def fake_headers(root: Path) -> Path:
    for file in (headers.FLATMM, headers.RUNTIME):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_with_headers_the_family_stands_behind_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "package_folders", lambda name: iter(()))
    monkeypatch.setenv("ROCM_PATH", str(fake_headers(tmp_path / "include").parent))
    assert offered("gfx950") == catalogue("gfx950") + KERNELS
    assert of_family("gfx950", Family.CKTILE) == KERNELS
    assert by_name("gfx950")[KERNELS[0].name] is KERNELS[0]
    assert "28 CK-tile kernels" in family_note("gfx950", Family.OWN)
    assert offered("cpu") == catalogue("cpu")
    with pytest.raises(ArgumentError, match="target cpu has no CK-tile kernels"):
        of_family("cpu", Family.CKTILE)


def test_headers_of_rocm_come_before_those_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rocm = fake_headers(tmp_path / "rocm" / "include")
    packages = {
        "aiter_meta": "3rdparty/composable_kernel/include", "triton": "backends/amd/include",
    }  # fmt: skip
    for package, folder in packages.items():
        fake_headers(tmp_path / package / folder)
    monkeypatch.setattr(headers, "package_folders", lambda name: iter([tmp_path / name]))
    monkeypatch.setenv("ROCM_PATH", str(rocm.parent))
    assert headers.find_headers() == headers.Headers(rocm, rocm)
    (rocm / headers.FLATMM).unlink()
    ck = tmp_path / "aiter_meta" / packages["aiter_meta"]
    assert headers.find_headers() == headers.Headers(ck, rocm)
    monkeypatch.delenv("ROCM_PATH")
    hip = tmp_path / "triton" / packages["triton"]
    assert headers.find_headers() == headers.Headers(ck, hip)


def arguments(instance: Instance) -> StageArgs:
    """Return the sizes of a launch that `instance` takes: 2 blocks of K, 512 weight rows."""
    first = instance.stage == 1
    return StageArgs(
        tokens=64, topk=4, n=256 if first else 512, k=512, x_stride=520, out_stride=544,
        w_rows=512, w_k=512, w_scale_cols=16, bias_stride=512, bias=4096,
        sorted_rows=5 * instance.block_m, interleaved=first, doweight=not first,
    )  # fmt: skip


@pytest.mark.parametrize("stage", [1, 2])
def test_the_last_block_of_the_reduction_chooses_the_kernel(stage: int) -> None:
    instance = kernel(stage, 32, bias=True)
    args = arguments(instance)
    assert launches(instance, args) == (Launch(instance.name, (10, 1, 1), 256),)
    args.k, args.w_k, args.w_scale_cols = 768, 768, 24
    assert launches(instance, args)[0].symbol == instance.name + "_odd"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("w_rows", 768, "w_rows is 768, CK-tile takes 512"),
        ("k", 256, "w_k is 512, CK-tile takes 256"),
        ("w_scale_cols", 24, "w_scale_cols is 24"),
        ("bias_stride", 640, "bias_stride is 640"),
        ("bias", None, "there is no bias"),
        ("interleaved", 0, "interleaved is 0"),
        ("doweight", 1, "doweight is 1"),
        ("x_stride", 516, "x_stride is 516, not a multiple of 8"),
        ("out_stride", 257, "out_stride is 257, not a multiple of 2"),
        ("out_type", 1, "out_type is 1"),
        ("out_stride", 1 << 23, "output rows take"),
    ],
)
def test_arguments_it_cannot_take_are_refused_before_a_launch(
    field: str, value: int | None, reason: str
) -> None:
    instance = kernel(1, 32, bias=True)
    args = arguments(instance)
    setattr(args, field, value)
    with pytest.raises(LaunchError, match=reason):
        launches(instance, args)


def test_hipcc_takes_what_rocm_has_and_none_of_the_stand_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rocm = fake_headers(tmp_path / "include")
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    step = ("{hipcc}", "--genco", *DEVICE_FLAGS, "{flags}", "-I{csrc}", "{source}", "-o", "k.co")
    base = Compiler("hipcc", "hipcc 7", (step,), {"hipcc": ("/opt/rocm/bin/hipcc",)})
    found = cktile_compiler(base)
    (words,) = found.commands(render(KERNELS[0]), tmp_path / "csrc")
    assert words[:2] == ["/opt/rocm/bin/hipcc", "--genco"]
    assert str(rocm) in words and "-std=c++20" in words
    text = " ".join(words)
    assert not any(word in text for word in ("-nogpu", "missing", "WITHOUT_DEVICE_LIBRARY"))
    assert str(tmp_path) not in " ".join(found.recipe[0])
