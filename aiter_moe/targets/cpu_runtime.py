# SPDX-License-Identifier: MIT
"""The C symbols of CPU artifacts as Python callables: support library and stage kernels.

Types and sizes only; what the calls mean is `aiter_moe.targets.cpu`, what they do is in
csrc/cpu/runtime. Every call releases the GIL.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_int, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from aiter_moe.codegen.instance import Instance
from aiter_moe.errors import LaunchError
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.cpu_arguments import TASK, LayerCall, LayerPlan, SortArgs, Task
from aiter_moe.targets.cpu_team import Team, torch_team

FLOAT_CODES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}

# Pauses a waiting thread spends awake: some tens of microseconds, about the gap between the
# launches of one layer.
SPINS = 2000


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise LaunchError(
            f"cannot load {path}: {error}; delete its folder and try again to rebuild it"
        ) from error


# ctypes has no public names for its simple types and its functions.
_CType: TypeAlias = Any
_CFunction: TypeAlias = Any


def _symbol(library: ctypes.CDLL, name: str) -> _CFunction:
    try:
        return getattr(library, name)
    except AttributeError:
        raise LaunchError(
            f"{library._name} has no symbol {name}: it is no CPU artifact of this version"
        ) from None


def _function(
    library: ctypes.CDLL, name: str, result: _CType, *arguments: _CType
) -> Callable[..., Any]:
    function = _symbol(library, name)
    function.restype = result
    function.argtypes = arguments
    return function  # type: ignore[no-any-return]


def _entry_point(library: ctypes.CDLL, name: str) -> int | None:
    return ctypes.cast(_symbol(library, name), c_void_p).value


def _same_size(library: ctypes.CDLL, symbol: str, mirror: type[ctypes.Structure]) -> None:
    found = _function(library, symbol, c_int)()
    if found != ctypes.sizeof(mirror):
        raise LaunchError(
            f"{library._name} takes {mirror.__name__} of {found} bytes, this package passes "
            f"{ctypes.sizeof(mirror)}: it was built from other sources; delete its folder and "
            "try again to rebuild it"
        )


class Runtime:
    """The loaded support library.

    Parameters
    ----------
    path : Path
        The shared library.

    Raises
    ------
    LaunchError
        If it cannot be loaded or disagrees about an argument struct.
    """

    def __init__(self, path: Path) -> None:
        library = _open(path)
        _same_size(library, "aiter_moe_args_size", StageArgs)
        _same_size(library, "aiter_moe_sort_args_size", SortArgs)
        _same_size(library, "aiter_moe_layer_plan_size", LayerPlan)
        _same_size(library, "aiter_moe_layer_call_size", LayerCall)
        self._set_spins = _function(library, "aiter_moe_set_spins", None, c_int)
        self._lend_team = _function(library, "aiter_moe_lend_team", None, c_void_p, c_int)
        self.pool_run = _function(library, "aiter_moe_pool_run", c_int, c_void_p, c_void_p, c_int)
        self.layer_run = _function(library, "aiter_moe_layer_run", c_int, c_void_p, c_void_p, c_int)
        self.sort = _function(library, "aiter_moe_sort", c_int, c_void_p, c_int)
        self.quantise = _function(
            library, "aiter_moe_quantise", None, c_void_p, c_void_p, c_void_p, c_long, c_long,
            c_long, c_int, c_int, c_int,
        )  # fmt: skip
        self.sort_scales = _function(
            library, "aiter_moe_sort_scales", None, c_void_p, c_void_p, c_void_p, c_long, c_long,
            c_long, c_long, c_long, c_int,
        )  # fmt: skip
        self.reduce = _function(
            library, "aiter_moe_reduce", None, c_void_p, c_void_p, c_void_p, c_long, c_long,
            c_long, c_long, c_int, c_int,
        )  # fmt: skip
        self._tuned_for = (0, 0)

    def tune_for(self, threads: int) -> None:
        """Take torch's threads where they are as many, and let waiting ones spin if they may.

        They may where every thread has a CPU of its own.
        """
        state = (threads, torch.get_num_threads())
        if state == self._tuned_for:
            return
        self._set_spins(SPINS if threads <= len(os.sched_getaffinity(0)) else 0)
        team = torch_team(threads)
        self._lend_team(ctypes.byref(team or Team()), threads if team else 0)
        self._tuned_for = state


class Kernel:
    """A loaded stage kernel.

    Parameters
    ----------
    path : Path
        The shared library of one instance.

    Raises
    ------
    LaunchError
        If it cannot be loaded, lacks a symbol, or disagrees about the argument struct.
    """

    def __init__(self, path: Path) -> None:
        library = _open(path)
        _same_size(library, "aiter_moe_args_size", StageArgs)
        self.scratch_bytes = _function(library, "aiter_moe_scratch_bytes", c_long, c_void_p)
        self.scratch_entry = _entry_point(library, "aiter_moe_scratch_bytes")
        self.entry_points = Task(*(_entry_point(library, f"aiter_moe_{name}") for name in TASK))
        self.task = ctypes.addressof(self.entry_points)


@cache
def load_runtime(features: frozenset[str]) -> Runtime:
    """Return the support library in the best build for `features`, made on first use."""
    from aiter_moe.codegen.build import ensure
    from aiter_moe.codegen.render import runtime_unit

    return Runtime(ensure(runtime_unit(features)).path)


def load_kernel(instance: Instance) -> Kernel:
    """Return the kernel of `instance`, built unless the cache has it."""
    from aiter_moe.codegen.build import ensure
    from aiter_moe.codegen.render import render

    return Kernel(ensure(render(instance)).path)
