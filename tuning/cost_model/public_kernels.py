# SPDX-License-Identifier: MIT
"""Kernels of aiter's public tables as the cost model sees them, by what their names say.

Only the fit reads names: such kernels are not ours and are never dispatched. FlyDSL and CK print
tile sizes into their names; resident workgroups are estimated from registers and LDS of the tiles
that were compiled here.
"""

from __future__ import annotations

import re

from aiter_moe.codegen.gfx9.device import DEVICES, SIMD_REGISTERS, WAVE_LANES
from aiter_moe.codegen.instance import Output
from aiter_moe.enums import Kind
from aiter_moe.tuning.cost_model.workgroup import (
    CK,
    CKTILE,
    FLYDSL,
    TILE,
    Overhead,
    Workgroup,
    turn_of,
)

_FLYDSL = re.compile(r"flydsl_moe(?P<stage>[12])(_layout)?_a\w+?_t(\d+)x(\d+)x(\d+)(?P<tail>.*)")
_MXMOE = re.compile(r"flydsl_mxmoe_g(?P<stage>[12])_a4w4_(\d+)x(\d+)x(\d+)(?P<tail>.*)")
_CK = re.compile(r"moe_ck2stages_gemm(?P<stage>[12])_(\d+)x(\d+)x(\d+)x(\d+)_")
_CKTILE_MARK = "swiglu_mxfp4_bf16_cktile"
_CKTILE_COLUMNS = {16: 128, 32: 256, 64: 256}
# Registers of a lane beside its sums, and those that grow with them, of FlyDSL's stage 1 tiles of
# 32, 64 and 128 rows: 132, 226, 280; LDS of 1 KiB a row.
_BASE_VGPRS, _VGPRS_A_SUM = 80, 1.75
_LDS_A_ROW = 1024
_WAVES = 4


def public_workgroup(name: str, stage: int, kind: Kind, block_m: int) -> Workgroup | None:
    """Return the kernel that a row of a public table names, None for one the model does not know.

    Parameters
    ----------
    name : str
        ``kernelName1`` or ``kernelName2``.
    stage : int
        Which of them.
    kind : Kind
        Operands of the row.
    block_m : int
        Sort block of the row.
    """
    if name == _CKTILE_MARK and block_m in _CKTILE_COLUMNS:
        columns = _CKTILE_COLUMNS[block_m] // (2 if stage == 1 else 1)
        output = Output.BF16 if stage == 1 else Output.ATOMIC
        return _group(stage, kind, (block_m, columns), block_m, output, CKTILE)
    for pattern, rest in ((_FLYDSL, FLYDSL), (_MXMOE, FLYDSL)):
        found = pattern.fullmatch(name)
        if found is not None and int(found["stage"]) == stage:
            rows, columns = (int(found[i]) for i in _size_groups(pattern))
            words = found["tail"].split("_")
            return _group(
                stage, kind, (rows, columns), block_m, _output(stage, words, pattern), rest,
                parts=_number(words, "kw"), splits=_number(words, "kb"),
                persistent=any(word == "persist" for word in words),
            )  # fmt: skip
    found = _CK.match(name)
    if found is not None and int(found["stage"]) == stage:
        threads, rows, columns = int(found[2]), int(found[3]), int(found[4])
        output = Output.BF16 if stage == 1 else Output.ATOMIC
        waves = threads // WAVE_LANES
        return _group(stage, kind, (rows, columns), block_m, output, CK, waves=waves)
    return None


def _size_groups(pattern: re.Pattern[str]) -> tuple[int, int]:
    return (3, 4) if pattern is _FLYDSL else (2, 3)


def _number(words: list[str], key: str) -> int:
    """Return the number after `key` in a word such as ``kw4``; 1 without such a word."""
    found = (word.removeprefix(key) for word in words if word.startswith(key))
    return next((int(text) for text in found if text.isdecimal()), 1)


def _output(stage: int, words: list[str], pattern: re.Pattern[str]) -> Output:
    if stage == 1:
        return Output.FP4 if "fp4" in words or pattern is _MXMOE else Output.BF16
    return Output.ATOMIC if "atomic" in words else Output.ROWS


def _group(  # noqa: PLR0913 - what a name says
    stage: int, kind: Kind, size: tuple[int, int], block_m: int, output: Output, rest: Overhead,
    *, waves: int = _WAVES, parts: int = 1, splits: int = 1, persistent: bool = False,
) -> Workgroup:  # fmt: skip
    rows, columns = size
    weight_rows = columns * (2 if stage == 1 else 1)
    side_by_side = max(1, waves // parts)
    weight_tiles = max(1.0, weight_rows / TILE / side_by_side)
    row_tiles = max(1, rows // TILE)
    return Workgroup(
        kind=kind, stage=stage, rows=rows, columns=columns, sort_block=max(rows, block_m),
        waves=waves, resident=_resident(row_tiles, weight_tiles, rows, waves),
        turn=turn_of(kind, row_tiles, weight_tiles, waves, rest), output=output,
        parts=min(parts, waves), splits=splits, row_bytes=2, persistent=persistent,
    )  # fmt: skip


def _resident(row_tiles: int, weight_tiles: float, rows: int, waves: int) -> int:
    registers = _BASE_VGPRS + _VGPRS_A_SUM * 4 * row_tiles * weight_tiles
    waves_a_simd = min(8, int(SIMD_REGISTERS // registers))
    by_registers = waves_a_simd * 4 // waves
    by_lds = DEVICES["gfx950"].lds_bytes // (_LDS_A_ROW * rows)
    return max(1, min(by_registers, by_lds))
