# SPDX-License-Identifier: MIT
"""What a GPU can do per cycle and per second: the figures that bounds are computed from.

All of them are published or derived from published ones, as `SOURCES` says; none was measured
here. Latency under load is an assumption that everything about bytes in flight rests on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiter_moe.codegen.gfx9.device import DEVICES, SIMDS, WAVE_LANES
from aiter_moe.inspect.instructions import Instruction

# Cycles in which a SIMD can issue one instruction of a wave.
ISSUE_CYCLES = 4

SOURCES = {
    "compute_units": "AMD's GPU specifications: 8 XCDs of 32 (MI355X), of 38 (MI300X)",
    "clock_hz": "AMD's GPU specifications: highest engine clock; lower under matrix load",
    "memory_bytes_per_s": "AMD's GPU specifications: peak of the HBM",
    "latency_s": "assumed: of a loaded memory system; no trustworthy measurement is published",
    "lds_bytes_per_cycle": "64 banks (MI355X) or 32 (MI300X) of 4 bytes",
    "lds_granule": "LLVM's AMDGPU usage manual: granularity of LDS allocation",
    "matrix_flops": "AMD's peak rates over compute units, SIMDs and clock; agrees with the issue "
    "cycles of LLVM's scheduling model",
    "ISSUE_CYCLES": "a wave of 64 lanes on a SIMD of 16",
}

# Operands of the f8f6f4 instructions: 0 and 1 are fp8, 2 and 3 fp6, 4 fp4.
_FP8_FORMATS = frozenset({0, 1})
# Rows times depth from which on a 16-bit instruction runs at gfx950's full rate.
LONG_16_BIT = 512
_SHAPE = re.compile(r"_(\d+)x(\d+)x(\d+)_(?:(\d+)b_)?(\w+)")
_FORMAT = re.compile(r"(?:cbsz|blgp):(\d)")


@dataclass(frozen=True, slots=True)
class Machine:
    """One GPU.

    Attributes
    ----------
    compute_units : int
        Of the whole device.
    clock_hz, memory_bytes_per_s, latency_s : float
        Highest clock, peak bandwidth, assumed latency under load.
    lds_bytes, lds_granule, lds_bytes_per_cycle : int
        Of a compute unit.
    matrix_flops : mapping of str to int
        Operations a SIMD's matrix unit does in a cycle, by operand type.
    """

    compute_units: int
    clock_hz: float
    memory_bytes_per_s: float
    latency_s: float
    lds_bytes: int
    lds_granule: int
    lds_bytes_per_cycle: int
    matrix_flops: Mapping[str, int]

    @property
    def bytes_in_flight(self) -> float:
        """Bytes a compute unit must keep in flight for the peak bandwidth (Little's law)."""
        return self.memory_bytes_per_s * self.latency_s / self.compute_units

    @property
    def memory_bytes_per_cycle(self) -> float:
        """A compute unit's share of the peak bandwidth."""
        return self.memory_bytes_per_s / self.compute_units / self.clock_hz

    def matrix_cycles(self, instruction: Instruction) -> float:
        """Return the cycles a matrix instruction occupies its unit; 0 where no rate is known."""
        rate = self.matrix_flops.get(operand_type(instruction))
        return flops_of(instruction) / rate if rate else 0.0


MACHINES = {
    "gfx950": Machine(
        compute_units=DEVICES["gfx950"].compute_units,
        clock_hz=2.4e9,
        memory_bytes_per_s=8e12,
        latency_s=1e-6,
        lds_bytes=DEVICES["gfx950"].lds_bytes,
        lds_granule=DEVICES["gfx950"].lds_granule,
        lds_bytes_per_cycle=256,
        matrix_flops={"fp4": 4096, "fp8": 2048, "16 bit": 1024, "short 16 bit": 512},
    ),
    "gfx942": Machine(
        compute_units=DEVICES["gfx942"].compute_units,
        clock_hz=2.1e9,
        memory_bytes_per_s=5.3e12,
        latency_s=1e-6,
        lds_bytes=DEVICES["gfx942"].lds_bytes,
        lds_granule=DEVICES["gfx942"].lds_granule,
        lds_bytes_per_cycle=128,
        matrix_flops={"fp8": 1024, "16 bit": 512, "short 16 bit": 512},
    ),
}


def flops_of(instruction: Instruction) -> int:
    """Return the multiplications and additions of a matrix instruction, all blocks of it."""
    shape = _SHAPE.search(instruction.mnemonic)
    if shape is None:
        return 0
    m, n, k, blocks = (int(text or 1) for text in shape.groups()[:4])
    return 2 * m * n * k * blocks


def operand_type(instruction: Instruction) -> str:
    """Return the type of what a matrix instruction multiplies, as `Machine.matrix_flops` names it.

    An fp8 operand on either side sets the rate of the mixed instructions.
    """
    shape = _SHAPE.search(instruction.mnemonic)
    name = shape[5] if shape else ""
    if name == "f8f6f4":
        formats = [int(text) for text in _FORMAT.findall(instruction.text)]
        return "fp4" if len(formats) == 2 and not _FP8_FORMATS & set(formats) else "fp8"
    if name.startswith(("fp8", "bf8")):
        return "fp8"
    if shape is not None and name.startswith(("bf16", "f16")):
        return "16 bit" if int(shape[1]) * int(shape[3]) >= LONG_16_BIT else "short 16 bit"
    return name


def waves_a_simd(waves: int) -> int:
    """Return the most waves on one SIMD when a compute unit holds `waves`."""
    return -(-waves // SIMDS)


def waves_of(threads: int) -> int:
    """Return the waves of a workgroup."""
    return -(-threads // WAVE_LANES)
