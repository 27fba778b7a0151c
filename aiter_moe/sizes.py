# SPDX-License-Identifier: MIT
"""Sizes cut into whole parts: how many cover a size, and the size rounded up to them."""

from __future__ import annotations


def ceil_div(size: int, part: int) -> int:
    """Return the number of parts that cover `size`."""
    return -(-size // part)


def round_up(size: int, multiple: int) -> int:
    """Return `size` rounded up to a multiple."""
    return ceil_div(size, multiple) * multiple
