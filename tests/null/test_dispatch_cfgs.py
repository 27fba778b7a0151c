# SPDX-License-Identifier: MIT
"""`get_2stage_cfgs`: aiter's arguments in, MOEMetadata out; pure, remembered, never outdated."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import subprocess
import sys
import time

import pytest
import torch
from planning import write_csv

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.configs.table import Key, Row
from aiter_moe.dispatch import MOEMetadata, get_2stage_cfgs
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType
from aiter_moe.errors import AiterMoeError, ArgumentError, ConfigError, UnsupportedProblemError
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts

ARGS = {
    "token": 16,
    "model_dim": 2880,
    "inter_dim": 2880,
    "expert": 32,
    "topk": 4,
    "dtype": torch.bfloat16,
    "q_dtype_a": torch.bfloat16,
    "q_dtype_w": dtypes.fp4x2,
    "q_type": QuantType.per_1x32,
    "use_g1u1": True,
    "activation": ActivationType.Swiglu,
    "doweight_stage1": False,
    "hidden_pad": 0,
    "intermediate_pad": 0,
    "target": "gfx950",
}


def cfgs(**changes) -> MOEMetadata:
    return get_2stage_cfgs(**(ARGS | changes))


def tuned(block_m: int, cu_num: int = 256, **fields) -> Row:
    of = Problem(
        token=16, model_dim=2880, inter_dim=2880, experts=32, topk=4,
        activation=ActivationType.Swiglu, q_dtype_a=torch.bfloat16,
    )  # fmt: skip
    return Row(Key.of(of, DeviceFacts("gfx950", cu_num)), block_m, 1, **fields)


def test_the_arguments_are_aiters_in_aiters_order():
    names = list(inspect.signature(get_2stage_cfgs).parameters)
    assert names[:20] == [
        "token", "model_dim", "inter_dim", "expert", "topk", "dtype", "q_dtype_a", "q_dtype_w",
        "q_type", "use_g1u1", "activation", "doweight_stage1", "hidden_pad", "intermediate_pad",
        "is_shuffled", "gate_mode", "is_ep", "has_stage2_bias", "opus_weights_shuffled",
        "config_file",
    ]  # fmt: skip


def test_metadata_has_aiters_fields_with_bound_stages():
    found = cfgs(has_stage2_bias=True)
    assert isinstance(found.stage1, functools.partial)
    assert found.stage1.keywords == {"instance": found.plan.stage1, "ksplit": found.ksplit}
    assert found.stage2.keywords == {"instance": found.plan.stage2}
    assert found.has_bias
    assert found.stage2_has_bias
    assert (found.run_1stage, found.flat, found.output_aux, found.fuse_quant) == (
        False, False, False, "",
    )  # fmt: skip
    assert found.prequant
    assert found.use_non_temporal_load
    assert found.route_bucket == ""


@pytest.mark.parametrize("target", ["cpu", "gfx950"])
@pytest.mark.parametrize("a_type", [torch.bfloat16, dtypes.fp4x2])
@pytest.mark.parametrize("tokens", [1, 3, 17, 129, 5000, 100_000])
def test_counts_and_their_tiers_are_the_same_question(target, a_type, tokens):
    found = cfgs(token=tokens, target=target, q_dtype_a=a_type)
    assert found.plan.problem.token >= min(tokens, 32768)
    assert cfgs(token=found.plan.problem.token, target=target, q_dtype_a=a_type) is found
    assert found.plan.stage1 in catalogue(target)
    kind = Kind.A4W4 if a_type == dtypes.fp4x2 else Kind.A16W4
    assert found.plan.stage1.kind is found.plan.stage2.kind is kind


@pytest.mark.parametrize("target", ["cpu", "gfx950"])
@pytest.mark.parametrize("inter", [128, 192, 384, 640])
def test_tensor_parallel_shapes_have_kernels(target, inter):
    for a_type in (torch.bfloat16, dtypes.fp4x2):
        for mode in (GateMode.SEPARATED, "interleave"):
            assert cfgs(target=target, inter_dim=inter, q_dtype_a=a_type, gate_mode=mode).block_m


def test_an_unchanged_question_is_answered_from_memory_in_microseconds(tmp_path):
    path = write_csv(tmp_path / "tuned.csv", [tuned(64)])
    first = cfgs(config_file=str(path))
    durations = []
    for _ in range(200):
        begin = time.perf_counter_ns()
        assert cfgs(config_file=str(path)) is first
        durations.append(time.perf_counter_ns() - begin)
    assert sorted(durations)[20] < 200_000


def test_a_changed_file_or_variable_is_seen_at_once(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "tuned.csv", [tuned(64)])
    assert cfgs().block_m == 16
    monkeypatch.setenv("AITER_CONFIG_FMOE", str(path))
    assert cfgs().block_m == 64
    write_csv(path, [tuned(128)])
    assert cfgs().block_m == 128
    assert cfgs().plan.source == f"{path}:2"
    monkeypatch.setenv("AITER_BYPASS_TUNE_CONFIG", "1")
    assert cfgs().block_m == 16
    monkeypatch.delenv("AITER_BYPASS_TUNE_CONFIG")
    monkeypatch.setenv("CU_NUM", "64")
    assert cfgs().block_m == 16
    write_csv(path, [tuned(32, cu_num=64)])
    assert cfgs().block_m == 32


def test_aiters_split_variable_forces_a16w4_and_minus_one_turns_rows_off(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "tuned.csv", [Row(tuned(16).key, 16, 4)])
    assert cfgs(config_file=str(path)).ksplit == 4
    monkeypatch.setenv("AITER_KSPLIT", "-1")
    assert cfgs(config_file=str(path)).ksplit == 1
    monkeypatch.setenv("AITER_KSPLIT", "2")
    found = cfgs(config_file=str(path))
    assert (found.ksplit, found.block_m) == (2, 16)
    assert found.plan.stage1.split_k
    monkeypatch.setenv("AITER_KSPLIT", "0")
    assert cfgs(config_file=str(path)).ksplit == 4


def test_non_temporal_loads_follow_aiters_variable(monkeypatch):
    assert cfgs().use_non_temporal_load
    monkeypatch.setenv("AITER_USE_NT", "0")
    assert not cfgs().use_non_temporal_load


def test_a_stale_row_is_said_once(tmp_path, caplog):
    path = write_csv(tmp_path / "tuned.csv", [tuned(16, kernel1="gone")])
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        for tokens in (16, 15, 16):
            cfgs(config_file=str(path), token=tokens)
        write_csv(path, [tuned(32, kernel1="gone too")])
        cfgs(config_file=str(path))
    assert len(caplog.records) == 1
    assert f"{path}:2 is stale" in caplog.text
    assert "aiter-moe tune -i" in caplog.text


def test_an_untuned_shape_is_no_warning(caplog):
    with caplog.at_level(logging.INFO, "aiter_moe"):
        for tokens in (1, 2, 64, 4096):
            cfgs(token=tokens, expert=31)
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "no tuned row for a16w4, Swiglu" in caplog.text


@pytest.mark.parametrize("q_type", [q for q in QuantType if q is not QuantType.per_1x32])
def test_other_quantisations_are_refused_with_the_reason(q_type):
    with pytest.raises(UnsupportedProblemError, match=rf"{q_type}: .*per_1x32"):
        cfgs(q_type=q_type)


BAD = {
    "no experts": ({"expert": 0}, ArgumentError, "expert=0 must be positive"),
    "negative tokens": ({"token": -1}, ArgumentError, "token=-1"),
    "unknown gate mode": ({"gate_mode": "zigzag"}, ArgumentError, "zigzag"),
    "unknown activation": ({"activation": 17}, ArgumentError, "17"),
    "gate only": ({"gate_mode": "gate_only"}, UnsupportedProblemError, "gate_only"),
    "no target": ({"target": "gfx906"}, ConfigError, "gfx906"),
    "no a4w4 kernels": (
        {"target": "gfx942", "q_dtype_a": dtypes.fp4x2}, UnsupportedProblemError,
        r"gfx942 has no matrix instruction for fp4 operands(.|\n)*q_dtype_a=torch\.bfloat16",
    ),
    "no file": ({"config_file": "/nonexistent.csv"}, ConfigError, "nonexistent"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "text"), BAD.values(), ids=BAD)
def test_bad_arguments_get_one_clear_error(changes, error, text):
    with pytest.raises(error, match=text):
        cfgs(**changes)


def test_a_broken_table_is_an_error_on_every_call_until_it_is_mended(tmp_path):
    path = write_csv(tmp_path / "tuned.csv", [tuned(64)], drop=("topk",))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"tuned\.csv:1: column topk missing"):
            cfgs(config_file=str(path))
    write_csv(path, [tuned(64)])
    assert cfgs(config_file=str(path)).block_m == 64


def test_enum_values_may_be_integers_and_pads_stay_out_of_the_key(tmp_path):
    path = write_csv(tmp_path / "tuned.csv", [tuned(64)])
    found = cfgs(
        activation=2, q_type=3, hidden_pad=192, intermediate_pad=100, config_file=str(path)
    )
    assert found.block_m == 64
    assert found.plan.problem.activation is ActivationType.Swiglu
    assert found.plan.problem.model_dim == 2880


def test_the_target_follows_the_variable(monkeypatch):
    monkeypatch.setenv("AITER_MOE_TARGET", "gfx950")
    assert cfgs(target=None).plan.stage1.target == "gfx950"
    monkeypatch.setenv("AITER_MOE_TARGET", "cpu")
    assert cfgs(target=None).plan.stage1.target == "cpu"


PURE = """
import json, os, sys
sys.dont_write_bytecode = True
import torch
loaded = set(sys.modules)
events = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ACTS = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate",
        "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
        "subprocess.Popen", "os.chmod", "os.utime", "shutil.rmtree", "tempfile.mkstemp",
        "socket.connect", "os.putenv")
