# SPDX-License-Identifier: MIT
"""Reading tuned and untuned CSV files: lenient where files in the wild differ, strict elsewhere."""

from __future__ import annotations

import pytest
import torch
from planning import PUBLIC_DATA, problem, row, write_csv

from aiter_moe import dtypes
from aiter_moe.configs import schema
from aiter_moe.configs.reader import read_tuned, read_untuned
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType
from aiter_moe.errors import ConfigError

UNTUNED = "token,model_dim,inter_dim,expert,topk,act_type,dtype,q_dtype_a,q_dtype_w,q_type,use_g1u1,doweight_stage1"  # noqa: E501
TYPES = "ActivationType.Silu,torch.bfloat16,torch.float4_e2m1fn_x2,torch.float4_e2m1fn_x2,QuantType.per_1x32"  # noqa: E501
LEGACY = f"cu_num,{UNTUNED},block_m,ksplit,us1,kernelName1,err1,us2,kernelName2,err2,us,run_1stage,tflops,bw,_tag"  # noqa: E501


def legacy_line(cu_num: int = 256, tag: str = "", block_m: str = "32") -> str:
    return (
        f"{cu_num},16,512,256,8,2,{TYPES},1,0,{block_m},0,11.3,k1,0.5%,7.5,k2,1.5%,18.8,0,1,2,{tag}"
    )


def legacy(tmp_path, *lines: str, header: str = LEGACY):
    path = tmp_path / "tuned.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_legacy_row_is_read_with_types(tmp_path):
    (found,) = read_tuned(legacy(tmp_path, legacy_line()))
    assert found.key.act_type is ActivationType.Silu
    assert found.key.q_dtype_a == dtypes.fp4x2
    assert found.key.q_type is QuantType.per_1x32
    assert found.key.use_g1u1 is True
    assert found.key.doweight_stage1 is False
    assert (found.block_m, found.ksplit, found.kernel1, found.kernel2) == (32, 0, "k1", "k2")
    assert (found.us1, found.us2, found.us) == (11.3, 7.5, 18.8)
    assert (found.err1, found.err2) == (pytest.approx(0.005), pytest.approx(0.015))
    assert found.where.endswith("tuned.csv:2")


@pytest.mark.parametrize(("cu_num", "gfx"), [(256, "gfx950"), (80, "gfx942"), (304, "gfx942")])
def test_files_without_gfx_take_it_from_the_compute_units(tmp_path, cu_num, gfx):
    assert read_tuned(legacy(tmp_path, legacy_line(cu_num)))[0].key.gfx == gfx


def test_unknown_compute_units_stand_for_the_running_device(tmp_path):
    assert read_tuned(legacy(tmp_path, legacy_line(96)))[0].key.gfx == ""


def test_rows_tagged_as_fallback_are_dropped(tmp_path):
    path = legacy(tmp_path, legacy_line(tag="flydsl_fallback"), legacy_line(tag="other"))
    assert [r.tag for r in read_tuned(path)] == ["other"]


def test_byte_order_mark_crlf_blank_lines_and_spaces_are_accepted(tmp_path):
    path = tmp_path / "tuned.csv"
    text = f"{LEGACY}\r\n\r\n {legacy_line().replace(',', ' , ')}\r\n,,,\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (found,) = read_tuned(path)
    assert found.kernel1 == "k1"
    assert found.line == 3


def test_missing_trailing_fields_are_empty(tmp_path):
    (found,) = read_tuned(legacy(tmp_path, legacy_line().rsplit(",", 4)[0]))
    assert found.us == 18.8
    assert found.tag == ""
    assert found.run_1stage is False


def test_figures_of_others_are_never_parsed(tmp_path):
    line = legacy_line().replace(",0,1,2,", ",0,not a number,?,")
    assert read_tuned(legacy(tmp_path, line))[0].tflops is None


def test_empty_names_and_times_are_allowed(tmp_path):
    line = (
        legacy_line().replace("11.3,k1,0.5%,7.5,k2,1.5%,18.8,0", ",,,,,,,").replace("32,0,", "32,,")
    )
    (found,) = read_tuned(legacy(tmp_path, line))
    assert (found.kernel1, found.kernel2, found.us1, found.err1, found.ksplit) == (
        "",
        "",
        None,
        None,
        0,
    )


@pytest.mark.parametrize(
    ("cell", "value"), [("1", True), ("True", True), ("false", False), ("0", False)]
)
def test_flags_may_be_words(tmp_path, cell, value):
    line = legacy_line().replace(f"{TYPES},1,", f"{TYPES},{cell},")
    assert read_tuned(legacy(tmp_path, line))[0].key.use_g1u1 is value


