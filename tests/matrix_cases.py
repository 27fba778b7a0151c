# SPDX-License-Identifier: MIT
"""What tests of matrix instructions share: how operands are drawn, how results are compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matrix_formats import Array, random_codes, small_codes

Draw = Callable[[np.random.Generator, str, tuple[int, ...]], Array]

ULP = 2.0**-23
TOLERANCE = 8 * ULP  # of the sum of magnitudes: a chain of up to 128 roundings, and their luck
# Small numbers have sums that are exact whatever their order, random ones do not.
SMALL: Draw = small_codes
RANDOM: Draw = random_codes


def assert_close(got: Array, exact: Array, size: Array, draw: Draw) -> None:
    """Compare with the exact result; `size` is the sum of magnitudes behind it."""
    if got.dtype == np.int32:
        np.testing.assert_array_equal(got, exact.astype(np.uint32).view(np.int32))
    elif draw is SMALL:
        np.testing.assert_array_equal(got, exact.astype(np.float32))
    else:
        assert (np.abs(got - exact) <= TOLERANCE * size).all()
