# SPDX-License-Identifier: MIT
"""The three layouts kernels know, by name.

How bytes move is `aiter_moe.layouts.weights` and `aiter_moe.layouts.scales`.
"""

from __future__ import annotations

from enum import Enum


class Layout(Enum):
    """How the bytes of an MXFP4 weight and of its scales lie.

    PLAIN: row-major codes and scales. SHUFFLED: codes in 16-row tiles (W), scales in 32-row
    tiles (S). SHUFFLED_GATE_UP: gate and up rows interleaved by 16, then the same.
    """

    PLAIN = "plain"
    SHUFFLED = "shuffled"
    SHUFFLED_GATE_UP = "shuffled_gate_up"

    def __str__(self) -> str:
        return self.name
