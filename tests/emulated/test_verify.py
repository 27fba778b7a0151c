# SPDX-License-Identifier: MIT
"""verify on real kernels: right ones pass on the CPU and in the emulator, spoilt ones never do."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import pytest
import torch

from aiter_moe.cli import main
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.instance import Output
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.targets.base import Launcher
from aiter_moe.targets.registry import Target, executing_target
from aiter_moe.verify.controls import controls_of, run_control
from aiter_moe.verify.execute import make_ready, run_case
from aiter_moe.verify.machine import Machine, machine_of
from aiter_moe.verify.passes import passes_of, run_pass
from aiter_moe.verify.problems import Padding, Scales, Size, Spread, StageCase, axes_of

HARD = {
    "size": Size(512, 192), "tokens": 17, "topk": 4, "bias": True, "doweight": True,
    "padding": Padding.BOTH, "spread": Spread.MASKED, "scales": Scales.EXTREME,
}  # fmt: skip


PLAIN = {1: Output.BF16, 2: Output.ROWS}


def instance_of(target, kind, stage, split_k=False, output=None):
    """A kernel of the smallest block that runs on any machine and leaves plain rows."""
    activation = ActivationType.Swiglu if stage == 1 else None
    wanted = (kind, stage, split_k, 16, activation, output or PLAIN[stage])
    return next(
        i for i in catalogue(target)
        if (i.kind, i.stage, i.split_k, i.block_m, i.activation, i.tile.output) == wanted
        and not i.tile.requires
    )  # fmt: skip


def case_of(instance, **changes):
    values = {axis.name: axis.values[0] for axis in axes_of(instance)} | HARD | changes
    return StageCase(instance=instance, seed=11, **values)


@pytest.fixture(params=["cpu", "gfx950"])
def target(request):
    if request.param != "cpu":
        request.getfixturevalue("gfx950_compiler")
    return request.param


@pytest.fixture(scope="module")
def machines():
    made = {}

    def machine(target):
        if target not in made:
            made[target] = machine_of(executing_target(target))
        return made[target]

    return machine


@pytest.mark.parametrize("spread", [Spread.MASKED, Spread.LOCAL, Spread.ONE])
@pytest.mark.parametrize(
    ("kind", "stage", "split_k"),
    [(Kind.A16W4, 1, False), (Kind.A16W4, 1, True), (Kind.A4W4, 1, False), (Kind.A16W4, 2, False),
     (Kind.A4W4, 2, False)],
)  # fmt: skip
def test_right_kernels_pass(machines, target, kind, stage, split_k, spread):
    case = case_of(instance_of(target, kind, stage, split_k), spread=spread)
    outcome = run_case(make_ready(case, 0), machines(target))
    assert outcome.right, (outcome.reasons, outcome.faults)
    assert 0 < outcome.error < 4e-3
    assert bool(outcome.figures.instructions) is (target != "cpu")


@pytest.mark.usefixtures("gfx950_compiler")
@pytest.mark.parametrize("spread", [Spread.MASKED, Spread.LOCAL])
@pytest.mark.parametrize(
    ("kind", "stage", "output"),
    [(Kind.A4W4, 1, Output.FP4), (Kind.A4W4, 2, Output.ATOMIC), (Kind.A16W4, 2, Output.ATOMIC),
     (Kind.A4W4, 2, Output.FINAL), (Kind.A16W4, 2, Output.FINAL)],
)  # fmt: skip
def test_every_output_is_judged(machines, kind, stage, output, spread):
    instance = instance_of("gfx950", kind, stage, output=output)
    case = case_of(instance, spread=spread, tokens=7 if instance.tile.direct else 17)
    outcome = run_case(make_ready(case, 0), machines("gfx950"))
    assert outcome.right, (outcome.reasons, outcome.faults)
    assert outcome.worst <= 1


def test_no_token_for_this_rank_is_nothing_to_compute_and_nothing_written(machines, target):
    case = case_of(instance_of(target, Kind.A4W4, 2), tokens=1, spread=Spread.LOCAL)
    assert case.local_tokens == 0
    assert run_case(make_ready(case, 0), machines(target)).right


@dataclass
class Spoiling:
    """A launcher that changes the output after the kernel, or what the kernel may touch before."""

    inner: Launcher
    spoil: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def run_stage(self, instance, args, tensors):
        out = next(t for t in tensors if t.data_ptr() == args.out)
        if self.spoil == "fewer bytes":
            weights = next(t for t in tensors if t.data_ptr() == args.w)
            shorter = weights.flatten()[: weights.numel() // 2]
            tensors = [shorter if t is weights else t for t in tensors]
        self.inner.run_stage(instance, args, tensors)
        if callable(self.spoil):
            self.spoil(out)


def spoilt(machine, spoil):
    launcher = Spoiling(machine.launcher, spoil)
    target = machine.target
    made = Target(target.name, target.facts, lambda: launcher, target.device)
    return Machine(made, machine.choose_order, machine.drain)


def one_element(out):
    row = out[torch.nonzero(~out.isnan().any(1))[0, 0]]
    row[row.abs().argmax()] *= 1.02


def one_nan(out):
    out[torch.nonzero(~out.isnan().any(1))[0], 5] = torch.nan


def a_foreign_row(out):
    out[torch.nonzero(out.isnan().all(1))[0]] = 0.0


def past_the_columns(out):
    out.as_strided((1, out.shape[1] + 1), out.stride())[0, -1] = 0.0


def past_the_rows(out):
    out.as_strided((out.shape[0] + 1, 1), out.stride())[-1] = 0.0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_element, "elements are off by more than allowed"),
        (one_nan, "rows hold NaN"),
        (a_foreign_row, "1 rows that are not computed here were written"),
        (past_the_columns, "1 elements outside the output were written"),
        (past_the_rows, "1 elements outside the output were written"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("stage", [1, 2])
def test_an_output_spoilt_after_the_kernel_is_found(machines, stage, spoil, words):
    ready = make_ready(case_of(instance_of("cpu", Kind.A16W4, stage)), 0)
    outcome = run_case(ready, spoilt(machines("cpu"), spoil))
    assert words in outcome.reasons[-1]
    assert not outcome.right


@pytest.mark.usefixtures("gfx950_compiler")
def test_a_kernel_that_reaches_past_its_memory_has_a_fault_with_its_text(machines):
    ready = make_ready(case_of(instance_of("gfx950", Kind.A4W4, 2), spread=Spread.RANDOM), 0)
    outcome = run_case(ready, spoilt(machines("gfx950"), "fewer bytes"))
    assert not outcome.right
    assert "buffer_out_of_range" in outcome.faults[0]
    assert "buffer_load" in outcome.faults[0]


def test_every_wrong_layout_is_far_from_the_reference(machines, target):
    instances = [i for i in catalogue(target) if not i.tile.requires]
    controls = [run_control(what, i, 0, machines(target)) for what, i in controls_of(instances)]
    assert len(controls) == 2 * 5 + 2 * 4
    assert all(control.caught for control in controls), controls
    assert all(control.outcome.error < 3 and not control.outcome.faults for control in controls)


@pytest.mark.usefixtures("gfx950_compiler")
def test_a_whole_pass_agrees_with_float64_and_with_the_cpu_target(machines):
    what = next(p for p in passes_of(frozenset(Kind)) if p.name.endswith("TP8 a4w4 requantised"))
    outcome = run_pass(what, 1, 0, machines("gfx950"))
    assert outcome.right, (outcome.reasons, outcome.faults)
    assert outcome.notes["from_cpu_target"] < 4e-3


@pytest.mark.usefixtures("gfx950_compiler")
def test_the_command_verifies_a_kernel_and_writes_what_it_found(monkeypatch, capsys, tmp_path):
    name = instance_of("gfx950", Kind.A4W4, 2).name
    path = tmp_path / "found.json"
    arguments = ["verify", "--target", "gfx950", "-k", name, "--json", str(path), "--seed", "3"]
    monkeypatch.setattr(sys, "argv", ["aiter-moe", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr()
    found = json.loads(path.read_text())
    (kernel,) = found["kernels"]
    assert kernel["right"] and kernel["figures"]["classes"]["mfma"] > 0
    assert len(kernel["cases"]) > 20
    assert kernel["resources"]["spills"] == 0
