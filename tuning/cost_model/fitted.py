# SPDX-License-Identifier: MIT
"""The fitted constants by target, and what they were fitted to.

``python benchmarks/cost_model.py --data FOLDER`` fits them anew and prints how well they predict.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.tuning.cost_model.constants import Constants


@dataclass(frozen=True, slots=True)
class Fitted:
    """Constants and where they come from.

    Attributes
    ----------
    constants : Constants
        Rounded to three digits.
    source : str
        Of the measurements.
    tables : dict
        Table -> rows used.
    observations : int
        Stage times that were fitted.
    median_error, left_out_error : float
        Median of |predicted / measured - 1|: of the fit, and of every model predicted with
        constants fitted to the tables of the others.
    """

    constants: Constants
    source: str
    tables: dict[str, int]
    observations: int
    median_error: float
    left_out_error: float


FITTED = {
    "gfx950": Fitted(
        constants=Constants(
            launch1_us=6.42,
            launch2_us=6.97,
            sum_us=0.736,
            start_us=0.114,
            memory_tb_s=8.0,
            weights_tb_s=20.7,
            rows_tb_s=101.0,
            latency_us=0.29,
            efficiency=0.821,
            lone_waves=0.811,
            atomic_tb_s=1.76,
            sum_tb_s=4.35,
            overlap=1.45,
        ),
        source="ROCm/aiter, aiter/configs/model_configs/*_tuned_fmoe.csv of 2026-08-22: rows with "
        "MXFP4 weights, 256 compute units",
        tables={
            "dsv3_fp4": 63,
            "glm5_fp4": 64,
            "gptoss_a16w4": 24,
            "gptoss_fp4": 24,
            "kimik3_a4w4": 17,
            "kimik3_fp4": 32,
            "minimax_m3_fp4": 32,
            "qwen3_8_2400b_fp4": 28,
        },
        observations=539,
        median_error=0.062,
        left_out_error=0.07,
    )
}
