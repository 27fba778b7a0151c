# SPDX-License-Identifier: MIT
"""CK-tile's MoE flatmm, compiled from Composable Kernel's headers, beside our kernels.

Runs where the headers are (`pip install 'aiter_moe[cktile]'`); a compile takes half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cpu_kernels import BF16_OUT, Case, Shape, make_case, relative_l2
from gfx9_kernels import MARGIN, Run, gfx950, run
from planning import row, write_csv
from reference import random_problem, reference_moe
from reference import relative_l2 as moe_relative_l2

from aiter_moe import Layout, PackedWeight, dtypes, fused_moe
from aiter_moe.codegen.build import build_many, is_cached
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.cktile import FAMILY, absence, cktile_instances
from aiter_moe.codegen.cktile.headers import FLATMM, RUNTIME
from aiter_moe.codegen.codeobject import read_code_object
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.readback import departures
from aiter_moe.codegen.render import render
from aiter_moe.codegen.toolchain import compiler_for
from aiter_moe.codegen.unit import Artifact, BuildUnit
from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.errors import ToolchainError
from aiter_moe.problem import Problem, token_tier
from aiter_moe.targets.emulator import EmulatorLauncher
from aiter_moe.targets.registry import running_target

BLOCK_M = 16
# Odd and even numbers of blocks of 256, and more than the pipeline has in flight.
REDUCTIONS = (256, 512, 768)
ATOMIC_OUT = 6e-3  # relative L2 of sums of `topk` rows that are rounded to bf16 each time


def named(stage: int) -> Instance:
    """Return aiter's default kernel of 16 rows: Swiglu with bias, and its stage 2."""
    wanted = (stage, BLOCK_M, 2, True)
    return next(
        i
        for i in cktile_instances("gfx950")
        if (i.stage, i.block_m, i.tile.per_cu, i.tile.bias) == wanted
    )


@pytest.fixture(scope="module", autouse=True)
def artifacts() -> dict[int, Artifact]:
    """Compile both kernels at a time, or skip where the headers are not."""
    reason = absence()
    if reason:
        pytest.skip(reason)
    try:
        compiler_for("gfx950", FAMILY)
    except ToolchainError as error:
        pytest.skip(str(error))
    reports = list(build_many([render(named(stage)) for stage in (1, 2)]))
    assert not [report.error for report in reports if report.error]
    return {1 + ("gemm2" in r.unit.name): r.artifact for r in reports if r.artifact}


class AtomicRun(Run):
    """Stage 2 that adds to the zeroed bf16 rows of the tokens."""

    def outputs(self) -> torch.Tensor:
        tokens = self.case.weights.shape[0]
        out = torch.full((tokens, self.case.columns + MARGIN), torch.nan, dtype=torch.bfloat16)
        out[:, : self.case.columns] = 0
        self.point("out", out.view(torch.int16).numpy())
        self.args.n, self.args.out_stride = self.case.columns, out.shape[1]
        return out


def summed(rows: torch.Tensor, case: Case) -> torch.Tensor:
    """Return the sums over the slots of each token, in float64."""
    return rows.double().nan_to_num().view(*case.weights.shape, -1).sum(1)


def case_of(stage: int, k: int) -> Case:
    shape = Shape(tokens=21, topk=4, experts=6, n=256, k=k)
    options = {"interleaved": True, "constants": {"limit": 1.5}} if stage == 1 else {}
    return make_case(
        named(stage), shape, seed=k, routing="sparse", bias=True, doweight=stage == 2, **options
    )


@pytest.mark.parametrize("k", REDUCTIONS)
def test_stage_1_agrees_with_float64_and_with_our_kernel(k: int) -> None:
    case = case_of(1, k)
    got, want = run(case), case.reference()
    assert relative_l2(got, want) < BF16_OUT
    own = gfx950(Kind.A16W4, 1, BLOCK_M, ActivationType.Swiglu)
    assert relative_l2(got, run(replace(case, instance=own)).double()) < BF16_OUT


@pytest.mark.parametrize("k", REDUCTIONS)
def test_stage_2_agrees_with_float64_and_with_our_kernel(k: int) -> None:
    case = case_of(2, k)
    got = run(case, ready=AtomicRun(case)).double()
    want = summed(case.reference(), case)
    ours = summed(run(replace(case, instance=gfx950(Kind.A16W4, 2, BLOCK_M))), case)
    for other in (want, ours):
        assert float((got - other).norm() / other.norm()) < ATOMIC_OUT


