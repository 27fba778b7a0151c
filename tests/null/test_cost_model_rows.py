# SPDX-License-Identifier: MIT
"""Rows that the cost model chooses: legal, deterministic, resumable, second to measured ones."""

import os
from dataclasses import replace

import pandas
import pytest
from planning import FACTS, HASH, KERNELS, problem, row, write_csv

from aiter_moe.codegen.catalogue import by_name
from aiter_moe.codegen.instance import Output
from aiter_moe.codegen.pairs import pair_refusal
from aiter_moe.configs import schema
from aiter_moe.configs.lookup import find, stamps, table_of
from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.table import ConfigTable, Key
from aiter_moe.configs.writer import write_rows
from aiter_moe.enums import Kind
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.plan import make_plan
from aiter_moe.problem import LARGE_TIER, MAX_TIER
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.cost_model.choose import TIE, choose, model_of, pairs
from aiter_moe.tuning.cost_model.fitted import FITTED
from aiter_moe.tuning.model_shapes import MODELS, packaged
from aiter_moe.tuning.predicted import BOUNDS, Refused, predict_rows, predicted_table
from aiter_moe.tuning.tune import Job, known_rows, problems_of, stale_count

PROBLEMS = problems_of(packaged("gptoss-20b-quick"))


def plan(of, *rows):
    return make_plan(of, FACTS, ConfigTable.of(rows), kernels=KERNELS)


def predicted(of=None, **fields):
    return row(of or problem(), source=schema.MODEL_SOURCE, **fields)


# What is chosen


@pytest.mark.parametrize("model", [model.name for model in MODELS])
def test_packaged_shapes_get_kernels_that_run_them(model):
    kernels = by_name("gfx950")
    for asked in problems_of(packaged(model)):
        found = choose(asked, FACTS)
        first, second = (timed.candidate for timed in (found.stage1, found.stage2))
        assert first.instance.name in kernels and second.instance.name in kernels
        assert asked.supports(first.instance) and asked.supports(second.instance)
        assert pair_refusal(first.instance, second.instance) is None
        assert second.instance.tile.output is not Output.ATOMIC
        assert (first.ksplit == 0) is (asked.kind is Kind.A4W4)
        assert choose(asked, FACTS) == found


def test_no_pair_is_predicted_faster_than_the_choice_by_more_than_a_tie():
    for asked in PROBLEMS:
        found, every = choose(asked, FACTS), pairs(asked, FACTS)
        assert found in every
        assert found.us <= min(pair.us for pair in every) * (1 + TIE)
        default = make_plan(asked, FACTS, ConfigTable())
        assert any(
            (pair.stage1.candidate.instance, pair.stage2.candidate.instance)
            == (default.stage1, default.stage2)
            for pair in every
        )


def test_other_devices_than_fitted_ones_are_refused():
    assert frozenset(FITTED) == schema.MODELLED
    for gfx, units in (("gfx942", 304), ("cpu", 8)):
        with pytest.raises(UnsupportedProblemError, match="no cost model of"):
            choose(PROBLEMS[0], DeviceFacts(gfx, units))


def test_a_problem_without_kernels_says_why():
    odd = replace(PROBLEMS[0], model_dim=100)
    with pytest.raises(UnsupportedProblemError, match="no kernels of gfx950 run"):
        choose(odd, FACTS)


def test_fewer_compute_units_take_longer():
    half = DeviceFacts("gfx950", 128)
    for asked in PROBLEMS:
        assert choose(asked, half).us >= choose(asked, FACTS).us
    _, whole = model_of(FACTS)
    _, part = model_of(half)
    assert (part.memory_tb_s, part.launch1_us) == (whole.memory_tb_s / 2, whole.launch1_us)


# The file


def test_rows_are_written_read_used_and_not_predicted_again(tmp_path):
    output = tmp_path / "tuned.csv"
    rows = list(predict_rows(PROBLEMS, FACTS, output))
    assert len(rows) == len(PROBLEMS)
    assert [r.source for r in read_tuned(output)] == ["model"] * len(PROBLEMS)
    table = table_of(stamps(output))
    for asked in PROBLEMS:
        made = make_plan(asked, FACTS, table)
        assert made.source.startswith(str(output))
        (said,) = (n for n in made.notices if "nothing was measured" in n.text)
        assert not said.warning
    assert not list(predict_rows(PROBLEMS, FACTS, output))
    before = output.read_bytes()
    assert len(list(predict_rows(PROBLEMS, FACTS, output, again=True))) == len(PROBLEMS)
    assert output.read_bytes() == before


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    output, whole = tmp_path / "tuned.csv", tmp_path / "whole.csv"
    some = predict_rows(PROBLEMS, FACTS, output)
    first = [next(some), next(some)]
    some.close()
    assert len(read_tuned(output)) == 2
    rest = list(predict_rows(PROBLEMS, FACTS, output))
    assert {r.key for r in first + rest} == {Key.of(p, FACTS) for p in PROBLEMS}
    list(predict_rows(PROBLEMS, FACTS, whole))
    assert output.read_bytes() == whole.read_bytes()


