# SPDX-License-Identifier: MIT
"""Print benchmarks/cost_model.md: how well the cost model predicts what others measured.

Tuned tables of aiter are read where they lie; nothing is run on a GPU.

    python benchmarks/cost_model.py --data aiter/configs/model_configs > benchmarks/cost_model.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from aiter_moe.enums import Kind
from aiter_moe.heuristics import get_block_size_M
from aiter_moe.tuning.cost_model.choose import TIE
from aiter_moe.tuning.cost_model.constants import LEAST, MOST, Constants
from aiter_moe.tuning.cost_model.fit import Errors, fit, left_out, log_errors, predicted_us
from aiter_moe.tuning.cost_model.fitted import FITTED
from aiter_moe.tuning.cost_model.observations import (
    Observation,
    Table,
    model_of,
    observations,
    read_tables,
)
from aiter_moe.tuning.cost_model.ranking import Agreement, Ranked, rank, spearman

Shape = tuple[int | Kind, ...]
SMALL_AND_LARGE = ((1, 4), (8, 64), (128, 1024), (2048, 32768))

READING = """\
* Left out: every model predicted with constants fitted to the tables of the other models.
* A table holds the fastest kernel of every problem alone. So errors are those of predicting the
  winner's time; how far off a slow kernel's time would be is not known.
* Copies are left out (rows of another expert count with the very same times), and rows of
  one-stage kernels, which the model does not know.
* Times are those of the tuner of the tables: stages alone, random uniform routing, without sort and
  quantisation. Nothing in them says what direct kernels or kernels of this package take.
* gptoss_a16w4 has sums of both stages and no kernel names: CK-tile's default tile is assumed.
* `memory_tb_s` ends at its bound, the peak of the HBM: parts that overlap by halves make each of
  them look faster than it is alone. `rows_tb_s` is hardly determined: rows seldom bound."""
RANKING = """\
For every a4w4 row with a block_m of 32, 64 or 128 the model times FlyDSL's tiles of each block_m
and names the best. "near" is at most one step of a factor 2. "tie" is a row's block_m that the
model puts within 3 % of its favourite: tables do not say how close the second was, and tuners
choose within the noise. Left out: constants fitted without the model's tables. Beside it aiter's
own heuristic for untuned problems (`get_block_size_M`), and the best choice that looks at the rows
of an expert alone, by two thresholds fitted to these very rows: what a rule of one figure can
reach, knowing the answers."""
KINDS = """\
The one place where tables hold two times of one problem: Kimi-K3's shape with fp4 and with bf16
activations, both stages together."""


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def error_cells(logarithms: Sequence[float]) -> tuple[str, ...]:
    errors = Errors.of(logarithms)
    return (
        str(errors.count), percent(errors.median), percent(errors.decile9),
        f"{100 * errors.bias:+.1f} %",
    )  # fmt: skip


def constants_table(constants: Constants) -> str:
    lines = [
        (field.name, *(f"{getattr(each, field.name):.3g}" for each in (constants, LEAST, MOST)))
        for field in fields(Constants)
    ]
    return markdown(("constant", "fitted", "least", "most"), lines)


def errors_table(
    found: Sequence[Observation], errors: np.ndarray, without: dict[str, np.ndarray]
) -> str:
    """Return errors by table: of the fit, and with constants fitted to other models' tables."""
    lines = []
    for table in sorted(without):
        own = [e for e, o in zip(errors, found, strict=True) if o.table == table]
        lines.append((table, *error_cells(own), *error_cells(without[table])[1:]))
    everything = np.concatenate(list(without.values()))
    lines.append(("all", *error_cells(errors), *error_cells(everything)[1:]))
    header = ("table", "times", "median", "ninth decile", "bias", "left out: median",
              "ninth decile", "bias")  # fmt: skip
    return markdown(header, lines)


def split_table(
    found: Sequence[Observation], errors: np.ndarray, name: str, key: Callable[[Observation], str]
) -> str:
    groups: dict[str, list[float]] = {}
    for observation, error in zip(found, errors, strict=True):
        groups.setdefault(key(observation), []).append(error)
    lines = [(group, *error_cells(groups[group])) for group in groups]
    lines.sort(key=lambda line: int(line[0].replace("+", " ").split()[0]))
    return markdown((name, "times", "median", "ninth decile", "bias"), lines)


def token_span(observation: Observation) -> str:
    tokens = observation.problem.token
    low, high = next(span for span in SMALL_AND_LARGE if tokens <= span[1])
    return f"{low} to {high}"


