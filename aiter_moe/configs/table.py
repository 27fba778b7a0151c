# SPDX-License-Identifier: MIT
"""Tuned rows in memory: their key, one row, and an immutable table of merged files.

Reading and writing files is `configs.reader` and `configs.writer`; which row serves a problem is
`configs.lookup`; whether a row may still be used is `aiter_moe.plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

import torch

from aiter_moe.configs.schema import MODEL_SOURCE
from aiter_moe.enums import ActivationType, QuantType
from aiter_moe.problem import Problem, token_tier
from aiter_moe.targets.base import DeviceFacts


@dataclass(frozen=True, slots=True)
class Key:
    """What a tuned row is found by; the activation is part of it.

    Attributes
    ----------
    gfx : str
        Architecture; "" in rows of old files stands for the running one.
    cu_num : int
        Compute units; threads on the CPU target.
    token : int
        Token tier.
    model_dim, inter_dim, expert, topk : int
        Sizes of the weight tensors, local experts, routed experts per token.
    """

    gfx: str
    cu_num: int
    token: int
    model_dim: int
    inter_dim: int
    expert: int
    topk: int
    act_type: ActivationType
    dtype: torch.dtype
    q_dtype_a: torch.dtype
    q_dtype_w: torch.dtype
    q_type: QuantType
    use_g1u1: bool
    doweight_stage1: bool

    @classmethod
    def of(cls, problem: Problem, facts: DeviceFacts) -> Key:
        """Return the key of `problem` on the device."""
        return cls(
            facts.gfx, facts.cu_num, problem.token, problem.model_dim, problem.inter_dim,
            problem.experts, problem.topk, problem.activation, problem.dtype, problem.q_dtype_a,
            problem.q_dtype_w, problem.q_type, problem.use_g1u1, problem.doweight_stage1,
        )  # fmt: skip

    def problem(self) -> Problem:
        """Return the problem this key stands for, without bias and with separated rows."""
        return Problem(
            token=token_tier(self.token), model_dim=self.model_dim, inter_dim=self.inter_dim,
            experts=self.expert, topk=self.topk, activation=self.act_type,
            q_dtype_a=self.q_dtype_a, dtype=self.dtype, q_dtype_w=self.q_dtype_w,
            q_type=self.q_type, use_g1u1=self.use_g1u1, doweight_stage1=self.doweight_stage1,
        )  # fmt: skip

    def differences(self, other: Key) -> tuple[str, ...]:
        """Return ``field is, not wanted`` for every field in which `other` differs from self."""
        pairs = ((f.name, getattr(other, f.name), getattr(self, f.name)) for f in fields(self))
        return tuple(f"{name} {is_}, not {want}" for name, is_, want in pairs if is_ != want)

    def sort_key(self) -> tuple[object, ...]:
        """Return a total order of keys: device, shape, types, then token tier."""
        return (
            self.gfx, self.cu_num, self.model_dim, self.inter_dim, self.expert, self.topk,
            int(self.act_type), str(self.dtype), str(self.q_dtype_a), str(self.q_dtype_w),
            int(self.q_type), self.use_g1u1, self.doweight_stage1, self.token,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One tuned choice.

    Attributes
    ----------
    key : Key
        Problem and device.
    block_m, ksplit : int
        Sort block, split of stage 1's reduction (0 for a4w4); block_m 0: no preference.
    kernel1, kernel2 : str
        ``kernelName1`` and ``kernelName2``; "" leaves the instance to the dispatcher.
    us1, us2, us : float or None
        Microseconds of stage 1, stage 2 and their sum.
    err1, err2 : float or None
        Errors as fractions.
    run_1stage : bool
        aiter's one-stage kernels; none exist here.
    tflops, bw : float or None
        Written, never read back: figures of other tuners are not comparable.
    tag : str
        aiter's legacy ``_tag``.
    source, template_hash, compiler, repeats : str, str, str, int
        What made the row, of which templates and compiler, from how many measurements.
    extra : tuple of (column, text)
        Further columns to write.
    file, line : str, int
        Where the row was read; "" and 0 for rows not read from a file.
    """

    key: Key
    block_m: int
    ksplit: int
    kernel1: str = ""
    kernel2: str = ""
    us1: float | None = None
    us2: float | None = None
    us: float | None = None
    err1: float | None = None
    err2: float | None = None
    run_1stage: bool = False
    tflops: float | None = None
    bw: float | None = None
    tag: str = ""
    source: str = ""
    template_hash: str = ""
    compiler: str = ""
    repeats: int = 0
    extra: tuple[tuple[str, str], ...] = ()
    file: str = ""
    line: int = 0

    @property
    def predicted(self) -> bool:
        """Whether a cost model chose the kernels, and nothing was measured."""
        return self.source == MODEL_SOURCE

    @property
    def where(self) -> str:
        """Return ``file:line``."""
        return f"{self.file}:{self.line}" if self.file else "a row in memory"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row that repeats the key of an earlier one and is therefore not used."""

    first: Row
    repeated: Row


def _unindexed() -> Mapping[Key, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ConfigTable:
    """Rows of all files of the search path; of several with one key the first counts.

    A measured row counts before a predicted one, wherever they stand.

    Attributes
    ----------
    rows : tuple of Row
        In order of files and lines, duplicates left out; measured ones first.
    duplicates : tuple of Duplicate
        What was left out.
    """

    rows: tuple[Row, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    _index: Mapping[Key, int] = field(default_factory=_unindexed, repr=False, compare=False)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> ConfigTable:
        """Return the table of `rows`, keeping the first row of each key, measured ones first."""
        kept: list[Row] = []
        duplicates: list[Duplicate] = []
        index: dict[Key, int] = {}
        for row in sorted(rows, key=lambda row: row.predicted):
            earlier = index.get(row.key)
            if earlier is not None and row.predicted and not kept[earlier].predicted:
                continue
            if earlier is not None:
                duplicates.append(Duplicate(kept[earlier], row))
                continue
            index[row.key] = len(kept)
            kept.append(row)
        return cls(tuple(kept), tuple(duplicates), MappingProxyType(index))

    def get(self, key: Key) -> Row | None:
        """Return the row of exactly this key, counting rows without gfx as the running one."""
        found = (self._index.get(key), self._index.get(replace(key, gfx="")))
        places = [place for place in found if place is not None]
        return self.rows[min(places)] if places else None

    def same_shape(self, key: Key) -> tuple[Row, ...]:
        """Return rows of the same model_dim, inter_dim, expert and topk, whatever else differs."""
        shape = (key.model_dim, key.inter_dim, key.expert, key.topk)
        return tuple(
            row
            for row in self.rows
            if (row.key.model_dim, row.key.inter_dim, row.key.expert, row.key.topk) == shape
        )

    def tiers(self, key: Key) -> tuple[int, ...]:
        """Return the token tiers that have a row for this key's shape, types and device."""
        return tuple(
            sorted(
                row.key.token
                for row in self.same_shape(key)
                if replace(row.key, token=key.token, gfx=row.key.gfx or key.gfx) == key
            )
        )
