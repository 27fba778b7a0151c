# SPDX-License-Identifier: MIT
"""What a peer is: a column of the table, the class that runs it, the package it comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from aiter_moe.runs import Routing
from peers.layers import Operands


@dataclass(frozen=True, slots=True)
class Package:
    """What is installed for one or more peers, in a folder of its own.

    Attributes
    ----------
    name : str
        The folder, and what ``--install`` is given.
    requires : tuple of str
        Requirements with their versions. Nothing else is installed: torch and numpy are those
        of the environment that runs the benchmark.
    source : str or None
        A requirement whose source distribution is unpacked and built by `install.build_ggml`.
    """

    name: str
    requires: tuple[str, ...] = ()
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """One column of the table.

    Attributes
    ----------
    name : str
        Head of the column; unique.
    weights : str
        How it holds the weights, and what it multiplies them with.
    implementation : str
        ``module:Class`` in this package.
    package : Package or None
        Where it comes from; None: torch and this project alone.
    ours : bool
        Whether it is one of this project's kinds.
    needs : tuple of str
        Names of /proc/cpuinfo without which it may fail. It is tried all the same; these explain
        a failure.
    unless : str
        A name of /proc/cpuinfo: where the CPU has it, the column is left out.
    settings : mapping
        Environment variables of its process.
    """

    name: str
    weights: str
    implementation: str
    package: Package | None = None
    ours: bool = False
    needs: tuple[str, ...] = ()
    unless: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


class Implementation(Protocol):
    """A layer loaded into a peer."""

    def __init__(self, given: Operands, threads: int) -> None: ...

    def take(self, x: torch.Tensor, route: Routing) -> Any:
        """Return what `run` wants for these bf16 rows and this routing; not timed."""

    def run(self, taken: Any) -> Any:
        """Compute the layer: from router output to layer output; timed."""

    def result(self, returned: Any) -> torch.Tensor:
        """Return what `run` returned as a tensor [tokens, model_dim]; not timed."""


def install_command(package: Package) -> str:
    """Return the command that installs a package."""
    return f"python benchmarks/cpu_peers.py --install {package.name}"
