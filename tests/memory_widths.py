# SPDX-License-Identifier: MIT
"""What loads and stores of each width move between bytes in memory and registers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from wave_lanes import LANES

POISON = 0x7FC0DEAD  # what no memory held


@dataclass(frozen=True)
class Width:
    """Bytes a lane moves; a narrow load is sign-extended, and may fill one half of a register."""

    bytes: int
    signed: bool = False
    half: str = ""

    @property
    def registers(self) -> int:
        return -(-self.bytes // 4)

    def loaded(self, raw: np.ndarray) -> np.ndarray:
        """Return uint32 [registers, lanes] that loads of uint8 [lanes, bytes] make."""
        raw = np.ascontiguousarray(raw)
        if self.bytes >= 4:
            return raw.view(np.uint32).T
        kind = {1: np.int8, 2: np.int16} if self.signed else {1: np.uint8, 2: np.uint16}
        values = raw.view(kind[self.bytes]).astype(np.int64)[:, 0]
        if self.half == "high":
            values = (values & 0xFFFF) << 16 | POISON & 0xFFFF
        elif self.half == "low":
            values = values & 0xFFFF | POISON & 0xFFFF0000
        return (values & 0xFFFFFFFF).astype(np.uint32)[None]

    def stored(self, registers: np.ndarray) -> np.ndarray:
        """Return uint8 [lanes, bytes] that stores of uint32 [registers, lanes] write."""
        words = np.ascontiguousarray(registers.T)
        if self.half == "high":
            words = words >> 16
        return words.view(np.uint8)[:, : self.bytes]


LOADS = {
    "ubyte": Width(1),
    "sbyte": Width(1, signed=True),
    "ushort": Width(2),
    "sshort": Width(2, signed=True),
    "ubyte_d16": Width(1, half="low"),
    "ubyte_d16_hi": Width(1, half="high"),
    "sbyte_d16": Width(1, signed=True, half="low"),
    "sbyte_d16_hi": Width(1, signed=True, half="high"),
    "short_d16": Width(2, half="low"),
    "short_d16_hi": Width(2, half="high"),
    "dword": Width(4),
    "dwordx2": Width(8),
    "dwordx3": Width(12),
    "dwordx4": Width(16),
}
STORES = {
    "byte": Width(1),
    "byte_d16_hi": Width(1, half="high"),
    "short": Width(2),
    "short_d16_hi": Width(2, half="high"),
    "dword": Width(4),
    "dwordx2": Width(8),
    "dwordx3": Width(12),
    "dwordx4": Width(16),
}


def random_bytes(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 256, count, dtype=np.uint8)


def random_words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 1 << 32, shape, dtype=np.uint32)


def gathered(memory: np.ndarray, offsets: np.ndarray, count: int) -> np.ndarray:
    """Return uint8 [lanes, count]: what lies at each lane's offset."""
    return memory[offsets[:, None] + np.arange(count)]


def apart(rng: np.random.Generator, size: int, count: int, lanes: int = LANES) -> np.ndarray:
    """Return an offset a lane, so that accesses of `count` bytes do not overlap."""
    slots = rng.permutation(size // (count + 3))[:lanes]
    return slots * (count + 3) + rng.integers(0, 4, lanes)
