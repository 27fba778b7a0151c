# SPDX-License-Identifier: MIT
"""The text form of cells: parse and format are pairs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.configs import schema
from aiter_moe.enums import ActivationType, QuantType


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, dtypes.fp4x2]
)
def test_dtypes_round_trip(dtype):
    assert schema.parse_dtype(schema.format_dtype(dtype)) == dtype


def test_fp4_has_aiters_name():
    assert schema.format_dtype(dtypes.fp4x2) == "torch.float4_e2m1fn_x2"


def test_enums_round_trip():
    assert all(schema.parse_activation(str(a)) is a for a in ActivationType)
    assert all(schema.parse_quant_type(str(q)) is q for q in QuantType)


@given(st.booleans())
def test_flags_round_trip(value):
    assert schema.parse_bool(schema.format_bool(value)) is value


@given(st.floats(0, 1e6))
def test_times_round_trip_to_a_tenth_of_a_nanosecond(value):
    assert schema.parse_number(schema.format_number(value)) == pytest.approx(value, abs=5.1e-5)


@given(st.floats(1e-9, 1))
def test_errors_round_trip_to_five_digits_and_are_never_rounded_to_zero(value):
    found = schema.parse_percent(schema.format_percent(value))
    assert found == pytest.approx(value, rel=1e-5)
    assert found > 0


def test_empty_and_nan_cells_are_none():
    assert schema.parse_number("") is None
    assert schema.parse_number("nan") is None
    assert schema.parse_percent("") is None
    assert schema.format_number(None) == schema.format_percent(None) == ""
    assert schema.parse_number("inf") == math.inf


def test_aiters_columns_come_first_and_ours_last():
    columns = schema.TUNED_COLUMNS
    assert columns[:3] == ("gfx", "cu_num", "token")
    assert columns.index("bw") + 1 == columns.index("source")
    assert set(schema.REQUIRED_TUNED) <= set(columns)
