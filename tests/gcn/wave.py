# SPDX-License-Identifier: MIT
"""Registers of a wave, its unfinished requests, and the memory tensors lie in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gcn.program import Operand, Program

LANES = np.arange(64)
ALL = (1 << 64) - 1
WORD = 0xFFFFFFFF
NEVER_WRITTEN = np.uint32(0x7FC0DEAD)  # a NaN
IN_FLIGHT = np.uint32(0x7FC0BEEF)


class OutOfTensorError(Exception):
    """An access that touches memory of no tensor."""


def signed(word: int) -> int:
    word &= WORD
    return word - (1 << 32) if word >> 31 else word


def lanes_of(mask: int) -> np.ndarray:
    """Return the bits of a 64-bit mask as bool [64]."""
    return np.unpackbits(np.array([mask], np.uint64).view(np.uint8), bitorder="little") > 0


def mask_of(lanes: np.ndarray) -> int:
    return int(np.packbits(lanes, bitorder="little").view(np.uint64)[0])


class Memory:
    """The tensors a kernel may touch, at their own addresses."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.ranges = [
            (a.ctypes.data, a.nbytes, a.reshape(-1).view(np.uint8)) for a in arrays if a.nbytes
        ]

    def _bytes(self, addresses: np.ndarray, size: int, what: str) -> tuple[np.ndarray, np.ndarray]:
        low, high = int(addresses.min()), int(addresses.max())
        for base, length, data in self.ranges:
            if base <= low and high + size <= base + length:
                return data, (addresses - base)[:, None] + np.arange(size)
        raise OutOfTensorError(f"{what}: {low:#x}..{high + size:#x} lies in no tensor")

    def load(self, addresses: np.ndarray, lanes: np.ndarray, words: int, what: str) -> np.ndarray:
        """Return uint32 [words, 64]: `words` from each lane's address, 0 in other lanes."""
        out = np.zeros((words, 64), np.uint32)
        if lanes.any():
            data, at = self._bytes(addresses[lanes], 4 * words, what)
            out[:, lanes] = np.ascontiguousarray(data[at]).view(np.uint32).T
        return out

    def store(self, addresses: np.ndarray, lanes: np.ndarray, words: np.ndarray, what: str) -> None:
        if lanes.any():
            data, at = self._bytes(addresses[lanes], 4 * len(words), what)
            data[at] = np.ascontiguousarray(words[:, lanes].T).view(np.uint8)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What documents leave open: whether a buffer's range check counts the scalar offset."""

    scalar_offset_checked: bool = True


class Wave:
    """One wave: registers hold NaN patterns until written, and while a load is in flight."""

    def __init__(
        self, program: Program, memory: Memory, lds: np.ndarray, behaviour: Behaviour
    ) -> None:
        self.program, self.memory, self.lds, self.behaviour = program, memory, lds, behaviour
        self.vector = np.full((512, 64), NEVER_WRITTEN, np.uint32)
        self.scalar = [int(NEVER_WRITTEN)] * 108
        self.vcc, self.exec, self.m0, self.scc = 0, ALL, int(NEVER_WRITTEN), 0
        self.pc, self.ended = 0, False
        self.vector_requests: deque[Callable[[], None]] = deque()
        self.other_requests: deque[Callable[[], None]] = deque()

    def start(self, index: int, group: tuple[int, int, int], arguments: int) -> None:
        self.vector[0] = LANES + 64 * index
        ids = [i for i, wanted in zip(group, self.program.group_ids, strict=True) if wanted]
        self.scalar[: 2 + len(ids)] = [arguments & WORD, arguments >> 32, *ids]

    def run(self) -> None:
        """Run to the next barrier or the end."""
        code = self.program.code
        while True:
            handler, instruction = code[self.pc]
            self.pc += 1
            stop = handler(self, instruction)
            if stop == "end":
                self.ended = True
                finish(self.vector_requests, 0)
            if stop:
                return

    @property
    def active(self) -> np.ndarray:
        return lanes_of(self.exec)

    def read(self, op: Operand) -> int:
        """Return a scalar operand of 32 bits."""
        if op.file == "s":
            return self.scalar[op.index]
        return op.value & WORD if op.file == "constant" else self.special(op) & WORD

    def read64(self, op: Operand) -> int:
        if op.file == "s":
            return self.scalar[op.index] | self.scalar[op.index + 1] << 32
        return op.value & ALL if op.file == "constant" else self.special(op)

    def special(self, op: Operand) -> int:
        return int(getattr(self, op.file))

    def write(self, op: Operand, value: int) -> None:
        if op.file == "s":
            self.scalar[op.index] = value & WORD
        else:
            setattr(self, op.file, value & WORD)

    def write64(self, op: Operand, value: int) -> None:
        if op.file == "s":
            self.scalar[op.index], self.scalar[op.index + 1] = value & WORD, value >> 32 & WORD
        else:
            setattr(self, op.file, value & ALL)

    def bits(self, op: Operand, plus: int = 0) -> np.ndarray:
        """Return a vector or scalar operand as uint32 [64]; `plus` counts registers on."""
        if op.file == "v":
            value = self.vector[op.index + plus]
        elif op.file == "s":
            value = np.full(64, self.scalar[op.index + plus], np.uint32)
        else:
            value = np.full(64, self.read(op), np.uint32)
        if op.absolute:
            value = value & np.uint32(0x7FFFFFFF)
        return value ^ np.uint32(0x80000000) if op.negate else value

    def bits64(self, op: Operand) -> np.ndarray:
        if op.file != "v":
            return np.full(64, self.read64(op), np.uint64)
        low, high = self.vector[op.index].astype(np.uint64), self.vector[op.index + 1]
        return low | high.astype(np.uint64) << np.uint64(32)

    def put(self, op: Operand, value: np.ndarray, plus: int = 0) -> None:
        """Write uint32 [64] to the active lanes of a vector register."""
        assert op.file == "v" and value.dtype == np.uint32
        register = self.vector[op.index + plus]
        if self.exec == ALL:
            register[:] = value
        else:
            np.copyto(register, value, where=self.active)

    def put64(self, op: Operand, value: np.ndarray) -> None:
        self.put(op, (value & np.uint64(WORD)).astype(np.uint32))
        self.put(op, (value >> np.uint64(32)).astype(np.uint32), 1)


def finish(requests: deque[Callable[[], None]], left: int) -> None:
    """Let the oldest requests land until at most `left` are unfinished."""
    while len(requests) > left:
        requests.popleft()()