def best_thresholds(rows: Sequence[Ranked]) -> list[int]:
    """Return block_m by two thresholds of rows an expert that agree best with the tables."""
    load = [r.problem.token * r.problem.topk / r.problem.experts for r in rows]
    measured = [r.measured for r in rows]
    limits = [2.0**power for power in range(-3, 14)]

    def chosen(low: float, high: float) -> list[int]:
        return [32 if x < low else 64 if x < high else 128 for x in load]

    every = [chosen(low, high) for low in limits for high in limits if low <= high]
    return max(every, key=lambda blocks: spearman(measured, blocks))


def agreement_table(rows: Sequence[Ranked], without: Sequence[Ranked]) -> str:
    measured = [r.measured for r in rows]
    aiter = [
        get_block_size_M(p.token, p.topk, p.experts, p.inter_dim, 256)
        for p in (r.problem for r in rows)
    ]
    lines = []
    for name, blocks, regrets in (
        ("model", [r.predicted for r in rows], [r.regret for r in rows]),
        ("model, left out", [r.predicted for r in without], [r.regret for r in without]),
        ("aiter's heuristic", aiter, None),
        ("rows an expert, two thresholds", best_thresholds(rows), None),
    ):
        found = Agreement.of(measured, blocks)
        ties = (
            [percent(np.mean([x <= TIE for x in regrets])), percent(max(regrets))]
            if (regrets)
            else ["-", "-"]
        )
        lines.append(
            (name, str(found.count), f"{found.correlation:.3f}", percent(found.same),
             percent(found.near), *ties)
        )  # fmt: skip
    header = ("who chooses", "rows", "rank correlation", "same", "near", "tie",
              "most that the model says is lost")  # fmt: skip
    return markdown(header, lines)


def both_stages(tables: Iterable[Table], constants: Constants) -> dict[Shape, list[float]]:
    """Return measured and predicted time of both stages by shape and kind, where both are told."""
    found: dict[Shape, list[float]] = {}
    for observation in (o for table in tables for o in observations(table)):
        p = observation.problem
        sums = found.setdefault((p.model_dim, p.inter_dim, p.experts, p.token, p.kind), [0.0, 0.0])
        sums[0] += observation.us
        sums[1] += predicted_us(observation, constants)
    return found


def kinds_table(tables: Iterable[Table], constants: Constants) -> str:
    """Return the time of a4w4 over that of a16w4 where tables have both, measured and predicted."""
    found = both_stages(tables, constants)
    lines, off = [], []
    for *shape, kind in sorted(found, key=str):
        other = found.get((*shape, Kind.A16W4))
        if kind is Kind.A4W4 and other is not None:
            fp4 = found[(*shape, kind)]
            measured, predicted = (a / b for a, b in zip(fp4, other, strict=True))
            off.append(abs(predicted / measured - 1))
            lines.append((str(shape[-1]), f"{measured:.2f}", f"{predicted:.2f}"))
    lines.sort(key=lambda line: int(line[0]))
    lines.append(("median error", "", percent(float(np.median(off)))))
    return markdown(("tokens", "a4w4 / a16w4, measured", "predicted"), lines)


def ranked(tables: Sequence[Table], constants: dict[str, Constants]) -> list[Ranked]:
    return [r for table in tables for r in rank(table.rows, constants[model_of(table.name)])]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder of tuned tables")
    tables = read_tables(options.parse_args().data)
    found = [o for table in tables for o in observations(table)]
    constants, others = fit(found), left_out(found)
    errors = log_errors(found, constants)
    without = {
        table.name: log_errors(list(observations(table)), others[model_of(table.name)])
        for table in tables
    }
    print("# The cost model of gfx950 against public measurements\n")
    print("`python benchmarks/cost_model.py --data aiter/configs/model_configs`\n")
    print(f"Measurements: {FITTED['gfx950'].source}. {len(found)} times of "
          f"{sum(len(t.rows) for t in tables)} rows; {sum(t.left_out for t in tables)} rows are "
          "copies or of one stage.\n")  # fmt: skip
    print("## Constants\n", constants_table(constants), sep="\n")
    print("\n## Errors of predicted times\n", errors_table(found, errors, without), sep="\n")
    print("\n", split_table(found, errors, "stage", lambda o: o.stage), sep="")
    print("\n", split_table(found, errors, "tokens", token_span), sep="")
    print("\n## Choices of block_m\n", RANKING, "", sep="\n")
    rows = ranked(tables, dict.fromkeys(others, constants))
    print(agreement_table(rows, ranked(tables, others)))
    print("\n## Operands at one shape\n", KINDS, "", kinds_table(tables, constants), sep="\n")
    print("\n## How to read this\n", READING, sep="\n")


if __name__ == "__main__":
    main()
