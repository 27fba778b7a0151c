# SPDX-License-Identifier: MIT
"""The lanes of a wave, and EXEC masks over them."""

from __future__ import annotations

import numpy as np

LANES = 64
ALL = (1 << LANES) - 1


def random_mask(rng: np.random.Generator) -> int:
    """Return a mask with some lanes on and some off."""
    return int(rng.integers(1, ALL, dtype=np.uint64))


def active_lanes(mask: int, threads: int = LANES) -> np.ndarray:
    """Return the bits of a mask as bool [threads]; every wave has the same ones."""
    return np.resize(np.array([mask >> lane & 1 for lane in range(LANES)], bool), threads)
