# SPDX-License-Identifier: MIT
"""What was launched on a GPU or its emulator, for whoever wants to count.

with recorded_launches() as launches:
    fused_moe(...)
print([launch.symbol for launch in launches])
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiter_moe.codegen.gfx9 import Launch


@dataclass(frozen=True, slots=True)
class DeviceLaunch:
    """One kernel that was started.

    Attributes
    ----------
    symbol : str
        Name of the kernel.
    grid : tuple of int
        Workgroups in x, y and z.
    threads : int
        Lanes a workgroup.
    """

    symbol: str
    grid: tuple[int, int, int]
    threads: int


_records: list[list[DeviceLaunch]] = []


def note_launch(launch: Launch) -> None:
    """Tell every record that is being kept of a launch."""
    if _records:
        noted = DeviceLaunch(launch.symbol, launch.grid, launch.threads)
        for record in _records:
            record.append(noted)


@contextmanager
def recorded_launches() -> Iterator[list[DeviceLaunch]]:
    """Collect the launches of this process, in order, of all its threads."""
    record: list[DeviceLaunch] = []
    _records.append(record)
    try:
        yield record
    finally:
        # By identity: records with the same launches are equal.
        _records[:] = [other for other in _records if other is not record]
