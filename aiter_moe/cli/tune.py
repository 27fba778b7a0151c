# SPDX-License-Identifier: MIT
"""``aiter-moe tune``: from an untuned CSV to a tuned one, and a run that uses it.

Options, progress and printing; the sweep is `aiter_moe.tuning.tune`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiter_moe import env
from aiter_moe.cli import INTERRUPTED
from aiter_moe.cli.terminal import Lines, Status, show_table, watcher
from aiter_moe.cli.tune_model import tune_by_model
from aiter_moe.codegen.catalogue import Family, family_note
from aiter_moe.configs.schema import MODELLED
from aiter_moe.errors import ArgumentError, UnsupportedProblemError

if TYPE_CHECKING:
    from rich.console import Console

    from aiter_moe.targets.base import DeviceFacts
    from aiter_moe.tuning.measurer import Measurer
    from aiter_moe.tuning.tune import Job, Summary


def _facts(target: str, threads: int) -> DeviceFacts:
    """Return the device to tune on.

    Raises
    ------
    UnsupportedProblemError
        If kernels of the target cannot run here.
    """
    from aiter_moe.targets.registry import running_target

    facts = running_target(target).facts
    if target != "cpu":
        note = family_note(facts.gfx, Family.OWN)
        raise UnsupportedProblemError(
            f"cannot tune for {target}: this version times kernels on the CPU alone, and an "
            f"emulated device has no times. {_predicting(facts.gfx)}`aiter-moe build --target "
            f"{facts.gfx}` compiles and inspects its kernels without a device; `--target cpu` "
            "tunes the CPU kernels" + (note and f"; {note}")
        )
    return replace(facts, cu_num=threads) if threads else facts


def _predicting(gfx: str) -> str:
    """Return how to get rows without times, "" for a target without a cost model."""
    command = f"`aiter-moe tune --target {gfx} --model`"
    return f"{command} chooses kernels by predicted times; " if gfx in MODELLED else ""


def _shape_file(untuned: Path | None, shapes: str | None) -> Path:
    from aiter_moe.tuning.model_shapes import packaged

    if (untuned is None) == (shapes is None):
        raise ArgumentError(
            "give either -i with an untuned CSV or --shapes with the name of a packaged one, "
            "e.g. --shapes gptoss-20b-quick"
        )
    return untuned if untuned is not None else packaged(shapes or "")


def _cache_folder(target: str) -> str:
    """Return the cache folder the child shall use: where the cache is temporary, this process's."""
    from aiter_moe.codegen.cache import default_cache

    cache = default_cache()
    return str(cache.root if cache.origin else cache.settle(target))


def _measurer(job: Job, scratch: Path) -> Measurer:
    from aiter_moe.tuning.child import Child
    from aiter_moe.tuning.measurer import Measurer

    environment = env.child_environment(
        {
            env.TARGET: job.facts.gfx,
            env.CACHE_DIR: _cache_folder(job.facts.gfx),
            env.CONFIG: str(job.output.resolve()),
            env.AITER_CONFIG_FMOE: "",
            env.THREADS: str(job.facts.cu_num),
        }
    )
    command = [sys.executable, "-m", "aiter_moe.tuning.worker", job.facts.gfx]
    return Measurer(lambda: Child(command, environment), scratch, job.seed)


def _print_result(console: Console, job: Job, summary: Summary) -> None:
    from aiter_moe.tuning import report
    from aiter_moe.tuning.tune import report_rows

    rows = report_rows(job, summary.peaks)
    if rows:
        for layer, found in report.by_layer(rows).items():
            show_table(
                console, f"{layer}: medians in us, error against float64", report.tuned_table(found)
            )
        show_table(console, "Rates, counting the experts that got tokens", report.rates_table(rows))
        print("\nKernels of both stages", *report.kernel_lines(rows), sep="\n  ")
        print(f"\nwritten: {job.output}\nuse it:  export {env.CONFIG.name}={job.output.resolve()}")
    if summary.confirmed:
        title = "fused_moe with this file, error against float64"
        show_table(console, title, report.confirmed_table(summary.confirmed))
    for problem, loss in summary.lost:
        print(f"fused_moe, {problem.kind} tokens {problem.token}: {loss}")
    for problem, reason in summary.failed.items():
        print(f"no row for {problem.kind} tokens {problem.token}: {reason}")
    if summary.rejected:
        print(f"{len(summary.rejected)} candidates were not right or not runnable; see above")


