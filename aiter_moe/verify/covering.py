# SPDX-License-Identifier: MIT
"""Which combinations of axis values are run: every pair of values, or the whole product.

Pure and deterministic: the same axes and seed give the same choices. What is impossible is not
dropped but returned with its reason.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from math import gcd
from typing import Any

from aiter_moe.verify.problems import Axis

Choice = tuple[int, ...]
"""Index of the value of each axis."""

_Partial = dict[int, int]
_Pair = tuple[tuple[int, int], ...]
_CANDIDATES, _ATTEMPTS = 12, 5


@dataclass(slots=True)
class Covering:
    """Chosen combinations, and what no combination can hold.

    Attributes
    ----------
    choices : list of dict
        Axis name -> value.
    refused : Counter
        Reason -> pairs of values (of the product: combinations) that it rules out.
    """

    choices: list[dict[str, Any]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


Refusal = Callable[[dict[str, Any]], str | None]
Work = Callable[[dict[str, Any]], float]


def _no_work(choice: dict[str, Any]) -> float:
    return 0.0


def pairwise(axes: Sequence[Axis], refusal: Refusal, seed: int, work: Work = _no_work) -> Covering:
    """Choose few combinations that together hold every possible pair of values of two axes.

    Greedy: each combination starts from an open pair and is, of a few random fills, the one with
    most open pairs for its cost.

    Parameters
    ----------
    axes : sequence of Axis
        At least two, none empty.
    refusal : Callable
        Why a combination is not supported, or None.
    seed : int
        Of the random fills.
    work : Callable
        What a combination costs beside what any costs; 0 unless given.
    """
    rng = random.Random(seed)
    found = Covering()
    todo = [
        {a: i, b: j}
        for a, b in combinations(range(len(axes)), 2)
        for i, j in product(range(len(axes[a].values)), range(len(axes[b].values)))
    ]
    rng.shuffle(todo)
    open_pairs = {_key(pair) for pair in todo}
    for pair in todo:
        if _key(pair) not in open_pairs:
            continue
        choice, reason = _fill(axes, pair, refusal, work, open_pairs, rng)
        if choice is None:
            open_pairs.discard(_key(pair))
            found.refused[reason] += 1
        else:
            open_pairs -= _pairs(choice)
            found.choices.append(_named(axes, choice))
    return found


def whole(axes: Sequence[Axis], refusal: Refusal, seed: int) -> Iterator[dict[str, Any] | str]:
    """Yield every combination once, in a random order; for an unsupported one the reason.

    The order is a walk through the product with a stride that shares no factor with its length.
    """
    sizes = [len(axis.values) for axis in axes]
    total = product_size(axes)
    rng = random.Random(seed)
    at, stride = rng.randrange(total), _stride(total, rng)
    for _ in range(total):
        rest, choice = at, []
        for size in sizes:
            choice.append(rest % size)
            rest //= size
        named = _named(axes, tuple(choice))
        yield refusal(named) or named
        at = (at + stride) % total


def product_size(axes: Sequence[Axis]) -> int:
    """Return the number of combinations."""
    size = 1
    for axis in axes:
        size *= len(axis.values)
    return size


def _stride(total: int, rng: random.Random) -> int:
    while True:
        stride = rng.randrange(total) | 1
        if gcd(stride, total) == 1:
            return stride


def _named(axes: Sequence[Axis], choice: Choice) -> dict[str, Any]:
    return {axis.name: axis.values[i] for axis, i in zip(axes, choice, strict=True)}


def _key(pair: _Partial) -> _Pair:
    return tuple(sorted(pair.items()))


def _pairs(choice: Choice) -> set[_Pair]:
    return set(combinations(enumerate(choice), 2))


def _fill(
    axes: Sequence[Axis],
    pair: _Partial,
    refusal: Refusal,
    work: Work,
    open_pairs: set[_Pair],
    rng: random.Random,
) -> tuple[Choice | None, str]:
    """Return a good supported combination around a pair, or None and why there is none."""

    def worth(choice: Choice) -> float:
        return len(_pairs(choice) & open_pairs) / (1 + work(_named(axes, choice)))

    reason = ""
    plain = tuple(pair.get(a, 0) for a in range(len(axes)))
    for _ in range(_ATTEMPTS):
        fills = [_random(axes, pair, rng) for _ in range(_CANDIDATES)]
        fills.sort(key=worth, reverse=True)
        for choice in (*fills, plain):
            refused = refusal(_named(axes, choice))
            if refused is None:
                return choice, ""
            reason = refused
    return None, reason


def _random(axes: Sequence[Axis], pair: _Partial, rng: random.Random) -> Choice:
    return tuple(
        pair[a] if a in pair else rng.randrange(len(axis.values)) for a, axis in enumerate(axes)
    )
