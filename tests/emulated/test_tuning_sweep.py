# SPDX-License-Identifier: MIT
"""Real sweeps on this CPU: compiled, checked, timed, written, used; and kernels that misbehave."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from aiter_moe import dtypes, env
from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cache import write_manifest
from aiter_moe.codegen.catalogue import by_name
from aiter_moe.codegen.render import render, unit_name
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.table import Key
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.problem import Problem
from aiter_moe.targets.registry import running_target
from aiter_moe.tuning import tune
from aiter_moe.tuning.child import Child
from aiter_moe.tuning.measurer import Measurer, deadline_s
from aiter_moe.tuning.outcomes import Fault, Ok, Timeout, WrongResult
from aiter_moe.tuning.protocol import Protocol

A16W4 = Problem(8, 160, 96, 6, 2, ActivationType.Swiglu, torch.bfloat16, has_bias=True)
A4W4 = replace(A16W4, q_dtype_a=dtypes.fp4x2)
HANG_S = 12.0

ENTRY = """
#include "common/stage_args.h"
using aiter_moe::StageArgs;
#define API extern "C" __attribute__((visibility("default")))
API long aiter_moe_scratch_bytes(const StageArgs*) {{ return 64; }}
API int aiter_moe_phases(const StageArgs*) {{ return 1; }}
API long aiter_moe_items(const StageArgs*, int) {{ return 1; }}
API int aiter_moe_args_size(void) {{ return (int)sizeof(StageArgs); }}
API void aiter_moe_run(const StageArgs* args, int, long, long, int) {{ {body} }}
"""
FAULTS = {
    "segfault": "*(volatile int*)8 = 1;",
    "hang": "for (volatile int i = 0;; ) { i = 0; }",
    "nothing": "",
    "trap": "__builtin_trap();",
    "zero": "for (long i = 0; i < (long)args->tokens * args->topk * args->out_stride; ++i)"
            " ((unsigned short*)args->out)[i] = 0;",
}  # fmt: skip


def plant(instance, fault):
    """Replace the cached artifact of `instance` by a compiled kernel that misbehaves."""
    victim = ensure(render(instance))
    source = ENTRY.format(body=FAULTS[fault])
    bad = ensure(BuildUnit(f"fault_{fault}", "cpu", f"{fault}.cpp", source, ("-Wno-psabi",)))
    shutil.copyfile(bad.path, victim.path)
    write_manifest(victim.path.parent, victim.path.name, dict(victim.manifest))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """A cache of healthy kernels, filled by the first sweep that needs them."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def cache(tmp_path, kernels, monkeypatch):
    """A copy of the healthy cache, free to be damaged."""
    shutil.copytree(kernels, tmp_path / "kernels", dirs_exist_ok=True)
    monkeypatch.setenv(env.CACHE_DIR.name, str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@pytest.fixture
def few(monkeypatch):
    """Candidates of one block size, of all instruction sets this CPU has: a faulty kernel leaves
    others. Defaults still join."""
    listed = tune.candidates
    monkeypatch.setattr(
        tune,
        "candidates",
        lambda p, f, a=False: [c for c in listed(p, f, True) if c.block_m == 16],
    )


def kernels_of(listed, stage):
    """Return one instance of each compiled kernel of a stage."""
    found = {unit_name(c.instance): c.instance for c in listed if c.stage == stage}
    if len(found) < 3:
        pytest.skip(f"this CPU runs {len(found)} kernels a stage: no third one to be left over")
    return list(found.values())


class Lines:
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    def progress(self, what, done, total):
        pass


def spawner(output):
    changes = {env.TARGET: "cpu", env.CONFIG: str(output), env.THREADS: "2"}

    def spawn():
        command = [sys.executable, "-m", "aiter_moe.tuning.worker", "cpu"]
        return Child(command, env.child_environment(changes))

    return spawn


def tuner_for(tmp_path, problems, deadline=deadline_s, **plan):
    output = tmp_path / "tuned.csv"
    facts = replace(running_target("cpu").facts, cu_num=2)
    protocol = Protocol(**({"rounds": 3, "sample_ns": 1e5} | plan))
    job = tune.Job(tuple(problems), output, facts, protocol=protocol)
    return tune.Tuner(job, Measurer(spawner(output), tmp_path, deadline=deadline), Lines())


def keep(cache, kernels):
    """Let later tests start from what this one compiled."""
    shutil.copytree(cache, kernels, dirs_exist_ok=True)


def test_a_sweep_ends_in_rows_that_fused_moe_uses_and_compiles_nothing_the_second_time(
    tmp_path, cache, kernels, few
):
    tuner = tuner_for(tmp_path, [A16W4, A4W4])
    summary = tuner.run()
    keep(cache, kernels)
    assert summary.rejected == []
    assert {r.key for r in summary.written} == {Key.of(p, tuner.job.facts) for p in (A16W4, A4W4)}
    for row in read_tuned(tuner.job.output):
        assert 0 < row.err1 <= 4e-3
        assert 0 < row.err2 <= 4e-3
        assert row.us1 > 0
        assert row.us2 > 0
    assert [c.problem for c in summary.confirmed] == [A16W4, A4W4]
    for confirmed in summary.confirmed:
        assert confirmed.source.startswith(str(tuner.job.output))
        assert confirmed.error <= 4e-3
    again = tuner_for(tmp_path, [A16W4, A4W4])
    again.job = replace(again.job, again=True)
    second = again.run()
    assert second.compiled == 0
    assert second.cached > 0
    assert len(second.written) == 2


def test_kernels_that_crash_hang_or_write_nothing_are_each_blamed_alone(
    tmp_path, cache, kernels, few
):
    def patient_with_the_healthy(problem, calls):
        return HANG_S

    tuner = tuner_for(tmp_path, [A16W4], patient_with_the_healthy)
    listed = tune.candidates(A16W4, tuner.job.facts)
    tuner.build(c.instance for c in listed)
    keep(cache, kernels)
    first, second = kernels_of(listed, 1), kernels_of(listed, 2)
    planted = {first[0]: "segfault", first[1]: "hang", second[0]: "nothing"}
    for instance, fault in planted.items():
        plant(instance, fault)
    summary = tuner.run()
    found = {}
    for _, trial in summary.rejected:
        found.setdefault(unit_name(trial.candidate.instance), set()).add(type(trial.outcome))
    kinds = (Fault, Timeout, WrongResult)
    assert found == {unit_name(i): {kind} for i, kind in zip(planted, kinds, strict=True)}
    reasons = [t.outcome.reason for _, t in summary.rejected if isinstance(t.outcome, Fault)]
    assert all("SIGSEGV" in reason for reason in reasons)
    (row,) = summary.written
    chosen = {unit_name(by_name("cpu")[name]) for name in (row.kernel1, row.kernel2)}
    assert chosen.isdisjoint({unit_name(i) for i in planted})
    assert [c.problem for c in summary.confirmed] == [A16W4]


def test_kernels_that_write_zeros_or_trap_are_found_and_both_ways_into_stage_two_are_right(
    tmp_path, cache, few
):
    tuner = tuner_for(tmp_path, [A4W4])
    listed = tune.candidates(A4W4, tuner.job.facts)
    tuner.build(c.instance for c in listed)
    zero, trap = kernels_of(listed, 1)[:2]
    plant(zero, "zero")
    plant(trap, "trap")
    tuner.measurer.prepare(tune.Layer.of(A4W4), 8)
    try:
        trials = {t.candidate: t.outcome for t in tuner.measure(A4W4, listed, frozenset())}
    finally:
        tuner.measurer.close()
    of_unit = {}
    for candidate, outcome in trials.items():
        of_unit.setdefault(unit_name(candidate.instance), []).append(outcome)
    (zeros,), (trapped,) = of_unit.pop(unit_name(zero)), of_unit.pop(unit_name(trap))
    assert isinstance(zeros, WrongResult)
    assert zeros.error == pytest.approx(1.0)
    assert isinstance(trapped, Fault)
    assert all(isinstance(o, Ok) for outcomes in of_unit.values() for o in outcomes)
    assert {c.instance.kind for c in trials if c.stage == 2} == {Kind.A4W4, Kind.A16W4}
    assert {c.stage for c, o in trials.items() if isinstance(o, Ok) and o.samples_ns} == {1, 2}


def test_a_killed_parent_takes_a_hung_child_with_it(tmp_path):
    """The child loops in native code and cannot notice that the pipe is closed."""
    script = (
        "import sys, time\n"
        "from aiter_moe.tuning.child import Child\n"
        "from aiter_moe import env\n"
        "loop = 'from aiter_moe.tuning.worker import _die_with_parent as d; d(); "
        "print(flush=True)\\nwhile True: pass'\n"
        "child = Child([sys.executable, '-c', loop], env.child_environment({}))\n"
        "child._line(60)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        parent.kill()
    try:
        assert select.select([descriptor], [], [], 30)[0], "the child outlived its parent"
    finally:
        os.close(descriptor)


UNTUNED = (
    "token,model_dim,inter_dim,expert,topk,act_type,dtype,q_dtype_a,q_dtype_w,q_type,use_g1u1,"
    "doweight_stage1\n"
    "{token},160,96,6,2,ActivationType.Swiglu,torch.bfloat16,torch.bfloat16,"
    "torch.float4_e2m1fn_x2,QuantType.per_1x32,1,0\n"
)


def command(tmp_path, *options):
    return [sys.executable, "-m", "aiter_moe", "tune", "-o", str(tmp_path / "tuned.csv"), *options]


def test_ctrl_c_while_compiling_ends_at_once_with_a_summary_and_writes_nothing(
    tmp_path, monkeypatch
):
    cache = tmp_path / "empty"
    monkeypatch.setenv(env.CACHE_DIR.name, str(cache))
    untuned = tmp_path / "untuned.csv"
    untuned.write_text(UNTUNED.format(token=4))
    run = subprocess.Popen(
        command(tmp_path, "-i", str(untuned)), stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        while not (cache.is_dir() and any(cache.rglob("*.cpp"))):
            assert run.poll() is None
            time.sleep(0.02)
        begin = time.monotonic()
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=30)[0]
    finally:
        run.kill()
    assert run.returncode == 130
    assert time.monotonic() - begin < 10
    assert "interrupted; the same command goes on where it stopped" in said
    assert not (tmp_path / "tuned.csv").exists()


def test_the_command_says_what_is_wrong_in_one_line_and_writes_nothing(tmp_path):
    run = subprocess.run(
        command(tmp_path, "--target", "gfx950", "--shapes", "gptoss-20b-quick"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "cannot tune for gfx950" in run.stderr
    assert "aiter-moe build --target gfx950" in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []
