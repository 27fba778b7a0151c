# SPDX-License-Identifier: MIT
"""What one compile makes, and what comes out of it, as data.

`codegen.render` makes units, `codegen.build` turns them into artifacts, `codegen.cache` keeps
those. Nothing here touches a file or a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class BuildUnit:
    """One source file that compiles to one artifact.

    Attributes
    ----------
    name : str
        Name of the kernel or library, for people.
    target : str
        ``cpu``, ``gfx950`` or ``gfx942``.
    file_name : str
        Name of the source file, without a folder.
    source : str
        Text of the source file; its includes are found under csrc/.
    flags : tuple of str
        Compiler flags beside those of the target.
    family : str
        Third-party headers the source is made from (``cktile``); "" for csrc/ alone.
    """

    name: str
    target: str
    file_name: str
    source: str
    flags: tuple[str, ...] = ()
    family: str = ""

    @property
    def artifact_name(self) -> str:
        """File name of the compiled artifact: ``kernel.so`` or ``kernel.co``."""
        return "kernel.so" if self.target == "cpu" else "kernel.co"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled unit in the cache.

    Attributes
    ----------
    path : Path
        The shared library (cpu) or code object (gfx).
    key : str
        Hash of everything that made it.
    manifest : mapping
        Contents of manifest.json: name, target, command, compiler, seconds, resources, sha256.
    """

    path: Path
    key: str
    manifest: Mapping[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """How one unit of `codegen.build.build_many` ended: with an artifact or with an error.

    Attributes
    ----------
    seconds : float
        Time of the compile itself; 0 when the artifact was cached.
    """

    unit: BuildUnit
    artifact: Artifact | None
    error: Exception | None
    cached: bool
    seconds: float
