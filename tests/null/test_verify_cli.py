# SPDX-License-Identifier: MIT
"""``aiter-moe verify``: selection, exit statuses, tables and the JSON file, with nothing compiled.

Kernels do not run here: what became of each case is made up.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from aiter_moe.cli import main
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.unit import Artifact, BuildReport
from aiter_moe.configs.table import Key, Row
from aiter_moe.configs.writer import write_rows
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import BuildError
from aiter_moe.problem import Q_DTYPE_A, Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.targets.emulator_report import InstructionClass
from aiter_moe.verify import sweep
from aiter_moe.verify.controls import Control
from aiter_moe.verify.figures import Figures
from aiter_moe.verify.machine import Machine
from aiter_moe.verify.outcome import Outcome

KERNEL = "aiter_moe_gfx950_a16w4_s1_silu_m16_n64k256_w2d2_nt"
RESOURCES = {
    "vgprs": 144, "agprs": 0, "sgprs": 75, "lds_bytes": 24576, "scratch_bytes": 0,
    "vgpr_spills": 0, "sgpr_spills": 0, "waves_per_simd": 3,
}  # fmt: skip
NAN = float("nan")


def figures():
    counters = {
        "instructions": 2_000_000, "lds_cycles": 400, "lds_conflict_cycles": 100,
        "vmem_lines": 200, "vmem_ideal_lines": 150, "vmem_load_bytes": 3_000_000,
        "peak_vector_requests": 38,
    }  # fmt: skip
    found = Figures(launches=1, cpu_seconds=0.1)
    found.counters.update(counters)
    found.classes.update({InstructionClass.mfma.name: 1500, InstructionClass.valu.name: 990_000})
    found.mnemonics.update({"v_mfma_f32_16x16x32_bf16": 1500})
    return found


class Fakes:
    """What the sweep is given in place of compilers and devices."""

    def __init__(self) -> None:
        self.outcome = lambda case: Outcome(str(case), 2e-3, 0.9, figures=figures())
        self.broken: set[str] = set()
        self.ran: list = []
        self.departures: tuple[str, ...] = ()

    def build_many(self, units):
        for unit in units:
            if unit.name in self.broken:
                yield BuildReport(unit, None, BuildError(f"{unit.name} does not compile"), False, 0)
            else:
                facts = {"compiler": "clang 22", "resources": {"kernels": [RESOURCES]}}
                yield BuildReport(unit, Artifact(None, "key", facts), None, True, 0.0)

    def overlapped(self, cases, seed, machine):
        for case in cases:
            self.ran.append(case)
            yield case, self.outcome(case)

    def run_pass(self, what, tokens, seed, machine):
        return Outcome(f"tokens {tokens}", 1.7e-3, 0.5, figures=figures())


@pytest.fixture
def fakes(monkeypatch):
    made = Fakes()
    for name in ("build_many", "overlapped", "run_pass"):
        monkeypatch.setattr(sweep, name, getattr(made, name))
    monkeypatch.setattr(sweep, "departures", lambda instance, kernels: made.departures)
    monkeypatch.setattr(sweep, "machine_of", lambda target, **options: Machine(target))
    monkeypatch.setattr(
        sweep, "run_control",
        lambda what, instance, seed, machine: Control(
            what, instance.name, Outcome("a case", 1.4, NAN, ("wrong",))
        ),
    )  # fmt: skip
    return made


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command; return its exit status, and what it printed to stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["aiter-moe", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_green_catalogue_ends_with_status_0_and_a_line_for_every_kernel_and_pass(fakes, command):
    status, out, _ = command("--target", "gfx950")
    assert status == 0
    for instance in catalogue("gfx950"):
        assert f"\n{instance.name.removeprefix('aiter_moe_gfx950_')} " in out
    for way in ("a16w4", "a4w4 requantised", "a4w4 skip_inter_quant"):
        for model in ("gpt-oss", "MiniMax-M2 TP8"):
            assert f"\nfused_moe {model} {way} " in out
    assert {case.instance for case in fakes.ran} == set(catalogue("gfx950"))
    last = out.splitlines()[-1]
    assert (
        f"{len(catalogue('gfx950'))} kernels and 6 passes" in last and "all right, 0 faults" in last
    )
    assert "20 M/s a core" in last


def test_the_tables_have_resources_and_counters(fakes, command):
    _, out, _ = command("-k", KERNEL)
    lines = [line.split() for line in out.splitlines()]
    name = KERNEL.removeprefix("aiter_moe_gfx950_")
    results, counters = (line for line in lines if line[:1] == [name])
    cases = str(len(fakes.ran))
    assert results[:5] == [name, cases, "2.0e-03", "90%", "0"]
    assert results[5:11] == ["144", "0", "75", "24576", "0", "3"]
    assert results[-1] == "ok"
    assert counters[5] == "25%"  # LDS cycles lost to conflicts
    assert counters[9] == "75%"  # coalesced
    assert counters[-1] == "38"  # peak loads in flight


def test_one_wrong_case_ends_with_status_1_and_is_named_with_its_reason(fakes, command):
    wrong = []

    def outcome(case):
        if not wrong and case.tokens == 17:
            wrong.append(str(case))
            return Outcome(str(case), NAN, NAN, ("3 of 17 rows hold NaN or infinity",))
        return Outcome(str(case), 2e-3, 0.9)

    fakes.outcome = outcome
    status, out, _ = command("-k", KERNEL)
    assert status == 1
    assert f"{KERNEL}, {wrong[0]}\n    3 of 17 rows hold NaN" in out
    assert " NaN " in out and "WRONG" in out
    assert "1 WRONG" in out.splitlines()[-1]


def test_a_fault_alone_makes_a_case_wrong(fakes, command):
    fault = "lds_race at 0x40 'ds_read_b128'"
    fakes.outcome = lambda case: Outcome(str(case), 2e-3, 0.9, faults=(fault,))
    status, out, _ = command("-k", KERNEL)
    assert status == 1
    assert fault in out


def test_a_kernel_that_does_not_compile_is_wrong_and_the_others_go_on(fakes, command):
    fakes.broken.add(KERNEL)
    status, out, _ = command("-k", "*_a16w4_s1_silu_m16_*")
    assert status == 1
    assert f"{KERNEL} does not compile" in out
    sound = [i.name for i in catalogue("gfx950") if "_a16w4_s1_silu_m16_" in i.name]
    assert {case.instance.name for case in fakes.ran} == set(sound) - {KERNEL}


def test_a_binary_that_departs_from_its_instance_is_wrong(fakes, command):
    fakes.departures = ("1024 bytes of LDS, 24576 were expected",)
    status, out, _ = command("-k", KERNEL)
    assert status == 1
    assert "1024 bytes of LDS, 24576 were expected" in out
    assert not fakes.ran


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupt_prints_what_was_done(fakes, command):
    def outcome(case):
        if len(fakes.ran) == 5:
            raise KeyboardInterrupt
        return Outcome(str(case), 2e-3, 0.9)

    fakes.outcome = outcome
    status, out, _ = command("-k", KERNEL)
    assert status == 130
    assert "interrupted" in out
    assert " 4 of " in out
    assert "4 cases: all right so far" in out
    fakes.outcome = lambda _: interrupt()
    _, out, _ = command("-k", KERNEL)
    assert "0 cases: nothing was run" in out
    assert "all right" not in out


def test_what_is_not_supported_is_counted_with_the_reason(fakes, command):
    _, out, _ = command("-k", "*_a16w4_s1_silu_m16_n64*splitk")
    assert "pairs of values: ksplit 8 leaves a part of model_dim 512 without a K block" in out


def test_kernels_that_this_machine_cannot_run_are_counted(fakes, command, monkeypatch):
    monkeypatch.setenv("AITER_MOE_CPU_ISA", "portable")
    status, out, _ = command("--target", "cpu")
    assert status == 0
    assert "kernels: the device lacks avx2, avx512" in out
    assert not any(case.instance.tile.requires for case in fakes.ran)


def test_the_product_is_walked_in_full(fakes, command, monkeypatch):
    kept = {"topk", "ksplit", "bias"}
    shortened = sweep.axes_of
    monkeypatch.setattr(
        sweep, "axes_of",
        lambda instance: tuple(
            axis if axis.name in kept else axis._replace(values=axis.values[:1])
            for axis in shortened(instance)
        ),
    )  # fmt: skip
    status, out, _ = command("--full", "-k", "*_a16w4_s1_silu_m16_n64*splitk")
    assert status == 0
    ran = {(case.topk, case.ksplit, case.bias) for case in fakes.ran}
    assert len(fakes.ran) == len(ran) == 3 * 2 * 2  # 512 holds two blocks: ksplit 1 and 2
    assert "18 combinations" not in out
    assert "6 combinations: ksplit 8 leaves a part" in out


def test_the_json_file_has_everything(fakes, command, tmp_path):
    path = tmp_path / "new" / "found.json"
    status, _, _ = command("-k", KERNEL, "--json", path, "--self-test", "--seed", 7)
    found = json.loads(path.read_text())
    assert status == 0
    assert (found["target"], found["seed"], found["green"]) == ("gfx950:emulator", 7, True)
    (kernel,) = found["kernels"]
    assert kernel["resources"]["vgprs"] == 144
    assert kernel["figures"]["mnemonics"]["v_mfma_f32_16x16x32_bf16"] == 1500 * len(fakes.ran)
    assert kernel["figures"]["counters"]["peak_vector_requests"] == 38
    assert [case["case"] for case in kernel["cases"]] == [str(case) for case in fakes.ran]
    assert {c["control"] for c in found["controls"]} >= {"codes not shuffled"}


def test_nan_is_null_in_the_json_file(fakes, command, tmp_path):
    fakes.outcome = lambda case: Outcome(str(case), NAN, NAN, ("nothing came",))
    command("-k", KERNEL, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["green"] is False
    assert found["kernels"][0]["cases"][0]["error"] is None


def test_a_control_that_is_not_caught_ends_with_status_1(fakes, command, monkeypatch):
    monkeypatch.setattr(
        sweep, "run_control",
        lambda what, instance, seed, machine: Control(
            what, instance.name, Outcome("a case", 0.01, 0.5)
        ),
    )  # fmt: skip
    status, out, _ = command("-k", KERNEL, "--self-test")
    assert status == 1
    assert "NOT CAUGHT" in out


def row_for(kernel1, kernel2=""):
    problem = Problem(
        token=1, model_dim=2880, inter_dim=2880, experts=32, topk=4,
        activation=ActivationType.Silu, q_dtype_a=Q_DTYPE_A[Kind.A16W4],
    )  # fmt: skip
    key = Key.of(problem, DeviceFacts("gfx950", 256))
    return Row(key=key, block_m=16, ksplit=1, kernel1=kernel1, kernel2=kernel2)


def test_a_csv_limits_the_kernels_to_those_its_rows_name(fakes, command, tmp_path):
    second = next(i.name for i in catalogue("gfx950") if i.stage == 2)
    rows = [row_for(KERNEL, second)]
    rows.append(replace(rows[0], key=replace(rows[0].key, token=2), kernel2=""))
    write_rows(tmp_path / "tuned.csv", rows)
    status, out, _ = command("--csv", tmp_path / "tuned.csv")
    assert status == 0
    assert {case.instance.name for case in fakes.ran} == {KERNEL, second}
    assert "fused_moe" not in out


def test_what_cannot_be_used_ends_with_status_2_before_anything_is_built(
    fakes, command, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweep, "build_many", lambda units: pytest.fail("something was built"))
    write_rows(tmp_path / "other.csv", [row_for("aiter_moe_gfx950_nothing")])
    write_rows(tmp_path / "unnamed.csv", [row_for("")])
    for arguments, words in (
        (["--target", "tpu"], "no target 'tpu'"),
        (["-k", "no_such_kernel"], "no kernel and no pass of gfx950:emulator matches"),
        (["--csv", tmp_path / "other.csv"], "other.csv:2: target gfx950 has no kernel aiter_moe"),
        (["--csv", tmp_path / "unnamed.csv"], "no row names a kernel"),
        (["--csv", tmp_path / "missing.csv"], "cannot be read"),
        (["--json", tmp_path], "cannot be written: Is a directory"),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (2, ""), arguments
        assert words in err and err.count("\n") == 1
    for arguments in (["--seed", "-1"], ["--nope"]):
        assert command(*arguments)[0] == 2


def test_the_filter_takes_patterns_and_parts_of_names_and_may_be_repeated(fakes, command):
    command("-k", "a4w4_s2_m64", "--filter", "*_a4w4_s2_m128_*", "--kernel", "fused_moe gpt-oss*")
    names = {case.instance.name for case in fakes.ran}
    assert {i.block_m for i in catalogue("gfx950") if i.name in names} == {64, 128}
    assert all("_a4w4_s2_" in name for name in names)


def test_a_pattern_may_begin_as_the_names_in_the_table_do(fakes, command):
    command("-k", "a4w4_s2_m64_*")
    names = {case.instance.name for case in fakes.ran}
    assert names == {i.name for i in catalogue("gfx950") if "_a4w4_s2_m64_" in i.name}
