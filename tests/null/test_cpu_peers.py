# SPDX-License-Identifier: MIT
"""benchmarks/cpu_peers.py: peers that are missing, end or answer wrong; medians; what is kept."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import cpu_peers
import pytest
import torch
from peers import install, plot, runner, table
from peers.catalogue import GGML, OURS, PACKAGES, PEERS
from peers.ggml import blocks
from peers.int4 import int4
from peers.layers import Operands, hidden_states, layer_named, routing
from peers.peer import Peer, install_command
from peers.process import PeerFailedError, PeerProcess, ending
from peers.reference import checked, compute
from peers.results import Absence, Cell, Row, Run, deviation
from peers.runner import Pace
from peers.torch_dense import Float32
from peers.usage import busy_seconds, process_seconds

from aiter_moe.enums import ActivationType
from aiter_moe.formats import dequantise
from aiter_moe.tuning.operands import Layer, biases, expert_weights

LAYER = "minimax-m2-tp8"
PACE = Pace(rounds=4, burst_s=1.0, most_calls=2, cell_s=100.0, least_rounds=2)
CHILD = """
import json, os, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    do = request["do"]
    if do == "end":
        os.kill(os.getpid(), request["signal"])
    print("a word", file=sys.stderr)
    print(json.dumps({"failed": "ValueError: no"} if do == "fail" else request), flush=True)
