# SPDX-License-Identifier: MIT
"""``aiter-moe build``: compile a target's catalogue, and say what each kernel takes.

Prints what `codegen.build` reports; which instances exist is `codegen.catalogue`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiter_moe.cli import INTERRUPTED
from aiter_moe.codegen.catalogue import Family, family_note
from aiter_moe.enums import Kind
from aiter_moe.errors import ArgumentError

if TYPE_CHECKING:
    from aiter_moe.codegen.cache import ArtifactCache
    from aiter_moe.codegen.instance import Instance
    from aiter_moe.codegen.unit import BuildReport, BuildUnit

# Columns of a GPU kernel: heading, and its field in a manifest's resources.
GPU_COLUMNS = (
    ("vgpr", "vgprs"), ("agpr", "agprs"), ("sgpr", "sgprs"), ("lds", "lds_bytes"),
    ("scratch", "scratch_bytes"), ("spills", "spills"), ("waves/simd", "waves_per_simd"),
)  # fmt: skip


def build(  # noqa: PLR0913, PLR0917  # every parameter is an option
    target: Annotated[str, typer.Option(help="cpu, gfx950 or gfx942.")] = "gfx950",
    plan: Annotated[
        bool, typer.Option("--plan", help="List key, state and name; compile nothing.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Compilers at a time (default: one per CPU).")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only kernels of this kind.")] = None,
    stage: Annotated[int | None, typer.Option(min=1, max=2, help="Only this stage.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Only this name, or names that contain or match it (with * or ?)."),
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Keep the kernels here, not in the cache folder.")
    ] = None,
    all_isa: Annotated[
        bool, typer.Option("--all-isa", help="cpu: also kernels this CPU cannot run.")
    ] = False,
    family: Annotated[
        Family, typer.Option(help="Our kernels, CK-tile's (25 s each), or all.")
    ] = Family.OWN,
    shapes: Annotated[
        str | None,
        typer.Option(
            help="Only kernels that the problems of an untuned CSV can use and that no other beats "
            "by rule: a file, or the name of a packaged one, e.g. gptoss-20b."
        ),
    ] = None,
) -> None:
    """Compile the kernels of a target and print what each takes.

    Exits with status 1 if one fails, spills, or takes another amount of LDS or fewer waves than
    its instance says.
    """
    from aiter_moe.codegen.gfx9.steps import steps_unit
    from aiter_moe.codegen.render import runtime_unit, units_of

    features = _features(target)
    instances = select(target, kind, stage, name, None if all_isa else features, family)
    if shapes is not None:
        instances = _needed(instances, target, shapes)
    units = units_of(instances)
    # What every call on the target needs beside its two stages.
    units.insert(0, runtime_unit(features) if target == "cpu" else steps_unit(target))
    cache = _cache(cache_dir)
    if plan or shapes is not None:
        _print_plan(units, cache, names=plan)
    well = plan or _build_all(units, jobs, cache)
    note = family_note(target, family)
    if note:
        print(note)
    if not well:
        raise typer.Exit(1)


def select(
    target: str,
    kind: Kind | None = None,
    stage: int | None = None,
    name: str | None = None,
    features: frozenset[str] | None = None,
    family: Family = Family.OWN,
) -> list[Instance]:
    """Return the instances of a target's catalogue that the filters leave, in its order.

    Parameters
    ----------
    name : str, optional
        Of instances, or of what is compiled for them.
    features : frozenset of str, optional
        Features of the machine; instances that need others are left out. None keeps all.
    family : Family
        Whose kernels.

    Raises
    ------
    ArgumentError
        If nothing is left.
    """
    from aiter_moe.codegen.catalogue import of_family
    from aiter_moe.codegen.render import unit_name

    instances = tuple(of_family(target, family))
    names = {instance: (instance.name, unit_name(instance)) for instance in instances}
    whole = any(name in found for found in names.values())
    pattern = name if name is None or whole or set(name) & set("*?[") else f"*{name}*"
    chosen = [
        instance
        for instance in instances
        if (kind is None or instance.kind is kind)
        and (stage is None or instance.stage == stage)
        and (pattern is None or any(fnmatch.fnmatchcase(n, pattern) for n in names[instance]))
        and (features is None or instance.tile.requires <= features)
    ]
    if not chosen:
        raise ArgumentError(
            f"no kernel of {target} matches (kind {kind or 'any'}, stage {stage or 'any'}, name "
            f"{name or 'any'}); aiter-moe build --target {target} --family all --plan lists what "
            "there is"
        )
    return chosen


def _needed(instances: Sequence[Instance], target: str, shapes: str) -> list[Instance]:
    """Return the instances that the problems of a file can use, and say how many.

    Raises
    ------
    ArgumentError
        If there is none.
    ConfigError
        If there is no such file, or it cannot be read.
    """
    from aiter_moe.codegen.render import unit_name
    from aiter_moe.targets.registry import running_target
    from aiter_moe.tuning.model_shapes import packaged
    from aiter_moe.tuning.needed import needed
    from aiter_moe.tuning.tune import problems_of

    path = Path(shapes).expanduser()
    problems = problems_of(path if path.is_file() else packaged(shapes))
    found = needed(problems, running_target(target).facts)
    kept = [instance for instance in instances if instance in found.problems]
    refusals = found.refused.values()
    reasons = (" ".join(map(str.strip, reason.splitlines()[:2])) for reason in refusals)
    for reason, refused in Counter(reasons).items():
        print(f"{refused} of {len(problems)} problems: {reason}")
    if not kept:
        raise ArgumentError(f"no kernel of {target} is for a problem of {shapes}")
    few, all_of_them = (len(set(map(unit_name, found))) for found in (kept, instances))
    print(f"{few} of {all_of_them} kernels are for the {len(problems)} problems of {shapes}")
    return kept


def _features(target: str) -> frozenset[str]:
    """Return the instruction-set features of this machine, for the CPU target alone."""
    if target != "cpu":
        return frozenset()
    from aiter_moe.targets.registry import running_target

    return running_target("cpu").facts.features


def _cache(cache_dir: Path | None) -> ArtifactCache:
    from aiter_moe.codegen.cache import ArtifactCache, default_cache

    if cache_dir is None:
        return default_cache()
    return ArtifactCache(cache_dir.expanduser().absolute(), origin="--cache-dir")


def _print_plan(units: Sequence[BuildUnit], cache: ArtifactCache, *, names: bool) -> None:
    from aiter_moe.codegen.build import is_cached

    states = [is_cached(unit, cache) for unit in units]
    for unit, (key, cached) in zip(units, states, strict=True) if names else ():
        print(f"{key[:16]}  {'cached  ' if cached else 'to build'}  {unit.name}")
    missing = sum(not cached for _, cached in states)
    print(f"{len(units)} kernels: {missing} to build, {len(units) - missing} cached")


def _build_all(units: Sequence[BuildUnit], jobs: int | None, cache: ArtifactCache) -> bool:
    """Build and print every unit; return whether all compiled and are as their instances say."""
    from aiter_moe.codegen.build import build_many

    start = time.perf_counter()
    reports: list[BuildReport] = []
    print(_heading(units[0].target))
    try:
        with (
            contextlib.closing(build_many(units, jobs, cache)) as running,
            _shown_progress(len(units)) as show,
        ):
            for report in running:
                reports.append(report)
                show(_line(report))
    except KeyboardInterrupt:
        print(f"interrupted; the {len(reports)} kernels listed above stay in the cache")
        raise typer.Exit(INTERRUPTED) from None
    return _summary(reports, time.perf_counter() - start, cache)


@contextlib.contextmanager
def _shown_progress(total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a finished line, above a progress bar on a terminal."""
    if not sys.stdout.isatty():
        yield lambda line: print(line, flush=True)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), transient=True) as bar:
        task = bar.add_task("", total=total)

        def show(line: str) -> None:
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            bar.advance(task)

        yield show


