# SPDX-License-Identifier: MIT
"""The tables of a run in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from peers.results import Cell, Row, Run

OURS = ("a16w4", "a4w4")
RIGHT_KIND = {"a16w4": "exact", "a4w4": "quantised"}


def aligned(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown whose columns line up as text too."""
    rows = [list(header), *map(list, lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "| " + " | ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in ruled
    )


def milliseconds(seconds: float) -> str:
    """Return three digits or more."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def best_peer(row: Row) -> Cell | None:
    """Return the fastest cell that is not ours."""
    others = [cell for cell in row.cells if cell.peer not in OURS]
    return min(others, key=lambda cell: cell.seconds, default=None)


def _times(row: Row, columns: Sequence[str]) -> list[str]:
    best = best_peer(row)
    cells = []
    for name in columns:
        cell = row.cell(name)
        text = "-" if cell is None else milliseconds(cell.seconds)
        cells.append(f"**{text}**" if cell is not None and cell is best else text)
    ratios = []
    for name in OURS:
        cell = row.cell(name)
        ratios.append(f"{best.seconds / cell.seconds:.2f}x" if best and cell else "-")
    return [str(row.tokens), *cells, best.peer if best else "-", *ratios]


def times(run: Run, layer: str) -> str:
    """Return milliseconds of each column, the best peer, and ours against it."""
    rows = [row for row in run.rows if row.layer == layer]
    columns = [name for name in run.peers if any(row.cell(name) for row in rows)]
    columns.sort(key=lambda name: name in OURS)
    header = ["tokens", *columns, "best peer", *(f"{name} against it" for name in OURS)]
    return aligned(header, [_times(row, columns) for row in rows])


def _share(part: float, whole: float | None) -> str:
    return "-" if not whole else f"{100 * part / whole:.0f} %"


def _limits(row: Row) -> list[str]:
    read = row.rates.get("read")
    cells = [str(row.tokens), f"{row.bytes / 1e6:.0f}", f"{(read or 0) / 1e9:.1f}"]
    cells.append(f"{row.other_load:.2f}")
    for name in OURS:
        cell = row.cell(name)
        cells.append(_share(row.bytes / cell.seconds, read) if cell else "-")
    for name in OURS:
        cell, peak = row.cell(name), row.rates.get(name)
        cells.append(f"{peak / 1e9:.0f}" if peak else "-")
        cells.append(_share(row.operations / cell.seconds, peak) if cell else "-")
    return cells


def limits(run: Run, layer: str) -> str:
    """Return what ours reach of the memory's and of the dot units' limit, measured between."""
    header = ["tokens", "MB of weights", "read GB/s", "other load", *(f"{n} of read" for n in OURS)]
    for name in OURS:
        dot = run.facts.get(f"dot product of {name}", "dot")
        header += [f"{dot} G/s", f"{name} of it"]
    return aligned(header, [_limits(row) for row in run.rows if row.layer == layer])


def errors(run: Run) -> str:
    """Return each column's greatest errors, and how it holds weights."""
    lines = []
    for name, weights in run.peers.items():
        cells = [cell for row in run.rows if (cell := row.cell(name))]
        if not cells:
            continue
        kind = RIGHT_KIND.get(name, "exact")
        worst = max(cell.errors[kind] for cell in cells)
        spread = max(cell.deviation / cell.seconds for cell in cells)
        exact = max(cell.errors["exact"] for cell in cells)
        taken = [run.memory.get(layer, {}).get(name) for layer in run.layers]
        sizes = " / ".join("-" if size is None else f"{size / 1e6:.0f}" for size in taken)
        lines.append(
            [name, weights, sizes, f"{worst:.1e}", f"{exact:.1e}", f"{100 * spread:.0f} %"]
        )
    header = ["column", "weights", f"MB of {' / '.join(run.layers)}", "error",
              "error without quantised activations", "most deviation"]  # fmt: skip
    return aligned(header, lines)


def absences(run: Run) -> str:
    """Return who has no figures, why, and what helps."""
    lines = []
    for absence in run.absences:
        where = f" ({absence.layer})" if absence.layer else ""
        command = f" Install it: `{absence.command}`" if absence.command else ""
        lines.append(f"* {absence.peer}{where}: {absence.reason}.{command}")
    return "\n".join(lines)


def page(run: Run, note: str) -> str:
    """Return everything as a page of Markdown."""
    facts = "\n".join(f"* {name}: {text}" for name, text in run.facts.items())
    parts = [f"# MXFP4 MoE layers on a CPU, beside peers\n\n{note}\n\n{facts}"]
    for layer, described in run.layers.items():
        if any(row.layer == layer for row in run.rows):
            parts.append(f"## {layer}: {described}\n\nMilliseconds a call.\n\n{times(run, layer)}")
            parts.append(limits(run, layer))
    parts.append(f"## Errors\n\n{ERRORS_NOTE}\n\n{errors(run)}")
    if run.absences:
        parts.append(f"## Without figures\n\n{absences(run)}")
    return "\n\n".join(parts) + "\n"


ERRORS_NOTE = """\
Relative L2 error against the layer in float64 with the same MXFP4 weights. That of a4w4 is against
float64 with the activations of both stages in MXFP4, which the kind demands; the next column is
against activations as they came. int4 cannot hold MXFP4 weights, which costs the peers that have
nothing closer their error. MB are what a process has taken by loading the layer. Deviation is the
median absolute one of the calls, in the worst row."""
