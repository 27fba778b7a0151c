# SPDX-License-Identifier: MIT
"""What every stage must produce: the float64 result of the same quantised operands.

One pass over the experts serves every token count and both operand kinds: fewer tokens are a
prefix of more, and an output row depends on its own token alone. One expert is dequantised at a
time. No kernel of ours runs here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import torch

from aiter_moe.enums import Kind
from aiter_moe.formats import dequantise, quantise_1x32
from aiter_moe.tuning import operands
from aiter_moe.tuning.activations import activate
from aiter_moe.tuning.operands import ExpertWeights, Layer

ALL_TOKENS = 512
SAMPLED = 128


class Stage2Way(NamedTuple):
    """A way into stage 2: the problem's operand kind and that of the stage-2 kernel."""

    problem: Kind
    stage2: Kind


STAGE2_WAYS = (
    Stage2Way(Kind.A16W4, Kind.A16W4),
    Stage2Way(Kind.A4W4, Kind.A4W4),
    Stage2Way(Kind.A4W4, Kind.A16W4),
)


def checked_tokens(tokens: int) -> torch.Tensor:
    """Return the token rows that are compared: all up to 512, then 128 per doubling.

    The answer for fewer tokens is a prefix of the answer for more.
    """
    rows = list(range(min(tokens, ALL_TOKENS)))
    begin = ALL_TOKENS
    while begin < tokens:
        step = begin // SAMPLED
        rows += range(begin + step - 1, min(2 * begin, tokens), step)
        begin *= 2
    return torch.tensor(rows, dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class Expected:
    """Reference results for one layer, for the rows of `checked_tokens`.

    Attributes
    ----------
    tokens : torch.Tensor
        int64 [R], which tokens.
    stage1 : Mapping
        Kind of the problem -> float32 [R, topk, inter_dim], exact to float32.
    out : Mapping
        Way into stage 2 -> float32 [R, model_dim], reduced over topk, given a stage-2 input of
        `stage1` rounded to bfloat16.
    """

    tokens: torch.Tensor
    stage1: Mapping[Kind, torch.Tensor]
    out: Mapping[Stage2Way, torch.Tensor]

    def save(self, path: Path) -> None:
        """Write the results to one ``.npz`` file, which appears complete or not at all."""
        arrays: dict[str, Any] = {"tokens": self.tokens.numpy()}
        arrays |= {f"stage1_{kind}": t.numpy() for kind, t in self.stage1.items()}
        arrays |= {f"out_{p.problem}_{p.stage2}": t.numpy() for p, t in self.out.items()}
        private = path.with_name(f"{path.stem}.{uuid4().hex}.npz")
        np.savez(private, **arrays)
        private.replace(path)

    @classmethod
    def load(cls, path: Path) -> Expected | None:
        """Return what `save` wrote, or None if there is no readable file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                tensors = {name: torch.from_numpy(file[name]) for name in file.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None
        return cls(
            tensors["tokens"],
            {k: tensors[f"stage1_{k}"] for k in Kind if f"stage1_{k}" in tensors},
            {
                p: tensors[f"out_{p.problem}_{p.stage2}"]
                for p in STAGE2_WAYS
                if f"out_{p.problem}_{p.stage2}" in tensors
            },
        )


def _requantised(rows: torch.Tensor) -> torch.Tensor:
    return dequantise(*quantise_1x32(rows))


@dataclass(frozen=True, slots=True)
class _Pass:
    """Results under way: inputs and accumulators of all rows, filled expert by expert."""

    layer: Layer
    ids: torch.Tensor
    weights: torch.Tensor
    inputs: Mapping[Kind, torch.Tensor]
    stage1: dict[Kind, torch.Tensor]
    out: dict[Stage2Way, torch.Tensor]

    def add(self, e: int, w: ExpertWeights, biases: _Biases) -> None:
        """Add what expert `e` contributes to the rows routed to it."""
        row, slot = torch.nonzero(self.ids == e, as_tuple=True)
        weight = self.weights[row, slot][:, None]
        x = torch.cat([self.inputs[kind][row] for kind in Kind])
        acted = self._first(w, x, weight, biases).chunk(len(Kind))
        a2 = {}
        for kind, result in zip(Kind, acted, strict=True):
            self.stage1[kind][row, slot] = result.float()
            a2[kind] = result.float().to(torch.bfloat16)
        ways = [
            _requantised(a2[p.problem]) if p.stage2 is Kind.A4W4 else a2[p.problem].double()
            for p in STAGE2_WAYS
        ]
        y = self._second(w, torch.cat(ways), weight, biases).chunk(len(STAGE2_WAYS))
        for p, part in zip(STAGE2_WAYS, y, strict=True):
            self.out[p].index_add_(0, row, part)

    def _first(
        self, w: ExpertWeights, x: torch.Tensor, weight: torch.Tensor, biases: _Biases
    ) -> torch.Tensor:
        z = x @ dequantise(w.codes1, w.scales1).T
        if self.layer.doweight_stage1:
            z = z * weight.repeat(len(Kind), 1)
        z = z if biases.first is None else z + biases.first.double()
        return activate(z, self.layer.activation, self.layer.constants)

    def _second(
        self, w: ExpertWeights, a2: torch.Tensor, weight: torch.Tensor, biases: _Biases
    ) -> torch.Tensor:
        y = a2 @ dequantise(w.codes2, w.scales2).T
        if biases.second is not None:
            y = y + biases.second.double()
        return y if self.layer.doweight_stage1 else y * weight.repeat(len(STAGE2_WAYS), 1)


class _Biases(NamedTuple):
    """Biases of one expert, float32, or None."""

    first: torch.Tensor | None
    second: torch.Tensor | None


def compute_expected(
    layer: Layer, seed: int, tokens: int, progress: Callable[[int], None] = lambda expert: None
) -> Expected:
    """Compute the reference results of a layer for its largest token count.

    Parameters
    ----------
    layer : Layer
        Sizes and activation.
    seed : int
        Seed of `tuning.operands`.
    tokens : int
        Largest token count that will be checked.
    progress : Callable
        Told the number of experts done, after each.
    """
    kept = checked_tokens(tokens)
    route = operands.routing(layer, seed, tokens)
    x = operands.hidden_states(layer, seed, tokens)[kept]
    shape = (len(kept), layer.topk, layer.inter_dim)
    work = _Pass(
        layer,
        route.ids[kept],
        route.weights[kept].double(),
        {Kind.A16W4: x.double(), Kind.A4W4: _requantised(x)},
        {kind: torch.zeros(shape) for kind in Kind},
        {p: torch.zeros(len(kept), layer.model_dim, dtype=torch.float64) for p in STAGE2_WAYS},
    )
    bias1, bias2 = operands.biases(layer, seed)
    for e in range(layer.experts):
        if bool((work.ids == e).any()):
            of_expert = _Biases(
                None if bias1 is None else bias1[e], None if bias2 is None else bias2[e]
            )
            work.add(e, operands.expert_weights(layer, seed, e), of_expert)
        progress(e + 1)
    return Expected(kept, work.stage1, {p: t.float() for p, t in work.out.items()})
