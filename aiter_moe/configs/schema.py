# SPDX-License-Identifier: MIT
"""Columns of aiter's tuned and untuned CSV files, and the text form of one cell.

Every ``parse_*`` raises ValueError with the offending text; every ``format_*`` is its inverse.
Files are `configs.reader` and `configs.writer`; nothing here evaluates a cell.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import cache
from typing import TypeVar

import torch

from aiter_moe import dtypes
from aiter_moe.enums import ActivationType, QuantType

E = TypeVar("E", bound=Enum)

DEVICE_COLUMNS = ("gfx", "cu_num")
PROBLEM_COLUMNS = (
    "token", "model_dim", "inter_dim", "expert", "topk", "act_type", "dtype", "q_dtype_a",
    "q_dtype_w", "q_type", "use_g1u1", "doweight_stage1",
)  # fmt: skip
CHOICE_COLUMNS = (
    "block_m", "ksplit", "us1", "kernelName1", "err1", "us2", "kernelName2", "err2", "us",
    "run_1stage", "xbf16", "flat", "tflops", "bw",
)  # fmt: skip
PROVENANCE_COLUMNS = ("source", "template_hash", "compiler", "repeats")

TUNED_COLUMNS = (*DEVICE_COLUMNS, *PROBLEM_COLUMNS, *CHOICE_COLUMNS, *PROVENANCE_COLUMNS)

REQUIRED_UNTUNED = PROBLEM_COLUMNS
REQUIRED_TUNED = ("cu_num", *PROBLEM_COLUMNS, "block_m", "ksplit", "kernelName1", "kernelName2")

FALLBACK_TAG = "flydsl_fallback"

MODEL_SOURCE = "model"
"""Column ``source`` of rows whose times were predicted and not measured."""
MODELLED = frozenset({"gfx950"})
"""Architectures whose times can be predicted (`tuning.cost_model`)."""

_TRUE = ("1", "1.0", "true")
_FALSE = ("0", "0.0", "false")
_FP4_NAME = "torch.float4_e2m1fn_x2"


def gfx_of_compute_units(cu_num: int) -> str:
    """Return the architecture a file without a ``gfx`` column means, or "" for the running one."""
    return {256: "gfx950", 80: "gfx942", 304: "gfx942"}.get(cu_num, "")


def parse_int(text: str) -> int:
    """Return an integer; integral floats are accepted, as pandas writes columns with gaps."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text!r} is not an integer")
    return int(number)


def parse_optional_int(text: str) -> int:
    """Return an integer, 0 for an empty cell."""
    return parse_int(text) if text else 0


def parse_bool(text: str) -> bool:
    """Return True or False from 0/1 or True/False."""
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither 0/1 nor True/False")


def parse_optional_bool(text: str) -> bool:
    """Return a bool, False for an empty cell."""
    return parse_bool(text) if text else False


def format_bool(value: bool) -> str:
    """Return ``1`` or ``0``, as aiter writes flags."""
    return "1" if value else "0"


def parse_number(text: str) -> float | None:
    """Return a float, None for an empty cell or one that is not a number (``nan``)."""
    if not text:
        return None
    number = float(text)
    return None if math.isnan(number) else number


def format_number(value: float | None) -> str:
    """Return microseconds with four decimals as aiter writes them, empty for None."""
    return "" if value is None else f"{value:.4f}"


def parse_percent(text: str) -> float | None:
    """Return the fraction of a cell such as ``0.5%`` (0.005), None for an empty cell."""
    if text.endswith("%"):
        number = parse_number(text[:-1].strip())
        return None if number is None else number / 100
    return parse_number(text)


def format_percent(value: float | None) -> str:
    """Return a fraction as percent with six significant digits, empty for None."""
    return "" if value is None else f"{100 * value:.6g}%"


@cache
def _dtype_names() -> dict[str, torch.dtype]:
    found = {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
    return found | {_FP4_NAME: dtypes.fp4x2}


def parse_dtype(text: str) -> torch.dtype:
    """Return the torch dtype of a cell such as ``torch.bfloat16``, with or without ``torch.``."""
    name = text if text.startswith("torch.") else f"torch.{text}"
    try:
        return _dtype_names()[name]
    except KeyError:
        raise ValueError(f"{text!r} is no torch dtype") from None


def format_dtype(dtype: torch.dtype) -> str:
    """Return a dtype as the tables spell it, fp4x2 also where torch has no such type."""
    return _FP4_NAME if dtype == dtypes.fp4x2 else str(dtype)


def parse_activation(text: str) -> ActivationType:
    """Return the member of a cell such as ``ActivationType.Silu``."""
    return _parse_member(text, ActivationType)


def parse_quant_type(text: str) -> QuantType:
    """Return the member of a cell such as ``QuantType.per_1x32``."""
    return _parse_member(text, QuantType)


def _parse_member(text: str, enum: type[E]) -> E:
    """Return the member of a cell, with or without the name of its enum."""
    try:
        return enum[text.removeprefix(f"{enum.__name__}.")]
    except KeyError:
        raise ValueError(f"{text!r} is none of {', '.join(map(str, enum))}") from None
