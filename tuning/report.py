# SPDX-License-Identifier: MIT
"""The table of tuned rows: what was chosen, how fast, how exact, how much faster than untuned.

Reads rows as the CSV holds them, so a resumed run prints the same table. No terminal here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiter_moe.codegen.catalogue import by_name
from aiter_moe.configs.table import Row
from aiter_moe.enums import Kind
from aiter_moe.tuning.figures import ACTIVE_EXPERTS, UNTUNED_US
from aiter_moe.tuning.measurer import Confirmed

MISSING = "-"
HEADER = (
    "kind", "tokens", "block_m", "ksplit", "us1", "us2", "us", "error", "untuned", "speed-up",
)  # fmt: skip
RATES_HEADER = ("kind", "tokens", "stage 2 reads", "experts", "GB/s", "TFLOPS")


@dataclass(frozen=True, slots=True)
class Table:
    """A header and lines of text cells."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def _number(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.3f}%"


def _operand(row: Row) -> str:
    """Return what stage 2 reads, as the instance says; a kernel unknown here is not guessed."""
    instance = by_name(row.key.gfx).get(row.kernel2)
    if instance is None:
        return MISSING
    return "fp4" if instance.kind is Kind.A4W4 else "bf16"


def untuned_us(row: Row) -> float | None:
    """Return the microseconds of the untuned default that stood beside this row, if recorded."""
    text = dict(row.extra).get(UNTUNED_US, "")
    return float(text) if text else None


def speed_up(row: Row) -> float | None:
    """Return how many times faster than the untuned default the row is."""
    before = untuned_us(row)
    return before / row.us if before and row.us else None


def layer_name(row: Row) -> str:
    """Return the layer of a row in few words: experts, topk, sizes, activation."""
    key = row.key
    return (
        f"{key.expert} experts, top {key.topk}, {key.model_dim} x {key.inter_dim}, "
        f"{key.act_type.name}"
    )


def by_layer(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by layer, in order of appearance."""
    layers: dict[str, list[Row]] = {}
    for row in rows:
        layers.setdefault(layer_name(row), []).append(row)
    return layers


def _line(row: Row) -> tuple[str, ...]:
    faster = speed_up(row)
    errors = [error for error in (row.err1, row.err2) if error is not None]
    return (
        str(row.key.problem().kind),
        str(row.key.token),
        str(row.block_m),
        str(row.ksplit),
        _number(row.us1),
        _number(row.us2),
        _number(row.us),
        _percent(max(errors, default=None)),
        _number(untuned_us(row)),
        MISSING if faster is None else f"{faster:.2f}x",
    )


def tuned_table(rows: Sequence[Row]) -> Table:
    """Return what was chosen: medians in microseconds, the worse stage's relative L2 error."""
    return Table(HEADER, tuple(_line(row) for row in rows))


def rates_table(rows: Sequence[Row]) -> Table:
    """Return bandwidth and TFLOPS of the tuned rows, and the experts whose bytes were counted."""
    lines = tuple(
        (
            str(row.key.problem().kind),
            str(row.key.token),
            _operand(row),
            dict(row.extra).get(ACTIVE_EXPERTS, MISSING),
            _number(row.bw),
            _number(row.tflops, 3),
        )
        for row in rows
    )
    return Table(RATES_HEADER, lines)


def confirmed_table(confirmed: Sequence[Confirmed]) -> Table:
    """Return the table of ``fused_moe`` runs with the tuned file."""
    header = ("kind", "tokens", "row used", "error", "us per call")
    lines = tuple(
        (
            str(c.problem.kind),
            str(c.problem.token),
            c.source,
            _percent(c.error),
            _number(c.microseconds),
        )
        for c in confirmed
    )
    return Table(header, lines)


def kernel_lines(rows: Sequence[Row]) -> list[str]:
    """Return two lines per row that name its kernels."""
    lines = []
    for row in rows:
        lines.append(f"{row.key.problem().kind} tokens {row.key.token}: {row.kernel1}")
        lines.append(f"{' ' * (len(lines[-1]) - len(row.kernel1))}{row.kernel2}")
    return lines


def plain(table: Table, left: Sequence[str] = ()) -> str:
    """Return a table as lines of columns, for logs and pipes; those named in `left` begin left."""
    columns = list(zip(table.header, *table.lines, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    to_left = [name in left for name in table.header]
    lines = [
        "  ".join(
            cell.ljust(width) if begins else cell.rjust(width)
            for cell, width, begins in zip(line, widths, to_left, strict=True)
        ).rstrip()
        for line in (table.header, *table.lines)
    ]
    return "\n".join(lines)