def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & WRITING:
        events.append([event, str(args[0])])
    elif event in ACTS:
        events.append([event, str(args)])
sys.addaudithook(hook)
from aiter_moe.dispatch import get_2stage_cfgs
from aiter_moe import dtypes
from aiter_moe.enums import ActivationType, QuantType
def ask(**changes):
    args = dict(token=16, model_dim=2880, inter_dim=2880, expert=32, topk=4, dtype=torch.bfloat16,
        q_dtype_a=torch.bfloat16, q_dtype_w=dtypes.fp4x2, q_type=QuantType.per_1x32, use_g1u1=True,
        activation=ActivationType.Swiglu, doweight_stage1=False, hidden_pad=0, intermediate_pad=0)
    return get_2stage_cfgs(**(args | changes))
for target in ("cpu", "gfx950"):
    for token in (1, 16, 4096, 30000):
        for a_type in (torch.bfloat16, dtypes.fp4x2):
            ask(target=target, token=token, q_dtype_a=a_type)
new = {name.partition(".")[0] for name in set(sys.modules) - loaded}
heavy = new & {"pandas", "jinja2", "typer", "rich", "filelock", "platformdirs", "numpy", "yaml"}
print(json.dumps({"events": events, "heavy": sorted(heavy)}))
"""


def test_a_look_up_writes_nothing_starts_nothing_and_loads_little(tmp_path):
    stale = tuned(16, kernel1="gone", template_hash="0" * 16)
    path = write_csv(tmp_path / "tuned.csv", [stale, stale, tuned(32, cu_num=9)])
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", PURE], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"AITER_CONFIG_FMOE": str(path), "HOME": str(tmp_path)},
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"events": [], "heavy": []}
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tuned.csv"]


def test_every_error_of_a_dispatch_is_one_of_ours():
    for changes in ({"inter_dim": 33}, {"use_g1u1": False}, {"dtype": torch.float32}):
        with pytest.raises(AiterMoeError):
            cfgs(**changes)
