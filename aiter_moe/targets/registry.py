# SPDX-License-Identifier: MIT
"""Which target a call runs on, and its parts; asks the environment and torch, starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch

from aiter_moe import env
from aiter_moe.errors import ConfigError
from aiter_moe.targets.base import DeviceFacts, Launcher

GFX9_CUS = {"gfx950": 256, "gfx942": 304}
EMULATED = {f"{gfx}:emulator": gfx for gfx in GFX9_CUS}
TARGET_NAMES = ("cpu", *GFX9_CUS, *EMULATED)


@dataclass(frozen=True, slots=True)
class Target:
    """A target by name: its device facts and a way to get its launcher.

    Attributes
    ----------
    name : str
        ``cpu``, ``gfx950``, ``gfx942``, or one of the latter with ``:emulator``.
    facts : DeviceFacts
        Identity of the device; an emulated one has the facts of the real one.
    launcher : Callable
        Returns the process's launcher, making it on first use; raises `LaunchError` where there
        is no such device.
    device : str
        Type of the torch device whose memory kernels read.
    """

    name: str
    facts: DeviceFacts
    launcher: Callable[[], Launcher]
    device: str


@cache
def _device_facts() -> DeviceFacts | None:
    """Return the identity of torch's current HIP device, or None."""
    if torch.version.hip is None or not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    gfx: str = found.gcnArchName.partition(":")[0]
    return DeviceFacts(gfx, found.multi_processor_count, product=found.name)


def default_target_name() -> str:
    """Return AITER_MOE_TARGET, else the HIP device torch sees, else ``cpu``."""
    device = _device_facts()
    return env.TARGET.text() or (device.gfx if device else "cpu")


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
        return Target(name, _gfx9_facts(name), partial(_hip, name), "cuda")
    if name in EMULATED:
        gfx = EMULATED[name]
        facts = DeviceFacts(gfx, env.CU_NUM.integer() or GFX9_CUS[gfx], product="emulator")
        return Target(name, facts, partial(_emulated, gfx), "cpu")
    raise ConfigError(
        f"no target {name!r}; name (or set {env.TARGET.name} to) one of {', '.join(TARGET_NAMES)}"
    )


def executing_target(name: str) -> Target:
    """Return the target called `name`; a GPU that torch does not see gives way to its emulator.

    Raises
    ------
    ConfigError
        If there is no such target.
    """
    device = _device_facts()
    absent = name in GFX9_CUS and (device is None or device.gfx != name)
    return running_target(f"{name}:emulator" if absent else name)


def _gfx9_facts(gfx: str) -> DeviceFacts:
    """Return CU_NUM's units, else those of the device torch sees, else those of a whole GPU."""
    device = _device_facts()
    units, product = GFX9_CUS[gfx], ""
    if device is not None and device.gfx == gfx:
        units, product = device.cu_num, device.product
    return DeviceFacts(gfx, env.CU_NUM.integer() or units, product=product)


def _hip(gfx: str) -> Launcher:
    from aiter_moe.targets.hip_launcher import hip_launcher

    return hip_launcher(gfx)


def _emulated(gfx: str) -> Launcher:
    from aiter_moe.targets.emulator import emulator_launcher

    return emulator_launcher(gfx)
