# SPDX-License-Identifier: MIT
"""Where cases run: the launcher of a target, and on the emulator its seed and its reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from aiter_moe.targets.base import Launcher
from aiter_moe.targets.emulator_report import ALL_CHECKS, NO_CHECKS, LaunchReport
from aiter_moe.targets.registry import EMULATED, Target


def _keep_order(seed: int) -> None:
    """Off the emulator nobody chooses the order of waves."""


def _no_reports() -> tuple[LaunchReport, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Machine:
    """A target ready to run kernels.

    Attributes
    ----------
    target : Target
        Whose `launcher` returns the one that is used here.
    choose_order : Callable
        Chooses the order of waves by a number.
    drain : Callable
        Returns the reports of the launches since it was last called.
    """

    target: Target
    choose_order: Callable[[int], None] = _keep_order
    drain: Callable[[], tuple[LaunchReport, ...]] = _no_reports

    @property
    def launcher(self) -> Launcher:
        """The launcher of the target."""
        return self.target.launcher()

    @property
    def device(self) -> torch.device:
        """Where kernels find their tensors."""
        return torch.device(self.target.device)

    def wait(self) -> None:
        """Return when all that was launched has ended."""
        if self.target.device != "cpu":
            torch.cuda.synchronize()


def machine_of(target: Target, *, threads: int = 0, checks: bool = True) -> Machine:
    """Return the machine of a target; an emulated one gets a launcher of its own.

    Parameters
    ----------
    target : Target
        Where to run.
    threads : int
        CPU threads of the emulator; 0: all.
    checks : bool
        Whether the emulator looks for faults.

    Raises
    ------
    LaunchError
        If there is no such device.
    """
    if target.name not in EMULATED:
        return Machine(target)
    from aiter_moe.targets.emulator import EmulatorLauncher

    reports: list[LaunchReport] = []
    launcher = EmulatorLauncher(
        target.facts.gfx,
        checks=ALL_CHECKS if checks else NO_CHECKS,
        threads=threads,
        on_report=lambda symbol, report: reports.append(report),
    )

    # so that a persistent kernel has more work items than workgroups
    launcher.compute_units = 1

    def choose_order(seed: int) -> None:
        launcher.seed = seed

    def drain() -> tuple[LaunchReport, ...]:
        found = tuple(reports)
        reports.clear()
        return found

    own = Target(target.name, target.facts, lambda: launcher, target.device)
    return Machine(own, choose_order, drain)
