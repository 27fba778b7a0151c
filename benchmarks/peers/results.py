# SPDX-License-Identifier: MIT
"""What a run found, and its JSON: one object that is written anew after every row."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from aiter_moe.durable import replacing

SCHEMA = 1


def deviation(values: list[float]) -> float:
    """Return the median absolute deviation."""
    middle = median(values)
    return median(abs(value - middle) for value in values)


@dataclass(frozen=True, slots=True)
class Cell:
    """One peer at one token count.

    Attributes
    ----------
    seconds, deviation : float
        Median of a call, and the median absolute deviation.
    calls : int
        How many calls were timed.
    errors : dict
        Relative L2 error against float64: ``exact``, and ``quantised`` (activations in MXFP4).
    """

    peer: str
    seconds: float
    deviation: float
    calls: int
    errors: dict[str, float]

    @classmethod
    def of(cls, peer: str, seconds: list[float], errors: dict[str, float]) -> Cell:
        """Return the cell of the timed calls."""
        return cls(peer, median(seconds), deviation(seconds), len(seconds), errors)


@dataclass(frozen=True, slots=True)
class Row:
    """All peers at one token count of a layer, timed in turns.

    Attributes
    ----------
    layer, tokens : str, int
        Name of the layer, and tokens of a call.
    bytes, operations : float
        What no call can avoid: MXFP4 bytes of the active experts, operations of the products.
    rates : dict
        Medians of the machine's limits between the calls: ``read`` in bytes a second; dot
        products of ``f32``, ``bf16``, ``int8`` in operations a second, as far as the CPU has them.
    cells : tuple of Cell
        In the order of the columns.
    other_load : float
        Cores that other processes kept busy meanwhile: 0 on a machine that does nothing else.
    """

    layer: str
    tokens: int
    bytes: float
    operations: float
    rates: dict[str, float]
    cells: tuple[Cell, ...]
    other_load: float = 0.0

    def cell(self, peer: str) -> Cell | None:
        """Return the cell of a peer, if it has one."""
        return next((cell for cell in self.cells if cell.peer == peer), None)


@dataclass(frozen=True, slots=True)
class Absence:
    """A peer without figures: why, and the command that helps, if one does."""

    peer: str
    layer: str
    reason: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a run found.

    Attributes
    ----------
    facts : dict
        Machine, versions, git commit, date, command: text by name.
    peers : dict
        Column -> how it holds weights.
    rows, absences : tuple
        Results so far.
    memory : dict
        Layer -> column -> bytes that a process has taken by loading the layer.
    """

    facts: dict[str, str]
    peers: dict[str, str]
    layers: dict[str, str] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    absences: tuple[Absence, ...] = ()
    memory: dict[str, dict[str, int]] = field(default_factory=dict)

    def with_row(self, row: Row) -> Run:
        """Return the run with a row, in place of one for the same layer and tokens."""
        kept = [r for r in self.rows if (r.layer, r.tokens) != (row.layer, row.tokens)]
        order = list(self.layers)
        rows = sorted([*kept, row], key=lambda r: (order.index(r.layer), r.tokens))
        return replace(self, rows=tuple(rows))

    def with_memory(self, layer: str, memory: dict[str, int]) -> Run:
        """Return the run with the memory that peers have taken for a layer."""
        return replace(self, memory={**self.memory, layer: memory})

    def with_absence(self, absence: Absence) -> Run:
        """Return the run with an absence, told once a peer and layer."""
        key = (absence.peer, absence.layer)
        kept = [a for a in self.absences if (a.peer, a.layer) != key]
        return replace(self, absences=(*kept, absence))

    def has(self, layer: str, tokens: int) -> bool:
        """Say whether a row is there."""
        return any((r.layer, r.tokens) == (layer, tokens) for r in self.rows)

    def to_json(self) -> str:
        """Return the run as JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Return what `to_json` wrote; ValueError for another schema."""
        data: dict[str, Any] = json.loads(text)
        if data.pop("schema", None) != SCHEMA:
            raise ValueError(f"not results of schema {SCHEMA}")
        rows = [Row(**{**r, "cells": tuple(Cell(**c) for c in r["cells"])}) for r in data["rows"]]
        absences = tuple(Absence(**a) for a in data["absences"])
        return cls(**{**data, "rows": tuple(rows), "absences": absences})

    def save(self, path: Path) -> None:
        """Write the run; a crash leaves the file as it was or as it is now."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            draft.write_text(self.to_json(), encoding="utf-8")
