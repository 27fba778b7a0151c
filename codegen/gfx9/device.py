# SPDX-License-Identifier: MIT
"""What a workgroup may use on the GPUs of the gfx9 family: the figures its tiles are cut to."""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.codegen.instance import Instance

WAVE_LANES = 64
SIMD_REGISTERS = 512
SIMD_WAVES = 8
WORKGROUP_THREADS = 1024
# A compute unit has so many barriers; a workgroup of one wave takes none.
CU_BARRIERS = 16
VMCNT_MAX = 63
XCDS = 8
SIMDS = 4
# Offsets into a buffer descriptor stay below the value that marks a masked lane, also where it
# begins up to 4 KiB before its rows (`GatheredRows`, csrc/hip/gfx950.h).
BUFFER_BYTES = (1 << 31) - 4096


@dataclass(frozen=True, slots=True)
class Device:
    """Figures in which the GPUs differ.

    Attributes
    ----------
    lds_bytes : int
        LDS of a compute unit, all of which one workgroup can have.
    lds_granule : int
        Bytes of whose multiples a workgroup takes LDS.
    compute_units : int
        Of the whole device, in one partition.
    rows_through_registers : bool
        Gathered rows pass through registers on their way to the LDS: loads straight to it move 4
        bytes a lane at most.
    """

    lds_bytes: int
    lds_granule: int
    compute_units: int
    rows_through_registers: bool


DEVICES = {
    "gfx950": Device(
        lds_bytes=160 * 1024, lds_granule=1280, compute_units=256, rows_through_registers=False
    ),
    "gfx942": Device(
        lds_bytes=64 * 1024, lds_granule=512, compute_units=304, rows_through_registers=True
    ),
}


def device_of(instance: Instance) -> Device:
    """Return the figures of the GPU an instance is for."""
    return DEVICES[instance.target]
