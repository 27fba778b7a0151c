# SPDX-License-Identifier: MIT
"""What uniform routing asks of the experts: how many get tokens, and how many row blocks they fill.

Every token picks `topk` of `experts` without preference, so the rows of one expert are binomial
with `tokens` draws of probability topk / experts. Expectations are exact, but for tails beyond nine
standard deviations.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, exp, expm1, floor, lgamma, log, log1p, sqrt

_TAIL = 9


def active_experts(tokens: int, experts: int, topk: int) -> float:
    """Return the expected number of experts that get a token: topk for one token."""
    if topk >= experts:
        return float(experts)
    return -experts * expm1(tokens * log1p(-topk / experts))


@lru_cache(maxsize=4096)
def row_blocks(tokens: int, experts: int, topk: int, block_m: int) -> float:
    """Return the expected number of sorted blocks of `block_m` rows, the last of an expert padded.

    Parameters
    ----------
    tokens, experts, topk : int
        Rows of the batch, experts of the rank, experts of a token.
    block_m : int
        Rows of a block; at least 1.
    """
    if topk >= experts:
        return float(experts * ceil(tokens / block_m))
    probability = topk / experts
    mean, deviation = tokens * probability, sqrt(tokens * probability * (1 - probability))
    least = max(1, floor(mean - _TAIL * deviation))
    most = min(tokens, ceil(mean + _TAIL * deviation) + _TAIL)
    return experts * sum(
        ceil(rows / block_m) * _binomial(rows, tokens, probability)
        for rows in range(least, most + 1)
    )


def _binomial(rows: int, tokens: int, probability: float) -> float:
    ways = lgamma(tokens + 1) - lgamma(rows + 1) - lgamma(tokens - rows + 1)
    return exp(ways + rows * log(probability) + (tokens - rows) * log1p(-probability))
