# SPDX-License-Identifier: MIT
"""Runs a kernel over a grid: waves of a workgroup in random order between barriers."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np

from gcn import matrix, memory, scalar, vector
from gcn.program import Handler, Program, read_program
from gcn.wave import NEVER_WRITTEN, Behaviour, Memory, Wave

HANDLERS: dict[str, Handler] = scalar.HANDLERS | memory.HANDLERS | vector.HANDLERS | matrix.HANDLERS


def load_program(path: Path, kernel: str) -> Program:
    """Return a kernel of the compiler's ``.s`` file; unknown instructions are errors."""
    return read_program(path, kernel, HANDLERS.__getitem__)


def launch(
    program: Program,
    grid: tuple[int, int, int],
    threads: int,
    arguments: bytes,
    tensors: list[np.ndarray],
    behaviour: Behaviour,
    seed: int = 0,
) -> None:
    """Run every workgroup of `grid`; `arguments` is the kernel argument segment."""
    shuffle = random.Random(seed).shuffle
    segment = np.frombuffer(arguments, np.uint8).copy()
    reachable = Memory([segment, *tensors])
    with np.errstate(all="ignore"):
        for z, y, x in itertools.product(*(range(n) for n in reversed(grid))):
            lds = np.full(program.lds_bytes // 4, NEVER_WRITTEN).view(np.uint8)
            waves = [Wave(program, reachable, lds, behaviour) for _ in range(threads // 64)]
            for index, wave in enumerate(waves):
                wave.start(index, (x, y, z), segment.ctypes.data)
            while waves:
                shuffle(waves)
                for wave in waves:
                    wave.run()
                left = [wave for wave in waves if not wave.ended]
                assert len(left) in (0, len(waves)), "waves disagree about a barrier"
                waves = left