def _heading(target: str) -> str:
    names = ["bytes"] if target == "cpu" else [heading for heading, _ in GPU_COLUMNS]
    return " ".join([f"{'seconds':>8}", *(f"{n:>{_width(n)}}" for n in names), " name"])


def _line(report: BuildReport) -> str:
    """Return the printed line of a finished unit."""
    if report.artifact is None:
        return f"{'FAILED':>8}  {report.unit.name}"
    manifest = report.artifact.manifest
    seconds = "cached" if report.cached else f"{report.seconds:.2f}"
    if report.unit.target == "cpu":
        cells = [f"{manifest['bytes']:>{_width('bytes')}}"]
    else:
        from aiter_moe.codegen.codeobject import combined_resources

        figures = combined_resources(manifest["resources"]["kernels"])
        cells = [f"{figures[field]:>{_width(heading)}}" for heading, field in GPU_COLUMNS]
    return " ".join([f"{seconds:>8}", *cells, f" {report.unit.name}"])


def _width(heading: str) -> int:
    return max(6, len(heading))


def _departures(report: BuildReport) -> tuple[str, ...]:
    """Return in which figures a binary departs from its instance, spills included."""
    if report.artifact is None or report.unit.target == "cpu":
        return ()
    from aiter_moe.codegen.catalogue import by_name
    from aiter_moe.codegen.readback import departures, spills

    kernels = report.artifact.manifest["resources"]["kernels"]
    instance = by_name(report.unit.target).get(report.unit.name)
    return spills(kernels) if instance is None else departures(instance, kernels)


def _spilled(report: BuildReport) -> int:
    from aiter_moe.codegen.codeobject import combined_resources

    assert report.artifact is not None
    return combined_resources(report.artifact.manifest["resources"]["kernels"])["spills"]


def _summary(reports: Sequence[BuildReport], seconds: float, cache: ArtifactCache) -> bool:
    """Print totals and errors; return whether all is well."""
    failed = [report for report in reports if report.error is not None]
    unlike = [(report, text) for report in reports for text in _departures(report)]
    for report in failed:
        print(f"\n{report.error}", file=sys.stderr)
    for report, text in unlike:
        print(f"\n{report.unit.name}: {text}", file=sys.stderr)
    made = [r for r in reports if r.artifact is not None]
    cached = sum(r.cached for r in made)
    compilers = sorted({str(r.artifact.manifest["compiler"]) for r in made if r.artifact})
    totals = f"{len(made) - cached} compiled, {cached} cached, {len(failed)} failed"
    if reports[0].unit.target != "cpu":
        spilling = sum(bool(_spilled(report)) for report in made)
        totals += f", {spilling} with spills"
    print(f"{len(reports)} kernels in {seconds:.1f} s: {totals}")
    if compilers:
        print(f"compiler: {'; '.join(compilers)}\ncache: {cache.write_root}")
    return not failed and not unlike
