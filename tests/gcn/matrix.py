# SPDX-License-Identifier: MIT
"""The two matrix instructions, in float64 with one rounding. They ignore EXEC."""

from __future__ import annotations

import numpy as np

from gcn.program import Handler, Instruction, Operand
from gcn.vector import FP4
from gcn.wave import LANES, Wave

COLUMN = LANES % 16


def _by_row(lanes: np.ndarray) -> np.ndarray:
    """Return [16, 4 * c] of [64, c]: lane l holds part l // 16 of row l % 16."""
    return lanes.reshape(4, 16, -1).swapaxes(0, 1).reshape(16, -1)


def _accumulate(w: Wave, i: Instruction, product: np.ndarray) -> None:
    """Add the addend, all of it read before anything is written: registers may overlap."""
    to, _, _, addend = i.operands[:4]
    step = 1 if addend.file == "v" else 0
    before = np.stack([w.bits(addend, n * step) for n in range(4)]).view(np.float32)
    for n in range(4):
        total = product[4 * (LANES // 16) + n, COLUMN] + before[n]
        w.vector[to.index + n] = total.astype(np.float32).view(np.uint32)


def _bytes(w: Wave, op: Operand) -> np.ndarray:
    """Return uint8 [64, 16] of four registers."""
    return np.ascontiguousarray(w.vector[op.index : op.index + 4].T).view(np.uint8)


def _fp4_rows(w: Wave, op: Operand, scale: Operand, byte: int) -> np.ndarray:
    codes = _bytes(w, op)
    values = FP4[np.stack([codes & 15, codes >> 4], -1).reshape(64, 32)]
    exponent = (w.bits(scale) >> 8 * byte & 255).astype(np.int64)
    factor = np.where(exponent == 255, np.nan, np.ldexp(1.0, exponent - 127))
    return _by_row(values * factor[:, None])


def _scaled(w: Wave, i: Instruction) -> None:
    assert i.named == {"cbsz": "4", "blgp": "4"}, f"{i.text}: not fp4"
    low, high = i.lists.get("op_sel", (0, 0, 0)), i.lists["op_sel_hi"]
    _, a, b, _, a_scale, b_scale = i.operands
    left = _fp4_rows(w, a, a_scale, low[0] + 2 * high[0])
    right = _fp4_rows(w, b, b_scale, low[1] + 2 * high[1])
    _accumulate(w, i, left @ right.T)


def _bf16(w: Wave, i: Instruction) -> None:
    def rows(op: Operand) -> np.ndarray:
        halves = _bytes(w, op).view(np.uint16).astype(np.uint32) << 16
        return _by_row(halves.view(np.float32).astype(np.float64))

    _accumulate(w, i, rows(i.operands[1]) @ rows(i.operands[2]).T)


HANDLERS: dict[str, Handler] = {
    "v_mfma_scale_f32_16x16x128_f8f6f4": _scaled,
    "v_mfma_f32_16x16x32_bf16": _bf16,
}