"""


class Fake:
    """A peer whose calls take the seconds of a list, over and over."""

    def __init__(self, seconds: list[float], error: float = 1e-3, fails: str = "") -> None:
        self.seconds, self.error, self.fails, self.bursts = seconds, error, fails, []

    def ask(self, seconds, **request):
        if request["do"] == self.fails:
            raise PeerFailedError("it ended")
        if request["do"] == "prepare":
            return {"errors": {"exact": self.error, "quantised": self.error}, "seconds": 0.1}
        self.bursts.append(request["turns"])
        return {"seconds": [self.seconds.pop(0) for _ in request["turns"]]}


def measured(fakes, pace=PACE):
    failures = {}
    rates = iter([{"read": r} for r in (1.0, 9.0, 2.0, 3.0)])
    case = runner.Case(LAYER, 1, Path("reference"))
    row = runner.measure(case, fakes, lambda: next(rates), pace, failures.__setitem__)
    return row, failures


def example() -> Run:
    cells = (
        Cell("a16w4", 1e-3, 1e-5, 8, {"exact": 2e-3, "quantised": 0.2}),
        Cell("a4w4", 0.5e-3, 1e-5, 8, {"exact": 0.2, "quantised": 1e-3}),
        Cell("ggml", 2e-3, 1e-5, 8, {"exact": 1e-2, "quantised": 0.2}),
        Cell("torch bf16", 4e-3, 1e-5, 8, {"exact": 3e-3, "quantised": 0.2}),
    )
    rates = {"read": 10e9, "a16w4": 100e9, "a4w4": 400e9}
    rows = (Row(LAYER, 1, 5e6, 20e6, rates, cells), Row(LAYER, 4, 8e6, 80e6, rates, cells[1:]))
    absence = Absence("vllm", "", "not installed", "python benchmarks/cpu_peers.py --install x")
    peers = {peer.name: peer.weights for peer in PEERS}
    return Run({"CPU": "one"}, peers, {LAYER: "sizes"}, rows, (absence,))


def test_medians_are_of_all_calls_and_turns_follow_each_other():
    fakes = {"a": Fake([8.0, 1.0, 2.0, 9.0, 3.0, 4.0, 7.0, 6.0]), "b": Fake([1.0] * 8)}
    row, failures = measured(fakes)
    assert not failures
    cell = row.cell("a")
    assert (cell.seconds, cell.calls, cell.deviation) == (5.0, 8, 2.5)
    assert fakes["a"].bursts == [[3, 4], [6, 7], [9, 10], [12, 13]] == fakes["b"].bursts
    assert row.rates == {"read": 2.5}


def test_deviation_is_the_median_of_the_distances():
    assert deviation([1.0, 2.0, 3.0, 100.0]) == 1.0


def test_slow_peers_take_part_in_fewer_rounds_spread_evenly():
    pace = Pace(rounds=9, burst_s=0.04, most_calls=8, cell_s=3.0, least_rounds=3)
    assert (pace.calls(0.001), pace.calls(0.02), pace.calls(1.0)) == (8, 2, 1)
    assert (pace.rounds_of(0.001), pace.rounds_of(1.0), pace.rounds_of(0.5)) == (9, 3, 6)
    assert [turn for turn in range(9) if pace.joins(turn, 3)] == [2, 5, 8]
    assert sum(pace.joins(turn, 6) for turn in range(9)) == 6


@pytest.mark.parametrize("when", ["prepare", "burst"])
def test_a_peer_that_fails_has_no_cell_and_the_others_go_on(when):
    row, failures = measured({"a": Fake([], fails=when), "b": Fake([1.0] * 8)})
    assert failures == {"a": "it ended"}
    assert [cell.peer for cell in row.cells] == ["b"]


@pytest.mark.parametrize("error", [float("nan"), 1.4])
def test_wrong_results_are_no_figure(error):
    row, failures = measured({"a": Fake([], error=error), "b": Fake([1.0] * 8)})
    assert "wrong: relative error" in failures["a"]
    assert row.cell("a") is None


def child(tmp_path: Path, needs: tuple[str, ...] = ()) -> PeerProcess:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    process = PeerProcess(Peer("x", "", "none", needs=needs), None, 1, (sys.executable, script))
    process.start(60)
    return process


def test_a_crash_is_told_with_its_signal_and_last_words(tmp_path):
    with child(tmp_path, ("no_such_feature",)) as process:
        assert process.ask(60, do="go") == {"do": "go"}
        with pytest.raises(PeerFailedError, match=r"SIGILL.*lacks no_such_feature.*a word"):
            process.ask(60, do="end", signal=4)
        with pytest.raises(PeerFailedError, match="SIGILL"):
            process.ask(60, do="go")


def test_an_exception_is_told_and_the_process_lives(tmp_path):
    with child(tmp_path) as process:
        with pytest.raises(PeerFailedError, match="ValueError: no"):
            process.ask(60, do="fail")
        assert process.ask(60, do="go") == {"do": "go"}


def test_endings():
    assert ending(3) == "ended with status 3"
    assert ending(-11) == "killed by SIGSEGV"
    assert "memory" in ending(-9)


def test_a_class_that_cannot_be_imported_is_told():
    failing = pytest.raises(PeerFailedError, match="ModuleNotFoundError")
    with PeerProcess(Peer("x", "", "no_such_module:X"), None, 1) as process, failing:
        process.start(60)


def test_results_come_back_from_json_and_other_schemas_do_not(tmp_path):
    run = example()
    run.save(tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text()
    assert Run.from_json(text) == run
    with pytest.raises(ValueError, match="schema"):
        Run.from_json(text.replace('"schema": 1', '"schema": 0'))


def test_a_row_takes_the_place_of_the_one_before():
    run = example()
    row = dataclasses.replace(run.rows[0], bytes=1.0)
    assert run.with_row(row).rows == (row, run.rows[1])
    assert run.has(LAYER, 4) and not run.has(LAYER, 16)


def test_the_page_has_ratios_limits_errors_and_who_is_missing():
    text = table.page(example(), "note")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["tokens", "ggml", "torch bf16", "a16w4", "a4w4", "best peer", "a16w4 against it",
            "a4w4 against it"] in lines  # fmt: skip
    assert ["1", "**2**", "4", "1", "0.5", "ggml", "2.00x", "4.00x"] in lines
    assert ["4", "**2**", "4", "-", "0.5", "ggml", "-", "4.00x"] in lines
    assert ["1", "5", "10.0", "0.00", "50 %", "100 %", "100", "20 %", "400", "10 %"] in lines
    a4w4 = next(line for line in lines if line[:1] == ["a4w4"])
    assert a4w4[3:5] == ["1.0e-03", "2.0e-01"]
    assert "vllm: not installed. Install it: `python benchmarks/cpu_peers.py --install x`" in text


def test_the_picture_is_well_formed_and_has_a_line_per_column():
    root = ElementTree.fromstring(plot.svg(example()))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"ggml", "torch bf16", "a16w4", "a4w4"} <= set(texts)


def test_a_package_is_there_only_whole_and_of_the_same_versions(tmp_path):
    assert not any(install.is_installed(package, tmp_path) for package in PACKAGES)
    folder = tmp_path / GGML.name
    folder.mkdir()
    (folder / install.STAMP).write_text("{")
    assert not install.is_installed(GGML, tmp_path)
    (folder / install.STAMP).write_text(install.json.dumps(install.contents(GGML)))
    assert install.is_installed(GGML, tmp_path)
    assert install_command(GGML).endswith("--install ggml")


def test_columns_are_unique_and_packages_pin_versions():
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert {peer.name for peer in OURS} == {"a16w4", "a4w4"}
    assert all("==" in r for package in PACKAGES for r in package.requires)


def test_routing_of_turns_keeps_the_load_and_moves_on():
    layer = layer_named("gptoss-20b")
    seen = [frozenset(routing(layer, 1, turn).ids.flatten().tolist()) for turn in range(9)]
    assert all(len(ids) == layer.topk for ids in seen)
    assert len(set(seen)) == 9


def small() -> Operands:
    layer = Layer(64, 64, 2, 1, ActivationType.Swiglu, has_bias=True)
    made = [expert_weights(layer, 7, e) for e in range(2)]
    return Operands(layer, *(torch.stack(parts) for parts in zip(*made, strict=True)),
                    *biases(layer, 7))  # fmt: skip


def test_dense_weights_are_those_of_mxfp4():
    given = small()
    w = given.expert(1)
    first, second = given.dense(1)
    assert torch.equal(first.double(), dequantise(w.codes1, w.scales1))
    assert torch.equal(second.double(), dequantise(w.codes2, w.scales2))


def test_ggml_blocks_hold_a_scale_and_both_halves():
    w = small().expert(0)
    made = blocks(w.codes1, w.scales1)
    assert torch.equal(made[..., 0], w.scales1)
    low, high = made[..., 1:] & 15, made[..., 1:] >> 4
    codes = torch.stack((w.codes1 & 15, w.codes1 >> 4), dim=-1).view(*w.scales1.shape, 32)
    assert torch.equal(torch.cat((low, high), dim=-1), codes)


def test_int4_rounds_halves_alone():
    weight = torch.zeros(1, 64)
    weight[0, :8] = torch.tensor([6.0, -4, 3, 2, 1, 0, -6, -1])
    weight[0, 32:36] = torch.tensor([0.75, 0.5, -0.375, 0.25])
    values, scales = int4(weight)
    found = (values.view(1, 2, 32) * scales[..., None]).view(1, 64)
    assert torch.equal(found[0, :8], weight[0, :8])
    assert values.abs().max() <= 7
    assert (found - weight).abs().max() <= 0.0625


def test_the_reference_is_the_layer():
    given = small()
    peer = Float32(given, torch.get_num_threads())
    x, route = hidden_states(given.layer, 70), routing(given.layer, 70)
    out = peer.result(peer.run(peer.take(x, route))).double()[checked(70)]
    want = compute(given, tokens=70)
    assert len(out) == 33
    assert float((out - want["exact"]).norm() / out.norm()) < 1e-5
    assert 1e-2 < float((out - want["quantised"]).norm() / out.norm()) < 0.5


def test_memory_and_other_load_are_told():
    run = example().with_memory(LAYER, {"ggml": 250_000_000})
    rows = [[cell.strip() for cell in line.split("|")] for line in table.page(run, "").splitlines()]
    assert next(row for row in rows if row[1:2] == ["ggml"])[3] == "250"
    assert busy_seconds() >= 0
    assert process_seconds([os.getpid(), 2**30]) > 0


def test_a_resumed_run_keeps_the_rows_of_the_same_tree_alone(tmp_path):
    run = example()
    new = dataclasses.replace(run, facts={**run.facts, "date": "later"}, rows=())
    run.save(tmp_path / "x.json")
    assert cpu_peers.resumed(tmp_path / "x.json", new).rows == run.rows
    other = dataclasses.replace(new, facts={"CPU": "two"})
    assert cpu_peers.resumed(tmp_path / "x.json", other) is other
    assert cpu_peers.resumed(tmp_path / "none.json", new) is new


def test_missing_peers_are_named_with_their_command(tmp_path, monkeypatch, capsys):
    arguments = ["cpu_peers.py", "--folder", str(tmp_path), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(cpu_peers, "run_layer", lambda bench, name, results: None)
    assert cpu_peers.main() == 0
    text = capsys.readouterr().out
    for package in PACKAGES:
        assert f"python benchmarks/cpu_peers.py --install {package.name}" in text
    absent = Run.from_json((tmp_path / "out.json").read_text()).absences
    assert {absence.peer for absence in absent} == {p.name for p in PEERS if p.package}


def test_ctrl_c_keeps_the_rows_so_far(tmp_path, monkeypatch):
    arguments = ["cpu_peers.py", "--folder", str(tmp_path), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)

    def interrupted(bench, name, results):
        row = dataclasses.replace(example().rows[0], layer="gptoss-20b")
        results.keep(results.run.with_row(row))
        raise KeyboardInterrupt

    monkeypatch.setattr(cpu_peers, "run_layer", interrupted)
    assert cpu_peers.main() == 130
    assert len(Run.from_json((tmp_path / "out.json").read_text()).rows) == 1
