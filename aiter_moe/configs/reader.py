# SPDX-License-Identifier: MIT
"""Read tuned and untuned CSV files, aiter's and ours, without evaluating or rewriting anything.

Rows are parsed by position, so a row that lacks trailing fields still loads; tflops, bw and flat
are never trusted. What is wrong is a ConfigError that names file, line and column.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from aiter_moe.configs import schema
from aiter_moe.configs.table import Key, Row
from aiter_moe.enums import GateMode
from aiter_moe.errors import ConfigError
from aiter_moe.problem import Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of one line as text, by column; columns the line lacks are absent."""

    file: str
    line: int
    cells: dict[str, str]

    def parse(self, column: str, parser: Callable[[str], T]) -> T:
        """Return a cell through `parser`.

        Raises
        ------
        ConfigError
            If the parser rejects the text.
        """
        text = self.cells.get(column, "")
        try:
            return parser(text)
        except (ValueError, OverflowError) as error:
            what = f"{error}" if text else "the cell is empty"
            raise ConfigError(
                f"{self.file}:{self.line}: column {column}: {what}; correct the cell or remove "
                "the row"
            ) from None

    def text(self, column: str) -> str:
        """Return the text of a cell, "" where the line lacks it."""
        return self.cells.get(column, "")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A file as text cells: its header and its records."""

    header: tuple[str, ...]
    records: tuple[Record, ...]


def read_sheet(path: Path, required: Sequence[str]) -> Sheet:
    """Return the cells of a CSV file.

    Parameters
    ----------
    path : pathlib.Path
        UTF-8 text, with or without byte-order mark, any line ends.
    required : sequence of str
        Columns the header must have.

    Raises
    ------
    ConfigError
        If the file cannot be read, has no header, or lacks a required column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if any(c.strip() for c in line)]
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror or error}; correct the path"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is no CSV in UTF-8 ({error}); give another file") from None
    if not lines:
        raise ConfigError(
            f"{path}: the file is empty; its first line must name the columns {','.join(required)}"
        )
    header = tuple(name.strip() for name in lines[0][1])
    _check_header(path, header, required)
    return Sheet(header, tuple(_records(path, header, lines[1:])))


def _check_header(path: Path, header: tuple[str, ...], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        raise ConfigError(
            f"{path}:1: column {', '.join(missing)} missing; the header must have "
            f"{','.join(required)} (further columns may follow)"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ConfigError(f"{path}:1: column {', '.join(twice)} appears twice; keep one of them")


def _records(
    path: Path, header: tuple[str, ...], lines: Sequence[tuple[int, list[str]]]
) -> Iterator[Record]:
    for number, line in lines:
        cells = {name: cell.strip() for name, cell in zip(header, line, strict=False) if name}
        yield Record(str(path), number, cells)


def key_of(record: Record, *, device: bool = True) -> Key:
    """Return the key of a record; without `device` (untuned files) gfx is "" and cu_num 0.

    Raises
    ------
    ConfigError
        If a cell of the key is missing or unparsable.
    """
    cu_num = record.parse("cu_num", schema.parse_int) if device else 0
    gfx = record.text("gfx") or schema.gfx_of_compute_units(cu_num)
    size = schema.parse_int
    return Key(
        gfx=gfx if device else "",
        cu_num=cu_num,
        token=record.parse("token", size),
        model_dim=record.parse("model_dim", size),
        inter_dim=record.parse("inter_dim", size),
        expert=record.parse("expert", size),
        topk=record.parse("topk", size),
        act_type=record.parse("act_type", schema.parse_activation),
        dtype=record.parse("dtype", schema.parse_dtype),
        q_dtype_a=record.parse("q_dtype_a", schema.parse_dtype),
        q_dtype_w=record.parse("q_dtype_w", schema.parse_dtype),
        q_type=record.parse("q_type", schema.parse_quant_type),
        use_g1u1=record.parse("use_g1u1", schema.parse_bool),
        doweight_stage1=record.parse("doweight_stage1", schema.parse_bool),
    )


def row_of(record: Record) -> Row:
    """Return the tuned row of a record.

    Raises
    ------
    ConfigError
        If a cell is unparsable.
    """
    known = set(schema.TUNED_COLUMNS) | {"_tag"}
    return Row(
        key=key_of(record),
        block_m=record.parse("block_m", schema.parse_optional_int),
        ksplit=record.parse("ksplit", schema.parse_optional_int),
        kernel1=record.text("kernelName1"),
        kernel2=record.text("kernelName2"),
        us1=record.parse("us1", schema.parse_number),
        us2=record.parse("us2", schema.parse_number),
        us=record.parse("us", schema.parse_number),
        err1=record.parse("err1", schema.parse_percent),
        err2=record.parse("err2", schema.parse_percent),
        run_1stage=record.parse("run_1stage", schema.parse_optional_bool),
        tag=record.text("_tag"),
        source=record.text("source"),
        template_hash=record.text("template_hash"),
        compiler=record.text("compiler"),
        repeats=record.parse("repeats", schema.parse_optional_int),
        extra=tuple((name, text) for name, text in record.cells.items() if name not in known),
        file=record.file,
        line=record.line,
    )


def read_tuned(path: str | Path) -> tuple[Row, ...]:
    """Return the usable rows of a tuned file in file order.

    Rows tagged ``flydsl_fallback`` are left out, as aiter's runtime does.

    Parameters
    ----------
    path : str or pathlib.Path
        A tuned CSV of aiter's schema, of any age.

    Raises
    ------
    ConfigError
        If the file, a required column or a cell is unusable.
    """
    sheet = read_sheet(Path(path), schema.REQUIRED_TUNED)
    rows = (row_of(record) for record in sheet.records)
    return tuple(row for row in rows if row.tag != schema.FALLBACK_TAG)


def read_untuned(path: str | Path) -> list[Problem]:
    """Return the problems of an untuned (or tuned) file in file order, each once.

    Optional columns ``has_bias`` and ``gate_mode`` set those fields of the problems; token
    counts become tiers.

    Parameters
    ----------
    path : str or pathlib.Path
        A CSV with aiter's twelve problem columns; a tuned file has them too.

    Raises
    ------
    ConfigError
        If the file, a required column or a cell is unusable.
    """
    sheet = read_sheet(Path(path), schema.REQUIRED_UNTUNED)
    found: dict[Problem, None] = {}
    for record in sheet.records:
        problem = replace(
            key_of(record, device=False).problem(),
            has_bias=record.parse("has_bias", schema.parse_optional_bool),
            gate_mode=record.parse("gate_mode", lambda text: GateMode(text or "separated")),
        )
        _check_sizes(record, problem)
        found[problem] = None
    return list(found)


def _check_sizes(record: Record, problem: Problem) -> None:
    sizes = {
        "model_dim": problem.model_dim,
        "inter_dim": problem.inter_dim,
        "expert": problem.experts,
        "topk": problem.topk,
    }
    for column, size in sizes.items():
        if size <= 0:
            raise ConfigError(
                f"{record.file}:{record.line}: column {column}: {size} is not positive; correct "
                "the cell or remove the row"
            )