def test_a_row_of_aiters_names_puts_both_into_fused_moe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = random_problem(5, 768, 512, 4, 2, bias=True)
    problem = Problem(
        token=token_tier(5), model_dim=768, inter_dim=512, experts=4, topk=2,
        activation=ActivationType.Swiglu, q_dtype_a=dtypes.bf16, has_bias=True,
        gate_mode=GateMode.INTERLEAVE,
    )  # fmt: skip
    target = running_target("gfx950:emulator")
    names = {"kernel1": named(1).name, "kernel2": named(2).name}
    found = row(problem, target.facts, block_m=BLOCK_M, template_hash="", **names)
    monkeypatch.setenv("AITER_MOE_CONFIG", str(write_csv(tmp_path / "tuned.csv", [found])))
    symbols: list[str] = []
    launcher = EmulatorLauncher("gfx950", on_report=lambda symbol, _: symbols.append(symbol))
    got = fused_moe(
        p.x, PackedWeight.pack(p.w1, p.s1, Layout.SHUFFLED_GATE_UP), PackedWeight.pack(p.w2, p.s2),
        p.topk_weights, p.topk_ids, activation=ActivationType.Swiglu, bias1=p.bias1,
        bias2=p.bias2, q_dtype_a=torch.bfloat16, target=replace(target, launcher=lambda: launcher),
    )  # fmt: skip
    # an odd number of K blocks, then an even one; nothing is left to reduce
    assert symbols[-2:] == [named(1).name + "_odd", named(2).name]
    want = reference_moe(p, ActivationType.Swiglu, Kind.A16W4)
    assert moe_relative_l2(got, want) < ATOMIC_OUT


def test_an_artifact_holds_a_kernel_for_even_and_for_odd_reductions(
    artifacts: dict[int, Artifact],
) -> None:
    for stage, artifact in artifacts.items():
        assert not departures(named(stage), artifact.manifest["resources"]["kernels"])
        kernels = {k.name: k for k in read_code_object(artifact.path).kernels}
        for name in (named(stage).name, named(stage).name + "_odd"):
            assert kernels[name].lds_bytes == named(stage).tile.lds_bytes
            assert (kernels[name].vgpr_spills, kernels[name].scratch_bytes) == (0, 0)
            assert kernels[name].vgprs <= named(stage).tile.vgpr_budget


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of stand-ins for csrc and for the headers of ROCm, which `tiny_unit` includes."""
    root = tmp_path / "one"
    include = root / "include"
    for file in (FLATMM, RUNTIME):
        (include / file).parent.mkdir(parents=True, exist_ok=True)
        (include / file).touch()
    (include / "ck_tile" / "inner.hpp").write_text("constexpr int value = 1;\n")
    (include / "ck_tile" / "outer.hpp").write_text('#include "ck_tile/inner.hpp"\n')
    (root / "csrc" / "cktile" / "missing").mkdir(parents=True)
    (root / "csrc" / "cktile" / "ours.h").write_text("#include <ck_tile/outer.hpp>\n")
    monkeypatch.setenv("ROCM_PATH", str(root))
    monkeypatch.delenv("HIPCC", raising=False)
    yield root


def key_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ROCM_PATH", str(root))
    source = '#include "cktile/ours.h"\nextern "C" __global__ void k(int* p) { *p = value; }\n'
    unit = BuildUnit("k", "gfx950", "k.hip", source, family="cktile")
    return is_cached(unit, ArtifactCache(root / "cache"), root / "csrc")[0]


def test_the_key_covers_headers_of_headers_and_no_folder(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = key_of(tiny, monkeypatch)
    moved = tiny.rename(tiny.with_name("moved"))
    assert key_of(moved, monkeypatch) == first
    inner = moved / "include" / "ck_tile" / "inner.hpp"
    inner.write_text("constexpr int value = 22;\n")
    second = key_of(moved, monkeypatch)
    assert second != first
    inner.write_text('#include "ck_tile/deeper.hpp"\n')
    (inner.with_name("deeper.hpp")).write_text("constexpr int value = 3;\n")
    third = key_of(moved, monkeypatch)
    assert third not in (first, second)
    (inner.with_name("deeper.hpp")).write_text("constexpr int value = 444;\n")
    assert key_of(moved, monkeypatch) not in (first, second, third)
