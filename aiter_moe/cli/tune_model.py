# SPDX-License-Identifier: MIT
"""``aiter-moe tune --model``: rows by predicted times, for a GPU that need not be here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aiter_moe import env
from aiter_moe.cli.terminal import show_table

if TYPE_CHECKING:
    from aiter_moe.problem import Problem

NOTE = """\
Predicted, not measured: by a model fitted to public times of other kernels, which
benchmarks/cost_model.md compares with them. Look-ups use these rows where no measured row is."""


def tune_by_model(target: str, problems: Sequence[Problem], output: Path, *, again: bool) -> None:
    """Predict, write and print rows; exit with 1 where a problem has no kernels.

    Parameters
    ----------
    target : str
        A GPU that has a cost model.
    problems : sequence of Problem
        What to choose kernels for.
    output : Path
        Tuned CSV; measured rows stay.
    again : bool
        Predict anew what the output has.
    """
    from rich.console import Console

    from aiter_moe.configs.table import Row
    from aiter_moe.targets.registry import running_target
    from aiter_moe.tuning import report
    from aiter_moe.tuning.cost_model.choose import model_of
    from aiter_moe.tuning.predicted import predict_rows, predicted_table

    facts = running_target(target).facts
    model_of(facts)  # refuses a target without a model before anything is written
    found = list(predict_rows(problems, facts, output, again=again))
    rows = [row for row in found if isinstance(row, Row)]
    refused = [other for other in found if not isinstance(other, Row)]
    kept = len(problems) - len(found)
    if kept:
        print(f"{kept} of {len(problems)} problems have a row in {output} already")
    if rows:
        console = Console()
        for layer, of_layer in report.by_layer(rows).items():
            show_table(console, f"{layer}: predicted us", predicted_table(of_layer))
        print("\nKernels of both stages", *report.kernel_lines(rows), sep="\n  ")
        print(f"\n{NOTE}\nwritten: {output}\nuse it:  export {env.CONFIG.name}={output.resolve()}")
    for other in refused:
        print(f"no row for {other.problem.kind} tokens {other.problem.token}: {other.reason}")
    if refused:
        raise typer.Exit(1)
