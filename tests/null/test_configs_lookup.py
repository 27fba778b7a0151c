# SPDX-License-Identifier: MIT
"""Which row serves a problem: search path, merge in memory, exact tiers."""

from __future__ import annotations

import logging
import os
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import FACTS, PUBLIC_DATA, problem, row, write_csv

from aiter_moe import dtypes
from aiter_moe.configs.lookup import find, stamps, table_of
from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.table import ConfigTable, Key
from aiter_moe.enums import ActivationType, QuantType
from aiter_moe.errors import ConfigError
from aiter_moe.problem import MAX_TIER, token_tier

TIERS = [*(1 << i for i in range(16)), MAX_TIER]


def key(**changes) -> Key:
    return Key.of(problem(**changes), FACTS)


OTHER = {
    "gfx": "gfx942",
    "cu_num": 80,
    "token": 32,
    "model_dim": 2048,
    "inter_dim": 256,
    "expert": 33,
    "topk": 5,
    "act_type": ActivationType.Gelu,
    "dtype": torch.float16,
    "q_dtype_a": dtypes.fp4x2,
    "q_dtype_w": torch.float8_e4m3fn,
    "q_type": QuantType.per_Token,
    "use_g1u1": False,
    "doweight_stage1": True,
}


@pytest.mark.parametrize("field", [f.name for f in fields(Key)])
def test_every_field_is_part_of_the_key(field):
    table = ConfigTable.of([row(problem())])
    assert find(table, key()) is not None
    assert find(table, replace(key(), **{field: OTHER[field]})) is None


@given(st.sets(st.sampled_from(TIERS), max_size=8), st.integers(0, 200_000))
@settings(max_examples=300)
def test_no_token_count_is_served_by_another_tiers_row(tuned, tokens):
    table = ConfigTable.of([row(problem(token=t)) for t in sorted(tuned)])
    tier = token_tier(tokens)
    match = find(table, key(token=tier))
    if tier in tuned:
        assert match is not None
        assert match.row.key.token == tier
    elif tier == MAX_TIER and 32768 in tuned:
        assert match is not None
        assert match.row.key.token == 32768
        assert "32768" in match.note
    else:
        assert match is None


def test_expert_parallel_calls_find_rows_of_one_slot_less_first():
    seven, eight = row(problem(topk=7)), row(problem(topk=8))
    assert find(ConfigTable.of([seven]), key(topk=8)) is None
    assert find(ConfigTable.of([seven, eight]), key(topk=8), is_ep=True).row is seven
    assert find(ConfigTable.of([eight]), key(topk=8), is_ep=True).row is eight


def test_rows_without_gfx_serve_the_running_device_in_file_order():
    old = row(problem(), block_m=16)
    old = replace(old, key=replace(old.key, gfx=""))
    new = row(problem(), block_m=64)
    assert ConfigTable.of([old, new]).get(key()) is old
    assert ConfigTable.of([new, old]).get(key()) is new
    assert ConfigTable.of([old]).tiers(key(token=1)) == (16,)


def test_the_argument_comes_before_our_variable_and_that_before_aiters(tmp_path, monkeypatch):
    names = ["a", "b", "c", "d"]
    paths = [
        write_csv(tmp_path / f"{n}.csv", [row(problem(), block_m=16 + i)])
        for i, n in enumerate(names)
    ]
    monkeypatch.setenv("AITER_CONFIG_FMOE", os.pathsep.join(map(str, [paths[3], paths[1]])))
    monkeypatch.setenv("AITER_MOE_CONFIG", f"{paths[1]}{os.pathsep}{paths[2]}")
    found = stamps(str(paths[0]))
    assert [s.path for s in found] == [str(p) for p in paths]
    assert table_of(found).get(key()).block_m == 16
    assert table_of(stamps()).get(key()).block_m == 17
    assert stamps(paths[2])[0].path == str(paths[2])


def test_a_missing_file_names_who_asked_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AITER_CONFIG_FMOE", str(tmp_path / "gone.csv"))
    with pytest.raises(ConfigError, match=r"gone\.csv, named by AITER_CONFIG_FMOE: No such file"):
        stamps()


def test_duplicates_keep_the_first_and_are_reported_once_without_touching_files(tmp_path, caplog):
    first = write_csv(tmp_path / "first.csv", [row(problem(), block_m=16)])
    second = write_csv(tmp_path / "second.csv", [row(problem(), block_m=64), row(problem(token=1))])
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (first, second)}
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        for _ in range(3):
            table_of.cache_clear()
            table = table_of(stamps(os.pathsep.join([str(first), str(second)])))
    assert table.get(key()).block_m == 16
    assert table.get(key(token=1)) is not None
    assert len(caplog.records) == 1
    assert "first.csv:2" in caplog.text
    assert "second.csv:2" in caplog.text
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (first, second)} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first.csv", "second.csv"]


def test_only_the_order_given_decides_not_that_of_the_file_system(tmp_path):
    made_first = write_csv(tmp_path / "z.csv", [row(problem(), block_m=16)])
    made_last = write_csv(tmp_path / "a.csv", [row(problem(), block_m=64)])
    for order in ([made_first, made_last], [made_last, made_first]):
        table = table_of(stamps(os.pathsep.join(map(str, order))))
        assert table.get(key()).file == str(order[0])


def test_an_exchanged_file_is_seen_even_within_one_clock_tick(tmp_path):
    path = write_csv(tmp_path / "tuned.csv", [row(problem(), block_m=16)])
    time = path.stat().st_mtime_ns
    assert table_of(stamps(path)).get(key()).block_m == 16
    other = write_csv(tmp_path / "new.csv", [row(problem(), block_m=64)])
    os.utime(other, ns=(time, time))
    other.replace(path)
    assert table_of(stamps(path)).get(key()).block_m == 64


def test_every_row_of_the_public_tables_is_found_by_its_own_key():
    paths = sorted(PUBLIC_DATA.glob("*_tuned_fmoe.csv"))
    paths = [p for p in paths if "untuned" not in p.name]
    if not paths:
        pytest.skip("the public tables are not beside the checkout")
    table = table_of(stamps(os.pathsep.join(map(str, paths))))
    assert len(table.rows) + len(table.duplicates) == sum(len(read_tuned(p)) for p in paths)
    for found in table.rows:
        assert find(table, found.key).row is found
        assert find(table, replace(found.key, act_type=ActivationType.No)) is None
        untuned = replace(found.key, token=MAX_TIER)
        again = find(table, untuned)
        assert again is None or again.row.key.token == 32768
