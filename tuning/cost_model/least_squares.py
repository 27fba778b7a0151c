# SPDX-License-Identifier: MIT
"""Bounded, robust least squares by Levenberg and Marquardt's steps, for a dozen parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_STEP = 1e-4
_HOPELESS = 1e8
_TURNS = 60


def minimise(
    residuals: Callable[[Vector], Vector], start: Vector, least: Vector, most: Vector,
    softness: float = 0.2,
) -> Vector:  # fmt: skip
    """Return the parameters in ``[least, most]`` with the least residuals.

    Parameters
    ----------
    residuals : Callable
        Parameters [P] -> residuals [N].
    start, least, most : numpy.ndarray
        float64 [P].
    softness : float
        Residuals beyond it count by their size, not by its square: outliers do not rule.
    """
    x = np.clip(start, least, most)
    found = residuals(x)
    cost, damping = _cost(found, softness), 1e-2
    for _ in range(_TURNS):
        slopes = _slopes(residuals, x, found)
        weights = 1 / np.sqrt(1 + (found / softness) ** 2)
        normal = slopes.T @ (slopes * weights[:, None])
        gradient = slopes.T @ (weights * found)
        before = cost
        while damping < _HOPELESS:
            scaled = normal + damping * np.diag(np.diag(normal) + 1e-9)
            tried = np.clip(x - np.linalg.solve(scaled, gradient), least, most)
            there = residuals(tried)
            if _cost(there, softness) < cost:
                x, found, cost = tried, there, _cost(there, softness)
                damping = max(damping / 5, 1e-9)
                break
            damping *= 4
        if before - cost <= 1e-9 * before:
            break
    return x


def _cost(residuals: Vector, softness: float) -> float:
    return float(np.sqrt(1 + (residuals / softness) ** 2).sum())


def _slopes(residuals: Callable[[Vector], Vector], x: Vector, at: Vector) -> Vector:
    """Return the derivatives [N, P], one-sided: the model goes on beyond the bounds."""
    columns = []
    for i in range(len(x)):
        moved = x.copy()
        moved[i] += _STEP
        columns.append((residuals(moved) - at) / _STEP)
    return np.stack(columns, axis=1)