def test_integers_that_pandas_wrote_as_floats_are_read(tmp_path):
    assert read_tuned(legacy(tmp_path, legacy_line(block_m="64.0")))[0].block_m == 64


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [
        ("block_m", ",32,0,11.3", ",half,0,11.3"),
        ("block_m", ",32,0,11.3", ",32.5,0,11.3"),
        ("token", "256,16,512", "256,,512"),
        ("act_type", "ActivationType.Silu", "ActivationType.Relu"),
        ("act_type", "ActivationType.Silu", "__import__('os').getcwd()"),
        ("dtype", "torch.bfloat16", "torch.load"),
        ("q_type", "QuantType.per_1x32", "QuantType.per_1x7"),
        ("use_g1u1", f"{TYPES},1,", f"{TYPES},2,"),
        ("us1", "11.3", "fast"),
        ("err1", "0.5%", "x%"),
        ("cu_num", "256,16", "many,16"),
        ("token", "256,16,512", "256,inf,512"),
    ],
)
def test_a_bad_cell_is_named_by_file_line_and_column(tmp_path, column, old, new):
    path = legacy(tmp_path, legacy_line(), legacy_line().replace(old, new))
    with pytest.raises(ConfigError, match=rf"tuned\.csv:3: column {column}: ") as caught:
        read_tuned(path)
    assert "correct the cell" in str(caught.value)


@pytest.mark.parametrize("column", schema.REQUIRED_TUNED)
def test_a_missing_column_is_named(tmp_path, column):
    path = write_csv(tmp_path / "tuned.csv", [row(problem())], drop=(column,))
    with pytest.raises(ConfigError, match=rf"tuned\.csv:1: column {column} missing"):
        read_tuned(path)


def test_a_column_named_twice_is_refused(tmp_path):
    path = legacy(tmp_path, legacy_line(), header=LEGACY + ",us1")
    with pytest.raises(ConfigError, match="column us1 appears twice"):
        read_tuned(path)


def test_an_empty_file_is_an_error_that_lists_the_columns(tmp_path):
    path = tmp_path / "tuned.csv"
    path.write_text("\n\n")
    with pytest.raises(ConfigError, match=r"the file is empty.*kernelName1"):
        read_tuned(path)


def test_a_header_alone_is_an_empty_table(tmp_path):
    assert read_tuned(legacy(tmp_path)) == ()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x00", b"token\x00,model_dim\n1,2\n"])
def test_a_binary_file_is_refused(tmp_path, content):
    path = tmp_path / "tuned.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"tuned\.csv"):
        read_tuned(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tuned(tmp_path)


def test_untuned_problems_come_in_order_and_once(tmp_path):
    path = tmp_path / "untuned.csv"
    lines = [f"{t},512,256,8,2,{TYPES},1,0" for t in (64, 3, 4, 64)]
    path.write_text("\n".join([UNTUNED, *lines]))
    assert [p.token for p in read_untuned(path)] == [64, 4]
    assert all(p.kind is Kind.A4W4 and p.dtype is torch.bfloat16 for p in read_untuned(path))


def test_untuned_files_may_say_bias_and_gate_mode(tmp_path):
    path = tmp_path / "untuned.csv"
    path.write_text(f"{UNTUNED},has_bias,gate_mode\n1,512,256,8,2,{TYPES},1,0,1,interleave\n")
    (found,) = read_untuned(path)
    assert found.has_bias
    assert found.gate_mode is GateMode.INTERLEAVE


def test_an_untuned_size_must_be_positive(tmp_path):
    path = tmp_path / "untuned.csv"
    path.write_text(f"{UNTUNED}\n1,512,-256,8,2,{TYPES},1,0\n")
    with pytest.raises(ConfigError, match=r"untuned\.csv:2: column inter_dim: -256"):
        read_untuned(path)


def test_a_tuned_file_is_also_a_list_of_problems(tmp_path):
    path = write_csv(tmp_path / "tuned.csv", [row(problem()), row(problem("a4w4"))])
    assert read_untuned(path) == [problem(), problem("a4w4")]


PUBLIC = sorted(PUBLIC_DATA.glob("*.csv")) or [None]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: p.name if p else "absent")
def test_every_public_table_loads_whole(path):
    if path is None:
        pytest.skip("the public tables are not beside the checkout")
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if "untuned" in path.name:
        problems = read_untuned(path)
        assert 0 < len(problems) <= len(lines) - 1
        assert all(p.q_dtype_w == dtypes.fp4x2 for p in problems)
        return
    rows = read_tuned(path)
    assert len(rows) == len(lines) - 1
    assert {r.key.gfx for r in rows} == {"gfx950"}
    assert {r.ksplit for r in rows} == {0}
    assert {r.block_m for r in rows} <= {16, 32, 64, 128}
    assert all(r.us > 0 for r in rows)
