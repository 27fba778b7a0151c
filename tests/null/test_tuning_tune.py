# SPDX-License-Identifier: MIT
"""The sweep with a fake measuring child: blame, resuming, interrupts, what is written when."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.cli.tune import tune as tune_command
from aiter_moe.codegen.cpu import REQUIRES
from aiter_moe.codegen.render import unit_name
from aiter_moe.codegen.unit import Artifact, BuildReport
from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.table import ConfigTable, Key
from aiter_moe.enums import ActivationType
from aiter_moe.errors import (
    ArgumentError,
    BuildError,
    ConfigError,
    LaunchError,
    UnsupportedProblemError,
)
from aiter_moe.plan import make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning import tune
from aiter_moe.tuning.candidates import candidates
from aiter_moe.tuning.child import ChildDied, ChildHung
from aiter_moe.tuning.measurer import Measurer
from aiter_moe.tuning.messages import candidate_from_json, problem_from_json
from aiter_moe.tuning.outcomes import CompileError, Fault, Ok, Timeout, Unsupported, WrongResult
from aiter_moe.tuning.peaks import Peaks
from aiter_moe.tuning.protocol import Protocol

FACTS = DeviceFacts("cpu", 2, frozenset().union(*REQUIRES.values()))
A16W4 = Problem(4, 256, 128, 8, 2, ActivationType.Silu, torch.bfloat16)
A4W4 = replace(A16W4, q_dtype_a=dtypes.fp4x2)


class Fleet:
    """Spawns fake children that share a script of what candidates do."""

    def __init__(self, behaviour=None):
        self.behaviour = behaviour or {}
        self.log = []
        self.asked = []
        self.spawned = 0
        self.alive = 0
        self.confirm_source = "tuned.csv:2"
        self.confirm_event = None

    def __call__(self):
        self.spawned += 1
        self.alive += 1
        return FakeChild(self)


class FakeChild:
    def __init__(self, fleet):
        self.fleet, self.prepared, self.open = fleet, False, True

    def ask(self, request, deadline_s, news=lambda m: None):
        assert self.open, "asked a child that is gone"
        request = json.loads(json.dumps(request))
        self.fleet.log.append(request["op"])
        return getattr(self, request["op"])(request, news)

    def prepare(self, request, news):
        self.prepared = True
        for done in range(request["layer"]["experts"]):
            news({"experts": done + 1})
        return {"computed": self.fleet.spawned == 1}

    def peaks(self, request, news):
        return {"bytes_per_s": 1e12, "a16w4_per_s": 1e15, "a4w4_per_s": 1e15}

    def check(self, request, news):
        return self._meet("check", request) or {"outcome": "Ok", "error": 0.001, "samples_ns": []}

    def time(self, request, news):
        found = self._meet("time", request)
        if found is not None:
            return found
        candidate = candidate_from_json(request["candidate"])
        cost = 1_000_000 + 1_000 * candidate.block_m + 100_000 * candidate.ksplit
        return {"ns": [cost] * request["calls"]}

    def confirm(self, request, news):
        problem = problem_from_json(request["problem"])
        assert self.prepared
        if self.fleet.confirm_event is not None:
            event, self.fleet.confirm_event = self.fleet.confirm_event, None
            self.close()
            raise event
        return {"error_l2": 0.002, "ns": 5000 * problem.token, "source": self.fleet.confirm_source,
                "kernels": ["a", "b"]}  # fmt: skip

    def _meet(self, op, request):
        assert self.prepared, "asked before the layer was prepared"
        self.fleet.asked.append((op, request["candidate"]))
        candidate = candidate_from_json(request["candidate"])
        action = self.fleet.behaviour.get((op, candidate))
        if isinstance(action, BaseException):
            if not isinstance(action, KeyboardInterrupt):
                self.close()
            raise action
        return action

    def close(self):
        if self.open:
            self.open = False
            self.fleet.alive -= 1


class Silent:
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def progress(self, what, done, total):
        assert 0 <= done <= total


@pytest.fixture(autouse=True)
def instant_builds(monkeypatch):
    """Kernels 'compile' at once; names in the returned set fail."""
    failing = set()

    def build_many(units):
        for unit in units:
            if unit.name in failing:
                yield BuildReport(unit, None, BuildError(f"{unit.name}: no"), False, 0.1)
            else:
                yield BuildReport(unit, Artifact(None, "k", {"compiler": "cc 1"}), None, True, 0.0)

    monkeypatch.setattr(tune, "build_many", build_many)
    return failing


def sweep(tmp_path, fleet, problems=(A16W4, A4W4), **changes):
    job = tune.Job(tuple(problems), tmp_path / "tuned.csv", FACTS,
                   protocol=Protocol(rounds=3), **changes)  # fmt: skip
    watcher = Silent()
    tuner = tune.Tuner(job, Measurer(fleet, tmp_path), watcher)
    return tuner, watcher


def listed(problem, stage):
    return [c for c in candidates(problem, FACTS) if c.stage == stage]


def test_a_sweep_writes_one_row_per_problem_and_then_runs_fused_moe(tmp_path):
    fleet = Fleet()
    tuner, _ = sweep(tmp_path, fleet)
    summary = tuner.run()
    rows = {r.key: r for r in read_tuned(tmp_path / "tuned.csv")}
    assert set(rows) == {Key.of(A16W4, FACTS), Key.of(A4W4, FACTS)}
    assert [c.problem for c in summary.confirmed] == [A16W4, A4W4]
    assert fleet.log[-2:] == ["confirm", "confirm"]
    assert fleet.alive == 0
    assert fleet.log.count("prepare") == 1  # one layer, two kinds


def test_what_a_sweep_writes_is_what_the_planner_then_chooses(tmp_path):
    sweep(tmp_path, Fleet())[0].run()
    table = ConfigTable.of(read_tuned(tmp_path / "tuned.csv"))
    for problem in (A16W4, A4W4):
        row = table.get(Key.of(problem, FACTS))
        plan = make_plan(problem, FACTS, table)
        assert (plan.stage1.name, plan.stage2.name) == (row.kernel1, row.kernel2)
        assert (plan.block_m, plan.ksplit) == (row.block_m, row.ksplit) == (16, plan.ksplit)
        assert plan.source.endswith(f"tuned.csv:{row.line}")


def test_every_compiled_kernel_is_tried_with_every_block_and_none_twice(tmp_path):
    fleet = Fleet()
    sweep(tmp_path, fleet, [A16W4])[0].run()
    tried = [json.dumps(c) for op, c in fleet.asked if op == "check"]
    assert len(set(tried)) == len(tried) < len(candidates(A16W4, FACTS))
    units = {(unit_name(c.instance), c.block_m) for c in candidates(A16W4, FACTS)}
    found = (candidate_from_json(json.loads(text)) for text in tried)
    assert {(unit_name(c.instance), c.block_m) for c in found} == units


def test_no_candidate_is_timed_before_it_was_right(tmp_path):
    fleet = Fleet()
    sweep(tmp_path, fleet, [A16W4])[0].run()
    checked = []
    for op, candidate in fleet.asked:
        if op == "check":
            checked.append(candidate)
        else:
            assert candidate in checked


@pytest.mark.parametrize(
    ("event", "outcome"),
    [(ChildDied("killed by SIGSEGV"), Fault), (ChildHung(3.0), Timeout)],
)
@pytest.mark.parametrize("op", ["check", "time"])
def test_a_lost_child_blames_one_candidate_and_the_sweep_goes_on(tmp_path, op, event, outcome):
    victim = listed(A16W4, 1)[1]
    fleet = Fleet({(op, victim): event})
    tuner, watcher = sweep(tmp_path, fleet)
    summary = tuner.run()
    assert [(p, t.candidate) for p, t in summary.rejected if p == A16W4] == [(A16W4, victim)]
    assert isinstance(summary.rejected[0][1].outcome, outcome)
    assert fleet.spawned == 2
    assert len(summary.written) == 2
    assert any(victim.instance.name in line for line in watcher.lines)


def test_every_other_candidate_may_die(tmp_path):
    victims = listed(A16W4, 1)[::2]
    fleet = Fleet({("check", v): ChildDied("killed by SIGSEGV") for v in victims})
    tuner, _ = sweep(tmp_path, fleet, [A16W4])
    summary = tuner.run()
    rejected = {t.candidate for _, t in summary.rejected}
    assert rejected and rejected <= set(victims)
    assert fleet.spawned == 1 + len(rejected)
    assert summary.written[0].kernel1 not in {v.instance.name for v in victims if v.ksplit == 1}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ({"outcome": "WrongResult", "error": 0.5, "reason": "off"}, WrongResult(0.5, "off")),
        ({"outcome": "Unsupported", "reason": "no"}, Unsupported("no")),
    ],
)
def test_a_wrong_or_refused_candidate_is_recorded_and_never_timed(tmp_path, reply, outcome):
    victim = listed(A16W4, 2)[0]
    fleet = Fleet({("check", victim): reply, ("time", victim): AssertionError("timed")})
    tuner, _ = sweep(tmp_path, fleet, [A16W4])
    assert [t.outcome for _, t in tuner.run().rejected] == [outcome]
    assert fleet.spawned == 1


def test_a_kernel_that_does_not_compile_is_not_run(tmp_path, instant_builds):
    unit = unit_name(listed(A16W4, 2)[0].instance)
    instant_builds.add(unit)
    victims = [c for c in listed(A16W4, 2) if unit_name(c.instance) == unit]
    fleet = Fleet({("check", victim): AssertionError("ran") for victim in victims})
    tuner, watcher = sweep(tmp_path, fleet, [A16W4, replace(A16W4, token=128)])
    summary = tuner.run()
    assert [line for line in watcher.lines if unit in line] == [f"{unit}: no"]
    assert {t.candidate for _, t in summary.rejected} <= set(victims)
    assert all(isinstance(t.outcome, CompileError) for _, t in summary.rejected)
    assert len(summary.written) == 2


def test_a_problem_without_a_right_kernel_is_reported_and_the_others_are_tuned(tmp_path):
    wrong = {"outcome": "WrongResult", "error": 1.0, "reason": "all wrong"}
    fleet = Fleet({("check", c): wrong for c in listed(A4W4, 1)})
    tuner, _ = sweep(tmp_path, fleet)
    summary = tuner.run()
    assert "all wrong" in summary.failed[A4W4]
    assert [r.key.problem() for r in summary.written] == [A16W4]
    assert [c.problem for c in summary.confirmed] == [A16W4]


def test_a_second_run_measures_nothing_and_still_shows_that_the_file_works(tmp_path):
    sweep(tmp_path, Fleet())[0].run()
    before = (tmp_path / "tuned.csv").read_bytes()
    fleet = Fleet()
    tuner, watcher = sweep(tmp_path, fleet)
    summary = tuner.run()
    assert fleet.log == ["prepare", "peaks", "confirm", "confirm"]
    assert summary.written == []
    assert "nothing to compile" in watcher.lines
    assert (tmp_path / "tuned.csv").read_bytes() == before
    assert len(tune.report_rows(tuner.job, summary.peaks)) == 2


def test_all_tunes_again(tmp_path):
    sweep(tmp_path, Fleet())[0].run()
    tuner, _ = sweep(tmp_path, Fleet(), again=True)
    assert len(tuner.run().written) == 2
    assert len(read_tuned(tmp_path / "tuned.csv")) == 2


def test_rows_of_other_templates_are_tuned_again(tmp_path):
    sweep(tmp_path, Fleet())[0].run()
    path = tmp_path / "tuned.csv"
    current = read_tuned(path)[0].template_hash
    path.write_text(path.read_text().replace(current, "0123456789abcdef"))
    tuner, watcher = sweep(tmp_path, Fleet())
    assert tune.report_rows(tuner.job, Peaks()) == []
    assert len(tuner.run().written) == 2
    assert any(line.startswith(f"2 rows of {path} are stale") for line in watcher.lines)
    tuner, watcher = sweep(tmp_path, Fleet())
    assert tuner.run().written == []
    assert not any("stale" in line for line in watcher.lines)


def test_an_interrupt_keeps_finished_problems_and_the_next_run_goes_on(tmp_path):
    always_tried, _ = tune.untuned_pair(A4W4, FACTS)
    fleet = Fleet({("check", always_tried): KeyboardInterrupt()})
    tuner, _ = sweep(tmp_path, fleet)
    with pytest.raises(KeyboardInterrupt):
        tuner.run()
    assert [r.key.problem() for r in read_tuned(tmp_path / "tuned.csv")] == [A16W4]
    assert [r.key.problem() for r in tuner.summary.written] == [A16W4]
    tuner.measurer.close()
    assert fleet.alive == 0
    again = Fleet()
    tuner, watcher = sweep(tmp_path, again)
    assert [r.key.problem() for r in tuner.run().written] == [A4W4]
    assert any(line.startswith("1 of 2 problems are already in") for line in watcher.lines)


def test_the_untuned_default_is_among_the_candidates_and_its_time_in_the_row(tmp_path):
    for problem in (A16W4, A4W4):
        default = tune.untuned_pair(problem, FACTS)
        assert set(default) <= set(candidates(problem, FACTS))
    summary = sweep(tmp_path, Fleet())[0].run()
    assert all(dict(row.extra)["us_untuned"] for row in summary.written)


def test_an_equal_incumbent_row_is_kept_when_tuning_again(tmp_path):
    sweep(tmp_path, Fleet(), [A16W4])[0].run()
    path = tmp_path / "tuned.csv"
    (row,) = read_tuned(path)
    other = next(
        c for c in listed(A16W4, 2)
        if c.block_m == row.block_m and c.instance.name != row.kernel2
    )  # fmt: skip
    path.write_text(path.read_text().replace(row.kernel2, other.instance.name))
    sweep(tmp_path, Fleet(), [A16W4], again=True)[0].run()
    assert read_tuned(path)[0].kernel2 == other.instance.name


def test_problems_of_one_layer_share_operands_whatever_their_order():
    other = replace(A16W4, experts=16)
    grouped = tune.by_layer([A16W4, other, A4W4, replace(A16W4, token=1)])
    assert [len(found) for found in grouped.values()] == [3, 1]


def test_a_child_that_cannot_prepare_blames_no_candidate(tmp_path):
    fleet = Fleet()

    class Dying(FakeChild):
        def prepare(self, request, news):
            self.close()
            raise ChildDied("killed by SIGKILL")

    measurer = Measurer(lambda: Dying(fleet), tmp_path)
    with pytest.raises(LaunchError, match=r"could not prepare .*SIGKILL.* no candidate"):
        measurer.prepare(tune.Layer.of(A16W4), 4)


def test_every_reply_of_a_lost_confirmation_is_an_outcome(tmp_path):
    fleet = Fleet()
    measurer = Measurer(fleet, tmp_path)
    measurer.prepare(tune.Layer.of(A16W4), 4)
    fleet.confirm_event = ChildDied("killed by SIGBUS")
    assert measurer.confirm(A16W4) == Fault("the process was killed by SIGBUS")
    fleet.confirm_event = ChildHung(2.0)
    assert measurer.confirm(A16W4) == Timeout(2.0)
    assert measurer.check(A16W4, listed(A16W4, 1)[0]) == Ok(0.001)
    assert measurer.respawns == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "gfx950", "shapes": "gptoss-20b"}, UnsupportedProblemError, "on the CPU alone"),
        ({"target": "tpu", "shapes": "gptoss-20b"}, ConfigError, "no target 'tpu'"),
        ({"shapes": "nothing"}, ConfigError, "no packaged shape file 'nothing'"),
        ({}, ArgumentError, "give either -i"),
        ({"untuned": Path("a.csv"), "shapes": "b"}, ArgumentError, "give either -i"),
        ({"untuned": Path("absent.csv")}, ConfigError, "absent.csv"),
    ],
)
def test_the_command_refuses_what_it_cannot_tune_before_anything_is_written(
    tmp_path, monkeypatch, arguments, error, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        tune_command(**arguments)
    assert list(tmp_path.iterdir()) == []
