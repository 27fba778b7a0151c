# SPDX-License-Identifier: MIT
"""aiter's enums under their own names and integer values.

The values are part of the border (CSV cells, custom-op arguments), as in aiter's
``aiter_enum.h``. Not here: dtypes (`aiter_moe.dtypes`).
"""

from __future__ import annotations

from enum import Enum


class _BorderEnum(Enum):
    """Enum whose text form is ``Class.Member``, as the CSV cells spell it."""

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)


class ActivationType(_BorderEnum):
    """Gate/up activation of stage 1 (aiter ``ActivationType``)."""

    No = -1
    Silu = 0
    Gelu = 1
    Swiglu = 2
    Situv2 = 3


class QuantType(_BorderEnum):
    """Granularity of quantisation scales (aiter ``QuantType``); MXFP4 is ``per_1x32``."""

    No = 0
    per_Tensor = 1
    per_Token = 2
    per_1x32 = 3
    per_1x128 = 4
    per_128x128 = 5
    per_256x128 = 6
    per_1024x128 = 7


class GateMode(Enum):
    """Order of gate and up rows in w1 (aiter ``GateMode``; values are its strings)."""

    SEPARATED = "separated"
    MOCK_GATE_ONLY = "mock_gate_only"
    GATE_ONLY = "gate_only"
    INTERLEAVE = "interleave"


class ScaleRounding(_BorderEnum):
    """How a 32-block's amax becomes its e8m0 byte (aiter ``MxScaleRoundMode``)."""

    RoundDown = 0
    RoundUp = 1
    Even = 2
    Ceil = 3


class Kind(Enum):
    """Operand kind of a GEMM: activation format x weight format."""

    A16W4 = "a16w4"
    A4W4 = "a4w4"

    def __str__(self) -> str:
        return self.value
