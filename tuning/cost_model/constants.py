# SPDX-License-Identifier: MIT
"""What data sheets do not say of a GPU: constants fitted to public measurements."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Constants:
    """Physical constants of the model.

    Attributes
    ----------
    launch1_us, launch2_us : float
        Start and end of a kernel of a stage.
    sum_us : float
        Of the kernel that sums rows or parts.
    start_us : float
        Beginning and end of a round of workgroups.
    memory_tb_s, weights_tb_s, rows_tb_s : float
        Attained bandwidth: of the memory, of the caches for weights that each row block reads, and
        for rows that each column block reads.
    latency_us : float
        Between the request of a turn's weights and their arrival.
    efficiency : float
        Share of the peak cycles that loops reach: clock under load, stalls, barriers.
    lone_waves : float
        Share of a turn that waves of a SIMD do not overlap: n of them take n + lone_waves turns.
    atomic_tb_s, sum_tb_s : float
        Bandwidth of results that are added up by atomics, or by another kernel.
    overlap : float
        Order of the norm: 1 for parts one after the other, more for parts side by side.
    """

    launch1_us: float
    launch2_us: float
    sum_us: float
    start_us: float
    memory_tb_s: float
    weights_tb_s: float
    rows_tb_s: float
    latency_us: float
    efficiency: float
    lone_waves: float
    atomic_tb_s: float
    sum_tb_s: float
    overlap: float

    def of_share(self, share: float) -> Constants:
        """Return those of a part of the device, which has its share of memory and caches."""
        rates = ("memory_tb_s", "weights_tb_s", "rows_tb_s", "atomic_tb_s", "sum_tb_s")
        return replace(self, **{name: getattr(self, name) * share for name in rates})

    def values(self) -> tuple[float, ...]:
        """Return the constants in the order of the fields."""
        return astuple(self)


NAMES = tuple(field.name for field in fields(Constants))
START = Constants(4, 4, 2, 0.3, 6.5, 20, 50, 0.5, 0.6, 0.3, 1.5, 4, 2)
LEAST = Constants(0.5, 0.5, 0.05, 0.02, 3, 5, 5, 0.05, 0.1, 0.01, 0.2, 0.5, 1)
MOST = Constants(12, 12, 8, 5, 8, 100, 200, 3, 1, 4, 8, 16, 8)
"""Where a fit begins and what it may not leave."""
