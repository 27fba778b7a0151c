# SPDX-License-Identifier: MIT
"""The layouts kernels know, by name.

How bytes move is `aiter_moe.layouts.weights` and `aiter_moe.layouts.scales` for GPUs, and
`aiter_moe.layouts.panels` for the CPU.
"""

from __future__ import annotations

from enum import Enum


class Layout(Enum):
    """How the bytes of an MXFP4 weight and of its scales lie.

    PLAIN: row-major codes and scales. SHUFFLED: codes in 16-row tiles (W), scales in 32-row
    tiles (S). SHUFFLED_GATE_UP: gate and up rows interleaved by 16, then the same. PANEL: panels
    of 64 rows with their scales among the codes, read from end to end by the CPU.
    PANEL_GATE_UP: gate and up rows interleaved by 16, then the same.
    """

    PLAIN = "plain"
    SHUFFLED = "shuffled"
    SHUFFLED_GATE_UP = "shuffled_gate_up"
    PANEL = "panel"
    PANEL_GATE_UP = "panel_gate_up"

    @property
    def is_panel(self) -> bool:
        """Scales lie among the codes, as kernels of the CPU read them."""
        return self in (Layout.PANEL, Layout.PANEL_GATE_UP)

    @property
    def is_gate_up(self) -> bool:
        """Gate and up rows are interleaved."""
        return self in (Layout.SHUFFLED_GATE_UP, Layout.PANEL_GATE_UP)

    def __str__(self) -> str:
        return self.name