def _sweep(console: Console, job: Job) -> tuple[Summary, bool]:
    """Run the sweep and return what it did, and whether Ctrl-C ended it."""
    from aiter_moe.tuning.tune import Tuner

    with tempfile.TemporaryDirectory(prefix="aiter_moe-tune-") as scratch:
        measurer = _measurer(job, Path(scratch))
        with watcher(console, Lines, Status) as shown:
            tuner = Tuner(job, measurer, shown)
            try:
                return tuner.run(), False
            except KeyboardInterrupt:
                return tuner.summary, True
            finally:
                measurer.close()


def _unused(job: Job, summary: Summary) -> list[str]:
    """Return a line per ``fused_moe`` run that did not use the tuned file."""
    return [
        f"{run.problem.kind} tokens {run.problem.token} did not use {job.output}: {run.source}; "
        f"`aiter-moe lookup` with --explain says why"
        for run in summary.confirmed
        if not run.source.startswith(str(job.output.resolve()))
    ]


def tune(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    untuned: Annotated[
        Path | None, typer.Option("-i", "--untuned", help="Untuned CSV in aiter's schema.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Tuned CSV; rows of other problems stay.")
    ] = Path("tuned.csv"),
    target: Annotated[str, typer.Option(help="cpu (gfx950 needs the device).")] = "cpu",
    shapes: Annotated[
        str | None, typer.Option(help="Packaged untuned CSV, e.g. gptoss-20b-quick.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Timed samples per candidate.")] = 9,
    budget: Annotated[
        float,
        typer.Option(min=0.0, help="Seconds of timing per problem before repeats are cut short."),
    ] = 20.0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as fused_moe uses.")] = 0,
    again: Annotated[
        bool, typer.Option("--all", help="Tune problems again that the output has.")
    ] = False,
    all_isa: Annotated[
        bool, typer.Option("--all-isa", help="Time kernels of lesser instruction sets too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random operands.")] = 0,
    model: Annotated[
        bool,
        typer.Option("--model", help="Choose by predicted times, without the device (gfx950)."),
    ] = False,
) -> None:
    """Compile, check and time every legal kernel of a list of problems; write the best to a CSV.

    With --model nothing is compiled or timed: a cost model chooses, and rows say source=model.
    """
    from rich.console import Console

    from aiter_moe.configs.writer import require_writable
    from aiter_moe.tuning.protocol import Protocol
    from aiter_moe.tuning.tune import Job, problems_of

    if model:
        problems = problems_of(_shape_file(untuned, shapes))
        require_writable(output)
        return tune_by_model(target, problems, output, again=again)
    facts = _facts(target, threads)
    problems = problems_of(_shape_file(untuned, shapes))
    require_writable(output)
    plan = Protocol(rounds=repeats, budget_s=budget)
    job = Job(problems, output, facts, again, all_isa, seed, plan)
    console = Console()
    begin = time.monotonic()
    summary, interrupted = _sweep(console, job)
    _print_result(console, job, summary)
    unused = _unused(job, summary)
    print(*unused, f"{time.monotonic() - begin:.0f} s in all", sep="\n")
    if interrupted:
        print("interrupted; the same command goes on where it stopped")
        raise typer.Exit(INTERRUPTED)
    if summary.failed or summary.lost or unused:
        raise typer.Exit(1)
