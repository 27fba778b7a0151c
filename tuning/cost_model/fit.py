# SPDX-License-Identifier: MIT
"""Find the constants in public measurements, and how far the model is off then.

``python benchmarks/cost_model.py --data FOLDER`` prints both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from aiter_moe.tuning.cost_model.constants import LEAST, MOST, START, Constants
from aiter_moe.tuning.cost_model.device import GPUS, Gpu
from aiter_moe.tuning.cost_model.least_squares import Vector, minimise
from aiter_moe.tuning.cost_model.observations import Observation
from aiter_moe.tuning.cost_model.stage_time import stage_time

GFX950 = GPUS["gfx950"]


def predicted_us(observation: Observation, constants: Constants, gpu: Gpu = GFX950) -> float:
    """Return the time the model expects where `observation` was measured."""
    return sum(stage_time(part.work, part.group, gpu, constants).us for part in observation.parts)


def log_errors(observations: Sequence[Observation], constants: Constants) -> Vector:
    """Return ln(predicted / measured) of each observation."""
    return np.log([predicted_us(o, constants) / o.us for o in observations])


def fit(observations: Sequence[Observation]) -> Constants:
    """Return the constants, within their bounds, with the least error of the logarithms."""

    def residuals(logarithms: Vector) -> Vector:
        return log_errors(observations, Constants(*np.exp(logarithms)))

    start, least, most = (np.log(each.values()) for each in (START, LEAST, MOST))
    return Constants(*(float(v) for v in np.exp(minimise(residuals, start, least, most))))


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of predictions: median and ninth decile of their size, median with sign."""

    count: int
    median: float
    decile9: float
    bias: float

    @classmethod
    def of(cls, logarithms: Iterable[float]) -> Errors:
        """Return the figures of some ln(predicted / measured)."""
        relative = np.expm1(np.array(list(logarithms)))
        size = np.abs(relative)
        return cls(
            len(size), float(np.median(size)), float(np.quantile(size, 0.9)),
            float(np.median(relative)),
        )  # fmt: skip


def left_out(observations: Sequence[Observation]) -> dict[str, Constants]:
    """Return, for every model, the constants fitted to the tables of all others."""
    models = sorted({o.model for o in observations})
    return {m: fit([o for o in observations if o.model != m]) for m in models}
