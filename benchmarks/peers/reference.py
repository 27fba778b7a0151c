# SPDX-License-Identifier: MIT
"""The layer in float64, once per layer and kept on disk: what errors are measured against.

`exact` rounds nothing. `quantised` is what an a4w4 kernel must come to: activations of both stages
in MXFP4, as that kind demands of everyone, and nothing else rounded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from aiter_moe.durable import replacing
from aiter_moe.formats import dequantise, quantise_1x32
from aiter_moe.tuning.activations import activate
from peers import layers
from peers.layers import Operands

KINDS = ("exact", "quantised")
TOKENS = 512
ALL, STEP = 32, 32


def checked(tokens: int) -> torch.Tensor:
    """Return which of the first `tokens` rows are compared: the first 32, then every 32nd."""
    rows = range(tokens)
    return torch.tensor([row for row in rows if row < ALL or row % STEP == STEP - 1])


def _quantised(rows: torch.Tensor) -> torch.Tensor:
    return dequantise(*quantise_1x32(rows.to(torch.bfloat16)))


def _expert(given: Operands, e: int, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return both results of one expert for its rows."""
    first, second = (w.double() for w in given.dense(e))
    results = {}
    for kind, x in rows.items():
        z = x @ first.T
        z = z if given.bias1 is None else z + given.bias1[e].double()
        a = activate(z, given.layer.activation, given.layer.constants)
        y = (_quantised(a) if kind == "quantised" else a) @ second.T
        results[kind] = y if given.bias2 is None else y + given.bias2[e].double()
    return results


def compute(given: Operands, tokens: int = TOKENS) -> dict[str, torch.Tensor]:
    """Return float64 [checked rows, model_dim] of each kind; fewer tokens are a prefix of more."""
    kept, route = checked(tokens), layers.routing(given.layer, tokens)
    x, ids, factors = (
        layers.hidden_states(given.layer, tokens)[kept],
        route.ids[kept],
        route.weights,
    )
    inputs = {"exact": x.double(), "quantised": _quantised(x)}
    out = {kind: torch.zeros(x.shape, dtype=torch.float64) for kind in KINDS}
    for e in ids.unique().tolist():
        token, slot = torch.where(ids == e)
        results = _expert(given, e, {kind: rows[token] for kind, rows in inputs.items()})
        for kind, y in results.items():
            out[kind].index_add_(0, token, y * factors[kept][token, slot, None].double())
    return out


def reference(name: str, folder: Path) -> Path:
    """Return the file of a layer's results, made if it is not there."""
    path = folder / f"reference-{name}-{layers.SEED}.npz"
    if not path.is_file():
        results = compute(layers.load(name, folder))
        with replacing(path) as draft, draft.open("wb") as file:
            np.savez(file, **{kind: t.numpy() for kind, t in results.items()})
    return path


def errors(out: torch.Tensor, path: Path) -> dict[str, float]:
    """Return the relative L2 distance of an output [tokens, model_dim] to each kind's result."""
    rows = out[checked(len(out))].double()
    found = {}
    with np.load(path) as file:
        for kind in KINDS:
            want = torch.from_numpy(file[kind][: len(rows)])
            found[kind] = float((rows - want).norm() / want.norm())
    return found
