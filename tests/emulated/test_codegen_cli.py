# SPDX-License-Identifier: MIT
"""The command ``aiter-moe build`` over real catalogues and compilers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from codegen_fakes import SPILLING, fake_compiler
from typer.testing import CliRunner, Result

from aiter_moe.cli.build import build, select
from aiter_moe.codegen import render as render_module
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.render import unit_name
from aiter_moe.codegen.toolchain import compiler_for
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.enums import Kind
from aiter_moe.errors import ArgumentError, CacheError, ToolchainError

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs the command with a cache of the test's own."""
    app = typer.Typer()
    app.command()(build)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--cache-dir", str(tmp_path / "cache")])

    return invoke


@pytest.fixture
def gpu() -> str:
    """Return the name of the first gfx950 kernel, where a device compiler is there."""
    try:
        compiler_for("gfx950")
    except ToolchainError as error:
        pytest.skip(str(error))
    return catalogue("gfx950")[0].name


def test_a_gpu_kernel_is_built_and_its_figures_printed_then_cached(run: Run, gpu: str) -> None:
    first = run("--target", "gfx950", "--name", gpu + "*", "--jobs", "1")
    assert first.exit_code == 0, first.output
    heading, *lines = first.output.splitlines()
    line = next(line for line in lines if gpu in line)
    assert any(line.endswith("aiter_moe_gfx950_steps") for line in lines)
    assert heading.split() == [
        "seconds", "vgpr", "agpr", "sgpr", "lds", "scratch", "spills", "waves/simd", "name",
    ]  # fmt: skip
    cells = line.split()
    assert re.fullmatch(r"\d+\.\d\d", cells[0])
    assert int(cells[1]) > 0 and cells[-1].startswith(gpu)
    assert (cells[5], cells[6]) == ("0", "0")
    assert len(heading) == len(line) - len(cells[-1]) + len("name")
    assert " 0 failed, 0 with spills" in first.output
    second = run("--target", "gfx950", "--name", gpu + "*")
    assert all(line.split()[0] == "cached" for line in second.output.splitlines()[1:3])
    assert "0 compiled" in second.output


def test_a_plan_lists_keys_and_compiles_nothing(run: Run, gpu: str, tmp_path: Path) -> None:
    listed = run("--target", "gfx950", "--plan")
    assert listed.exit_code == 0
    *lines, total, note = listed.output.splitlines()
    assert len(lines) == 1 + len(catalogue("gfx950"))
    assert all(re.match(r"[0-9a-f]{16}  to build  aiter_moe_gfx950_", line) for line in lines)
    assert total == f"{len(lines)} kernels: {len(lines)} to build, 0 cached"
    assert "CK-tile kernels" in note
    assert not (tmp_path / "cache").exists()
    run("--target", "gfx950", "--name", gpu)
    again = run("--target", "gfx950", "--name", gpu, "--plan").output.splitlines()
    assert "  cached    " in again[0]


def test_a_spill_is_named_and_fails_the_command(
    run: Run, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spilling = BuildUnit("spilling_kernel", "gfx950", "k.hip", SPILLING)
    monkeypatch.setattr(render_module, "render", lambda _: spilling)
    result = run("--target", "gfx950", "--name", gpu)
    assert result.exit_code == 1
    assert re.search(r"spilling_kernel: \w+ spills \d+ registers, \d+ bytes", result.output)
    assert " 0 with spills" not in result.output


def test_a_failure_is_printed_and_the_other_kernels_are_built(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path / "bin" / "g++").path))
    units = iter(
        [BuildUnit("good", "cpu", "g.cpp", "int x;\n"), BuildUnit("bad", "cpu", "b.cpp", "BAD\n")]
    )
    monkeypatch.setattr(render_module, "render", lambda _: next(units))
    plain = {unit_name(i): i for i in catalogue("cpu") if not i.tile.requires}
    two = list(plain.values())[:2]
    monkeypatch.setattr("aiter_moe.codegen.catalogue.catalogue", lambda target: two)
    result = run("--target", "cpu")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert any(re.match(r" +\d+\.\d\d +\d+  good$", line) for line in lines)
    assert "  FAILED  bad" in lines
    assert "bad does not compile with g++ (Fake) 13.1.0" in result.output
    assert "3 kernels in" in result.output and "2 compiled, 0 cached, 1 failed" in result.output


def test_a_cpu_kernel_is_built_with_the_support_library(run: Run) -> None:
    instance = next(i for i in catalogue("cpu") if not i.tile.requires)
    result = run("--target", "cpu", "--name", instance.name)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0].split() == ["seconds", "bytes", "name"]
    assert "aiter_moe_cpu_runtime" in result.output
    assert unit_name(instance) in result.output


def test_filters_select_from_the_catalogue() -> None:
    everything = select("cpu")
    assert tuple(everything) == catalogue("cpu")
    some = select("cpu", Kind.A4W4, 2, "m64")
    assert some
    assert all((i.kind, i.stage, i.block_m) == (Kind.A4W4, 2, 64) for i in some)
    one = unit_name(everything[0])
    assert select("cpu", name=one) == [i for i in everything if unit_name(i) == one]
    plain = select("cpu", features=frozenset())
    assert plain and all(not i.tile.requires for i in plain)
    assert select("cpu", name="*_m16_*") == [i for i in everything if i.block_m == 16]


def test_filters_that_leave_nothing_are_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"no kernel of cpu matches .*name nothing"):
        select("cpu", name="nothing")


def test_an_unwritable_cache_folder_is_one_error_that_names_the_option(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("in the way")
    name = next(i.name for i in catalogue("cpu") if not i.tile.requires)
    result = run("--target", "cpu", "--name", name)
    assert isinstance(result.exception, CacheError)
    assert "named by --cache-dir" in str(result.exception)
