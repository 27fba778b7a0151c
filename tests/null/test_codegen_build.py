# SPDX-License-Identifier: MIT
"""Building many units: failures as values, interrupts, and machines without a compiler."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from codegen_fakes import FakeCompiler, leftovers, unit

from aiter_moe.codegen import device_compiler, host_compiler
from aiter_moe.codegen.build import build_many, ensure, is_cached
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import BuildError, CacheError, ToolchainError

pytestmark = pytest.mark.usefixtures("fake")

BAD = "int a;\n\nBAD x;\n"


def test_a_failing_build_shows_the_first_errors_the_command_and_the_log(
    cache: ArtifactCache, fake: FakeCompiler
) -> None:
    with pytest.raises(BuildError) as caught:
        ensure(unit(BAD, ("-mfma",), name="wrong"), cache)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "wrong does not compile with g++ (Fake) 13.1.0: g++ ended with exit status 1"
    )
    assert lines[1:3] == ["  wrong.cpp:3:1: error: BAD is not a type", "      3 | BAD x;"]
    assert lines[3].startswith("command: cd ") and f"&& {fake.path} -O3" in lines[3]
    log_file = Path(lines[4].removeprefix("whole log: "))
    assert "BAD is not a type" in log_file.read_text()
    assert log_file.with_name("wrong.cpp").read_text() == BAD
    assert leftovers(cache.root) == []


def test_the_command_of_a_failure_can_be_typed_again(cache: ArtifactCache) -> None:
    with pytest.raises(BuildError) as caught:
        ensure(unit(BAD), cache)
    (command,) = [li for li in str(caught.value).splitlines() if li.startswith("command: ")]
    done = subprocess.run(
        command.removeprefix("command: "), shell=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "BAD is not a type" in done.stderr


def test_a_failure_is_not_cached_and_its_log_is_replaced(
    cache: ArtifactCache, fake: FakeCompiler
) -> None:
    for _ in range(2):
        with pytest.raises(BuildError):
            ensure(unit(BAD), cache)
    assert len(fake.calls) == 2
    assert len(list((cache.root / "cpu" / "failed").iterdir())) == 1


def test_one_failing_unit_lets_the_others_go_on(cache: ArtifactCache) -> None:
    units = [unit(f"int x{i};\n", name=f"k{i}") for i in range(5)]
    units.insert(2, unit(BAD, name="wrong"))
    ensure(units[0], cache)
    reports = {report.unit.name: report for report in build_many(units, 2, cache)}
    assert set(reports) == {u.name for u in units}
    assert isinstance(reports["wrong"].error, BuildError)
    assert all(r.artifact is not None for name, r in reports.items() if name != "wrong")
    assert [name for name, r in reports.items() if r.cached] == ["k0"]
    assert reports["k1"].seconds > 0
    assert reports["k0"].seconds == 0


def test_a_cache_nobody_can_write_is_one_error_for_all_units(
    tmp_path: Path, fake: FakeCompiler
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ArtifactCache(tmp_path / "file" / "cache", origin="AITER_MOE_CACHE_DIR")
    with pytest.raises(CacheError, match="AITER_MOE_CACHE_DIR"):
        list(build_many([unit(name="a"), unit(name="b")], 2, cache))
    assert fake.calls == []


def test_a_full_disk_is_one_error_that_says_so_and_leaves_nothing(
    cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("aiter_moe.codegen.build.write_manifest", full)
    with pytest.raises(CacheError, match=r"k in .*No space left on device.*AITER_MOE_CACHE_DIR"):
        ensure(unit(), cache)
    assert [path for path in cache.root.rglob("*") if path.is_file()] == []


def test_a_header_that_cannot_be_followed_is_that_units_failure(cache: ArtifactCache) -> None:
    units = [unit("#include WHAT\n", name="odd"), unit()]
    reports = {report.unit.name: report for report in build_many(units, 1, cache)}
    assert "WHAT" in str(reports["odd"].error)
    assert reports["k"].artifact is not None


def test_closing_the_iterator_kills_running_compilers(
    cache: ArtifactCache, fake: FakeCompiler
) -> None:
    units = [unit("int fast;\n", name="fast"), unit("SLEEP\n", name="slow"), unit("SLEEP 2\n")]
    running = build_many(units, 2, cache)
    assert next(running).unit.name == "fast"
    pid = wait_for_pid(fake)
    start = time.monotonic()
    running.close()
    assert time.monotonic() - start < 5.0
    assert is_gone(pid)
    assert leftovers(cache.root) == []
    assert not (cache.root / "cpu" / "failed").exists()


def _build_slowly(cache: ArtifactCache, entry: str) -> None:
    sys.stderr = io.StringIO()  # the traceback of the interrupt is no news
    if entry == "ensure":
        ensure(unit("SLEEP"), cache)
    for _ in build_many([unit("SLEEP"), unit("SLEEP 2")], 1, cache):
        pass


@pytest.mark.parametrize("entry", ["ensure", "build_many"])
def test_an_interrupt_kills_the_compiler_and_leaves_no_private_folder(
    cache: ArtifactCache, fake: FakeCompiler, entry: str
) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_build_slowly, args=(cache, entry))
    child.start()
    pid = wait_for_pid(fake)
    os.kill(child.pid, signal.SIGINT)
    child.join(timeout=10)
    assert child.exitcode == 1
    assert is_gone(pid)
    assert leftovers(cache.root) == []
    assert not (cache.root / "cpu" / "failed").exists()


def wait_for_pid(fake: FakeCompiler) -> int:
    """Return the process id of a fake compiler that sleeps."""
    file = fake.log.with_name(fake.log.name + ".pid")
    deadline = time.monotonic() + 30.0
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(file.read_text())


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, giving its parent a moment to collect it."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that takes every compiler away."""

    def strip() -> None:
        for name in ("CXX", "HIPCC", "ROCM_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        monkeypatch.setattr(host_compiler, "pip_clang", lambda: None)
        monkeypatch.setattr(device_compiler, "pip_clang", lambda: None)

    return strip


@pytest.mark.parametrize("target", ["cpu", "gfx950"])
def test_without_a_compiler_the_error_names_the_extra(
    cache: ArtifactCache, bare_machine, target: str
) -> None:
    bare_machine()
    with pytest.raises(ToolchainError, match=r"pip install 'aiter_moe\[toolchain\]'"):
        ensure(BuildUnit("k", target, "k.x", "int x;\n"), cache)
    assert not cache.root.exists()


def test_without_a_compiler_prebuilt_kernels_of_the_same_source_serve(
    cache: ArtifactCache, tmp_path: Path, bare_machine
) -> None:
    made = ensure(unit(), cache)
    reader = ArtifactCache(tmp_path / "own", (cache.root,))
    bare_machine()
    assert ensure(unit(), reader) == made
    (report,) = build_many([unit()], 1, reader)
    assert report.cached
    assert is_cached(unit(), reader) == (made.key, True)
    with pytest.raises(ToolchainError):
        ensure(unit("int other;\n"), reader)
    with pytest.raises(ToolchainError):
        ensure(unit(flags=("-mfma",)), reader)


def test_a_prebuilt_kernel_of_another_machine_does_not_serve(
    cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch, bare_machine
) -> None:
    ensure(unit(), cache)
    bare_machine()
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ToolchainError):
        ensure(unit(), cache)
