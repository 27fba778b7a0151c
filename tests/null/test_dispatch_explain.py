# SPDX-License-Identifier: MIT
"""`explain` and ``aiter-moe lookup``: what was chosen, from where, and why not the others."""

from __future__ import annotations

import pytest
import typer
from planning import FACTS, KERNELS, name, problem, row, write_csv
from typer.testing import CliRunner

from aiter_moe.cli.lookup import lookup
from aiter_moe.enums import ActivationType
from aiter_moe.errors import ArgumentError
from aiter_moe.explain import explain
from aiter_moe.plan import make_plan
from aiter_moe.verdict import Overrides

APP = typer.Typer()
APP.command()(lookup)
GPT_OSS = [
    "--model-dim", "2880", "--inter-dim", "2880", "--expert", "32", "--topk", "4",
    "--act", "swiglu", "--bias", "--target", "gfx950",
]  # fmt: skip


@pytest.fixture
def table(tmp_path):
    rows = [
        row(problem()),
        row(problem(activation=ActivationType.Gelu)),
        row(problem(token=32, dtype=problem().dtype)),
        row(problem("a4w4"), kernel1="gone"),
        row(problem(inter_dim=128)),
    ]
    return str(write_csv(tmp_path / "tuned.csv", rows))


def test_every_row_of_the_shape_gets_a_verdict(table):
    found = explain(problem(), FACTS, config_file=table, kernels=KERNELS)
    assert dict(found.rows) == {
        f"{table}:2": "used",
        f"{table}:3": "act_type ActivationType.Gelu, not ActivationType.Silu",
        f"{table}:4": "token 32, not 16",
        f"{table}:5": "q_dtype_a torch.float4_e2m1fn_x2, not torch.bfloat16",
    }
    assert found.other_rows == 1
    assert found.files == (table,)
    assert f"source    {table}:2" in found.choice()


def test_a_stale_row_says_why(table):
    found = explain(problem("a4w4"), FACTS, config_file=table, kernels=KERNELS)
    assert (
        "its key matches, but no kernel gone in the catalogue of gfx950 (stale)"
        in dict(found.rows).values()
    )
    assert "re-tune with" in found.details()


def test_an_ignored_row_says_so(table):
    overrides = Overrides(ignore_rows=True)
    found = explain(problem(), FACTS, overrides, config_file=table, kernels=KERNELS)
    assert dict(found.rows)[f"{table}:2"] == "its key matches, but tuned rows are ignored"


def test_every_candidate_is_listed_or_counted_with_its_reason(table):
    found = explain(problem(), FACTS, config_file=table, kernels=KERNELS)
    details = found.details()
    assert {i.name for i in found.running} == {
        i.name for i in KERNELS.instances if problem().supports(i)
    }
    assert name("a16w4", 1, 16) in details
    assert "not activation Silu, the kernel fuses Gelu: 8 kernels" in details
    assert "not the problem is a16w4, the kernel is a4w4" in details


def test_the_explanation_is_the_dispatch(table):
    from aiter_moe.configs.lookup import stamps, table_of

    for of in (problem(), problem("a4w4"), problem(token=1)):
        plan = make_plan(of, FACTS, table_of(stamps(table)), None, KERNELS)
        assert explain(of, FACTS, config_file=table, kernels=KERNELS).plan == plan


def test_an_unsupported_problem_is_explained_too():
    found = explain(problem(inter_dim=100), FACTS, kernels=KERNELS)
    assert found.plan is None
    assert "inter_dim 100" in found.choice()
    assert "not inter_dim 100" in found.details()


def test_the_command_prints_kernels_block_split_and_source():
    few = CliRunner().invoke(APP, ["--token", "16", "--kind", "a4w4", *GPT_OSS])
    assert "source    rule: up to 16 tokens without a sort" in few.output
    result = CliRunner().invoke(APP, ["--token", "32", "--kind", "a4w4", *GPT_OSS])
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines()[4:])
    assert lines == {
        "block_m": "64", "ksplit": "0", "source": "rule: a4w4 takes block_m 64",
    }  # fmt: skip
    assert "aiter_moe_gfx950_a4w4_s1_swiglu_m64" in result.output
    assert "reasons:" not in result.output


def test_the_command_explains():
    result = CliRunner().invoke(APP, ["--token", "200", "--explain", *GPT_OSS])
    assert result.exit_code == 0, result.output
    assert "problem   a16w4, Swiglu" in result.output
    for heading in ("reasons:", "files searched: none", "rows of this shape: 0", "stage 2: "):
        assert heading in result.output


def test_the_command_fails_with_reasons_where_nothing_runs():
    result = CliRunner().invoke(
        APP, ["--token", "16", *GPT_OSS[:2], "--inter-dim", "100", *GPT_OSS[4:]]
    )
    assert result.exit_code == 1
    assert "nearest supported problem: inter_dim padded to 128" in result.output


@pytest.mark.parametrize("option", [("--act", "relu"), ("--dtype", "bf8")])
def test_a_wrong_option_is_named(option):
    result = CliRunner().invoke(APP, ["--token", "16", *GPT_OSS, *option])
    assert isinstance(result.exception, ArgumentError)
    assert option[0] in str(result.exception)
    assert option[1] in str(result.exception)
