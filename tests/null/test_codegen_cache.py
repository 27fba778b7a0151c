# SPDX-License-Identifier: MIT
"""Entries of the artifact cache: one rename, immutable, checked before use, never half written."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from codegen_fakes import FakeCompiler, leftovers, unit

from aiter_moe.codegen import cache as cache_module
from aiter_moe.codegen.build import ensure, is_cached
from aiter_moe.codegen.cache import ArtifactCache, default_cache, read_entry, write_manifest
from aiter_moe.codegen.lock import key_lock
from aiter_moe.errors import CacheError

pytestmark = pytest.mark.usefixtures("fake")

KEY = "ab" + "0" * 62


def publish(cache: ArtifactCache, text: str) -> str:
    """Publish an entry of KEY that holds `text`; return what the entry then holds."""
    with cache.private_folder("cpu") as folder:
        (folder / "kernel.so").write_text(text)
        write_manifest(folder, "kernel.so", {"key": KEY, "name": text})
        return cache.publish(folder, "cpu", KEY, "kernel.so").path.read_text()


def _racer(root: Path, number: int, barrier: object, results: object) -> None:
    barrier.wait()
    results.put(publish(ArtifactCache(root), f"made by {number}"))


def test_of_processes_that_race_to_publish_all_use_the_winners_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.SimpleQueue()
    root = tmp_path / "cache"
    racers = [
        context.Process(target=_racer, args=(root, number, barrier, results)) for number in range(8)
    ]
    for racer in racers:
        racer.start()
    got = {results.get() for _ in racers}
    for racer in racers:
        racer.join()
    assert len(got) == 1
    artifact = ArtifactCache(root).find("cpu", KEY, "kernel.so")
    assert artifact is not None
    assert {artifact.path.read_text(), artifact.manifest["name"]} == got
    assert leftovers(root) == []


def test_the_loser_of_a_rename_takes_the_entry_that_is_there(cache: ArtifactCache) -> None:
    assert publish(cache, "first") == "first"
    assert publish(cache, "second") == "first"


def test_a_winner_that_stays_invisible_leaves_an_own_copy(
    cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publish(cache, "first") == "first"
    monkeypatch.setattr(cache_module, "WINNER_DELAYS", (0.0, 0.0))
    monkeypatch.setattr(cache_module, "_rename_or_winner", lambda *_: None)
    assert publish(cache, "second") == "second"


def test_a_hit_runs_no_compiler_and_writes_nothing(
    cache: ArtifactCache, fake: FakeCompiler
) -> None:
    made = ensure(unit(), cache)
    before = sorted(cache.root.rglob("*"))
    stat = made.path.stat()
    assert ensure(unit(), cache) == made
    assert len(fake.calls) == 1
    assert sorted(cache.root.rglob("*")) == before
    assert made.path.stat() == stat


def test_looking_up_makes_no_folder(cache: ArtifactCache) -> None:
    assert is_cached(unit(), cache)[1] is False
    assert not cache.root.exists()


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove", "manifest", "no manifest"])
def test_a_damaged_entry_is_rebuilt_with_one_announcement(
    cache: ArtifactCache, fake: FakeCompiler, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = ensure(unit(), cache)
    good = made.path.read_bytes()
    manifest = made.path.with_name("manifest.json")
    if damage == "truncate":
        made.path.write_bytes(good[:-1])
    elif damage == "alter":
        made.path.write_bytes(b"?" + good[1:])
    elif damage == "remove":
        made.path.unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:40])
    else:
        manifest.unlink()
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        again = ensure(unit(), cache)
        ensure(unit(), cache)
    assert again.key == made.key
    assert again.path.read_bytes() == good
    assert len(fake.calls) == 2
    assert len(caplog.messages) == 1
    assert "rebuilt" in caplog.messages[0]
    assert leftovers(cache.root) == []


def test_an_entry_repaired_meanwhile_is_not_evicted(cache: ArtifactCache) -> None:
    publish(cache, "good")
    entry = cache_module.entry_path(cache.root, "cpu", KEY)
    with cache.private_folder("cpu") as folder:
        cache_module._evict(entry, folder.parent, KEY, "kernel.so")
    assert read_entry(entry, KEY, "kernel.so") is not None


def test_an_entry_renamed_to_another_key_is_not_used(cache: ArtifactCache) -> None:
    publish(cache, "x")
    entry = cache_module.entry_path(cache.root, "cpu", KEY)
    other = entry.with_name("ab" + "1" * 62)
    entry.rename(other)
    assert cache.find("cpu", other.name, "kernel.so") is None


def test_read_only_roots_are_searched_and_never_written(
    cache: ArtifactCache, tmp_path: Path, fake: FakeCompiler
) -> None:
    made = ensure(unit(), cache)
    before = sorted(cache.root.rglob("*"))
    reader = ArtifactCache(tmp_path / "own", (cache.root,))
    assert ensure(unit(), reader).path == made.path
    made.path.write_bytes(b"damaged")
    assert ensure(unit(), reader).path.is_relative_to(tmp_path / "own")
    assert sorted(cache.root.rglob("*")) == before
    assert len(fake.calls) == 2


def test_an_unwritable_named_cache_is_one_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeCompiler
) -> None:
    file = tmp_path / "a file"
    file.write_text("in the way")
    monkeypatch.setenv("AITER_MOE_CACHE_DIR", str(file / "cache"))
    with pytest.raises(CacheError, match="AITER_MOE_CACHE_DIR") as caught:
        ensure(unit())
    assert str(file / "cache") in str(caught.value)
    assert "name a folder you may write" in str(caught.value)
    assert fake.calls == []
    assert file.read_text() == "in the way"


def _refused_as_nobody(folder: Path, results: object) -> None:
    if os.getuid() == 0:  # root may write anywhere
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        with ArtifactCache(folder, origin="AITER_MOE_CACHE_DIR").private_folder("cpu"):
            results.put("not refused")
    except CacheError as error:
        results.put(str(error))


def test_a_named_cache_without_permission_is_the_same_error() -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        child = context.Process(target=_refused_as_nobody, args=(folder, results))
        child.start()
        message = results.get()
        child.join()
        assert list(folder.iterdir()) == []
        folder.chmod(0o755)
    assert "Permission denied" in message
    assert f"{folder}, named by AITER_MOE_CACHE_DIR" in message


def test_an_unwritable_default_cache_gives_way_to_a_temporary_one_with_one_announcement(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fake: FakeCompiler
) -> None:
    file = tmp_path / "a file"
    file.write_text("in the way")
    cache = ArtifactCache(file / "cache")
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        made = ensure(unit(), cache)
        ensure(unit("int y;\n"), cache)
    assert made.path.is_relative_to(cache_module.temporary_root())
    assert ensure(unit(), cache) == made
    assert ArtifactCache(cache.root).settle("cpu") == cache_module.temporary_root()
    assert len(fake.calls) == 2
    assert len(caplog.messages) == 1
    assert "AITER_MOE_CACHE_DIR" in caplog.messages[0]


def test_the_temporary_cache_goes_with_its_process() -> None:
    script = "from aiter_moe.codegen.cache import temporary_root; print(temporary_root())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not Path(done.stdout.strip()).exists()


def test_the_environment_places_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AITER_MOE_CACHE_DIR", str(tmp_path / "here"))
    assert ensure(unit()).path.is_relative_to(tmp_path / "here" / "cpu")
    monkeypatch.delenv("AITER_MOE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert default_cache().root == tmp_path / "user" / "aiter_moe"
    assert default_cache().extra[0].name == "prebuilt"


def test_a_user_without_a_home_gets_a_temporary_cache(
    monkeypatch: pytest.MonkeyPatch, fake: FakeCompiler
) -> None:
    def homeless(_: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("AITER_MOE_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", homeless)
    monkeypatch.setattr(Path, "mkdir", refusing_outside(cache_module.temporary_root()))
    made = ensure(unit("int homeless;\n"))
    assert made.path.is_relative_to(cache_module.temporary_root())
    assert len(fake.calls) == 1


def refusing_outside(root: Path) -> Callable[..., None]:
    """Return a mkdir of a user who may write below `root` alone."""
    mkdir = Path.mkdir

    def attempt(path: Path, *options: Any, **named: Any) -> None:
        if not path.is_relative_to(root):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        mkdir(path, *options, **named)

    return attempt


def test_entries_are_readable_by_whom_the_umask_lets(cache: ArtifactCache) -> None:
    made = ensure(unit(), cache)
    plain = cache.root / "plain"
    plain.mkdir()
    assert made.path.parent.stat().st_mode == plain.stat().st_mode


def test_nothing_but_entries_is_left_after_a_build(cache: ArtifactCache) -> None:
    made = ensure(unit(), cache)
    files = {path for path in cache.root.rglob("*") if path.is_file()}
    assert files == set(made.path.parent.iterdir())
    assert [path.name for path in cache.root.iterdir()] == ["cpu"]
    assert [path.name for path in (cache.root / "cpu").iterdir()] == [made.key[:2]]


def test_what_a_killed_build_left_long_ago_is_cleared(cache: ArtifactCache) -> None:
    building = cache.root / "cpu" / "building"
    for name, age in (("old", 2 * 86400.0), ("young", 60.0)):
        (building / name).mkdir(parents=True)
        os.utime(building / name, (time.time() - age,) * 2)
    ensure(unit(), cache)
    assert [path.name for path in leftovers(cache.root)] == ["young"]


def _hold(folder: Path, held: object) -> None:
    with key_lock(folder, KEY, "k") as mine:
        held.put(mine)
        time.sleep(60)


@pytest.fixture
def holder(tmp_path: Path):
    """Return a child process that holds the lock of KEY."""
    context = multiprocessing.get_context("fork")
    held = context.SimpleQueue()
    child = context.Process(target=_hold, args=(tmp_path / "locks", held))
    child.start()
    assert held.get() is True
    yield child
    child.kill()
    child.join()


def test_the_lock_of_a_killed_process_is_free_at_once(
    tmp_path: Path, holder: multiprocessing.Process
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    start = time.monotonic()
    with key_lock(tmp_path / "locks", KEY, "k") as held:
        assert held
    assert time.monotonic() - start < 1.0


def test_waiting_for_a_lock_is_bounded_and_says_who_holds_it(
    tmp_path: Path, holder: multiprocessing.Process, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "aiter_moe"),
        key_lock(tmp_path / "locks", KEY, "the kernel", wait=0.1) as held,
    ):
        assert not held
    assert f"the kernel is being compiled by process {holder.pid} on " in caplog.text
    assert "compiling a copy" in caplog.messages[-1]


def test_a_folder_without_locks_does_not_stop_a_build(
    cache: ArtifactCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.root.mkdir()
    (cache.root / "locks").write_text("in the way")
    with caplog.at_level(logging.INFO, "aiter_moe"):
        assert ensure(unit(), cache).path.exists()
    assert "going without" in caplog.text


def test_threads_and_processes_compile_one_unit_once(
    cache: ArtifactCache, fake: FakeCompiler
) -> None:
    context = multiprocessing.get_context("fork")
    builders = [context.Process(target=ensure, args=(unit(), cache)) for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0] * 4
    assert len(fake.calls) == 1


def test_the_manifest_says_what_made_the_artifact(cache: ArtifactCache) -> None:
    made = ensure(unit(flags=("-mfma",)), cache)
    manifest = json.loads(made.path.with_name("manifest.json").read_text())
    assert manifest == made.manifest
    assert manifest["name"] == "k"
    assert manifest["target"] == "cpu"
    assert manifest["compiler"] == "g++ (Fake) 13.1.0"
    assert "-mfma -Icsrc k.cpp -o kernel.so" in manifest["command"]
    assert manifest["bytes"] == made.path.stat().st_size
    assert (made.path.parent / "k.cpp").read_text() == unit().source
    assert "-mfma" in (made.path.parent / "build.log").read_text()
