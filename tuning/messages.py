# SPDX-License-Identifier: MIT
"""Problems, layers and candidates as JSON objects: what crosses the pipe to the child.

Every ``*_to_json`` has its ``*_from_json``; no pickle. Outcomes have theirs in
`tuning.outcomes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from aiter_moe.codegen.catalogue import by_name
from aiter_moe.enums import ActivationType, GateMode, QuantType
from aiter_moe.errors import ArgumentError
from aiter_moe.problem import Problem
from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.operands import Layer

_ENUMS: dict[str, type[ActivationType] | type[GateMode] | type[QuantType]] = {
    "activation": ActivationType,
    "gate_mode": GateMode,
    "q_type": QuantType,
}
_DTYPES = ("dtype", "q_dtype_a", "q_dtype_w")


def _to_json(value: Problem | Layer) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.name in _ENUMS:
            item = item.name
        elif field.name in _DTYPES:
            item = str(item).removeprefix("torch.")
        found[field.name] = item
    return found


def _from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(data)
    for name in _ENUMS.keys() & found.keys():
        found[name] = _ENUMS[name][found[name]]
    for name in found.keys() & set(_DTYPES):
        found[name] = getattr(torch, found[name])
    return found


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return a problem as a JSON object of its fields."""
    return _to_json(problem)


def problem_from_json(data: Mapping[str, Any]) -> Problem:
    """Return the problem `problem_to_json` wrote."""
    return Problem(**_from_json(data))


def layer_to_json(layer: Layer) -> dict[str, Any]:
    """Return a layer as a JSON object of its fields."""
    return _to_json(layer)


def layer_from_json(data: Mapping[str, Any]) -> Layer:
    """Return the layer `layer_to_json` wrote."""
    return Layer(**_from_json(data))


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate by the name of its kernel."""
    instance = candidate.instance
    return {"target": instance.target, "kernel": instance.name, "ksplit": candidate.ksplit}


def candidate_from_json(data: Mapping[str, Any]) -> Candidate:
    """Return the candidate `candidate_to_json` wrote.

    Raises
    ------
    ArgumentError
        If the target's catalogue holds no kernel of that name.
    """
    known = by_name(data["target"])
    if data["kernel"] not in known:
        raise ArgumentError(f"no kernel {data['kernel']!r} in the catalogue of {data['target']}")
    return Candidate(known[data["kernel"]], data["ksplit"])
