# SPDX-License-Identifier: MIT
"""Writing tuned rows: merged by key, atomic, and nothing of others lost."""

from __future__ import annotations

import csv
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from planning import PUBLIC_DATA, problem, row

from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.schema import TUNED_COLUMNS
from aiter_moe.configs.writer import require_writable, write_rows
from aiter_moe.errors import ConfigError


def plain(found):
    return replace(found, file="", line=0)


def measured(token: int, **fields):
    return row(
        problem(token=token), us1=1.5, us2=2.25, us=3.75, err1=0.001, err2=0.0025, source="a test",
        compiler="clang 22", repeats=9, file="", line=0, **fields,
    )  # fmt: skip


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "tuned.csv"
    rows = [measured(1), measured(16, extra=(("spread", "0.01"),))]
    write_rows(path, rows)
    assert [plain(r) for r in read_tuned(path)] == [
        replace(rows[0], extra=(("spread", ""),)), rows[1]
    ]  # fmt: skip
    assert path.read_text().splitlines()[0].split(",") == [*TUNED_COLUMNS, "spread"]


def test_a_row_replaces_those_of_its_key_and_leaves_the_others(tmp_path):
    path = tmp_path / "tuned.csv"
    write_rows(path, [measured(1), measured(16)])
    write_rows(path, [measured(16, block_m=64)])
    assert [(r.key.token, r.block_m) for r in read_tuned(path)] == [(1, 32), (16, 64)]


def test_the_order_of_writing_does_not_show(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    tokens = [4, 1, 16384, 64]
    for token in tokens:
        write_rows(one, [measured(token)])
    write_rows(other, [measured(t) for t in reversed(tokens)])
    assert one.read_bytes() == other.read_bytes()
    assert [r.key.token for r in read_tuned(one)] == sorted(tokens)


@pytest.mark.parametrize("name", ["dsv3_fp4", "glm5_fp4", "qwen3_8_2400b_fp4"])
def test_rows_and_columns_of_a_public_table_survive_a_merge(tmp_path, name):
    source = PUBLIC_DATA / f"{name}_tuned_fmoe.csv"
    if not source.is_file():
        pytest.skip("the public tables are not beside the checkout")
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes())
    before = {r.key: plain(r) for r in read_tuned(source)}
    new = measured(3)
    write_rows(path, [new])
    after = {r.key: plain(r) for r in read_tuned(path)}
    assert after.pop(new.key) == new
    assert after == before
    with source.open(newline="") as old, path.open(newline="") as merged:
        kept = list(csv.DictReader(merged))
        for cells in csv.DictReader(old):
            named = {k: v or "" for k, v in cells.items()}
            assert any(all(k[c] == v for c, v in named.items()) for k in kept)


def test_fallback_rows_of_the_same_key_stay_in_the_file(tmp_path):
    path = tmp_path / "tuned.csv"
    write_rows(path, [measured(16, tag="flydsl_fallback", kernel1="theirs")])
    write_rows(path, [measured(16)])
    assert "theirs" in path.read_text()
    assert len(read_tuned(path)) == 1


def test_a_file_that_is_no_table_is_left_alone(tmp_path):
    path = tmp_path / "tuned.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="missing"):
        write_rows(path, [measured(1)])
    assert path.read_text() == "a,b\n1,2\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file_is_filled(tmp_path):
    path = tmp_path / "tuned.csv"
    path.touch()
    write_rows(path, [measured(1)])
    assert len(read_tuned(path)) == 1


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written: .*; choose another output"):
        write_rows(tmp_path / "file" / "tuned.csv", [measured(1)])


def test_a_failing_rename_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "tuned.csv"
    write_rows(path, [measured(1)])
    before = path.read_bytes()

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ConfigError, match="No space left"):
        write_rows(path, [measured(2)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_mode_and_symbolic_link_are_kept(tmp_path):
    real = tmp_path / "real.csv"
    write_rows(real, [measured(1)])
    real.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    write_rows(link, [measured(2)])
    assert link.is_symlink()
    assert len(read_tuned(real)) == 2
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "tuned.csv"
    tokens = [1 << i for i in range(15)]
    write_rows(path, [measured(t) for t in tokens])
    stop = threading.Event()
    seen: list[int] = []
    failures: list[Exception] = []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(len(read_tuned(path)))
            except Exception as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for repeat in range(20):
        write_rows(path, [measured(t, block_m=16 + repeat) for t in tokens])
    stop.set()
    reader.join()
    assert not failures
    assert set(seen) == {len(tokens)}


def test_an_output_is_refused_before_the_work_and_nothing_is_left(tmp_path):
    (tmp_path / "in_the_way").write_text("")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    for path in (tmp_path / "in_the_way" / "tuned.csv", tmp_path, other):
        with pytest.raises(ConfigError, match=path.name):
            require_writable(path)
    require_writable(tmp_path / "new" / "tuned.csv")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in_the_way", "new", "other.csv"]


def test_concurrent_writers_lose_no_row(tmp_path):
    path = tmp_path / "tuned.csv"

    def write(topk: int) -> None:
        for tier in range(10):
            write_rows(path, [row(problem(topk=topk, token=1 << tier))])

    writers = [threading.Thread(target=write, args=(topk,)) for topk in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = {(r.key.topk, r.key.token) for r in read_tuned(path)}
    assert found == {(topk, 1 << tier) for topk in (1, 2, 3) for tier in range(10)}


ENDLESS_WRITER = """
import sys
from planning import problem, row
from aiter_moe.configs.writer import require_writable, write_rows
while True:
    write_rows(sys.argv[1], [row(problem(token=1 << i)) for i in range(15)])
"""


def test_a_killed_writer_harms_nobody(tmp_path):
    path = tmp_path / "tuned.csv"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    victim = subprocess.Popen([sys.executable, "-c", ENDLESS_WRITER, str(path)], env=environment)
    while not path.exists() and victim.poll() is None:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert len(read_tuned(path)) == 15
    write_rows(path, [row(problem(topk=1))])
    assert len(read_tuned(path)) == 16
