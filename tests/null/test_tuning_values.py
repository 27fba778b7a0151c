# SPDX-License-Identifier: MIT
"""Values of the tuner: outcomes and messages as JSON, figures, the report."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.cpu import REQUIRES
from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.writer import write_rows
from aiter_moe.enums import ActivationType, GateMode
from aiter_moe.errors import ArgumentError, ConfigError
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning import messages, outcomes, report
from aiter_moe.tuning.candidates import Candidate, candidates
from aiter_moe.tuning.figures import Provenance, Result, bytes_moved, operations, rates, row_of
from aiter_moe.tuning.measurer import Confirmed, deadline_s
from aiter_moe.tuning.operands import Layer
from aiter_moe.tuning.outcomes import CompileError, Fault, Ok, Timeout, Unsupported, WrongResult
from aiter_moe.tuning.peaks import Peaks
from aiter_moe.tuning.select import Choice, Trial

FACTS = DeviceFacts("cpu", 2, frozenset().union(*REQUIRES.values()))
A4W4 = Problem(128, 2880, 2880, 32, 4, ActivationType.Swiglu, dtypes.fp4x2, has_bias=True)
A16W4 = replace(A4W4, q_dtype_a=torch.bfloat16)
FAST = Peaks(1e15, 1e18, 1e18)

text = st.text(max_size=40)
finite = st.floats(0, 1e3)
any_outcome = st.one_of(
    st.builds(Ok, finite, st.lists(st.integers(0, 10**12), max_size=4).map(tuple)),
    st.builds(Unsupported, text),
    st.builds(CompileError, text),
    st.builds(WrongResult, finite, text),
    st.builds(Fault, text),
    st.builds(Timeout, finite),
)


@settings(deadline=None)
@given(any_outcome)
def test_an_outcome_survives_the_pipe(outcome):
    assert outcomes.decode(json.loads(json.dumps(outcomes.encode(outcome)))) == outcome


def test_the_error_of_an_output_with_holes_survives_the_pipe_as_nan():
    sent = json.dumps(outcomes.encode(WrongResult(math.nan, "holes")))
    assert math.isnan(outcomes.decode(json.loads(sent)).error)


@settings(deadline=None)
@given(any_outcome)
def test_every_outcome_has_one_line_for_people(outcome):
    assert outcomes.describe(outcome)


@pytest.mark.parametrize("data", [{"outcome": "Fine"}, {}, {"outcome": "Fault", "seconds": 3}])
def test_a_message_that_is_no_outcome_is_refused(data):
    with pytest.raises(ConfigError, match="outcome"):
        outcomes.decode(data)


@pytest.mark.parametrize(
    "problem",
    [A4W4, A16W4, replace(A16W4, gate_mode=GateMode.INTERLEAVE, dtype=torch.float16)],
)
def test_a_problem_and_its_layer_survive_the_pipe(problem):
    sent = json.loads(json.dumps(messages.problem_to_json(problem)))
    assert messages.problem_from_json(sent) == problem
    layer = Layer.of(problem)
    assert messages.layer_from_json(json.loads(json.dumps(messages.layer_to_json(layer)))) == layer


@pytest.mark.parametrize("problem", [A4W4, A16W4], ids=lambda p: str(p.kind))
def test_a_candidate_survives_the_pipe(problem):
    for candidate in candidates(problem, FACTS):
        sent = json.loads(json.dumps(messages.candidate_to_json(candidate)))
        assert messages.candidate_from_json(sent) == candidate


def test_a_candidate_of_a_kernel_that_does_not_exist_is_refused():
    with pytest.raises(ArgumentError, match="no kernel 'x'"):
        messages.candidate_from_json({"target": "cpu", "kernel": "x", "ksplit": 1})


def test_bytes_count_only_the_experts_that_got_tokens():
    one, all_of_them = bytes_moved(A16W4, 1), bytes_moved(A16W4, 32)
    per_expert = 3 * 2880 * 2880 * 17 // 32
    assert all_of_them - one == 31 * per_expert
    assert one == per_expert + 128 * 2880 * (2 + 2)


def test_operations_count_the_routed_rows_of_both_stages():
    assert operations(A4W4) == 2 * 128 * 4 * (2 * 2880 * 2880 + 2880 * 2880)


def test_a_rate_above_the_measured_peak_is_left_out():
    honest = rates(A16W4, 32, 1e8, Peaks(3.5e10, 4.4e11))
    assert honest.gb_per_s == pytest.approx(bytes_moved(A16W4, 32) / 1e8)
    assert honest.tflops == pytest.approx(operations(A16W4) / 1e8 / 1e3)
    boasting = rates(A16W4, 32, 1e6, Peaks(3.5e10, 4.4e11))
    assert boasting.gb_per_s is None
    assert boasting.tflops is None


def test_each_kind_has_the_peak_of_its_own_dot_product():
    peaks = Peaks(3.5e10, 4e11, 8e11)
    assert [peaks.operations_per_s(kind) for kind in (A16W4.kind, A4W4.kind)] == [4e11, 8e11]
    assert peaks.best(Peaks(1e10, 9e11, 1e11)) == Peaks(3.5e10, 9e11, 8e11)
    assert Peaks.from_json(json.loads(json.dumps(peaks.to_json()))) == peaks


def pair(problem, ns1, ns2, samples=5):
    found = candidates(problem, FACTS)
    first = next(c for c in found if c.stage == 1)
    second = next(c for c in found if c.stage == 2 and c.block_m == first.block_m)
    return Choice(
        Trial(first, Ok(0.0021, (ns1,) * samples)), Trial(second, Ok(0.0017, (ns2,) * samples))
    )


def row(problem=A16W4, before=6_000_000):
    untuned = pair(problem, before // 2, before // 2) if before else None
    result = Result(problem, pair(problem, 2_000_000, 1_000_000), untuned, 30)
    return row_of(result, FACTS, FAST, Provenance("abc", "clang 22", 7))


def test_a_row_holds_medians_errors_kernels_and_provenance():
    found = row()
    assert (found.us1, found.us2, found.us) == (2000.0, 1000.0, 3000.0)
    assert (found.err1, found.err2) == (0.0021, 0.0017)
    assert (found.template_hash, found.compiler, found.repeats) == ("abc", "clang 22", 5)
    assert dict(found.extra)["active_experts"] == "30"
    assert found.ksplit == 1


def test_a_row_of_a4w4_has_ksplit_zero():
    assert row(A4W4).ksplit == 0


def test_the_table_is_the_same_for_new_rows_and_rows_read_back(tmp_path):
    rows = [row(A16W4), row(A4W4)]
    path = tmp_path / "tuned.csv"
    write_rows(path, rows)
    again = {r.key: r for r in read_tuned(path)}
    read = report.tuned_table([again[r.key] for r in rows])
    written = report.tuned_table(rows)
    assert read == written


def test_the_table_says_what_stage_two_reads_and_how_much_faster_it_is():
    line = dict(zip(report.HEADER, report.tuned_table([row(A4W4)]).lines[0], strict=True))
    assert line["kind"] == "a4w4"
    assert line["speed-up"] == "2.00x"
    assert line["error"] == "0.210%"
    rate = dict(zip(report.RATES_HEADER, report.rates_table([row(A4W4)]).lines[0], strict=True))
    assert (rate["stage 2 reads"], rate["experts"]) == ("fp4", "30")


def test_a_row_without_an_untuned_time_shows_no_speed_up():
    line = dict(zip(report.HEADER, report.tuned_table([row(before=0)]).lines[0], strict=True))
    assert line["speed-up"] == line["untuned"] == "-"


def test_plain_tables_are_aligned_lines_without_colours():
    shown = report.plain(report.tuned_table([row(A16W4), row(A4W4)])).splitlines()
    assert len(shown) == 3
    assert len({len(line) for line in shown}) == 1
    assert all(character.isprintable() for line in shown for character in line)


def test_a_confirmed_run_shows_the_row_it_used():
    found = report.confirmed_table([Confirmed(A4W4, "t.csv:2", ("a", "b"), 0.0023, 1234.5)])
    assert found.lines == (("a4w4", "128", "t.csv:2", "0.230%", "1234.5"),)


def test_deadlines_grow_with_the_work():
    assert deadline_s(A16W4) > deadline_s(replace(A16W4, token=1)) > 20
    assert deadline_s(A16W4, calls=8) > deadline_s(A16W4)


def test_every_kernel_of_the_catalogue_has_a_line_for_people():
    assert all(i.name in str(Candidate(i, 2)) for i in catalogue("cpu"))
