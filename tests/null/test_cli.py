# SPDX-License-Identifier: MIT
"""The console command as a whole: help, version, exit statuses, and messages without tracebacks."""

from __future__ import annotations

import os
import signal
import sys

import pytest

import aiter_moe
from aiter_moe import env
from aiter_moe.cli import main
from aiter_moe.tuning.model_shapes import packaged

NO_FOLDER = "/proc/aiter_moe/tuned.csv"


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command; return its exit status, and what it printed to stdout and stderr."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["aiter-moe", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_version_is_printed(command):
    assert command("--version") == (0, f"aiter_moe {aiter_moe.__version__}\n", "")


@pytest.mark.parametrize("name", ["tune", "build", "verify", "lookup", "config"])
def test_every_command_has_a_help_text_within_80_columns(command, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, text, _ = command(name, "--help")
    assert status == 0
    assert f"aiter-moe {name}" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune"], ["-i", "--shapes"]),
        (["tune", "-i", "missing.csv"], ["missing.csv: cannot be read: No such file"]),
        (["tune", "-i", "."], ["Is a directory"]),
        (["tune", "--shapes", "nope"], ["no packaged shape file 'nope'", "gptoss-20b"]),
        (["tune", "--shapes", "gptoss-20b", "-o", "."], ["Is a directory"]),
        (["tune", "--shapes", "gptoss-20b", "-o", NO_FOLDER], [NO_FOLDER, "cannot be written"]),
        (["tune", "--shapes", "gptoss-20b", "--target", "tpu"], ["no target 'tpu'", "cpu"]),
        (["tune", "--shapes", "gptoss-20b", "--target", "gfx950"], ["no times", "--target gfx950"]),
        (["tune", "--shapes", "gptoss-20b", "--target", "gfx950"], ["--target gfx950 --model`"]),
        (["tune", "--shapes", "gptoss-20b", "--target", "gfx942", "--model"], ["no cost model of"]),
        (["tune", "--shapes", "gptoss-20b", "--model"], ["no cost model of cpu"]),
        (
            ["tune", "--shapes", "gptoss-20b", "--target", "gfx950:emulator"],
            ["cannot tune for gfx950:emulator", "build --target gfx950`"],
        ),
        (["build", "--target", "gfx906"], ["gfx906", "cpu, gfx950, gfx942"]),
        (["build", "--name", "nope"], ["nope", "--plan"]),
    ],
)
def test_what_cannot_be_done_is_one_message_before_any_work(
    command, arguments, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("aiter-moe: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["tune", "--nope"],
        ["tune", "--budget", "-1"],
        ["lookup"],
        ["build", "--stage", "3"],
    ],
)
def test_wrong_usage_ends_with_status_2(command, arguments):
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: aiter-moe" in err and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_that_end_a_command_let_it_clean_up(command, number, monkeypatch):
    cleaned = []

    def interrupted() -> None:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            cleaned.append(number)

    monkeypatch.setattr("aiter_moe.cli._run", interrupted)
    assert command()[0] == 130
    assert cleaned == [number]


def test_the_configuration_names_target_compiler_cache_and_variables(
    command, monkeypatch, tmp_path
):
    monkeypatch.setenv("AITER_MOE_TARGET", "cpu")
    monkeypatch.setenv("AITER_MOE_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    status, text, _ = command("config")
    assert status == 0
    target, compiler, cache, _, *variables = text.splitlines()
    assert target.startswith("target    cpu, ")
    assert compiler.startswith("compiler  none: CXX='no-such-compiler' names no program")
    assert cache == f"cache     {tmp_path / 'kernels'}"
    assert {variable.name for variable in env.TABLE} <= {line.split(" ")[0] for line in variables}
    assert list(tmp_path.iterdir()) == []


def test_a_look_up_on_the_emulator_is_that_of_its_device(command):
    sizes = [
        "--token",
        "16",
        "--model-dim",
        "512",
        "--inter-dim",
        "256",
        "--expert",
        "8",
        "--topk",
        "2",
    ]
    emulated = command("lookup", *sizes, "--target", "gfx950:emulator")
    assert emulated[0] == 0
    assert "aiter_moe_gfx950_" in emulated[1]
    assert emulated == command("lookup", *sizes, "--target", "gfx950")


def test_a_signal_that_was_to_be_ignored_stays_ignored(command):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    command("--version")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_rows_are_predicted_without_a_device(command, tmp_path):
    output = tmp_path / "tuned.csv"
    asked = ("tune", "--shapes", "gptoss-20b-quick", "--target", "gfx950", "--model")
    status, text, _ = command(*asked, "-o", str(output))
    assert status in (0, None)
    assert "predicted us" in text and "Predicted, not measured" in text
    assert output.read_text().count(",model,") == 6
    status, text, _ = command(*asked, "-o", str(output))
    assert "6 of 6 problems have a row" in text


def test_a_problem_without_kernels_ends_a_prediction_with_status_1(command, tmp_path):
    asked = ("tune", "--target", "gfx950", "--model", "-o", str(tmp_path / "tuned.csv"))
    untuned = tmp_path / "untuned.csv"
    lines = packaged("gptoss-20b-quick").read_text().splitlines()
    untuned.write_text("\n".join([lines[0], lines[1].replace("2880", "2881")]) + "\n")
    status, text, _ = command(*asked, "-i", str(untuned))
    assert status == 1
    assert "no row for a16w4 tokens 1: no kernels of gfx950 run" in text
