# SPDX-License-Identifier: MIT
"""Loads and stores: global, buffer, buffer to LDS, LDS, scalar. All land when waited for."""

from __future__ import annotations

import numpy as np

from gcn.program import Handler, Instruction
from gcn.wave import ALL, IN_FLIGHT, Wave, signed

WIDTHS = {"dword": 1, "dwordx2": 2, "dwordx3": 3, "dwordx4": 4, "dwordx8": 8, "dwordx16": 16}
LDS_WIDTHS = {"b32": 1, "b64": 2, "b128": 4}
RAW_BUFFER = 0x00020000


def _scalar_load(w: Wave, i: Instruction) -> None:
    count = WIDTHS[i.name.split("_")[-1]]
    to, base, offset = i.operands
    address = w.read64(base) + signed(w.read(offset))
    words = w.memory.load(np.array([address] * 64), np.arange(64) == 0, count, i.text)[:, 0]

    def land() -> None:
        if to.file == "s":
            w.scalar[to.index : to.index + count] = [int(x) for x in words]
        else:
            w.write64(to, int(words[0]) | int(words[1]) << 32)

    if to.file == "s":
        w.scalar[to.index : to.index + count] = [int(IN_FLIGHT)] * count
    w.other_requests.append(land)


def _in_flight(w: Wave, first: int, words: np.ndarray) -> None:
    """Mark the active lanes of the destination, and queue the landing of a vector load."""
    lanes, registers = w.active, w.vector[first : first + len(words)]
    registers[:, lanes] = IN_FLIGHT

    def land() -> None:
        registers[:, lanes] = words[:, lanes]

    w.vector_requests.append(land)


def _global_address(w: Wave, i: Instruction, vector: int, scalar: int) -> np.ndarray:
    if i.operands[scalar].file == "off":
        base = w.bits64(i.operands[vector]).astype(np.int64)
    else:
        base = w.bits(i.operands[vector]).astype(np.int64) + w.read64(i.operands[scalar])
    return base + i.offset


def _global_load(w: Wave, i: Instruction) -> None:
    count = WIDTHS[i.name.split("_")[-1]]
    words = w.memory.load(_global_address(w, i, 1, 2), w.active, count, i.text)
    _in_flight(w, i.operands[0].index, words)


def _global_store(w: Wave, i: Instruction) -> None:
    count = WIDTHS[i.name.split("_")[-1]]
    addresses, lanes, first = _global_address(w, i, 0, 2), w.active, i.operands[1].index
    words = w.vector[first : first + count].copy()
    w.vector_requests.append(lambda: w.memory.store(addresses, lanes, words, i.text))


def _buffer_load(w: Wave, i: Instruction) -> None:
    """Load by descriptor; with the lds flag, 16 bytes a lane to M0 + offset + 16 * lane."""
    count = WIDTHS[i.name.split("_")[-1]]
    to_lds = "lds" in i.flags
    assert "offen" in i.flags
    vector, resource, scalar = i.operands[0 if to_lds else 1 :]
    low, high, size, kind = w.scalar[resource.index : resource.index + 4]
    assert high >> 16 == 0 and kind == RAW_BUFFER, f"{i.text}: descriptor {high:#x} {kind:#x}"
    inside = w.bits(vector).astype(np.int64) + i.offset
    offset = inside + w.read(scalar)
    checked = offset if w.behaviour.scalar_offset_checked else inside
    lanes = w.active & (checked + 4 * count <= size)
    assert not (w.active & ~lanes & (checked < size)).any(), f"{i.text}: partly out of range"
    words = w.memory.load(offset + (low | high << 32), lanes, count, i.text)
    if not to_lds:
        _in_flight(w, i.operands[0].index, words)
        return
    start, length = w.m0 + i.offset, 256 * count
    assert w.exec == ALL and start + length <= len(w.lds), i.text

    def land() -> None:
        w.lds[start : start + length] = np.ascontiguousarray(words.T).view(np.uint8).reshape(-1)

    w.vector_requests.append(land)


def _lds_load(w: Wave, i: Instruction) -> None:
    count = LDS_WIDTHS[i.name.split("_")[-1]]
    to, address = i.operands
    at = w.bits(address).astype(np.int64) + i.offset
    assert w.exec == ALL and at.max() + 4 * count <= len(w.lds), i.text
    words = np.ascontiguousarray(w.lds[at[:, None] + np.arange(4 * count)]).view(np.uint32).T
    registers = w.vector[to.index : to.index + count]
    registers[:] = IN_FLIGHT

    def land() -> None:
        registers[:] = words

    w.other_requests.append(land)


HANDLERS: dict[str, Handler] = {
    **{f"s_load_{width}": _scalar_load for width in WIDTHS},
    **{f"global_load_{width}": _global_load for width in WIDTHS},
    **{f"global_store_{width}": _global_store for width in WIDTHS},
    **{f"buffer_load_{width}": _buffer_load for width in WIDTHS},
    **{f"ds_read_{width}": _lds_load for width in LDS_WIDTHS},
}
