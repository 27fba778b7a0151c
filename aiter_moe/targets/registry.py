# SPDX-License-Identifier: MIT
"""Which target a call runs on, and its parts; asks the environment and torch, starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from aiter_moe import env
from aiter_moe.errors import ConfigError, LaunchError
from aiter_moe.targets.base import DeviceFacts, Launcher

GFX9_CUS = {"gfx950": 256, "gfx942": 304}


@dataclass(frozen=True, slots=True)
class Target:
    """A target by name: its device facts and a way to get its launcher.

    Attributes
    ----------
    name : str
        ``cpu``, ``gfx950`` or ``gfx942``.
    facts : DeviceFacts
        Identity of the device.
    launcher : Callable
        Returns the process's launcher, making it on first use.
    device : str
        Type of the torch device whose memory kernels read.
    """

    name: str
    facts: DeviceFacts
    launcher: Callable[[], Launcher]
    device: str


def _no_launcher(name: str) -> Callable[[], Launcher]:
    def launcher() -> Launcher:
        raise LaunchError(
            f"kernels of target {name} compile here but cannot be launched: this version has a "
            "launcher for the CPU only; set AITER_MOE_TARGET=cpu to run on the CPU"
        )

    return launcher


@cache
def _device_gfx() -> str | None:
    """Return the gfx name of torch's current HIP device, or None."""
    if torch.version.hip is None or not torch.cuda.is_available():
        return None
    name: str = torch.cuda.get_device_properties(torch.cuda.current_device()).gcnArchName
    return name.split(":", maxsplit=1)[0]


def default_target_name() -> str:
    """Return AITER_MOE_TARGET, else the HIP device torch sees, else ``cpu``."""
    return env.TARGET.text() or _device_gfx() or "cpu"


def running_target(name: str | None = None) -> Target:
    """Return the target called `name`, or the default one.

    Raises
    ------
    ConfigError
        If there is no such target.
    """
    name = name or default_target_name()
    if name == "cpu":
        from aiter_moe.targets.cpu import cpu_facts, cpu_launcher

        return Target("cpu", cpu_facts(), cpu_launcher, "cpu")
    if name in GFX9_CUS:
        facts = DeviceFacts(name, env.CU_NUM.integer() or GFX9_CUS[name])
        return Target(name, facts, _no_launcher(name), "cuda")
    raise ConfigError(
        f"no target {name!r}; name (or set AITER_MOE_TARGET to) one of cpu, {', '.join(GFX9_CUS)}"
    )
