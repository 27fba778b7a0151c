# SPDX-License-Identifier: MIT
"""From build units to artifacts: look in the cache, else compile, check and keep.

`ensure` is what launchers call for one kernel, `build_many` what the build command and the
tuner call for many. How a unit comes about is `codegen.render`.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiter_moe import env
from aiter_moe.codegen.cache import LOG, ArtifactCache, default_cache, write_manifest
from aiter_moe.codegen.cktile.compiler import preprocessed_headers
from aiter_moe.codegen.compiler import Compiler, NoCompilerError
from aiter_moe.codegen.includes import csrc_root, headers_of
from aiter_moe.codegen.key import KeyInputs, artifact_key, source_key
from aiter_moe.codegen.process import BuildEndedError, CommandFailedError, Processes
from aiter_moe.codegen.toolchain import compiler_for
from aiter_moe.codegen.unit import Artifact, BuildReport, BuildUnit
from aiter_moe.errors import BuildError, CacheError, LaunchError
from aiter_moe.log import info_once

SHOWN_LINES = 12
_ERROR = re.compile(r"\b(error|undefined|failed|no space)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Job:
    """A unit with all that determines its artifact."""

    unit: BuildUnit
    compiler: Compiler
    csrc: Path
    source_key: str
    key: str


def ensure(
    unit: BuildUnit, cache: ArtifactCache | None = None, csrc: Path | None = None
) -> Artifact:
    """Return the artifact of a unit, compiled now unless the cache has it.

    Parameters
    ----------
    unit : BuildUnit
        What to compile (`codegen.render.render`).
    cache : ArtifactCache, optional
        Where to look and keep; by default the one of the environment.
    csrc : Path, optional
        Include folder; the package's own by default.

    Raises
    ------
    ToolchainError
        If there is neither a compiler for the target nor a prebuilt artifact.
    BuildError
        If the compiler rejects the source.
    CacheError
        If AITER_MOE_CACHE_DIR names a folder that cannot be written, or the disk is full.
    LaunchError
        If the artifact found is for another architecture.
    """
    processes = Processes()
    try:
        return _report(unit, cache or default_cache(), csrc or csrc_root(), processes)[0]
    finally:
        processes.end()


def is_cached(
    unit: BuildUnit, cache: ArtifactCache | None = None, csrc: Path | None = None
) -> tuple[str, bool]:
    """Return a unit's key and whether its artifact is in the cache; compiles nothing.

    Raises
    ------
    ToolchainError
        If there is neither a compiler for the target nor a prebuilt artifact.
    """
    cache, csrc = cache or default_cache(), csrc or csrc_root()
    try:
        compiler = compiler_for(unit.target, unit.family)
    except NoCompilerError:
        return _prebuilt(unit, cache, csrc).key, True
    job = _job(unit, compiler, csrc)
    return job.key, cache.find(unit.target, job.key, unit.artifact_name) is not None


def build_many(
    units: Iterable[BuildUnit],
    jobs: int | None = None,
    cache: ArtifactCache | None = None,
    csrc: Path | None = None,
) -> Generator[BuildReport, None, None]:
    """Build units in parallel and yield a report for each as it ends, in no fixed order.

    A failing unit is reported and the others go on. Closing the iterator (or an interrupt)
    kills the running compilers and leaves no private folders.

    Parameters
    ----------
    units : iterable of BuildUnit
        What to compile.
    jobs : int, optional
        Compilers at a time; by default one per CPU this process may use.

    Raises
    ------
    ToolchainError, CacheError
        If nothing can be built at all: no compiler, or no place for what it makes.
    """
    cache, csrc = cache or default_cache(), csrc or csrc_root()
    processes = Processes()
    pool = ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0)))
    try:
        running = {pool.submit(_timed, unit, cache, csrc, processes) for unit in units}
        for future in as_completed(running):
            yield future.result()
    finally:
        processes.end()
        pool.shutdown(wait=True, cancel_futures=True)


def _timed(unit: BuildUnit, cache: ArtifactCache, csrc: Path, processes: Processes) -> BuildReport:
    start = time.perf_counter()
    try:
        artifact, cached = _report(unit, cache, csrc, processes)
    except (BuildError, LaunchError) as error:
        return BuildReport(unit, None, error, False, time.perf_counter() - start)
    seconds = 0.0 if cached else float(artifact.manifest["seconds"])
    return BuildReport(unit, artifact, None, cached, seconds)


def _report(
    unit: BuildUnit, cache: ArtifactCache, csrc: Path, processes: Processes
) -> tuple[Artifact, bool]:
    """Return the artifact and whether it was cached."""
    try:
        compiler = compiler_for(unit.target, unit.family)
    except NoCompilerError:
        return _prebuilt(unit, cache, csrc), True
    job = _job(unit, compiler, csrc)
    found = cache.find(unit.target, job.key, unit.artifact_name)
    if found is not None:
        return _right_target(found, unit), True
    return _build(job, cache, processes)


def _job(unit: BuildUnit, compiler: Compiler, csrc: Path) -> _Job:
    headers = (
        preprocessed_headers(compiler, unit, csrc)
        if unit.family
        else headers_of(unit.source, csrc, unit.name)
    )
    inputs = KeyInputs(unit, headers, compiler.recipe, compiler.identity)
    return _Job(unit, compiler, csrc, source_key(unit, headers), artifact_key(inputs))


def _prebuilt(unit: BuildUnit, cache: ArtifactCache, csrc: Path) -> Artifact:
    """Return what another compiler made of the same source, on a machine without one."""
    if unit.family:
        compiler_for(unit.target, unit.family)  # raises: only a preprocessor knows its headers
    key = source_key(unit, headers_of(unit.source, csrc, unit.name))
    found = cache.find_source(unit.target, key, _machine(unit), unit.artifact_name)
    if found is None:
        compiler_for(unit.target)  # raises again, with what to install
        raise AssertionError("a compiler appeared")
    info_once(
        ("prebuilt", unit.target),
        f"no compiler for {unit.target} here; using kernels made by {found.manifest['compiler']}",
    )
    return _right_target(found, unit)


def _machine(unit: BuildUnit) -> str:
    """Return the machine an artifact runs on where its target does not say it."""
    return platform.machine() if unit.target == "cpu" else ""


def _build(job: _Job, cache: ArtifactCache, processes: Processes) -> tuple[Artifact, bool]:
    unit = job.unit
    with cache.private_folder(unit.target) as folder, cache.lock(job.key, unit.name):
        found = cache.find(unit.target, job.key, unit.artifact_name)
        if found is not None:
            return _right_target(found, unit), True
        try:
            seconds = _compile(job, folder, cache, processes)
            write_manifest(folder, unit.artifact_name, _facts(job, folder, seconds))
        except OSError as error:
            raise CacheError(
                f"cannot build {unit.name} in {folder.parent}: {error.strerror or error}; check "
                f"the space left there, or set {env.CACHE_DIR.name} to a folder elsewhere"
            ) from error
        return cache.publish(folder, unit.target, job.key, unit.artifact_name), False


def _compile(job: _Job, folder: Path, cache: ArtifactCache, processes: Processes) -> float:
    """Run the compile commands in `folder` and return the seconds they took."""
    (folder / job.unit.file_name).write_text(job.unit.source)
    commands = job.compiler.commands(job.unit, job.csrc)
    start = time.perf_counter()
    try:
        processes.run(commands, folder, folder / LOG)
    except BuildEndedError as error:
        raise BuildError(f"the build of {job.unit.name} was interrupted; start it again") from error
    except CommandFailedError as error:
        shown = "\n".join(f"  {line}" for line in _first_errors(folder / LOG))
        kept = cache.keep_failure(folder, job.unit.target, job.key)
        raise BuildError(
            f"{job.unit.name} does not compile with {job.compiler.label}: "
            f"{Path(error.command[0]).name} {error.reason}\n{shown}\n"
            f"command: cd {kept} && {' '.join(error.command)}\n"
            f"whole log: {kept / LOG}"
        ) from error
    (folder / "kernel.o").unlink(missing_ok=True)
    return time.perf_counter() - start


def _first_errors(log: Path) -> list[str]:
    """Return the first error lines of a log with what follows them, else its end."""
    lines = log.read_text(errors="replace").splitlines()[1:]
    first = next((i for i, line in enumerate(lines) if _ERROR.search(line)), None)
    if first is None:
        return lines[-SHOWN_LINES:]
    return lines[first : first + SHOWN_LINES]


def _facts(job: _Job, folder: Path, seconds: float) -> dict[str, Any]:
    """Return the manifest of a fresh artifact."""
    unit = job.unit
    return {
        "name": unit.name,
        "target": unit.target,
        "machine": _machine(unit),
        "key": job.key,
        "source_key": job.source_key,
        "source": unit.file_name,
        "command": job.compiler.portable_command(unit),
        "compiler": job.compiler.label,
        "seconds": round(seconds, 3),
        "resources": _resources(folder / unit.artifact_name, unit.target),
    }


def _resources(path: Path, target: str) -> dict[str, Any]:
    """Return what the compiled code object uses, read back from it; nothing for a CPU."""
    if target == "cpu":
        return {}
    from aiter_moe.codegen.codeobject import read_code_object, require_arch

    require_arch(path, target)
    return read_code_object(path).resources()


def _right_target(artifact: Artifact, unit: BuildUnit) -> Artifact:
    """Refuse a code object of another architecture before anybody loads it."""
    if unit.target != "cpu":
        from aiter_moe.codegen.codeobject import require_arch

        require_arch(artifact.path, unit.target)
    return artifact
