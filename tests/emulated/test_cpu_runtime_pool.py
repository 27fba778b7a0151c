# SPDX-License-Identifier: MIT
from __future__ import annotations

import ctypes
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cpu_probe import Recorder, probe_task

from aiter_moe.targets.cpu_runtime import Runtime, load_runtime
from aiter_moe.targets.cpu_team import Team, torch_team


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return load_runtime(frozenset())


def launch(runtime: Runtime, recorder: Recorder, threads: int) -> int:
    return runtime.pool_run(ctypes.addressof(probe_task()), recorder.address, threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("items", [0, 1, 2, 17, 1000])
def test_every_item_of_every_phase_runs_exactly_once(
    runtime: Runtime, threads: int, items: int
) -> None:
    for _ in range(5):
        recorder = Recorder(items, phases=3)
        launch(runtime, recorder, threads)
        assert recorder.complete
        assert (recorder.workers < threads).all()


def test_a_phase_begins_only_when_the_one_before_is_over(runtime: Runtime) -> None:
    for _ in range(50):
        recorder = Recorder(items=24, phases=8, spin=2000)
        launch(runtime, recorder, threads=4)
        assert recorder.early[0] == 0
        assert recorder.complete


def test_more_than_one_thread_takes_part_when_items_are_long(runtime: Runtime) -> None:
    for _ in range(200):
        recorder = Recorder(items=64, spin=100_000)
        assert launch(runtime, recorder, threads=2) == 2
        if len(set(recorder.workers.ravel().tolist())) == 2:
            return
    pytest.fail("worker 1 never ran an item")


def test_no_more_threads_are_asked_than_there_are_items(runtime: Runtime) -> None:
    assert launch(runtime, Recorder(items=3), threads=8) == 3
    assert launch(runtime, Recorder(items=1), threads=8) == 1
    assert launch(runtime, Recorder(items=5), threads=0) == 1


def test_the_number_of_threads_may_change_from_launch_to_launch(runtime: Runtime) -> None:
    for threads in (4, 2, 8, 1, 3, 8, 2) * 20:
        recorder = Recorder(items=40, phases=2)
        launch(runtime, recorder, threads)
        assert recorder.complete
        assert recorder.workers.max() < threads


def test_threads_are_started_once_and_kept(runtime: Runtime) -> None:
    def threads_now() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    launch(runtime, Recorder(items=100), threads=6)
    before = threads_now()
    for _ in range(200):
        launch(runtime, Recorder(items=100), threads=6)
    assert threads_now() <= before


@pytest.mark.parametrize("spins", [0, 2000])
def test_sleeping_and_spinning_workers_both_wake(runtime: Runtime, spins: int) -> None:
    runtime._set_spins(spins)
    try:
        for _ in range(300):
            recorder = Recorder(items=8, phases=3)
            launch(runtime, recorder, threads=4)
            assert recorder.complete
    finally:
        runtime._set_spins(2000)


def test_several_python_threads_may_launch_at_once(runtime: Runtime) -> None:
    incomplete: list[Recorder] = []

    def caller(threads: int) -> None:
        for _ in range(50):
            recorder = Recorder(items=30, phases=2, spin=50)
            launch(runtime, recorder, threads)
            if not recorder.complete:
                incomplete.append(recorder)

    callers = [threading.Thread(target=caller, args=(n,)) for n in (1, 2, 3, 4, 4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join(timeout=60)
    assert not any(one.is_alive() for one in callers)
    assert not incomplete


def test_a_kernel_that_launches_from_inside_an_item_does_not_deadlock(runtime: Runtime) -> None:
    inner = Recorder(items=9, phases=2)
    outer = Recorder(items=6)
    outer.args.pool_run = ctypes.cast(runtime.pool_run, ctypes.c_void_p).value
    outer.args.nested_task = ctypes.addressof(probe_task())
    outer.args.nested = inner.address
    launch(runtime, outer, threads=3)
    assert outer.complete
    assert inner.complete
    assert (inner.workers == 0).all()


def test_a_task_may_have_any_number_of_phases(runtime: Runtime) -> None:
    recorder = Recorder(items=2, phases=100)
    launch(runtime, recorder, threads=2)
    assert recorder.complete


@pytest.fixture
def team(runtime: Runtime) -> Iterator[int]:
    """The threads of torch's OpenMP team, lent to the pool."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    found = torch_team(3)
    if found is None:
        pytest.skip("torch has no OpenMP team here")
    runtime._lend_team(ctypes.byref(found), 3)
    yield 3
    runtime._lend_team(ctypes.byref(Team()), 0)
    torch.set_num_threads(before)


def test_a_team_may_be_lent_and_taken_back_while_others_launch(runtime: Runtime, team: int) -> None:
    found, over = torch_team(team), threading.Event()

    def lend_and_take_back() -> None:
        while not over.is_set():
            runtime._lend_team(ctypes.byref(Team()), 0)
            runtime._lend_team(ctypes.byref(found), team)

    lender = threading.Thread(target=lend_and_take_back)
    lender.start()
    for _ in range(3000):
        recorder = Recorder(items=4, phases=1)
        launch(runtime, recorder, team)
        assert recorder.complete
    over.set()
    lender.join(timeout=60)
    assert not lender.is_alive()


@pytest.mark.parametrize("items", [0, 1, 2, 17, 1000])
def test_a_team_runs_every_item_of_every_phase_once(
    runtime: Runtime, team: int, items: int
) -> None:
    for _ in range(20):
        recorder = Recorder(items, phases=5)
        assert launch(runtime, recorder, team) == max(1, min(team, items))
        assert recorder.complete
        assert (recorder.workers < team).all()


def test_a_team_is_torchs_own(runtime: Runtime, team: int) -> None:
    def threads_now() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    torch.ones(1 << 20).add_(1)
    before = threads_now()
    for items in (100, 2, 100, 5) * 50:
        launch(runtime, Recorder(items), team)
        torch.ones(1 << 20).add_(1)
    assert threads_now() == before


def test_launches_of_other_sizes_do_not_borrow(runtime: Runtime, team: int) -> None:
    for threads in (2, team, 5, team, 1) * 20:
        recorder = Recorder(items=40, phases=3)
        launch(runtime, recorder, threads)
        assert recorder.complete
        assert recorder.workers.max() < threads


def test_several_python_threads_may_use_their_teams(runtime: Runtime, team: int) -> None:
    recorders = [[Recorder(items=30, phases=3, spin=50) for _ in range(50)] for _ in range(3)]

    def caller(mine: list[Recorder]) -> None:
        for recorder in mine:
            launch(runtime, recorder, team)

    callers = [threading.Thread(target=caller, args=(mine,)) for mine in recorders]
    for one in callers:
        one.start()
    for one in callers:
        one.join(timeout=60)
    assert not any(one.is_alive() for one in callers)
    assert all(recorder.complete for mine in recorders for recorder in mine)


def test_a_launch_from_inside_a_team_stays_on_its_thread(runtime: Runtime, team: int) -> None:
    inner = Recorder(items=9, phases=2)
    outer = Recorder(items=6)
    outer.args.pool_run = ctypes.cast(runtime.pool_run, ctypes.c_void_p).value
    outer.args.nested_task = ctypes.addressof(probe_task())
    outer.args.nested = inner.address
    launch(runtime, outer, team)
    assert outer.complete
    assert inner.complete
    assert (inner.workers == 0).all()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_team_alone(runtime: Runtime, team: int) -> None:
    launch(runtime, Recorder(items=20), team)
    assert _run_in_fork(runtime, rounds=20, threads=team) == 0
    assert _run_in_fork(runtime, rounds=20, threads=team, tune=True) == 0
    recorder = Recorder(items=20, phases=3)
    launch(runtime, recorder, team)
    assert recorder.complete


def _run_in_fork(runtime: Runtime, rounds: int, threads: int = 4, tune: bool = False) -> int | None:
    """Launch in a forked child; return its exit status, or None where it hangs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        good = True
        if tune:
            runtime.tune_for(1)
            runtime.tune_for(threads)
        for _ in range(rounds):
            recorder = Recorder(items=20, phases=3)
            launch(runtime, recorder, threads)
            good = good and recorder.complete
        os._exit(0 if good else 1)
    os.close(write)
    ready, _, _ = select.select([read], [], [], 30)  # readable at the child's end
    os.close(read)
    if not ready:
        os.kill(child, 9)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status) if ready else None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(runtime: Runtime) -> None:
    launch(runtime, Recorder(items=20), threads=4)
    assert _run_in_fork(runtime, rounds=20) == 0
    recorder = Recorder(items=20, phases=3)
    launch(runtime, recorder, threads=4)
    assert recorder.complete


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_another_threads_launch_is_survived(runtime: Runtime) -> None:
    stop = threading.Event()

    def keep_launching() -> None:
        while not stop.is_set():
            launch(runtime, Recorder(items=50, phases=2, spin=500), threads=4)

    busy = threading.Thread(target=keep_launching)
    busy.start()
    try:
        for _ in range(10):
            assert _run_in_fork(runtime, rounds=3) == 0
    finally:
        stop.set()
        busy.join(timeout=60)
    assert not busy.is_alive()