def test_measured_rows_of_the_file_stay(tmp_path):
    output = tmp_path / "tuned.csv"
    kept = row(PROBLEMS[0], us1=1.0, us2=2.0, us=3.0, source="aiter_moe tune")
    write_rows(output, [kept])
    found = list(predict_rows(PROBLEMS, FACTS, output, again=True))
    assert len(found) == len(PROBLEMS) - 1
    (same,) = (r for r in read_tuned(output) if r.key == kept.key)
    assert (same.us, same.source) == (3.0, "aiter_moe tune")


def test_predicted_rows_of_other_templates_are_replaced(tmp_path):
    output = tmp_path / "tuned.csv"
    write_rows(output, [predicted(PROBLEMS[0], template_hash="f" * 16)])
    (made,) = predict_rows(PROBLEMS[:1], FACTS, output)
    (read,) = read_tuned(output)
    assert (read.key, read.template_hash) == (made.key, made.template_hash)
    assert read.template_hash != "f" * 16


def test_aiter_finds_its_columns_first_and_numbers_in_them(tmp_path):
    output = tmp_path / "tuned.csv"
    rows = list(predict_rows(PROBLEMS, FACTS, output))
    sheet = pandas.read_csv(output)
    aiters = [*schema.DEVICE_COLUMNS, *schema.PROBLEM_COLUMNS, *schema.CHOICE_COLUMNS]
    assert list(sheet.columns[: len(aiters)]) == aiters
    assert set(BOUNDS) <= set(sheet.columns[len(aiters) :])
    assert (sheet.us - sheet.us1 - sheet.us2).abs().max() < 1e-3
    assert len(predicted_table(rows).lines) == len(rows)


def test_a_problem_without_kernels_is_told_and_others_go_on(tmp_path):
    odd = replace(PROBLEMS[0], model_dim=100)
    refused, made = predict_rows([odd, PROBLEMS[1]], FACTS, tmp_path / "tuned.csv")
    assert isinstance(refused, Refused)
    assert made.key == Key.of(PROBLEMS[1], FACTS)


# Look-up and tuner


def test_a_measured_row_counts_wherever_it_stands(tmp_path):
    guess = write_csv(tmp_path / "guess.csv", [predicted(block_m=16)])
    measured = write_csv(tmp_path / "measured.csv", [row(problem(), block_m=64)])
    for order in ([guess, measured], [measured, guess]):
        table = table_of(stamps(os.pathsep.join(map(str, order))))
        assert table.get(Key.of(problem(), FACTS)).block_m == 64
        assert not table.duplicates


def test_a_measured_row_of_the_other_tier_comes_before_a_predicted_one():
    key = Key.of(problem(token=MAX_TIER), FACTS)
    guess = predicted(problem(token=MAX_TIER))
    measured = row(problem(token=LARGE_TIER))
    assert find(ConfigTable.of([guess]), key).row is guess
    assert find(ConfigTable.of([guess, measured]), key).row is measured


def test_two_predicted_rows_of_a_key_are_duplicates():
    table = ConfigTable.of([predicted(line=2), predicted(line=3)])
    assert (len(table.rows), len(table.duplicates)) == (1, 1)


def test_a_stale_predicted_row_names_the_command_with_model():
    made = plan(problem(), predicted(template_hash="f" * 16))
    (text,) = (n.text for n in made.notices if n.warning)
    assert "--target gfx950 --model`" in text


def test_what_has_no_row_is_told_how_to_predict_one():
    assert any("with --model" in n.text for n in plan(problem()).notices)


def test_the_tuner_measures_what_was_only_predicted(tmp_path, monkeypatch):
    output = tmp_path / "tuned.csv"
    write_rows(output, [predicted(), row(problem(token=32))])
    monkeypatch.setattr("aiter_moe.tuning.tune.template_hash", lambda target: HASH)
    assert [key.token for key in known_rows(output, "gfx950")] == [32]
    job = Job((problem(),), output, FACTS)
    assert stale_count(job, [problem()]) == 0
